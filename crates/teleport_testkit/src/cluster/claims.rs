//! A holder of the cookie that says to one node that it is another, while those two have a session.

use super::Broken;
use super::event::Event;
use super::world::{World, trace};
use teleport_proto::SessionId;
use teleport_proto::handshake::{ConnectionKind, Request};

impl World {
    /// A claim, and the plan for the one after it.
    pub(super) fn claim(&mut self) -> Result<(), Broken> {
        if self.calm() {
            return Ok(());
        }
        self.plan_within(2 * self.climate.fault_gap, Event::Claim);
        let (node, whom) = self.two_nodes();
        let (it, named) = (&self.nodes[node], &self.nodes[whom]);
        if it.down.is_some() || it.stopped_until > self.now {
            return Ok(());
        }
        let (name, last_dial) = (named.name.clone(), named.membership.last_dial());
        let Some(session) = it.membership.session(&name) else { return Ok(()) };
        let circumstances = self.circumstances(node, whom, it.membership.begun());
        // While no connection of the session lives nobody can tell whose the name is.
        if !session.control_connected && !circumstances.linked {
            return Ok(());
        }
        let above = self.rng.pick(&[1, 2, 1 << 19, 1 << 21, 1 << 40, u64::MAX / 2]);
        let copied = self.rng.chance(500);
        let peer_incarnation = if copied { session.incarnation } else { self.new_life() };
        let id = u128::from(self.rng.bits()).to_be_bytes();
        let request = Request {
            peer: name,
            peer_incarnation,
            kind: ConnectionKind::NewSession,
            session: SessionId::new(id).ok_or_else(|| Broken::new("drew the id of no session"))?,
            connection: last_dial + above,
        };
        let decision = self.nodes[node].membership.inbound(&request, circumstances);
        trace!(self, "node {node} decides on the claim {request:?}: {decision:?}");
        if decision.verdict.is_ok() {
            return Err(Broken::new(format!("node {node} takes a stranger for node {whom}")));
        }
        self.coverage.claims += 1;
        self.act(node, decision.actions, None)
    }
}
