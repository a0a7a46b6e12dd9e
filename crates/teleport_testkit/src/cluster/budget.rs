//! The cap that a node's sessions share.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use teleport_proto::transfer::{Budget, Window};
use teleport_proto::wire::pool::Class;

/// A node's budget: a [`Window`], and who has been refused since.
#[derive(Debug)]
pub(super) struct NodeBudget {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    window: Window,
    refused: BTreeSet<usize>,
    freed: bool,
    refusals: u64,
}

impl NodeBudget {
    pub(super) fn new(bytes: u64) -> Arc<Self> {
        let (window, refused) = (Window::new(bytes), BTreeSet::new());
        Arc::new(Self { inner: Mutex::new(Inner { window, refused, freed: false, refusals: 0 }) })
    }

    pub(super) fn used(&self) -> u64 {
        self.lock().window.used()
    }

    pub(super) fn refusals(&self) -> u64 {
        self.lock().refusals
    }

    /// The sessions that have to be told that bytes came back.
    pub(super) fn to_tell(&self) -> BTreeSet<usize> {
        let mut inner = self.lock();
        if !std::mem::take(&mut inner.freed) {
            return BTreeSet::new();
        }
        std::mem::take(&mut inner.refused)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One session's share in a [`NodeBudget`].
#[derive(Debug)]
pub(super) struct SessionBudget {
    pub(super) node: Arc<NodeBudget>,
    pub(super) session: usize,
}

impl Budget for SessionBudget {
    fn try_take(&self, class: Class, bytes: u64) -> bool {
        let mut inner = self.node.lock();
        let fits = inner.window.fits(class, bytes);
        if fits {
            inner.window.take(class, bytes);
        } else {
            inner.refused.insert(self.session);
            inner.refusals += 1;
        }
        fits
    }

    fn give_back(&self, class: Class, bytes: u64) {
        let mut inner = self.node.lock();
        inner.window.give_back(class, bytes);
        inner.freed = true;
    }
}
