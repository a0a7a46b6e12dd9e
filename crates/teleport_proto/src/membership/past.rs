//! Which life of each peer had the last session, for as long as a handshake from before that may still be under way.

use super::Begun;
use crate::{Incarnation, NodeName, Time};
use std::collections::BTreeMap;
use std::time::Duration;

/// A life is remembered for this many times as long as a handshake may take: that one has ended may be noticed late.
const ATTEMPTS: u32 = 2;

/// Lives that are remembered before it is asked which of them are to be forgotten.
const FEW: usize = 64;

/// The lives of the last sessions that began.
#[derive(Debug)]
pub(super) struct Past {
    kept: Duration,
    lives: BTreeMap<NodeName, Life>,
    /// How many there were when lives were last forgotten, twice: so the work for each session does not grow with their number.
    most: usize,
}

#[derive(Debug)]
struct Life {
    incarnation: Incarnation,
    begun: Begun,
    until: Time,
}

impl Past {
    /// A handshake takes no longer than `attempt`.
    pub(super) fn new(attempt: Duration) -> Self {
        Past { kept: attempt.saturating_mul(ATTEMPTS), lives: BTreeMap::new(), most: 0 }
    }

    /// There are handshakes that take no longer than that; the longest counts.
    pub(super) fn reckon_with(&mut self, handshake: Duration) {
        self.kept = self.kept.max(handshake.saturating_mul(ATTEMPTS));
    }

    /// A session begins, and `begun` have begun with it.
    pub(super) fn note(&mut self, peer: &NodeName, incarnation: Incarnation, begun: Begun, now: Time) {
        // There are never more than twice as many as sessions that begin in the time for which they are kept.
        if self.lives.len() >= self.most.max(FEW) {
            self.lives.retain(|_, life| life.until > now);
            self.most = 2 * self.lives.len();
        }
        let until = now.saturating_add(self.kept);
        self.lives.insert(peer.clone(), Life { incarnation, begun, until });
    }

    /// Whether a life that answers what this node sent when `asked` sessions had begun may be earlier than one that had a session.
    pub(super) fn may_be_before(
        &self,
        peer: &NodeName,
        incarnation: Incarnation,
        asked: Begun,
        now: Time,
    ) -> bool {
        let life = self.lives.get(peer).filter(|life| life.until > now);
        life.is_some_and(|life| life.incarnation != incarnation && asked < life.begun)
    }
}
