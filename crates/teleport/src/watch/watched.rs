//! The watched side: who has to be told when a process here ends.

use super::{Via, reason};
use crate::mailbox::Inbox;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use teleport_etf::Segments;
use teleport_proto::wire::envelope::{Kind, ProcessId, RefId};

/// So many watches one peer may hold on the processes of this node.
const MOST_WATCHES: usize = 1 << 20;

/// Why a watch was not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The process has ended.
    NoProcess,
    /// There are too many, or there is one of that reference.
    Limit,
}

impl Refused {
    /// The reason that the watcher is given.
    pub(crate) fn reason(self) -> Segments {
        match self {
            Self::NoProcess => reason::noproc(),
            Self::Limit => reason::system_limit(),
        }
    }
}

/// The processes here that one peer, or this node itself, watches; `None` once nobody is left to be told.
///
/// The watcher's node chooses the references, so they are not hashed.
#[derive(Debug)]
pub(crate) struct Watched(Mutex<Option<BTreeMap<RefId, Arc<Inbox>>>>);

impl Default for Watched {
    fn default() -> Self {
        Self(Mutex::new(Some(BTreeMap::new())))
    }
}

impl Watched {
    /// How many watches there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().as_ref().map_or(0, BTreeMap::len)
    }

    fn insert(&self, reference: RefId, inbox: &Arc<Inbox>) -> Result<(), Refused> {
        let mut table = self.lock();
        let table = table.as_mut().ok_or(Refused::Limit)?;
        if table.len() >= MOST_WATCHES || table.contains_key(&reference) {
            return Err(Refused::Limit);
        }
        table.insert(reference, inbox.clone());
        Ok(())
    }

    fn remove(&self, reference: RefId) -> Option<Arc<Inbox>> {
        self.lock().as_mut()?.remove(&reference)
    }

    fn close(&self) -> BTreeMap<RefId, Arc<Inbox>> {
        self.lock().take().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Option<BTreeMap<RefId, Arc<Inbox>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who watches one process; `None` once it has ended.
#[derive(Debug)]
pub(crate) struct Watchers(Mutex<Option<BTreeMap<(usize, RefId), Watcher>>>);

#[derive(Debug)]
struct Watcher {
    via: Via,
    process: ProcessId,
}

impl Default for Watchers {
    fn default() -> Self {
        Self(Mutex::new(Some(BTreeMap::new())))
    }
}

impl Watchers {
    fn lock(&self) -> MutexGuard<'_, Option<BTreeMap<(usize, RefId), Watcher>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Via {
    /// A process there watches one here.
    pub(crate) fn begin(
        &self,
        reference: RefId,
        process: ProcessId,
        inbox: &Arc<Inbox>,
    ) -> Result<(), Refused> {
        self.watched(|watched| watched.insert(reference, inbox)).unwrap_or(Err(Refused::Limit))?;
        let begun = inbox.watchers.lock().as_mut().map(|watchers| {
            watchers.insert((self.key(), reference), Watcher { via: self.clone(), process });
        });
        if begun.is_none() {
            self.watched(|watched| watched.remove(reference));
            return Err(Refused::NoProcess);
        }
        Ok(())
    }

    /// A process there watches no longer, or has got its reply. `false` if it did not.
    pub(crate) fn end(&self, reference: RefId) -> bool {
        let Some(inbox) = self.watched(|watched| watched.remove(reference)).flatten() else { return false };
        self.forget(reference, &inbox);
        true
    }

    /// Nobody there can be told any more.
    pub(crate) fn end_all(&self) {
        let left = self.watched(Watched::close).unwrap_or_default();
        left.into_iter().for_each(|(reference, inbox)| self.forget(reference, &inbox));
    }

    fn forget(&self, reference: RefId, inbox: &Inbox) {
        let key = (self.key(), reference);
        let gone = inbox.watchers.lock().as_mut().and_then(|watchers| watchers.remove(&key));
        drop(gone); // after the lock: it may be the last of its session
    }
}

impl Inbox {
    /// The process has ended: tells everybody who watches it, behind what it has sent.
    pub(crate) fn tell_watchers(&self, reason: &Segments) {
        let watchers = self.watchers.lock().take().unwrap_or_default();
        for ((_, reference), Watcher { via, process }) in watchers {
            // Whoever takes it out of the table is the one to answer.
            if via.watched(|watched| watched.remove(reference)).flatten().is_some() {
                via.down(self.process, process, Kind::Down(reference), reason.clone());
            }
        }
    }
}
