//! The caps that a node's sessions share.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use teleport_proto::transfer::{Budget, FairWindow, GrantCap, Granter, Renewal};
use teleport_proto::wire::envelope::Lane;
use teleport_proto::wire::pool::Class;

/// A node's budget, and who is to be told of room in it.
#[derive(Debug)]
pub(super) struct NodeBudget {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    window: FairWindow<usize>,
    ready: BTreeSet<usize>,
    refusals: u64,
}

impl NodeBudget {
    pub(super) fn new(window: FairWindow<usize>) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::new(Inner { window, ready: BTreeSet::new(), refusals: 0 }) })
    }

    pub(super) fn used(&self) -> u64 {
        self.lock().window.used()
    }

    /// Sessions that the budget knows.
    pub(super) fn members(&self) -> usize {
        self.lock().window.members()
    }

    pub(super) fn refusals(&self) -> u64 {
        self.lock().refusals
    }

    /// The sessions that have to be told that there is room for them.
    pub(super) fn to_tell(&self) -> BTreeSet<usize> {
        std::mem::take(&mut self.lock().ready)
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
        let fits = inner.window.try_take(&self.session, class, bytes);
        inner.refusals += u64::from(!fits);
        fits
    }

    fn take(&self, class: Class, bytes: u64) {
        self.node.lock().window.take(&self.session, class, bytes);
    }

    fn give_back(&self, class: Class, bytes: u64) {
        let Inner { window, ready, .. } = &mut *self.node.lock();
        window.give_back(&self.session, class, bytes, |&session| {
            ready.insert(session);
        });
    }
}

impl Drop for SessionBudget {
    fn drop(&mut self) {
        let Inner { window, ready, .. } = &mut *self.node.lock();
        window.leave(&self.session, |&session| {
            ready.insert(session);
        });
    }
}

/// What a node grants to its peers, and who is to be told of more.
#[derive(Debug)]
pub(super) struct NodeGrants {
    inner: Mutex<(GrantCap<usize>, BTreeSet<usize>)>,
}

impl NodeGrants {
    pub(super) fn new(size: u64) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::new((GrantCap::new(size), BTreeSet::new())) })
    }

    pub(super) fn used(&self) -> u64 {
        self.lock().0.used()
    }

    /// The sessions that have to be told that there is room for them.
    pub(super) fn to_tell(&self) -> BTreeSet<usize> {
        std::mem::take(&mut self.lock().1)
    }

    fn lock(&self) -> MutexGuard<'_, (GrantCap<usize>, BTreeSet<usize>)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One session's access to [`NodeGrants`].
#[derive(Debug)]
pub(super) struct SessionGrants {
    pub(super) node: Arc<NodeGrants>,
    pub(super) session: usize,
    /// Where its peer is.
    pub(super) source: usize,
}

impl Granter for SessionGrants {
    fn renew(&self, lane: Lane, class: Class, renewal: Renewal) -> u64 {
        let (cap, ready) = &mut *self.node.lock();
        cap.renew(self.session as u64, &self.source, (lane, class), renewal, |session| {
            ready.insert(session as usize);
        })
    }
}

impl Drop for SessionGrants {
    fn drop(&mut self) {
        let (cap, ready) = &mut *self.node.lock();
        cap.leave(self.session as u64, &self.source, |session| {
            ready.insert(session as usize);
        });
    }
}
