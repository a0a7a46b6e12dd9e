//! Which life of each peer had the last session, for as long as a handshake from before that may still be under way.

use super::Begun;
use crate::{Incarnation, NodeName, Time};
use std::collections::BTreeMap;
use std::time::Duration;

/// So many times an attempt lasts what is under way is reckoned with: its end may be noticed late.
const ATTEMPTS: u32 = 2;

/// The lives of the last sessions that began.
#[derive(Debug)]
pub(super) struct Past {
    kept: Duration,
    lives: BTreeMap<NodeName, Life>,
}

#[derive(Debug)]
struct Life {
    incarnation: Incarnation,
    begun: Begun,
    until: Time,
}

impl Past {
    /// Where a handshake takes up to `attempt`.
    pub(super) fn new(attempt: Duration) -> Self {
        Past { kept: attempt.saturating_mul(ATTEMPTS), lives: BTreeMap::new() }
    }

    /// One may take so long.
    pub(super) fn reckon_with(&mut self, handshake: Duration) {
        self.kept = self.kept.max(handshake.saturating_mul(ATTEMPTS));
    }

    /// A session begins, the last one of so many.
    pub(super) fn note(&mut self, peer: &NodeName, incarnation: Incarnation, begun: Begun, now: Time) {
        // So there are never more than sessions that begin in that time.
        self.lives.retain(|_, life| life.until > now);
        let until = now.saturating_add(self.kept);
        self.lives.insert(peer.clone(), Life { incarnation, begun, until });
    }

    /// Whether somebody who answers what this node sent when so much had begun may be an earlier life than one that had a session.
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
