//! What has to be true once nothing happens any more.

use super::Broken;
use super::event::Event;
use super::session::Who;
use super::world::World;

/// Sweeps after which every idle connection has to be closed.
const MOST_SWEEPS: usize = 8;

impl World {
    /// Everything has come to its end, and stays so.
    pub(super) fn check_quiet(&mut self) -> Result<(), Broken> {
        self.check_gauges("when quiet")?;
        self.check_control_falls_silent()?;
        self.check_gauges("after control had been resumed")?;
        self.check_idle_connections_close()?;
        self.check_gauges("after idle connections had been closed")?;
        self.check_grants_are_back()
    }

    /// A session at rest keeps no more of its grant than it needs.
    fn check_grants_are_back(&mut self) -> Result<(), Broken> {
        for node in 0..self.nodes.len() {
            let sessions =
                self.sessions.iter().filter(|session| session.nodes.contains(&node)).count() as u64;
            let window = self.climate.receive_windows[node];
            let (granted, most) = (self.nodes[node].grants.used(), sessions * 2 * (window / 32));
            if granted > most {
                return Err(Broken::new(format!(
                    "node {node} has {granted} bytes granted at rest, not {most}"
                )));
            }
        }
        Ok(())
    }

    fn check_gauges(&mut self, when: &str) -> Result<(), Broken> {
        let wrong = |what: String| Err(Broken::new(format!("{when}, {what}")));
        if self.nodes.iter().any(|node| node.to_send.iter().any(|&left| left > 0)) {
            return wrong("some senders have not sent all".into());
        }
        for session in 0..self.sessions.len() {
            for who in self.both(session) {
                let Some(side) = self.side(who) else { continue };
                if let Some(ledger) = side.ledger.as_ref().filter(|ledger| !ledger.is_done()) {
                    let open = ledger.open();
                    let stats = side.transfer.as_ref().map(|t| t.stats());
                    return wrong(format!("{who:?} has sent what did not arrive: {open}; {stats:?}"));
                }
                let Some(transfer) = &side.transfer else {
                    return wrong(format!("{who:?} has no session"));
                };
                let stats = transfer.stats();
                let gauges = [
                    ("retiring_connections", stats.retiring_connections as u64),
                    ("queued_express", stats.queued_express as u64),
                    ("queued_bulk", stats.queued_bulk as u64),
                    ("waiting", stats.waiting as u64),
                    ("unconfirmed", stats.unconfirmed),
                    ("unconfirmed_bytes", stats.unconfirmed_bytes),
                    ("undelivered_bytes", stats.undelivered_bytes),
                    ("entries", stats.entries as u64),
                    ("in_window", transfer.in_window()),
                    ("answer_bytes", stats.answer_bytes),
                ];
                if let Some((name, value)) = gauges.iter().find(|(_, value)| *value > 0) {
                    return wrong(format!("{name} of {who:?} is {value}: {stats:?}"));
                }
                if let Some(urgency) = transfer.control_due() {
                    return wrong(format!("{who:?} has something to say, {urgency:?}"));
                }
            }
        }
        for (node, it) in self.nodes.iter().enumerate() {
            for (what, budget) in [("budget", &it.budget), ("window for answers", &it.answers)] {
                let (used, members) = (budget.used(), budget.members());
                if used > 0 || members > 0 {
                    return wrong(format!(
                        "{used} bytes of node {node}'s {what} are taken, {members} members known"
                    ));
                }
            }
            if it.mailboxes.iter().any(|mailbox| !mailbox.queue.is_empty()) {
                return wrong(format!("a mailbox of node {node} has not been emptied"));
            }
        }
        Ok(())
    }

    /// A control connection that is resumed repeats what it has to, and that is all.
    fn check_control_falls_silent(&mut self) -> Result<(), Broken> {
        let all: Vec<Who> = (0..self.sessions.len()).flat_map(|session| self.both(session)).collect();
        let frames = |world: &mut Self| -> Vec<u64> {
            all.iter().map(|&who| world.side(who).map_or(0, |side| side.control_frames)).collect()
        };
        let before = frames(self);
        (0..self.sessions.len()).for_each(|session| self.cut_control(session));
        self.run_until_quiet()?;
        let after = frames(self);
        for ((who, before), after) in all.iter().zip(before).zip(after) {
            let connections = self.sessions[who.session].connections.len() as u64;
            let (said, most) = (after - before, 8 + connections);
            if said > most {
                return Err(Broken::new(format!(
                    "{who:?} heard {said} control frames, {most} at most had news"
                )));
            }
        }
        Ok(())
    }

    fn check_idle_connections_close(&mut self) -> Result<(), Broken> {
        let all: Vec<Who> = (0..self.sessions.len()).flat_map(|session| self.both(session)).collect();
        // One side twice as often, so that it is always that one which finds a connection idle.
        let eager = self.rng.below(2) as usize;
        for _ in 0..MOST_SWEEPS {
            for &who in &all {
                if who.side == eager {
                    self.plan(0, Event::Sweep(who));
                    self.plan(20_000, Event::Sweep(who));
                } else {
                    self.plan(40_000, Event::Sweep(who));
                }
            }
            self.run_until_quiet()?;
        }
        for who in all {
            let Some(transfer) = self.transfer(who) else { continue };
            let left = transfer.stats().bulk_connections;
            if left > 0 {
                return Err(Broken::new(format!("{left} idle bulk connections of {who:?} do not close")));
            }
        }
        Ok(())
    }
}
