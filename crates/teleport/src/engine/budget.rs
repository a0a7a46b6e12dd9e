//! The cap over everything that a node has under way, shared by its sessions.

use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use teleport_proto::transfer::{Budget, FairWindow, Sharing};
use teleport_proto::wire::pool::Class;
use tokio::sync::Notify;

/// The node's window.
#[derive(Debug)]
pub(crate) struct NodeBudget {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    window: FairWindow<u64>,
    /// How to tell each session that there is room for it.
    sessions: FxHashMap<u64, Arc<Notify>>,
    last_session: u64,
}

impl State {
    fn tell(sessions: &FxHashMap<u64, Arc<Notify>>, session: &u64) {
        if let Some(freed) = sessions.get(session) {
            freed.notify_one();
        }
    }
}

impl NodeBudget {
    /// A window of `size` bytes, of which each session may have `share` whatever the others do.
    pub(crate) fn new(size: u64, share: u64) -> Arc<Self> {
        let window = FairWindow::new(Sharing { size, share, most: u64::MAX });
        Arc::new(Self {
            state: Mutex::new(State { window, sessions: FxHashMap::default(), last_session: 0 }),
        })
    }

    /// Bytes under way.
    pub(crate) fn used(&self) -> u64 {
        self.lock().window.used()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One session's access to the node's window.
pub(crate) struct SessionBudget {
    node: Arc<NodeBudget>,
    session: u64,
}

impl SessionBudget {
    /// `freed` is notified when there is room again after a refusal.
    pub(crate) fn new(node: Arc<NodeBudget>, freed: Arc<Notify>) -> Self {
        let session = {
            let mut state = node.lock();
            state.last_session += 1;
            let session = state.last_session;
            state.sessions.insert(session, freed);
            session
        };
        Self { node, session }
    }
}

impl Budget for SessionBudget {
    fn try_take(&self, class: Class, bytes: u64) -> bool {
        self.node.lock().window.try_take(&self.session, class, bytes)
    }

    fn take(&self, class: Class, bytes: u64) {
        self.node.lock().window.take(&self.session, class, bytes);
    }

    fn give_back(&self, class: Class, bytes: u64) {
        let State { window, sessions, .. } = &mut *self.node.lock();
        window.give_back(&self.session, class, bytes, |session| State::tell(sessions, session));
    }
}

impl Drop for SessionBudget {
    fn drop(&mut self) {
        let State { window, sessions, .. } = &mut *self.node.lock();
        sessions.remove(&self.session);
        window.leave(&self.session, |session| State::tell(sessions, session));
    }
}
