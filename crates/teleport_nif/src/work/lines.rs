//! What has to come to a process one behind the other, while the first of it cannot be delivered at once.
//!
//! A term may have to be built by a process, and a request may have to wait until a relay monitors its server. Nobody waits for
//! that: what comes behind, for the same process and over the same session, lines up. It is not confirmed to the peer before it
//! has been delivered, so the peer's window bounds what is in a line.

use crate::lock::Lock;
use crate::work::turns::Whose;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use teleport::embed::{Inbound, Origin, ProcessId, RefId};

/// A session and a process of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) whose: Whose,
    process: ProcessId,
}

impl Key {
    pub(crate) fn new(origin: &Origin, process: ProcessId) -> Self {
        Self { whose: whose(origin), process }
    }
}

/// Whose turn it is for what has come over that session.
pub(crate) fn whose(origin: &Origin) -> Whose {
    Whose { place: origin.place(), session: origin.id() }
}

#[derive(Default)]
pub(crate) struct Lines {
    /// How many there are: nearly always none.
    count: AtomicUsize,
    table: Lock<FxHashMap<Key, Line>>,
    /// Ends of calls and monitors that were announced: the process may not wait any more when they come.
    ends: Lock<FxHashMap<RefId, Key>>,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Inbound>,
    /// What has been announced and not entered yet.
    announced: usize,
    /// The first is being delivered.
    moves: bool,
}

impl Lines {
    /// Something is about to come, in that order: whether it has to line up, behind others or since it `opens` a line.
    pub(crate) fn announce(&self, key: impl FnOnce() -> Key, opens: bool) -> bool {
        if !opens && self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        match self.table.lock().entry(key()) {
            Entry::Occupied(mut line) => line.get_mut().announced += 1,
            Entry::Vacant(_) if !opens => return false,
            Entry::Vacant(entry) => {
                entry.insert(Line { announced: 1, ..Line::default() });
                self.count.fetch_add(1, Ordering::AcqRel);
            }
        }
        true
    }

    /// Announces the end of a call or a monitor. It goes by its process, as long as that waits.
    pub(crate) fn announce_end(&self, end: RefId, key: impl FnOnce() -> Option<Key>, opens: bool) -> bool {
        if !opens && self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let Some(key) = key() else { return false };
        let announced = self.announce(|| key, opens);
        if announced {
            self.ends.lock().insert(end, key);
        }
        announced
    }

    /// The line that the end of a call or a monitor was announced for.
    pub(crate) fn announced_end(&self, end: RefId) -> Option<Key> {
        self.ends.lock().remove(&end)
    }

    /// What was announced has come. `true`: the line stood still, and the caller moves it on, by [`Lines::next`].
    pub(crate) fn enter(&self, key: Key, inbound: Inbound) -> bool {
        let mut table = self.table.lock();
        let Some(line) = table.get_mut(&key) else { return false };
        line.announced -= 1; // a line stays for what was announced
        line.waiting.push_back(inbound);
        !std::mem::replace(&mut line.moves, true)
    }

    /// The next of a line, when the one before has been delivered. After the last one the line stands still.
    pub(crate) fn next(&self, key: Key) -> Option<Inbound> {
        let mut table = self.table.lock();
        let line = table.get_mut(&key)?;
        let next = line.waiting.pop_front();
        if next.is_none() {
            line.moves = false;
            if line.announced == 0 {
                table.remove(&key);
                self.count.fetch_sub(1, Ordering::AcqRel);
            }
        }
        next
    }
}
