//! Nodes that stand still: what they keep from others, and what they must not.

use super::Broken;
use super::event::Event;
use super::world::World;
use std::collections::BTreeMap;
use teleport_proto::transfer::MESSAGE_COST;
use teleport_proto::wire::pool::EXPRESS_LIMIT;

impl World {
    /// Whether something happens at a node that stands still. Every other one of them goes on but for saying anything, so
    /// it acknowledges nothing.
    pub(super) fn stands_still(&self, event: &Event, node: usize) -> bool {
        let first = self.nodes.len() - self.standing_still;
        let says = matches!(event, Event::Flush(..));
        node >= first && (says || (node - first).is_multiple_of(2))
    }

    /// Those that move have come to the end of what is between them; now the others move on, too.
    pub(super) fn let_all_move(&mut self) -> Result<(), Broken> {
        let first = self.nodes.len() - std::mem::take(&mut self.standing_still);
        for session in self.live.iter().map(|&session| &self.sessions[session]) {
            if session.nodes.iter().any(|&node| node >= first) {
                continue;
            }
            let open =
                |side: &super::session::Side| side.ledger.as_ref().filter(|l| !l.is_done()).map(|l| l.open());
            if let Some(open) = session.sides.iter().find_map(open) {
                return Err(Broken::new(format!(
                    "while others stood still between {:?}: {open}",
                    session.nodes
                )));
            }
        }
        let put_off = std::mem::take(&mut self.put_off);
        self.coverage.put_off += put_off.len() as u64;
        put_off.into_iter().for_each(|event| self.plan(0, event));
        Ok(())
    }

    /// A node's peers may not have more under way to it than it has granted, and that is bounded.
    pub(super) fn check_grants(&self, node: usize) -> Result<(), Broken> {
        let window = self.climate.receive_windows[node];
        let guaranteed = 2 * (window / 4).min(EXPRESS_LIMIT as u64 + MESSAGE_COST);
        let (mut granted, mut most) = (0, self.climate.grants[node]);
        let mut guests = BTreeMap::new();
        for session in self.live.iter().map(|&session| &self.sessions[session]) {
            let Some(here) = session.nodes.iter().position(|&n| n == node) else { continue };
            let peer = &session.sides[1 - here];
            granted += session.sides[here].transfer.as_ref().map_or(0, |t| t.stats().granted_bytes);
            most += guaranteed;
            let source = if self.climate.one_source { 0 } else { session.nodes[1 - here] };
            for (lane, largest) in peer.largest.iter().enumerate() {
                for (class, &largest) in largest.iter().enumerate() {
                    let part = if class == 0 { window / 4 } else { window - window / 4 };
                    let guest = guests.entry((source, lane, class)).or_insert(part);
                    *guest = largest.max(*guest);
                }
            }
        }
        // A newcomer to an empty window, of either class, is let in as well.
        most += [0, 1]
            .map(|class| {
                guests.iter().filter(|((.., of), _)| *of == class).map(|(_, &l)| l).max().unwrap_or(0)
            })
            .iter()
            .sum::<u64>();
        most += guests.into_values().sum::<u64>();
        if granted > most {
            return Err(Broken::new(format!("node {node} has granted {granted} bytes, {most} are allowed")));
        }
        Ok(())
    }

    /// A node has no more under way than it wants to.
    pub(super) fn check_budget(&self, node: usize) -> Result<(), Broken> {
        let sharing = self.climate.budgets[node];
        let mine = self.live.iter().map(|&session| &self.sessions[session]).filter_map(|session| {
            let side = session.nodes.iter().position(|&n| n == node)?;
            Some(&session.sides[side])
        });
        let beyond = mine.map(|side| sharing.share + side.largest[0].iter().sum::<u64>()).sum::<u64>();
        let (used, most) = (self.nodes[node].budget.used(), sharing.size.saturating_add(beyond));
        if used > most {
            return Err(Broken::new(format!("node {node} has {used} bytes under way, {most} are allowed")));
        }
        Ok(())
    }
}
