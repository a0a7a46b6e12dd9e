//! Calls and monitors of this node's processes that have not ended: whom to tell.
//!
//! Whoever takes an entry out of the table is the one to act: so a process that has cancelled is told nothing any more, and
//! one that cannot cancel has been told already.
//!
//! A process is monitored from its first call until it ends. To end a monitor with every call would wake a thread of the
//! virtual machine each time.

use crate::running;
use rustc_hash::{FxHashMap, FxHashSet};
use rustler::{Env, LocalPid, Monitor, OwnedEnv, Resource, ResourceArc, Term};
use std::sync::{Mutex, MutexGuard, PoisonError};
use teleport::embed::{ProcessId, Recipient, RefId, Waiting};

#[derive(Default)]
pub(crate) struct Calls {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    calls: FxHashMap<RefId, Call>,
    /// All that wait, or have waited, and live.
    callers: FxHashMap<ProcessId, Waits>,
}

/// A call or a monitor.
struct Call {
    process: LocalPid,
    id: ProcessId,
    /// What was called or is monitored.
    recipient: Recipient,
    /// While it is not accepted.
    waiting: Option<Waiting>,
}

/// What a process waits for.
struct Waits {
    references: FxHashSet<RefId>,
    /// Tells when the process ends. Kept, since it does so only as long as it lives.
    _caller: ResourceArc<Caller>,
}

/// Is told when the process ends.
pub(crate) struct Caller(ProcessId);

#[rustler::resource_impl]
impl Resource for Caller {
    fn down<'a>(&'a self, _env: Env<'a>, _process: LocalPid, _monitor: Monitor) {
        if let Some(running) = running::current() {
            let left = running.calls.forget(self.0);
            for reference in left {
                running.cancel(reference);
            }
        }
    }
}

impl Caller {
    /// Of no process.
    pub(crate) fn nobody() -> ResourceArc<Self> {
        ResourceArc::new(Self(ProcessId::NOBODY))
    }
}

impl Calls {
    /// A process begins to wait. It must be the calling one.
    pub(crate) fn begin(&self, env: Env<'_>, id: ProcessId, reference: RefId, recipient: Recipient) {
        let process = env.pid();
        let mut table = self.lock();
        if !table.callers.contains_key(&id) {
            // Nobody else can add it meanwhile: it is here.
            drop(table);
            let caller = ResourceArc::new(Caller(id));
            let is_monitored = env.monitor(&caller, &process).is_some();
            table = self.lock();
            if is_monitored {
                table.callers.insert(id, Waits { references: FxHashSet::default(), _caller: caller });
            }
        }
        if let Some(waits) = table.callers.get_mut(&id) {
            waits.references.insert(reference);
        }
        table.calls.insert(reference, Call { process, id, recipient, waiting: None });
    }

    /// Notes how it can be taken back, if it is still there.
    pub(crate) fn note_waiting(&self, reference: RefId, waiting: Waiting) {
        if let Some(call) = self.lock().calls.get_mut(&reference) {
            call.waiting = Some(waiting);
        }
    }

    /// Nobody waits any more, since the process has ended, does not want to, or nothing was sent. `None` if it has been told.
    pub(crate) fn end(&self, reference: RefId) -> Option<Option<Waiting>> {
        Some(self.lock().take(reference)?.waiting)
    }

    /// A process has ended. Returns what it waited for, which remains to be ended.
    fn forget(&self, id: ProcessId) -> FxHashSet<RefId> {
        let waits = self.lock().callers.remove(&id);
        waits.map(|waits| waits.references).unwrap_or_default()
    }

    /// Tells the process how it ended. `false` if it does not wait any more.
    ///
    /// What it is told is made before the table is locked, sent while it is. Who was asked is told to whoever makes it.
    pub(crate) fn tell(
        &self,
        env: &mut OwnedEnv,
        reference: RefId,
        make: impl for<'a> FnOnce(Env<'a>, &dyn Fn() -> Option<Recipient>) -> Option<Term<'a>>,
    ) -> bool {
        if !self.lock().calls.contains_key(&reference) {
            return false;
        }
        let recipient = || self.lock().calls.get(&reference).map(|call| call.recipient.clone());
        let Some(message) = env.run(|inner| Some(env.save(make(inner, &recipient)?))) else { return false };
        let mut table = self.lock();
        let Some(call) = table.take(reference) else { return false };
        let _ = env.send_and_clear(&call.process, |env| message.load(env)); // it may have ended
        true
    }

    /// The process that waits.
    pub(crate) fn process(&self, reference: RefId) -> Option<ProcessId> {
        Some(self.lock().calls.get(&reference)?.id)
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().calls.len()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn take(&mut self, reference: RefId) -> Option<Call> {
        let call = self.calls.remove(&reference)?;
        if let Some(waits) = self.callers.get_mut(&call.id) {
            waits.references.remove(&reference);
        }
        Some(call)
    }
}
