//! The node that runs in this virtual machine, if any.

use crate::builders::Left;
use crate::calls::Calls;
use crate::ids::Identity;
use crate::lines::Lines;
use crate::resolver::Questions;
use crate::terms::Terms;
use crate::workers::Workers;
use rustler::LocalPid;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use teleport::embed::{Embedded, RefId};

/// What the functions work on.
pub(crate) struct Running {
    /// The process that has started it.
    pub(crate) manager: LocalPid,
    pub(crate) identity: Identity,
    pub(crate) calls: Calls,
    pub(crate) lines: Lines,
    pub(crate) left: Left,
    pub(crate) workers: Workers,
    pub(crate) questions: Questions,
    pub(crate) terms: Terms,
    node: OnceLock<Embedded>,
}

static CURRENT: RwLock<Option<Arc<Running>>> = RwLock::new(None);

/// The node that runs.
pub(crate) fn current() -> Option<Arc<Running>> {
    CURRENT.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Makes it the one that runs. `false` if there is one.
pub(crate) fn set(running: &Arc<Running>) -> bool {
    let mut current = CURRENT.write().unwrap_or_else(PoisonError::into_inner);
    let free = current.is_none();
    if free {
        *current = Some(running.clone());
    }
    free
}

/// Nothing runs from now on. Returns what did.
pub(crate) fn clear() -> Option<Arc<Running>> {
    CURRENT.write().unwrap_or_else(PoisonError::into_inner).take()
}

impl Running {
    pub(crate) fn new(
        manager: LocalPid,
        identity: Identity,
        terms: Terms,
        questions: Questions,
        workers: Workers,
    ) -> Self {
        let (calls, lines, left, node) = Default::default();
        Self { manager, identity, calls, lines, left, workers, questions, terms, node }
    }

    /// The node has been started.
    pub(crate) fn started(&self, node: Embedded) {
        let _ = self.node.set(node); // nobody else starts one for this
    }

    /// The node. `None` only while it is being started.
    pub(crate) fn node(&self) -> Option<&Embedded> {
        self.node.get()
    }

    /// A process does not want to wait any more, or has ended. `false` if it has been told already.
    pub(crate) fn cancel(&self, reference: RefId) -> bool {
        let Some(waiting) = self.calls.end(reference) else { return false };
        // One that waits is taken back; if it was accepted just now it is ended.
        if !waiting.is_some_and(|waiting| waiting.cancel())
            && let Some(node) = self.node()
        {
            node.cancel(reference);
        }
        true
    }
}
