//! Mailboxes: where messages wait for their process.

use crate::SendError;
use crate::address::Address;
use crate::down::Down;
use crate::process::Process;
use crate::session::Session;
use crate::watch::{Watchers, reason};
use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::de::DeserializeOwned;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use teleport_etf::{DecodeError, Pid, Reference, Term};
use teleport_proto::transfer::{Credit, Delivery, Window};
use teleport_proto::wire::envelope::{Destination, ProcessId, RefId};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// A run ends with this many bytes of credit, which go back together.
const RUN_BYTES: u64 = 64 * 1024;

/// And with this many messages, in case they came without credit.
const RUN_MESSAGES: usize = 1024;

/// A process: a pid, perhaps a name, an inbox, and the sender of its own messages.
///
/// Bounded in bytes: each peer, and all local senders together, may have
/// [`mailbox_window`](crate::Config::mailbox_window) bytes waiting in it; over that their sends wait. Dropping it ends
/// the process with the reason `normal`: its name is free, and what was waiting is gone, as in Erlang. Whoever monitors
/// it gets DOWN, and calls that it has not answered fail.
pub struct Mailbox {
    process: Process,
    inbox: Arc<Inbox>,
    exit_reason: Term,
    /// Messages taken out of the inbox together, one lock for all, that the application has not got yet.
    run: Option<Taken>,
}

/// A message as it came: who sent it, and an encoded term.
#[derive(Clone)]
pub struct Message {
    from: Pid,
    body: Bytes,
}

impl Mailbox {
    pub(crate) fn new(process: Process, inbox: Arc<Inbox>) -> Self {
        Self { process, inbox, exit_reason: reason::normal(), run: None }
    }

    /// The name it was registered under, if any.
    pub fn name(&self) -> Option<&str> {
        self.inbox.name.as_deref()
    }

    /// A handle that sends as this process, for use by other tasks. It does not keep the process alive.
    pub fn process(&self) -> Process {
        self.process.clone()
    }

    /// Takes the next message out; waits for one. `None` once the node has been shut down and nothing is left.
    ///
    /// A dropped future has taken nothing.
    pub async fn recv(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.try_recv() {
                return Some(message);
            }
            if self.inbox.lock().finished {
                return None;
            }
            // A message that comes in between leaves a permit.
            self.inbox.arrived.notified().await;
        }
    }

    /// Takes the next message out, if there is one.
    pub fn try_recv(&mut self) -> Option<Message> {
        if self.run.is_none() {
            self.run = self.inbox.lock().next_run(None);
        }
        let run = self.run.as_mut()?;
        let Stored { from, body } = run.messages.next()?; // a run goes with its last message
        let from = match &run.origin {
            Origin::Local { from, .. } => from.clone(),
            Origin::Down(_) => self.process.pid(),
            Origin::Remote { session, .. } => session.pid_of(from),
        };
        if run.messages.len() == 0
            && let Some(Taken { origin, .. }) = self.run.take()
        {
            self.run = self.inbox.lock().next_run(Some(&origin));
            origin.consumed();
        }
        Some(Message { from, body })
    }

    /// Watches another process: when it ends, a [`Down`] is received here, behind everything that it sent to this
    /// process's pid before.
    ///
    /// As in Erlang there is no error for a process that does not exist or cannot be reached: DOWN says `noproc` or
    /// `noconnection` then.
    pub async fn monitor(&self, to: impl Into<Address>) -> Result<Reference, SendError> {
        self.process.watch(to.into(), &self.inbox).await
    }

    /// Ends a monitor: no [`Down`] of it is received any more. One that is waiting is taken out of the mailbox.
    pub fn demonitor(&mut self, monitor: &Reference) {
        let node = self.process.node();
        let Some(id) = node.own_reference(monitor) else { return };
        if !node.engine().watching.cancel_monitor(id, self.inbox.process) {
            let is_it = |origin: &Origin| matches!(origin, Origin::Down(down) if *down == id);
            let mut queue = self.inbox.lock();
            let before = queue.runs.len();
            queue.runs.retain(|run| !is_it(&run.origin));
            queue.waiting -= before - queue.runs.len(); // it is alone in its run
            if self.run.as_ref().is_some_and(|run| is_it(&run.origin)) {
                self.run = queue.next_run(None);
            }
        }
    }

    /// Ends the process with a reason, for those who monitor it and for callers who wait for an answer. In place of one
    /// that is larger than a message may be, other nodes are told `too_large`.
    pub fn exit(mut self, reason: impl Into<Term>) {
        self.exit_reason = reason.into();
    }

    /// Gives the mailbox no bounds, as mailboxes in Erlang have none: nobody who sends to it waits for it to be read.
    ///
    /// For processes that must not be waited for, such as two that send to each other whatever the other does: with
    /// bounds, each may end up waiting for room at the other, for ever. Their memory is then up to you.
    pub fn unbounded(self) -> Self {
        self.inbox.unbounded.store(true, Ordering::Relaxed);
        self.inbox.room.close(); // whoever waits for it goes on
        self
    }

    /// Messages waiting.
    pub fn len(&self) -> usize {
        self.inbox.lock().waiting + self.run.as_ref().map_or(0, |run| run.messages.len())
    }

    /// Whether none is waiting.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A mailbox sends, calls and casts as its process.
