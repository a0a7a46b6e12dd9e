//! What has to be true once nothing happens any more.

use super::Broken;
use super::event::Event;
use super::session::Who;
use super::world::{BACKOFF, World};

/// Sweeps after which every idle connection has to be closed.
const MOST_SWEEPS: usize = 8;

impl World {
    /// What keeps the nodes that move from being at rest.
    pub(super) fn unsettled(&self) -> Option<String> {
        let moving = self.nodes.len() - self.standing_still;
        if let Some(what) = self.unconnected() {
            return Some(what);
        }
        if self.nodes[..moving].iter().any(|node| node.to_send.iter().any(|&left| left > 0)) {
            return Some("some senders have not sent all".into());
        }
        if self.calls_open(moving) {
            return Some("some calls have not ended".into());
        }
        let sessions = self.live.iter().map(|&session| &self.sessions[session]);
        let mut sessions = sessions.filter(|session| session.nodes.iter().all(|&node| node < moving));
        sessions.find_map(|session| {
            let ledgers = session.sides.iter().filter_map(|side| side.ledger.as_ref());
            let open = ledgers.filter(|ledger| !ledger.is_done()).map(|ledger| ledger.open()).next()?;
            Some(format!("between {:?}: {open}", session.nodes))
        })
    }

    /// Which two nodes do not have the same session, or no control connection that works.
    pub(super) fn unconnected(&self) -> Option<String> {
        let moving = self.nodes.len() - self.standing_still;
        for low in 0..moving {
            for high in low + 1..moving {
                let wrong = |what: &str| Some(format!("{low} and {high} have {what}"));
                let [a, b] = [(low, high), (high, low)].map(|(node, peer)| {
                    let it = &self.nodes[node];
                    (it.up.get(&peer).copied(), it.membership.session(&self.nodes[peer].name))
                });
                let (Some(session), Some(ours), Some(theirs)) = (a.0, a.1, b.1) else {
                    return wrong("no session");
                };
                if a.0 != b.0 || ours.id != theirs.id || ours.we_dialled == theirs.we_dialled {
                    return wrong("different sessions");
                }
                let session = &self.sessions[session];
                let links = [ours.generation, theirs.generation].map(Some);
                let attached = [session.sides[0].link, session.sides[1].link];
                let works = session.controls.get(&ours.generation).is_some_and(|control| !control.dead);
                if !(ours.control_connected && theirs.control_connected && works) || links != attached {
                    return wrong("no control connection in common");
                }
            }
        }
        None
    }

    /// Everything has come to its end, and stays so.
    pub(super) fn check_quiet(&mut self) -> Result<(), Broken> {
        self.check_gauges("when quiet")?;
        self.check_sessions_stay()?;
        self.check_control_falls_silent()?;
        self.check_gauges("after control had been resumed")?;
        self.check_idle_connections_close()?;
        self.check_gauges("after idle connections had been closed")?;
        self.check_grants_are_back()
    }

    /// Ticks keep sessions up in which nothing is sent.
    fn check_sessions_stay(&mut self) -> Result<(), Broken> {
        let (ended, ticks) = (self.coverage.sessions_ended, self.coverage.ticks);
        let ticktime = self.climate.ticktime.as_micros() as u64;
        let seldom = ticktime > 1_000_000_000;
        self.wait(if seldom { 0 } else { 4 * ticktime })?;
        if self.coverage.sessions_ended > ended || self.unsettled().is_some() {
            return Err(Broken::new(format!("sessions do not stay: {:?}", self.unsettled())));
        }
        if !seldom && self.coverage.ticks == ticks {
            return Err(Broken::new("no node has said that it lives"));
        }
        Ok(())
    }

    /// A session at rest keeps no more of its grant than it needs.
    fn check_grants_are_back(&mut self) -> Result<(), Broken> {
        for node in 0..self.nodes.len() {
            let sessions = self.nodes[node].up.len() as u64;
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
        for session in self.live.clone() {
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
            if !it.calls.is_empty() {
                return wrong(format!("node {node} has calls that have not ended"));
            }
            if it.mailboxes.iter().any(|mailbox| !mailbox.queue.is_empty()) {
                return wrong(format!("a mailbox of node {node} has not been emptied"));
            }
        }
        Ok(())
    }

    /// A control connection that is resumed repeats what it has to, and that is all.
    fn check_control_falls_silent(&mut self) -> Result<(), Broken> {
        let all: Vec<Who> = self.live.iter().flat_map(|&session| self.both(session)).collect();
        let frames = |world: &mut Self| -> Vec<u64> {
            all.iter().map(|&who| world.side(who).map_or(0, |side| side.control_frames)).collect()
        };
        let before = frames(self);
        self.live.clone().into_iter().for_each(|session| self.cut_control(session, false));
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
        let all: Vec<Who> = self.live.iter().flat_map(|&session| self.both(session)).collect();
        // Those that wait for a back-off are opened before.
        self.wait(2 * BACKOFF.most.as_micros() as u64)?;
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
