//! What a session's peer may reach, and what of it was refused.

use crate::base::allow::{Current, Judge, What};
use crate::base::info::NotAllowed;
use crate::base::lock::Lock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use teleport_proto::NodeName;

/// Follows the node's allow-list.
#[derive(Debug, Default)]
pub(super) struct Permitted {
    /// Twice the generation of the list that was looked at last, and 1 more if the peer may not reach everything.
    known: AtomicU64,
    judge: Lock<Option<Arc<Judge>>>,
    refused: [AtomicU64; What::ALL.len()],
}

impl Permitted {
    /// Who judges what comes from the peer. `None` if it may reach everything.
    #[inline]
    pub(super) fn judge(&self, current: &Current, peer: &NodeName) -> Option<Arc<Judge>> {
        if self.known.load(Ordering::Acquire) == 2 * current.generation() {
            return None;
        }
        self.look_up(current, peer)
    }

    #[cold]
    fn look_up(&self, current: &Current, peer: &NodeName) -> Option<Arc<Judge>> {
        if self.known.load(Ordering::Acquire) == 2 * current.generation() + 1 {
            return self.judge.lock().clone();
        }
        let (generation, judge) = current.judge(peer);
        let known = 2 * generation + u64::from(judge.is_some());
        let mut last = self.judge.lock();
        if known > self.known.load(Ordering::Acquire) {
            last.clone_from(&judge);
            self.known.store(known, Ordering::Release);
        }
        judge
    }

    /// One more was refused, or would have been.
    pub(super) fn count(&self, what: What) {
        self.refused[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many were refused, or would have been.
    pub(super) fn not_allowed(&self) -> NotAllowed {
        let count = |what: What| self.refused[what as usize].load(Ordering::Relaxed);
        NotAllowed {
            messages: count(What::Message),
            calls: count(What::Call),
            monitors: count(What::Monitor),
            functions: count(What::Function),
        }
    }
}