impl Deref for Mailbox {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.process.node().unregister(&self.inbox);
        let (left, monitors) = {
            let mut queue = self.inbox.lock();
            queue.closed = true;
            (std::mem::take(&mut queue.runs), std::mem::take(&mut queue.monitors))
        };
        for monitor in monitors {
            self.process.node().engine().watching.cancel(monitor);
        }
        self.inbox.tell_watchers(&reason::encode(&self.exit_reason));
        self.inbox.room.close(); // local senders who wait for room
        self.run.take().into_iter().for_each(|run| run.origin.consumed());
        left.into_iter().for_each(|run| run.origin.consumed());
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("pid", &self.pid()).field("name", &self.inbox.name).finish()
    }
}

impl Message {
    /// The process that sent it.
    pub fn from(&self) -> &Pid {
        &self.from
    }

    /// The message as a value of a type of your own.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        teleport_etf::from_bytes(&self.body)
    }

    /// What it says if it is the DOWN of a monitor.
    pub fn down(&self) -> Option<Down> {
        Down::decode(&self.body)
    }

    /// The encoded term.
    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the payload: it may be large, or secret.
        f.debug_struct("Message").field("from", &self.from).field("bytes", &self.body.len()).finish()
    }
}

/// The shared half of a mailbox.
pub(crate) struct Inbox {
    pub(crate) process: ProcessId,
    pub(crate) name: Option<Arc<str>>,
    /// Who has to be told when the process ends.
    pub(crate) watchers: Watchers,
    queue: Mutex<Queue>,
    arrived: Notify,
    /// Room for local senders, in units of [`ROOM_UNIT`] bytes; fair.
    room: Arc<Semaphore>,
    room_units: u32,
    /// What each peer may have waiting here.
    window: u64,
    /// Nobody waits for room here.
    unbounded: AtomicBool,
}

const ROOM_UNIT: u64 = 64;

#[derive(Default)]
struct Queue {
    runs: VecDeque<Run>,
    /// Messages in them.
    waiting: usize,
    /// How far peers have filled their windows: by session, and apart for those who send to the name and to the pid.
    windows: FxHashMap<(usize, bool), Window>,
    /// Monitors that the process has.
    monitors: FxHashSet<RefId>,
    /// The process is gone.
    closed: bool,
    /// No more messages will come.
    finished: bool,
}

/// Messages one behind the other that came the same way: what they have in common, they share.
struct Run {
    origin: Origin,
    messages: SmallVec<[Stored; 1]>,
}

/// A run that is being read. It holds its credit until its last message has been taken.
struct Taken {
    origin: Origin,
    messages: smallvec::IntoIter<[Stored; 1]>,
}

struct Stored {
    from: ProcessId,
    body: Bytes,
}

/// Where a run came from, and what it keeps of its sender's window.
enum Origin {
    Local {
        from: Pid,
        /// `None` if it needs none.
        _room: Option<OwnedSemaphorePermit>,
    },
    /// The DOWN of one of the process's own monitors; there is at most one for each.
    Down(RefId),
    Remote {
        session: Arc<Session>,
        by_name: bool,
        credit: Credit,
    },
}

impl Origin {
    /// Returns the credit to whom it came from.
    fn consumed(self) {
        if let Self::Remote { session, credit, .. } = self
            && credit.account != 0
        {
            session.consumed(credit);
        }
    }
}

impl Run {
    fn new(origin: Origin, message: Stored) -> Self {
        Self { origin, messages: SmallVec::from_buf([message]) }
    }

    /// Adds a message if it belongs here, or gives it back.
    fn add(
        &mut self,
        from: &Arc<Session>,
        to_name: bool,
        more: Credit,
        message: Stored,
    ) -> Result<(), Stored> {
        match &mut self.origin {
            Origin::Remote { session, by_name, credit }
                if Arc::ptr_eq(session, from)
                    && (*by_name, credit.account, credit.class) == (to_name, more.account, more.class)
                    && credit.bytes + more.bytes <= RUN_BYTES
                    && self.messages.len() < RUN_MESSAGES =>
            {
                credit.bytes += more.bytes;
                self.messages.push(message);
                Ok(())
            }
            _ => Err(message),
        }
    }
}

/// What became of a message from a peer.
pub(crate) enum Put {
    /// It waits in the mailbox, which was empty before or was not, and keeps its credit or does not.
    Waiting { first: bool, bounded: bool },
    /// The process is gone.
    Gone,
    /// It is more than the peer may have waiting here.
    Overrun,
}

