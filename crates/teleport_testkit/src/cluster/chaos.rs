//! Faults: what is cut, stalled, slowed down and restarted.

use super::Broken;
use super::event::Event;
use super::node::MAILBOXES;
use super::session::{Life, Who};
use super::world::{World, trace};
use teleport_proto::ConnectionId;
use teleport_proto::wire::pool::Class;

impl World {
    /// The next fault, and the plan for the one after it.
    pub(super) fn fault(&mut self) -> Result<(), Broken> {
        if self.calm() {
            return Ok(());
        }
        self.plan_within(2 * self.climate.fault_gap, Event::Fault);
        let climate = &self.climate;
        let weights = [
            climate.cut_weight,
            climate.stall_weight,
            climate.control_weight,
            climate.slow_weight,
            climate.sweep_weight,
            climate.restart_weight,
        ];
        let mut pick = self.rng.below(weights.iter().sum());
        let kind = weights.iter().position(|&weight| {
            let here = pick < weight;
            pick = pick.saturating_sub(weight);
            here
        });
        let session = self.rng.below(self.sessions.len() as u64) as usize;
        match kind {
            Some(0) => self.cut_some(session),
            Some(1) => self.stall_some(session),
            Some(2) => self.cut_control(session),
            Some(3) => {
                let node = self.rng.below(self.nodes.len() as u64) as usize;
                let mailbox = self.rng.below(MAILBOXES as u64) as usize;
                self.nodes[node].mailboxes[mailbox].paused_until = self.now + self.rng.below(50_000);
            }
            Some(4) => {
                let who = self.both(session)[self.rng.below(2) as usize];
                self.plan_within(1_000, Event::Sweep(who));
            }
            _ => {
                let node = self.rng.below(self.nodes.len() as u64) as usize;
                self.restart(node);
            }
        }
        Ok(())
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

    /// A node is restarted: all its sessions end.
    fn restart(&mut self, node: usize) {
        for session in 0..self.sessions.len() {
            let it = &mut self.sessions[session];
            let up = it.sides.iter().all(|side| side.transfer.is_some());
            if !it.nodes.contains(&node) || !up || it.ending {
                continue;
            }
            it.ending = true;
            it.control.link += 1;
            it.control.streams.iter_mut().for_each(|stream| stream.clear());
            let here = usize::from(it.nodes[1] == node);
            let ids: Vec<ConnectionId> = it.connections.keys().copied().collect();
            let who = self.both(session)[here];
            for id in ids {
                self.cut(who, id, [true, true]);
                self.plan_within(10_000, Event::Notice(who.other(), id));
            }
            self.plan(0, Event::NodeDown(who));
            self.plan_within(20_000, Event::NodeDown(who.other()));
        }
        for mailbox in &mut self.nodes[node].mailboxes {
            mailbox.queue.clear();
        }
    }

    pub(super) fn node_down(&mut self, who: Who) -> Result<(), Broken> {
        let Some(side) = self.side(who) else { return Ok(()) };
        let Some(mut transfer) = side.transfer.take() else { return Ok(()) };
        let ending = transfer.end();
        if let Some(ledger) = &mut side.ledger {
            ledger.ended(&ending)?;
        }
        self.coverage.sessions_ended += 1;
        self.coverage.unconfirmed += ending.unconfirmed;
        let node = self.sessions[who.session].nodes[who.side];
        let all_ended = self.sessions.iter().all(|session| {
            let side = session.nodes.iter().position(|&n| n == node);
            side.is_none_or(|side| session.sides[side].transfer.is_none())
        });
        let used = self.nodes[node].budget.used();
        if all_ended && used > 0 {
            return Err(Broken::new(format!("no session is left, but {used} bytes of the budget are taken")));
        }
        if self.sessions[who.session].sides.iter().all(|side| side.transfer.is_none()) {
            let delay = 1 + self.rng.below(10_000);
            self.plan(delay, Event::SessionUp(who.session));
        }
        Ok(())
    }
}
