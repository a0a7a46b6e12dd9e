//! Freeing what is large, never on a scheduler: to give 100 MB back to the system takes milliseconds.

use bytes::Bytes;
use std::sync::OnceLock;
use std::sync::mpsc::{SendError, Sender, channel};
use std::thread;

/// Up to this size memory is freed at once, in some microseconds.
const SMALL: usize = 1 << 20;

/// Something to be dropped, and nothing else.
pub(crate) type Garbage = Box<dyn Send>;

/// Frees memory that was held by a process, perhaps on a scheduler.
pub(crate) fn free(bytes: Bytes) {
    if bytes.len() > SMALL {
        elsewhere(Box::new(bytes));
    }
}

/// Drops it on a thread that does nothing else. Without one it is dropped here.
pub(crate) fn elsewhere(garbage: Garbage) {
    match thread_that_frees() {
        Some(thread) => {
            if let Err(SendError(garbage)) = thread.send(garbage) {
                drop(garbage);
            }
        }
        None => drop(garbage),
    }
}

/// The way to it. It outlives nodes, as garbage does.
fn thread_that_frees() -> Option<&'static Sender<Garbage>> {
    static THREAD: OnceLock<Option<Sender<Garbage>>> = OnceLock::new();
    let start = || {
        let (sender, garbage) = channel::<Garbage>();
        let thread = thread::Builder::new().name("teleport free".to_owned());
        thread.spawn(move || garbage.into_iter().for_each(drop)).ok().map(|_| sender)
    };
    THREAD.get_or_init(start).as_ref()
}
