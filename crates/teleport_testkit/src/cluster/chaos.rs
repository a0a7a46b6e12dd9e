//! Faults: what is cut, stalled, slowed down, stopped, put out of time, out of reach, and restarted.

use super::Broken;
use super::climate::Trouble;
use super::event::Event;
use super::node::MAILBOXES;
use super::session::{Life, Who};
use super::world::{BACKOFF, World, trace};
use teleport_proto::ConnectionId;
use teleport_proto::wire::pool::Class;

impl World {
    /// The next fault, and the plan for the one after it.
    pub(super) fn fault(&mut self) -> Result<(), Broken> {
        if self.calm() {
            return Ok(());
        }
        self.plan_within(2 * self.climate.fault_gap, Event::Fault);
        let mut pick = self.rng.below(self.climate.weights.iter().map(|(_, weight)| weight).sum());
        let kind = self.climate.weights.iter().find(|(_, weight)| {
            let here = pick < *weight;
            pick = pick.saturating_sub(*weight);
            here
        });
        let Some(&(kind, _)) = kind else { return Ok(()) };
        let (node, other) = self.two_nodes();
        if self.nodes[node].down.is_some() {
            return Ok(());
        }
        match kind {
            Trouble::Slow => {
                let mailbox = self.rng.below(MAILBOXES as u64) as usize;
                self.nodes[node].mailboxes[mailbox].paused_until = self.now + self.rng.below(50_000);
            }
            Trouble::Restart => self.restart(node)?,
            Trouble::Stop => self.stop(node),
            Trouble::Jump => self.jump(node),
            Trouble::Deaf => self.deafen(node),
            Trouble::Replay => self.replay()?,
            Trouble::Dark => {
                self.darken(node, other);
                if self.rng.chance(300) {
                    self.darken(other, node);
                }
            }
            Trouble::Cut
            | Trouble::Stall
            | Trouble::Control
            | Trouble::Silent
            | Trouble::Sweep
            | Trouble::HangUp => {
                let Some(&session) = self.nodes[node].up.get(&other) else { return Ok(()) };
                let who = Who { session, side: self.side_of(session, node) };
                match kind {
                    Trouble::Cut => self.cut_some(session),
                    Trouble::Stall => self.stall_some(session),
                    Trouble::Control => self.cut_control(session, false),
                    Trouble::Silent => self.cut_control(session, true),
                    Trouble::Sweep => self.plan_within(1_000, Event::Sweep(who)),
                    _ => {
                        self.coverage.hang_ups += 1;
                        let goodbye = self.rng.chance(500);
                        self.hang_up(who, goodbye)?;
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn two_nodes(&mut self) -> (usize, usize) {
        let count = self.nodes.len() as u64;
        let node = self.rng.below(count);
        (node as usize, ((node + 1 + self.rng.below(count - 1)) % count) as usize)
    }

    /// For how long something is out of order, noted as the matter until then.
    fn outage(&mut self) -> u64 {
        let until = self.now + self.climate.outage(&mut self.rng);
        self.trouble_until = self.trouble_until.max(until);
        until
    }

    /// Nothing gets from one node to the other for a while; then what was under way arrives.
    fn darken(&mut self, from: usize, to: usize) {
        self.coverage.darkened += 1;
        let until = self.outage().max(self.dark_until[from][to]);
        trace!(self, "dark from {from} to {to} until {until}");
        self.dark_until[from][to] = until;
        for &session in &self.live {
            let session = &mut self.sessions[session];
            let Some(side) = session.nodes.iter().position(|&node| node == to) else { continue };
            if session.nodes[1 - side] == from {
                let pipes = session.connections.values_mut().map(|connection| &mut connection.pipes[side]);
                pipes.for_each(|pipe| pipe.stalled_until = pipe.stalled_until.max(until));
            }
        }
    }

    /// A node does nothing for a while, as if its process were stopped.
    fn stop(&mut self, node: usize) {
        self.coverage.stops += 1;
        let until = self.outage();
        let it = &mut self.nodes[node];
        if it.stopped_until <= self.now {
            it.stopped_until = until;
            it.clock.stopped(self.now, until);
            trace!(self, "node {node} is stopped until {until}");
        }
    }

    /// A node's clock jumps, as after its machine has slept.
    fn jump(&mut self, node: usize) {
        self.coverage.jumps += 1;
        let deadline = self.climate.ticktime.as_micros() as u64;
        let by =
            self.rng.pick(&[10_000, deadline / 9, deadline / 3, deadline + 1, 10 * deadline, 86_400_000_000]);
        self.nodes[node].clock.jump(self.now, by);
        trace!(self, "the clock of node {node} jumps by {by}");
        self.plan_due(node);
        for session in self.nodes[node].up.clone().into_values() {
            self.plan_live(Who { session, side: self.side_of(session, node) });
        }
    }

    /// Nothing listens at a node's address for a while, though it lives.
    fn deafen(&mut self, node: usize) {
        self.coverage.deafened += 1;
        let until = self.outage();
        let it = &mut self.nodes[node];
        // Attempts further apart than this do not make one absence.
        let apart = 3 * BACKOFF.most.as_micros() as u64;
        let from = if it.deaf.1 + apart > self.now { it.deaf.0 } else { self.now };
        it.deaf = (from, until.max(it.deaf.1));
    }

    fn some_connection(&mut self, session: usize) -> Option<(Who, ConnectionId)> {
        let alive: Vec<ConnectionId> = self.sessions[session]
            .connections
            .iter()
            .filter(|(_, c)| !c.dead && c.ends.iter().any(|end| end.life == Life::Up))
            .map(|(&id, _)| id)
            .collect();
        if alive.is_empty() {
            return None;
        }
        let id = self.rng.pick(&alive);
        Some((self.both(session)[self.rng.below(2) as usize], id))
    }

    fn cut_some(&mut self, session: usize) {
        let Some((who, id)) = self.some_connection(session) else { return };
        let directions = self.rng.pick(&[[true, true], [true, true], [true, false], [false, true]]);
        trace!(self, "{who:?}: cut {id}");
        self.coverage.cuts += 1;
        self.cut(who, id, directions);
        self.plan_within(10_000, Event::Notice(who, id));
        if self.rng.chance(500) {
            self.plan_within(10_000, Event::Notice(who.other(), id));
        }
    }

    fn stall_some(&mut self, session: usize) {
        let Some((who, id)) = self.some_connection(session) else { return };
        self.coverage.stalls += 1;
        let until = self.now + self.rng.below(30_000);
        let both = self.rng.chance(500);
        let Some(connection) = self.connection(who, id) else { return };
        for (side, pipe) in connection.pipes.iter_mut().enumerate() {
            if both || side == who.side {
                pipe.stalled_until = until;
            }
        }
        if self.rng.chance(400) {
            self.plan_within(30_000, Event::Notice(who, id));
        }
    }

    pub(super) fn sweep(&mut self, who: Who) -> Result<(), Broken> {
        let Some(transfer) = self.transfer(who) else { return Ok(()) };
        let before = transfer.stats().connections_retired;
        let left = transfer.sweep_idle();
        transfer.rest();
        let stats = transfer.stats();
        if left != (stats.bulk_connections > 0) {
            return Err(Broken::new("sweep_idle is wrong about what is left"));
        }
        self.coverage.swept += stats.connections_retired - before;
        debug_assert!(stats.bulk_connections == 0 || left, "{:?}", Class::Bulk);
        self.settle(who)
    }

    /// A node's process ends without a word, and is started again after a while.
    pub(super) fn restart(&mut self, node: usize) -> Result<(), Broken> {
        self.coverage.restarts += 1;
        // Its machine is off, so that nobody is told and nothing answers; or only the process is gone.
        let off = self.rng.chance(300);
        let until = self.outage();
        let incarnation = self.new_life();
        let membership = self.new_membership(&self.nodes[node].name.clone());
        let calls = self.new_calls();
        let it = &mut self.nodes[node];
        it.calls = calls;
        trace!(self, "node {node} is gone until {until}, its machine off: {off}");
        (it.incarnation, it.membership, it.due, it.down) =
            (incarnation, membership, None, Some((until, !off)));
        for mailbox in &mut it.mailboxes {
            mailbox.queue.clear();
        }
        for session in std::mem::take(&mut it.up).into_values() {
            self.leave(Who { session, side: self.side_of(session, node) }, off);
        }
        let used = self.nodes[node].budget.used();
        if used > 0 {
            return Err(Broken::new(format!("no session is left, but {used} bytes of the budget are taken")));
        }
        self.agenda.plan(until, Event::Start(node));
        Ok(())
    }

    pub(super) fn start(&mut self, node: usize) {
        self.nodes[node].down = None;
        for peer in (0..self.nodes.len()).filter(|&peer| peer != node) {
            if self.calm() || self.rng.chance(500) {
                self.plan_within(1_000, Event::Want(node, peer));
            }
        }
    }
}
