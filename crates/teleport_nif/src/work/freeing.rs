//! Freeing what is large, never on a scheduler: to give 100 MB back to the system takes milliseconds.

use crate::node::running::{self, Running};
use crate::work::workers::Garbage;
use bytes::Bytes;
use std::sync::Arc;

/// Up to this size memory is freed at once, in some microseconds.
const SMALL: usize = 1 << 20;

/// Frees memory that was held by a process, perhaps on a scheduler.
pub(crate) fn free(bytes: Bytes) {
    if bytes.len() > SMALL {
        elsewhere(Box::new(bytes));
    }
}

/// Drops it on another thread.
pub(crate) fn elsewhere(garbage: Garbage) {
    let free = |garbage: Option<Garbage>, running: &Arc<Running>| running.workers.free(garbage?);
    let left = running::all().iter().fold(Some(garbage), free);
    // The node has stopped, so it is one of the last. If there is no thread to be had it is dropped here.
    if let Some(garbage) = left {
        let _ = std::thread::Builder::new().name("teleport free".to_owned()).spawn(move || drop(garbage));
    }
}