impl Queue {
    /// Takes the next run out; the last one has been read, and leaves its window.
    fn next_run(&mut self, last: Option<&Origin>) -> Option<Taken> {
        if let Some(Origin::Remote { session, by_name, credit }) = last
            && let Entry::Occupied(mut window) = self.windows.entry((Arc::as_ptr(session).addr(), *by_name))
        {
            window.get_mut().give_back(credit.class, credit.bytes);
            if window.get().used() == 0 {
                window.remove();
            }
        }
        let Run { origin, messages } = self.runs.pop_front()?;
        self.waiting -= messages.len();
        Some(Taken { origin, messages: messages.into_iter() })
    }
}

impl Inbox {
    pub(crate) fn new(process: ProcessId, name: Option<Arc<str>>, window: u64) -> Arc<Self> {
        let room_units =
            u32::try_from(window / ROOM_UNIT).unwrap_or(u32::MAX).clamp(1, Semaphore::MAX_PERMITS as u32);
        let room = Arc::new(Semaphore::new(room_units as usize));
        let (queue, arrived) = (Mutex::default(), Notify::new());
        let watchers = Watchers::default();
        Arc::new(Self {
            process,
            name,
            watchers,
            queue,
            arrived,
            room,
            room_units,
            window,
            unbounded: AtomicBool::new(false),
        })
    }

    /// Takes a message from a peer.
    ///
    /// A peer that keeps to the credit that it has been given never overruns its window here: it learns later than this
    /// that there is room again.
    pub(crate) fn put_remote(&self, delivery: Delivery, session: &Arc<Session>) -> Put {
        let Delivery { from, to, body, mut credit, .. } = delivery;
        let by_name = matches!(to, Destination::Name(_));
        let mut queue = self.lock();
        if queue.closed {
            return Put::Gone;
        }
        let bounded = !self.unbounded.load(Ordering::Relaxed);
        if !bounded {
            credit = Credit { account: 0, bytes: 0, ..credit };
        } else if credit.bytes > 0 {
            let key = (Arc::as_ptr(session).addr(), by_name);
            let window = queue.windows.entry(key).or_insert_with(|| Window::new(self.window));
            if !window.fits(credit.class, credit.bytes) {
                return Put::Overrun;
            }
            window.take(credit.class, credit.bytes);
        }
        let message = Stored { from, body };
        let apart = match queue.runs.back_mut() {
            Some(run) => run.add(session, by_name, credit, message).err(),
            None => Some(message),
        };
        if let Some(message) = apart {
            let origin = Origin::Remote { session: session.clone(), by_name, credit };
            queue.runs.push_back(Run::new(origin, message));
        }
        queue.waiting += 1;
        Put::Waiting { first: queue.waiting == 1, bounded }
    }

    /// Takes a message from this node, when there is room. `None` if the process is gone.
    pub(crate) async fn put_local(
        &self,
        from: Pid,
        body: Bytes,
        wait: bool,
    ) -> Result<Option<()>, SendError> {
        let units = u32::try_from(body.len() as u64 / ROOM_UNIT + 1).unwrap_or(u32::MAX).min(self.room_units);
        let room = match self.room.clone().try_acquire_many_owned(units) {
            Err(TryAcquireError::NoPermits) if !wait => return Err(SendError::Busy),
            Err(TryAcquireError::NoPermits) => self.room.clone().acquire_many_owned(units).await.ok(),
            taken => taken.ok(),
        };
        if room.is_none() && !self.unbounded.load(Ordering::Relaxed) {
            return Ok(None); // the process is gone
        }
        let message = Stored { from: ProcessId { id: from.id, serial: from.serial }, body };
        let put = self.put(Run::new(Origin::Local { from, _room: room }, message));
        if put == Some(true) {
            self.wake();
        }
        Ok(put.map(|_| ()))
    }

    /// The DOWN of one of the process's monitors.
    pub(crate) fn put_down(&self, monitor: RefId, body: Bytes) {
        self.note_monitor(monitor, false);
        let message = Stored { from: self.process, body };
        if self.put(Run::new(Origin::Down(monitor), message)) == Some(true) {
            self.wake();
        }
    }

    /// The process has a monitor, or has it no longer.
    pub(crate) fn note_monitor(&self, monitor: RefId, present: bool) {
        let monitors = &mut self.lock().monitors;
        let _changed = if present { monitors.insert(monitor) } else { monitors.remove(&monitor) };
    }

    /// Wakes the owner.
    pub(crate) fn wake(&self) {
        self.arrived.notify_one();
    }

    /// No more messages will come.
    pub(crate) fn finish(&self) {
        self.lock().finished = true;
        self.room.close();
        self.arrived.notify_one();
    }

    fn put(&self, run: Run) -> Option<bool> {
        let mut queue = self.lock();
        if queue.closed {
            return None;
        }
        queue.waiting += run.messages.len();
        queue.runs.push_back(run);
        Some(queue.waiting == 1)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("process", &self.process)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
