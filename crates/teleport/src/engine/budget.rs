//! The cap over everything that a node has under way.

use std::sync::{Arc, Mutex, PoisonError};
use teleport_proto::transfer::{Budget, Window};
use teleport_proto::wire::pool::Class;
use tokio::sync::Notify;

/// The node's window, and the sessions that wait for room in it.
#[derive(Debug)]
pub(crate) struct NodeBudget {
    state: Mutex<(Window, Vec<Arc<Notify>>)>,
}

impl NodeBudget {
    pub(crate) fn new(size: u64) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new((Window::new(size), Vec::new())) })
    }

    /// Bytes under way.
    pub(crate) fn used(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0.used()
    }
}

/// One session's access to the node's window.
pub(crate) struct SessionBudget {
    node: Arc<NodeBudget>,
    freed: Arc<Notify>,
}

impl SessionBudget {
    /// `freed` is notified when there is room again after a refusal.
    pub(crate) fn new(node: Arc<NodeBudget>, freed: Arc<Notify>) -> Self {
        Self { node, freed }
    }
}

impl Budget for SessionBudget {
    fn try_take(&self, class: Class, bytes: u64) -> bool {
        let (window, waiting) = &mut *self.node.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = window.fits(class, bytes);
        if fits {
            window.take(class, bytes);
        } else if !waiting.iter().any(|other| Arc::ptr_eq(other, &self.freed)) {
            waiting.push(self.freed.clone());
        }
        fits
    }

    fn give_back(&self, class: Class, bytes: u64) {
        let (window, waiting) = &mut *self.node.state.lock().unwrap_or_else(PoisonError::into_inner);
        window.give_back(class, bytes);
        waiting.drain(..).for_each(|session| session.notify_one());
    }
}
