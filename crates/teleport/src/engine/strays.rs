//! Answers that wait where no window counts them: for a session with the node that is said to have asked, or for room there.
//!
//! The asker's name is taken from the request, so there may be no such node.

use crate::ReplyError;
use std::sync::Arc;
use teleport_proto::transfer::MESSAGE_COST;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a node keeps of them, in KiB. Calls that one node hands on to another are answered so, until the two have a session.
const ROOM: u32 = 8 * 1024;

#[derive(Debug)]
pub(crate) struct Strays(Arc<Semaphore>);

impl Default for Strays {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM as usize)))
    }
}

impl Strays {
    /// Takes room for an answer of this many bytes; a large one may have all of it. It comes back when that is dropped.
    pub(crate) fn hold(&self, len: u64) -> Result<OwnedSemaphorePermit, ReplyError> {
        let units = u32::try_from((len + MESSAGE_COST).div_ceil(1024)).unwrap_or(u32::MAX).min(ROOM);
        let waiting = || 1024 * (u64::from(ROOM) - self.0.available_permits() as u64);
        let room = self.0.clone().try_acquire_many_owned(units);
        room.map_err(|_| ReplyError::NotTaken { waiting: waiting() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_some_or_for_a_large_one() {
        let strays = Strays::default();
        let large = strays.hold(1 << 30).expect("it is alone");
        assert!(matches!(strays.hold(1), Err(ReplyError::NotTaken { waiting: 8_388_608 })));
        drop(large);
        let small: Vec<_> = std::iter::from_fn(|| strays.hold(100_000).ok()).collect();
        assert_eq!(small.len(), 8192 / 98);
        drop(small);
        assert!(strays.hold(1 << 30).is_ok());
    }
}
