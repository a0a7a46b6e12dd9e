//! Calls and monitors of this virtual machine's processes that have not ended: whom to tell.
//!
//! The one that takes an entry out of the table is the one to act: so a process that has cancelled is told nothing any more, and
//! one that cannot cancel has been told already.
//!
//! The table is the virtual machine's, and outlives nodes: what waits on a node that stops, and still drains, is cancelled and
//! told as ever. When the node is over, what is left of it ends; see [`Calls::end_all`].
//!
//! A process is monitored from its first call until it ends. To end a monitor with every call would wake a thread of the
//! virtual machine each time.

use crate::lock::Lock;
use crate::node::running::{self, Running};
use crate::work::turns::Whose;
use rustc_hash::{FxHashMap, FxHashSet};
use rustler::env::SavedTerm;
use rustler::{Env, LocalPid, Monitor, OwnedEnv, Resource, ResourceArc, Term};
use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Weak};
use teleport::embed::{ProcessId, Recipient, RefId, Waiting};

#[derive(Default)]
pub(crate) struct Calls {
    table: Lock<Table>,
}

/// Those of this virtual machine, where no reference is made twice.
pub(crate) static CALLS: LazyLock<Calls> = LazyLock::new(Calls::default);

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
    /// The node that it waits on.
    running: Weak<Running>,
    /// What it is for the node.
    named: RefId,
    /// What was called or is monitored.
    recipient: Recipient,
    /// While it is not accepted.
    waiting: Option<Waiting>,
    mark: Option<Arc<Mark>>,
}

/// A term that the process wants to be in the message about its call or monitor: so it finds that without looking through its
/// mailbox, or knows it by that.
pub(crate) struct Mark(Lock<(OwnedEnv, SavedTerm)>);

impl Mark {
    pub(crate) fn new(term: Term<'_>) -> Self {
        let own = OwnedEnv::new();
        let term = own.save(term);
        Self(Lock::new((own, term)))
    }

    pub(crate) fn term<'a>(&self, env: Env<'a>) -> Term<'a> {
        let own = self.0.lock();
        own.0.run(|inner| own.1.load(inner).in_env(env))
    }
}

/// What a process is told about: its call or monitor, unless that ends meanwhile.
pub(crate) struct Asked<'a> {
    calls: &'a Calls,
    reference: RefId,
    pub(crate) mark: Option<Arc<Mark>>,
}

impl Asked<'_> {
    /// What was called or is monitored.
    pub(crate) fn recipient(&self) -> Option<Recipient> {
        Some(self.calls.table.lock().calls.get(&self.reference)?.recipient.clone())
    }
}

/// So much of what an ended process waited for is ended at a time; where it is noticed, if it is not more than that.
const ENDED_AT_ONCE: usize = 32;

/// The last answers to a process that are remembered.
const MOST_ANSWERED: usize = 64;

/// What a process waits for.
struct Waits {
    references: FxHashSet<RefId>,
    /// What it was told of last.
    answered: VecDeque<RefId>,
    /// Tells when the process ends. Kept, since it does so only as long as it lives.
    _caller: ResourceArc<Caller>,
}

/// Is told when the process ends.
pub(crate) struct Caller(ProcessId);

#[rustler::resource_impl(register = false)]
impl Resource for Caller {
    fn down<'a>(&'a self, _env: Env<'a>, _process: LocalPid, _monitor: Monitor) {
        // Dropped after the table's lock is: this resource may be the last of its kind.
        let waits = CALLS.table.lock().callers.remove(&self.0);
        let left: Vec<_> = waits.iter().flat_map(|waits| &waits.references).copied().collect();
        match running::all().first() {
            // This may be a scheduler.
            Some(running) if left.len() > ENDED_AT_ONCE => {
                running.workers.short(Whose::OWN, move |running| forget(running, left));
            }
            _ => CALLS.forget(&left),
        }
    }
}

/// Some at a time, however many there are: others wait for their turn.
fn forget(running: &Arc<Running>, mut rest: Vec<RefId>) {
    // From the end: nothing that remains is moved.
    let references = rest.split_off(rest.len().saturating_sub(ENDED_AT_ONCE));
    CALLS.forget(&references);
    if !rest.is_empty() {
        running.workers.short(Whose::OWN, |running| forget(running, rest));
    }
}

impl Caller {
    /// Of no process.
    pub(crate) fn nobody() -> Self {
        Self(ProcessId::NOBODY)
    }
}

