//! What a node knows of one peer: that it dials it, waits to do so, or has a session with it.

use super::{Action, Begun, Decision, Session};
use crate::handshake::{Established, Refusal};
use crate::{NodeName, Time};
use std::time::Duration;

/// What there is about a peer. Peers about whom there is nothing are forgotten.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) wanted: bool,
    pub(super) failures: u32,
    pub(super) state: State,
}

impl Peer {
    pub(super) fn due(&self) -> Option<Time> {
        match &self.state {
            State::Waiting { until, .. } => Some(*until),
            State::Up(living) => {
                let resume = match living.resume {
                    Resume::Waiting { until } => Some(until),
                    Resume::Idle | Resume::UnderWay => None,
                };
                [resume, living.doubt.map(|doubt| doubt.by)].into_iter().flatten().min()
            }
            State::Dialling { .. } => None,
        }
    }
}

#[derive(Debug)]
pub(super) enum State {
    /// Behind a dial that failed, and perhaps before the next one. `yields`: meanwhile the peer's own dial is to come.
    Waiting { until: Time, yields: bool },
    /// `refused_inbound`: the peer's dial was refused for the sake of ours.
    Dialling { number: u64, refused_inbound: bool },
    /// There is a session.
    Up(Living),
}

#[derive(Debug)]
pub(super) struct Living {
    pub(super) session: Session,
    /// Its place among the sessions that this node has begun.
    begun: Begun,
    /// Our dial, if it came about by one.
    pub(super) dial: Option<u64>,
    /// The newest of the peer's dials that is older than the session.
    pub(super) peer_dial: u64,
    /// The last generation that we have given out.
    pub(super) last_generation: u64,
    pub(super) resume: Resume,
    pub(super) resume_failures: u32,
    /// The last attempt to resume was told, without a proof, that the peer does not have the session.
    pub(super) disowned: bool,
    pub(super) probing: bool,
    /// Doubted while it has no control connection.
    pub(super) doubt: Option<Doubt>,
    pub(super) pool_ids: Taken,
}

/// A session has to have a control connection `by` then, unless its pool has been heard `since`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doubt {
    since: Time,
    by: Time,
}

impl Doubt {
    fn new(now: Time, patience: Duration) -> Self {
        Doubt { since: now, by: now.saturating_add(patience) }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resume {
    Idle,
    UnderWay,
    Waiting { until: Time },
}

impl Living {
    pub(super) fn new(session: Session, begun: Begun, dial: Option<u64>, peer_dial: u64) -> Self {
        Living {
            session,
            begun,
            dial,
            peer_dial,
            last_generation: 0,
            resume: Resume::Idle,
            resume_failures: 0,
            disowned: false,
            probing: false,
            doubt: None,
            pool_ids: Taken::default(),
        }
    }

    pub(super) fn resume(&mut self, peer: NodeName) -> Action {
        self.last_generation += 1;
        self.resume = Resume::UnderWay;
        Action::Resume { peer, session: self.session.id, generation: self.last_generation }
    }

    /// There is a control connection (again), which has proved that it is the session's.
    pub(super) fn connected(&mut self) {
        self.session.control_connected = true;
        self.probing = false;
        self.doubt = None;
    }

    /// There is none any more. What a probe over it was to find out is to be seen otherwise.
    pub(super) fn disconnected(&mut self, now: Time, patience: Duration) {
        self.session.control_connected = false;
        self.doubt = std::mem::take(&mut self.probing).then(|| Doubt::new(now, patience));
    }

    /// A claimant says that it is the peer, in another life or without this session: it has to wait until the session has
    /// shown whether it lives, over a control connection. If it has none, it has so long for one; a resume that waits for its
    /// back-off is due at once, but not again for every claim.
    pub(super) fn doubt(&mut self, peer: NodeName, now: Time, patience: Duration) -> Decision {
        let mut decision = Decision::refuse(Refusal::NameInUse);
        if !self.session.control_connected {
            if self.doubt.is_none() {
                self.doubt = Some(Doubt::new(now, patience));
                self.resume_failures = 0;
                if matches!(self.resume, Resume::Waiting { .. }) {
                    decision.actions.push(self.resume(peer));
                }
            }
        } else if !self.probing {
            self.probing = true;
            decision.actions.push(Action::Probe { peer, session: self.session.id });
        }
        decision
    }

    pub(super) fn has_missed_its_chance(&self, now: Time) -> bool {
        self.doubt.is_some_and(|doubt| doubt.by <= now)
    }

    /// Gives it as long again if its pool was heard since it was doubted: then it lives, and only control is missing.
    pub(super) fn put_off(&mut self, heard: Option<Time>, now: Time, patience: Duration) -> bool {
        let lives = heard.zip(self.doubt).is_some_and(|(heard, doubt)| heard > doubt.since);
        if lives {
            self.doubt = Some(Doubt::new(now, patience));
        }
        lives
    }

    /// Whether the peer's life may be a later one than that of somebody who answers what this node sent when so much had begun.
    pub(super) fn may_be_later_than(&self, asked: Begun) -> bool {
        asked < self.begun
    }

    /// Whether this session began after one of the same life whose verdict came late.
    pub(super) fn is_newer_than(&self, late: &Established) -> bool {
        match self.dial {
            Some(dial) => dial > late.connection,
            None => self.peer_dial > late.peer_dial,
        }
    }
}

/// Which ids were taken: all below the newest 128, and those marked of them.
#[derive(Debug, Default)]
pub(super) struct Taken {
    newest: u64,
    /// Bit n: `newest - n` was taken.
    marks: u128,
}

impl Taken {
    /// Takes an id; false if it was taken before, or is too old to tell.
    pub(super) fn take(&mut self, id: u64) -> bool {
        if id > self.newest {
            let shift = u32::try_from(id - self.newest).unwrap_or(u32::MAX);
            self.marks = self.marks.checked_shl(shift).unwrap_or(0) | 1;
            self.newest = id;
            return true;
        }
        let Some(mark) = u32::try_from(self.newest - id).ok().and_then(|age| 1u128.checked_shl(age)) else {
            return false;
        };
        let fresh = id != 0 && self.marks & mark == 0;
        self.marks |= mark;
        fresh
    }
}
