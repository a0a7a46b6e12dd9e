//! Calls and monitors of this node's processes that have not ended: whom to tell.
//!
//! Whoever takes an entry out of the table is the one to act: so a process that has cancelled is told nothing any more, and
//! one that cannot cancel has been told already.

use crate::running;
use rustc_hash::FxHashMap;
use rustler::{Env, LocalPid, Monitor, OwnedEnv, Resource, ResourceArc, Term};
use std::sync::{Mutex, MutexGuard, PoisonError};
use teleport::embed::{ProcessId, Recipient, RefId, Waiting};

#[derive(Default)]
pub(crate) struct Calls {
    table: Mutex<FxHashMap<RefId, Call>>,
}

/// A call or a monitor.
struct Call {
    process: LocalPid,
    id: ProcessId,
    /// What was called or is monitored.
    recipient: Recipient,
    /// While it is not accepted.
    waiting: Option<Waiting>,
    /// Tells when the process ends. Kept, since it does so only as long as it lives.
    guard: Guard,
}

type Guard = (ResourceArc<Caller>, Option<Monitor>);

/// Lives as long as a process waits for something, and is told when the process ends.
pub(crate) struct Caller(RefId);

#[rustler::resource_impl]
impl Resource for Caller {
    fn down<'a>(&'a self, _env: Env<'a>, _process: LocalPid, _monitor: Monitor) {
        if let Some(running) = running::current() {
            running.cancel(None, self.0);
        }
    }
}

impl Calls {
    /// A process begins to wait. It must be the calling one.
    pub(crate) fn begin(&self, env: Env<'_>, id: ProcessId, reference: RefId, recipient: Recipient) {
        let process = env.pid();
        let caller = ResourceArc::new(Caller(reference));
        let monitor = env.monitor(&caller, &process);
        let call = Call { process, id, recipient, waiting: None, guard: (caller, monitor) };
        self.lock().insert(reference, call);
    }

    /// Notes how it can be taken back, if it is still there.
    pub(crate) fn note_waiting(&self, reference: RefId, waiting: Waiting) {
        if let Some(call) = self.lock().get_mut(&reference) {
            call.waiting = Some(waiting);
        }
    }

    /// Nobody waits any more, since the process has ended (then there is no environment of its), does not want to, or nothing
    /// was sent. `None` if it has been told.
    pub(crate) fn end(&self, env: Option<Env<'_>>, reference: RefId) -> Option<Option<Waiting>> {
        let call = self.lock().remove(&reference)?;
        if env.is_some() {
            release(env, &call.guard);
        }
        Some(call.waiting)
    }

    /// Tells the process how it ended. `false` if it does not wait any more.
    ///
    /// What it is told is made before the table is locked, sent while it is.
    pub(crate) fn tell(
        &self,
        env: &OwnedEnv,
        reference: RefId,
        make: impl for<'a> FnOnce(Env<'a>, &Recipient) -> Option<Term<'a>>,
    ) -> bool {
        let Some(recipient) = self.lock().get(&reference).map(|call| call.recipient.clone()) else {
            return false;
        };
        let guard = env.run(|env| {
            let message = make(env, &recipient)?;
            let mut table = self.lock();
            let call = table.remove(&reference)?;
            let _ = env.send(&call.process, message); // it may have ended
            Some(call.guard)
        });
        guard.inspect(|guard| release(None, guard)).is_some()
    }

    /// The process that waits.
    pub(crate) fn process(&self, reference: RefId) -> Option<ProcessId> {
        Some(self.lock().get(&reference)?.id)
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<RefId, Call>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn release(env: Option<Env<'_>>, (caller, monitor): &Guard) {
    if let Some(monitor) = monitor {
        caller.demonitor(env, monitor);
    }
}
