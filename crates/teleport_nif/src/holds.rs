//! Which processes relays watch; and what is held back until they do.
//!
//! A process that a peer calls or monitors may end at what it is sent next, and then its exit reason is known only to who
//! monitors it by then. So what comes for a process behind the first call or monitor of it waits until a relay has said that
//! it monitors the process. It goes on doing so for a while, so that there is nothing to wait for next time.

use bytes::Bytes;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use teleport::embed::{Inbound, Origin, ProcessId, Receipt};

#[derive(Default)]
pub(crate) struct Holds {
    /// How many processes something is held back for: nearly always none.
    count: AtomicUsize,
    table: Mutex<FxHashMap<ProcessId, State>>,
}

enum State {
    /// A relay monitors it.
    Watched,
    /// A relay is about to.
    Held {
        back: VecDeque<Held>,
        /// A thread delivers what was held back, one after the other.
        releasing: bool,
        /// The relay does not do so any more.
        ended: bool,
    },
}

/// What is held back.
pub(crate) enum Held {
    Inbound(Inbound),
    Request(Request),
}

/// A request of which the relay has the watch.
pub(crate) struct Request {
    pub(crate) to: ProcessId,
    pub(crate) body: Bytes,
    pub(crate) origin: Origin,
    /// The watch's.
    pub(crate) number: u64,
    pub(crate) receipt: Receipt,
}

impl Holds {
    /// Gives back what may be delivered now; holds it back if something for the process is.
    pub(crate) fn pass(&self, to: impl FnOnce() -> Option<ProcessId>, inbound: Inbound) -> Option<Inbound> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Some(inbound);
        }
        let Some(to) = to() else { return Some(inbound) };
        match self.lock().get_mut(&to) {
            Some(State::Held { back, .. }) => back.push_back(Held::Inbound(inbound)),
            _ => return Some(inbound),
        }
        None
    }

    /// Begins to hold back what is for a process, and first of all a request. Gives that back if a relay watches the process,
    /// or it was held back before; keeps it if another one has begun meanwhile.
    pub(crate) fn begin(
        &self,
        process: ProcessId,
        request: Option<Request>,
        was_held: bool,
    ) -> Result<(), Option<Request>> {
        match self.lock().entry(process) {
            Entry::Occupied(mut entry) => {
                return match entry.get_mut() {
                    State::Held { back, .. } if !was_held => {
                        back.extend(request.map(Held::Request));
                        Err(None)
                    }
                    _ => Err(request),
                };
            }
            Entry::Vacant(entry) => {
                let back = request.into_iter().map(Held::Request).collect();
                entry.insert(State::Held { back, releasing: false, ended: false });
            }
        }
        self.count.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Whether the calling thread is the one to deliver what was held back for a process, by [`Holds::next`]. If there is one
    /// at it, that one delivers everything.
    pub(crate) fn release(&self, process: ProcessId) -> bool {
        match self.lock().get_mut(&process) {
            Some(State::Held { releasing, .. }) => !std::mem::replace(releasing, true),
            _ => false,
        }
    }

    /// The next that was held back for a process that a relay watches now. After the last one nothing is held back.
    pub(crate) fn next(&self, process: ProcessId) -> Option<Held> {
        let mut table = self.lock();
        let State::Held { back, ended, .. } = table.get_mut(&process)? else { return None };
        if let Some(next) = back.pop_front() {
            return Some(next);
        }
        if *ended {
            table.remove(&process);
        } else {
            table.insert(process, State::Watched);
        }
        self.count.fetch_sub(1, Ordering::Release);
        None
    }

    /// A relay does not watch the process any more.
    pub(crate) fn end(&self, process: ProcessId) {
        let mut table = self.lock();
        match table.get_mut(&process) {
            Some(State::Held { ended, .. }) => *ended = true,
            Some(State::Watched) => drop(table.remove(&process)),
            None => {}
        }
    }

    /// A relay does not watch any process any more. Returns those for which something is held back.
    pub(crate) fn end_all(&self, mut of_it: impl FnMut(ProcessId) -> bool) -> Vec<ProcessId> {
        let mut left = Vec::new();
        self.lock().retain(|process, state| match state {
            _ if !of_it(*process) => true,
            State::Watched => false,
            State::Held { ended, .. } => {
                *ended = true;
                left.push(*process);
                true
            }
        });
        left
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<ProcessId, State>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
