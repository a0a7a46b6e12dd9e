//! Answers that wait where no window counts them: for a session with the node that is said to have asked, or for room there.
//!
//! The asker's name is taken from the request, so there may be no such node.

use crate::ReplyError;
use crate::base::lock::Lock;
use std::sync::Arc;
use teleport_proto::NodeName;
use teleport_proto::transfer::{FairWindow, MESSAGE_COST, Sharing};
use teleport_proto::wire::pool::{Class, EXPRESS_LIMIT};

/// What a node keeps of them, in bytes. Calls that one node hands on to another are answered so, until the two have a session.
const ROOM: u64 = 8 * 1024 * 1024;

/// By the name of the node that is said to have asked: those for one that cannot be reached leave some of it to the others.
#[derive(Debug)]
pub(crate) struct Strays(Arc<Lock<FairWindow<NodeName>>>);

impl Default for Strays {
    fn default() -> Self {
        let sharing = Sharing { size: ROOM, share: 0, alone: false, most: u64::MAX };
        Self(Arc::new(Lock::leaf(FairWindow::new(sharing))))
    }
}

/// Room for an answer, until this is dropped.
#[derive(Debug)]
pub(crate) struct Stray {
    window: Arc<Lock<FairWindow<NodeName>>>,
    asker: NodeName,
    class: Class,
    bytes: u64,
}

impl Strays {
    /// Takes room for an answer of this many bytes to a process of that node. One may have any size where nothing else waits.
    pub(crate) fn hold(&self, asker: &NodeName, len: u64) -> Result<Stray, ReplyError> {
        let class = if len <= EXPRESS_LIMIT as u64 { Class::Express } else { Class::Bulk };
        let bytes = len.saturating_add(MESSAGE_COST);
        let mut window = self.0.lock();
        // A refusal is not noted: nobody asks again, and names are free to invent.
        if !window.has_room(asker, class, bytes) {
            return Err(ReplyError::NotTaken { waiting: window.used() });
        }
        window.take(asker, class, bytes);
        Ok(Stray { window: self.0.clone(), asker: asker.clone(), class, bytes })
    }
}

impl Drop for Stray {
    fn drop(&mut self) {
        self.window.lock().give_back(&self.asker, self.class, self.bytes, |_| {});
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in a test it is a failure with a place")]
mod tests {
    use super::*;

    fn name(text: &str) -> NodeName {
        text.parse().unwrap()
    }

    #[test]
    fn answers_for_a_node_that_is_not_reached_leave_room_for_those_for_others() {
        let (strays, gone, other) = (Strays::default(), name("gone@nowhere"), name("other@here"));
        for (len, part) in [(1000, ROOM / 4), (100_000, ROOM / 4 * 3)] {
            let cost = len + MESSAGE_COST;
            let fill =
                |asker: &NodeName| std::iter::from_fn(|| strays.hold(asker, len).ok()).collect::<Vec<_>>();
            let held = fill(&gone);
            assert!((part / 2 - cost..=part / 2).contains(&(held.len() as u64 * cost)), "{}", held.len());
            let refused = strays.hold(&gone, len);
            assert!(matches!(refused, Err(ReplyError::NotTaken { waiting }) if waiting >= part / 2 - cost));
            assert!(fill(&other).len() > held.len() / 3);
            drop(held);
            assert_eq!(strays.0.lock().used(), 0);
        }
        assert_eq!(strays.0.lock().members(), 0);
    }

    #[test]
    fn a_large_answer_is_let_in_alone() {
        let (strays, one, other) = (Strays::default(), name("one@here"), name("other@here"));
        let large = strays.hold(&one, 1 << 30).unwrap();
        assert!(strays.hold(&other, 1 << 20).is_err());
        drop(large);
        assert!(strays.hold(&other, 1 << 30).is_ok());
    }
}
