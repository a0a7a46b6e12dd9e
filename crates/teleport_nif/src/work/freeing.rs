//! Freeing what is large, never on a scheduler: to give 100 MB back to the system takes milliseconds.

use bytes::Bytes;
use teleport::embed::free_elsewhere;

/// Up to this size memory is freed at once, in some microseconds.
const SMALL: usize = 1 << 20;

/// Frees memory that was held by a process, perhaps on a scheduler.
pub(crate) fn free(bytes: Bytes) {
    if bytes.len() > SMALL {
        free_elsewhere(Box::new(bytes));
    }
}