impl Calls {
    /// A process begins to wait. It must be the calling one.
    pub(crate) fn begin(
        &self,
        env: Env<'_>,
        running: &Arc<Running>,
        id: ProcessId,
        (reference, named): (RefId, RefId),
        recipient: Recipient,
        mark: Option<Mark>,
    ) {
        let process = env.pid();
        let mut table = self.table.lock();
        if !table.callers.contains_key(&id) {
            // No other thread can add it meanwhile: it is here.
            drop(table);
            let caller = ResourceArc::new(Caller(id));
            let is_monitored = env.monitor(&caller, &process).is_some();
            table = self.table.lock();
            if is_monitored {
                table.callers.insert(
                    id,
                    Waits { references: FxHashSet::default(), answered: VecDeque::new(), _caller: caller },
                );
            }
        }
        if let Some(waits) = table.callers.get_mut(&id) {
            waits.references.insert(reference);
        }
        let (running, mark) = (Arc::downgrade(running), mark.map(Arc::new));
        let call = Call { process, id, running, named, recipient, waiting: None, mark };
        table.calls.insert(reference, call);
    }

    /// Notes how it can be taken back, if it is still there. `false` if its node is over: nobody else ends it then.
    pub(crate) fn note_waiting(&self, running: &Running, reference: RefId, waiting: Waiting) -> bool {
        let mut table = self.table.lock();
        if running.is_over() {
            return table.take(reference).is_none();
        }
        if let Some(call) = table.calls.get_mut(&reference) {
            call.waiting = Some(waiting);
        }
        true
    }

    /// Nothing was sent. `false` if the process has been told that it ended.
    pub(crate) fn withdraw(&self, reference: RefId) -> bool {
        self.table.lock().take(reference).is_some()
    }

    /// The process that waited for these has ended.
    pub(crate) fn forget(&self, references: &[RefId]) {
        for reference in references {
            self.end(*reference);
        }
    }

    /// The process does not want to wait any more. `false` if it has been told already, or it is another's.
    pub(crate) fn cancel(&self, reference: RefId, of: ProcessId) -> bool {
        let is_its = self.table.lock().calls.get(&reference).is_some_and(|call| call.id == of);
        is_its && self.end(reference)
    }

    /// Ends the waiting, and tells the node. `false` if the process has been told already.
    fn end(&self, reference: RefId) -> bool {
        let Some(Call { running, named, waiting, .. }) = self.table.lock().take(reference) else {
            return false;
        };
        // One that waits is taken back; if it was accepted just now it is ended. A node that is over knows of none.
        if !waiting.is_some_and(Waiting::cancel)
            && let Some(running) = running.upgrade()
            && let Some(node) = running.node()
        {
            node.cancel(named);
        }
        true
    }

    /// The node is over: what still waits on it ends, as made by `make`. Not on a scheduler.
    pub(crate) fn end_all(
        &self,
        running: &Arc<Running>,
        make: impl for<'a> Fn(Env<'a>, RefId, &Asked<'_>) -> Option<Term<'a>>,
    ) {
        let over = Arc::downgrade(running);
        // What is begun from now on finds that the node is over.
        running.set_over();
        let of_it = |(reference, call): (&RefId, &Call)| call.running.ptr_eq(&over).then_some(*reference);
        let left: Vec<_> = self.table.lock().calls.iter().filter_map(of_it).collect();
        let mut env = OwnedEnv::new();
        for reference in left {
            self.tell(&mut env, reference, |env, asked| make(env, reference, asked));
            env.clear();
        }
    }

    /// Tells the process how it ended. `false` if it does not wait any more.
    ///
    /// What it is told is made before the table is locked, sent while it is.
    pub(crate) fn tell(
        &self,
        env: &mut OwnedEnv,
        reference: RefId,
        make: impl for<'a> FnOnce(Env<'a>, &Asked<'_>) -> Option<Term<'a>>,
    ) -> bool {
        let mark = match self.table.lock().calls.get(&reference) {
            Some(call) => call.mark.clone(),
            None => return false,
        };
        let asked = Asked { calls: self, reference, mark };
        let Some(message) = env.run(|inner| Some(env.save(make(inner, &asked)?))) else { return false };
        let mut table = self.table.lock();
        let Some(call) = table.take(reference) else { return false };
        table.answered(call.id, reference);
        let _ = env.send_and_clear(&call.process, |env| message.load(env)); // it may have ended
        true
    }

    /// Whether a process has been told of it, not long ago. Then nothing of it comes any more.
    pub(crate) fn is_answered(&self, reference: RefId, process: ProcessId) -> bool {
        self.table.lock().callers.get(&process).is_some_and(|waits| waits.answered.contains(&reference))
    }

    /// The process that waits.
    pub(crate) fn process(&self, reference: RefId) -> Option<ProcessId> {
        Some(self.table.lock().calls.get(&reference)?.id)
    }

    pub(crate) fn len(&self) -> usize {
        self.table.lock().calls.len()
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

    fn answered(&mut self, process: ProcessId, reference: RefId) {
        if let Some(Waits { answered, .. }) = self.callers.get_mut(&process) {
            if answered.len() >= MOST_ANSWERED {
                answered.pop_front();
            }
            answered.push_back(reference);
        }
    }
}
