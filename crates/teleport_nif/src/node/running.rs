//! The nodes of this virtual machine: the one that runs, if any, and those that have been stopped and still drain.

use crate::ids::Identity;
use crate::node::pulse::Pulse;
use crate::node::questions::Questions;
use crate::terms::Terms;
use crate::work::lines::Lines;
use crate::work::workers::Workers;
use rustler::LocalPid;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use teleport::embed::Embedded;

/// What the functions work on.
pub(crate) struct Running {
    /// The process that has started it.
    pub(crate) manager: LocalPid,
    pub(crate) identity: Identity,
    pub(crate) lines: Lines,
    pub(crate) workers: Workers<Running>,
    pub(crate) questions: Questions,
    pub(crate) terms: Terms,
    pub(crate) pulse: Arc<Pulse>,
    node: OnceLock<Embedded>,
    over: AtomicBool,
}

/// All of them.
struct Nodes {
    current: Option<Arc<Running>>,
    /// Stopped, and not over: what they have accepted is delivered, what they were asked may be answered.
    draining: Vec<Arc<Running>>,
}

static NODES: RwLock<Nodes> = RwLock::new(Nodes { current: None, draining: Vec::new() });

/// The node that runs.
pub(crate) fn current() -> Option<Arc<Running>> {
    read().current.clone()
}

/// All that have to do with processes: the one that runs, and those that drain.
pub(crate) fn all() -> Vec<Arc<Running>> {
    let nodes = read();
    nodes.current.iter().chain(&nodes.draining).cloned().collect()
}

/// Whether it is the one that runs.
pub(crate) fn is_current(running: &Arc<Running>) -> bool {
    read().current.as_ref().is_some_and(|current| Arc::ptr_eq(current, running))
}

/// Makes it the one that runs. `false` if there is one.
pub(crate) fn set(running: &Arc<Running>) -> bool {
    let mut nodes = write();
    let free = nodes.current.is_none();
    if free {
        nodes.current = Some(running.clone());
    }
    free
}

/// The one that runs takes nothing new from now on, and drains until it is [over](forget). Returns it.
pub(crate) fn stop() -> Option<Arc<Running>> {
    let mut nodes = write();
    let stopped = nodes.current.take()?;
    nodes.draining.push(stopped.clone());
    Some(stopped)
}

/// The same, if it is this one that runs.
pub(crate) fn stop_this(running: &Arc<Running>) -> bool {
    let mut nodes = write();
    let stopped = nodes.current.take_if(|current| Arc::ptr_eq(current, running));
    let was_current = stopped.is_some();
    nodes.draining.extend(stopped);
    was_current
}

/// It is over, or will never run.
pub(crate) fn forget(over: &Arc<Running>) {
    let mut nodes = write();
    nodes.current.take_if(|current| Arc::ptr_eq(current, over));
    nodes.draining.retain(|draining| !Arc::ptr_eq(draining, over));
}

fn read() -> RwLockReadGuard<'static, Nodes> {
    NODES.read().unwrap_or_else(PoisonError::into_inner)
}

fn write() -> RwLockWriteGuard<'static, Nodes> {
    NODES.write().unwrap_or_else(PoisonError::into_inner)
}

impl Running {
    pub(crate) fn new(
        manager: LocalPid,
        identity: Identity,
        terms: Terms,
        questions: Questions,
        workers: Workers<Running>,
    ) -> Self {
        let (lines, pulse, node, over) = Default::default();
        Self { manager, identity, lines, workers, questions, terms, pulse, node, over }
    }

    /// The node has been started.
    pub(crate) fn started(&self, node: Embedded) {
        let _ = self.node.set(node); // nobody else starts one for this
    }

    /// The node. `None` only while it is being started.
    pub(crate) fn node(&self) -> Option<&Embedded> {
        self.node.get()
    }

    /// The node has shut down, and ends nothing any more.
    pub(crate) fn set_over(&self) {
        self.over.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst); // either this sees the pulse that begins, or that sees this
        self.pulse.end();
    }

    /// Whether it has.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}
