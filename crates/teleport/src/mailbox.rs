//! Mailboxes: where messages wait for their process.

use crate::SendError;
use crate::address::Address;
use crate::down::Down;
use crate::process::{Acknowledgement, Process, SendOptions};
use crate::session::Session;
use crate::watch::{Watchers, reason};
use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use teleport_etf::{DecodeError, Pid, Reference, Term};
use teleport_proto::transfer::{Credit, Delivery, Window};
use teleport_proto::wire::envelope::{Destination, ProcessId, RefId};
use teleport_proto::wire::pool::Class;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// Credit is given back in steps of this many bytes while a mailbox is busy, and at once when it is empty.
const RETURN_STEP: u64 = 64 * 1024;

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
    /// Credit of messages taken out and not yet given back.
    owed: Option<(Arc<Session>, Credit)>,
}

/// A message as it came: who sent it, and an encoded term.
#[derive(Clone)]
pub struct Message {
    from: Pid,
    body: Bytes,
}

impl Mailbox {
    pub(crate) fn new(process: Process, inbox: Arc<Inbox>) -> Self {
        Self { process, inbox, exit_reason: reason::normal(), owed: None }
    }

    /// The process's pid.
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// The name it was registered under, if any.
    pub fn name(&self) -> Option<&str> {
        self.inbox.name.as_deref()
    }

    /// A handle that sends as this process, for use by other tasks. It does not keep the process alive.
    pub fn process(&self) -> Process {
        self.process.clone()
    }

    /// Sends a message; see [`Process::send`].
    pub async fn send<M: Serialize + ?Sized>(
        &self,
        to: impl Into<Address>,
        message: &M,
    ) -> Result<(), SendError> {
        self.process.send(to, message).await
    }

    /// Sends a message with options; see [`Process::send_with`].
    pub async fn send_with<M: Serialize + ?Sized>(
        &self,
        to: impl Into<Address>,
        message: &M,
        options: SendOptions,
    ) -> Result<(), SendError> {
        self.process.send_with(to, message, options).await
    }

    /// Sends a message and asks what became of it; see [`Process::send_acknowledged`].
    pub async fn send_acknowledged<M: Serialize + ?Sized>(
        &self,
        to: impl Into<Address>,
        message: &M,
        options: SendOptions,
    ) -> Result<Acknowledgement, SendError> {
        self.process.send_acknowledged(to, message, options).await
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
        let (stored, empty) = {
            let mut queue = self.inbox.lock();
            (queue.take(), queue.messages.is_empty())
        };
        let Some(stored) = stored else {
            self.give_back();
            return None;
        };
        let from = match stored.origin {
            Origin::Local { from, room: _given_back } => from,
            Origin::Down(_) => self.pid(),
            Origin::Remote { from, session, credit, .. } => {
                let from = session.pid_of(from);
                self.owe(session, credit);
                from
            }
        };
        if empty {
            self.give_back();
        }
        Some(Message { from, body: stored.body })
    }

    /// Watches another process: when it ends, a [`Down`] is received here, behind everything that it sent to this
    /// process's pid before.
    ///
    /// As in Erlang there is no error for a process that does not exist or cannot be reached: DOWN says `noproc` or
    /// `noconnection` then.
    pub async fn monitor(&self, to: impl Into<Address>) -> Result<Reference, SendError> {
        self.process.monitor(to.into(), &self.inbox).await
    }

    /// Ends a monitor: no [`Down`] of it is received any more. One that is waiting is taken out of the mailbox.
    pub fn demonitor(&mut self, monitor: &Reference) {
        let Some(id) = RefId::new(monitor.words()) else { return };
        if !self.process.node().engine().watching.cancel(id) {
            let is_it = |stored: &Stored| matches!(stored.origin, Origin::Down(down) if down == id);
            self.inbox.lock().messages.retain(|stored| !is_it(stored));
        }
    }

    /// Ends the process with a reason, for those who monitor it and for callers who wait for an answer.
    pub fn exit(mut self, reason: Term) {
        self.exit_reason = reason;
    }

    /// Messages waiting.
    pub fn len(&self) -> usize {
        self.inbox.lock().messages.len()
    }

    /// Whether none is waiting.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Remembers the credit of a message, and returns what has come together.
    fn owe(&mut self, session: Arc<Session>, credit: Credit) {
        match &mut self.owed {
            Some((same, owed))
                if Arc::ptr_eq(same, &session)
                    && (owed.account, owed.class) == (credit.account, credit.class) =>
            {
                owed.bytes += credit.bytes;
            }
            _ => {
                self.give_back();
                self.owed = Some((session, credit));
            }
        }
        if self.owed.as_ref().is_some_and(|(_, owed)| owed.bytes >= RETURN_STEP || owed.class == Class::Bulk)
        {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if let Some((session, credit)) = self.owed.take() {
            session.consumed(credit);
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.process.node().unregister(&self.inbox);
        let (left, monitors) = {
            let mut queue = self.inbox.lock();
            queue.closed = true;
            (std::mem::take(&mut queue.messages), std::mem::take(&mut queue.monitors))
        };
        for monitor in monitors {
            self.process.node().engine().watching.cancel(monitor);
        }
        self.inbox.tell_watchers(&reason::encode(&self.exit_reason));
        self.inbox.room.close(); // local senders who wait for room
        for stored in left {
            if let Origin::Remote { session, credit, .. } = stored.origin {
                self.owe(session, credit);
            }
        }
        self.give_back();
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
}

const ROOM_UNIT: u64 = 64;

#[derive(Default)]
struct Queue {
    messages: VecDeque<Stored>,
    /// How far peers have filled their windows: by session, and apart for those who send to the name and to the pid.
    windows: FxHashMap<(usize, bool), Window>,
    /// Monitors that the process has.
    monitors: FxHashSet<RefId>,
    /// The process is gone.
    closed: bool,
    /// No more messages will come.
    finished: bool,
}

struct Stored {
    origin: Origin,
    body: Bytes,
}

/// Where a waiting message came from, and what it keeps of its sender's window.
enum Origin {
    Local {
        from: Pid,
        room: OwnedSemaphorePermit,
    },
    /// The DOWN of one of the process's own monitors; there is at most one for each.
    Down(RefId),
    Remote {
        from: ProcessId,
        session: Arc<Session>,
        credit: Credit,
        by_name: bool,
    },
}

/// What became of a message from a peer.
pub(crate) enum Put {
    /// It waits in the mailbox, which was empty before or was not.
    Waiting { first: bool },
    /// The process is gone.
    Gone,
    /// It is more than the peer may have waiting here.
    Overrun,
}

impl Queue {
    fn take(&mut self) -> Option<Stored> {
        let stored = self.messages.pop_front()?;
        if let Origin::Remote { session, credit, by_name, .. } = &stored.origin {
            let key = (Arc::as_ptr(session).addr(), *by_name);
            if let Entry::Occupied(mut window) = self.windows.entry(key) {
                window.get_mut().give_back(credit.class, credit.bytes);
                if window.get().used() == 0 {
                    window.remove();
                }
            }
        }
        Some(stored)
    }
}

impl Inbox {
    pub(crate) fn new(process: ProcessId, name: Option<Arc<str>>, window: u64) -> Arc<Self> {
        let room_units =
            u32::try_from(window / ROOM_UNIT).unwrap_or(u32::MAX).clamp(1, Semaphore::MAX_PERMITS as u32);
        let room = Arc::new(Semaphore::new(room_units as usize));
        let (queue, arrived) = (Mutex::default(), Notify::new());
        let watchers = Watchers::default();
        Arc::new(Self { process, name, watchers, queue, arrived, room, room_units, window })
    }

    /// Takes a message from a peer.
    ///
    /// A peer that keeps to the credit that it has been given never overruns its window here: it learns later than this
    /// that there is room again.
    pub(crate) fn put_remote(&self, delivery: Delivery, session: &Arc<Session>) -> Put {
        let Delivery { from, to, body, credit, .. } = delivery;
        let by_name = matches!(to, Destination::Name(_));
        let mut queue = self.lock();
        if queue.closed {
            return Put::Gone;
        }
        if credit.bytes > 0 {
            let key = (Arc::as_ptr(session).addr(), by_name);
            let window = queue.windows.entry(key).or_insert_with(|| Window::new(self.window));
            if !window.fits(credit.class, credit.bytes) {
                return Put::Overrun;
            }
            window.take(credit.class, credit.bytes);
        }
        let origin = Origin::Remote { from, session: session.clone(), credit, by_name };
        queue.messages.push_back(Stored { origin, body });
        Put::Waiting { first: queue.messages.len() == 1 }
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
            Ok(room) => room,
            Err(TryAcquireError::Closed) => return Ok(None),
            Err(TryAcquireError::NoPermits) if !wait => return Err(SendError::Busy),
            Err(TryAcquireError::NoPermits) => match self.room.clone().acquire_many_owned(units).await {
                Ok(room) => room,
                Err(_) => return Ok(None),
            },
        };
        let put = self.put(Stored { origin: Origin::Local { from, room }, body });
        if put == Some(true) {
            self.wake();
        }
        Ok(put.map(|_| ()))
    }

    /// The DOWN of one of the process's monitors.
    pub(crate) fn put_down(&self, monitor: RefId, body: Bytes) {
        self.note_monitor(monitor, false);
        if self.put(Stored { origin: Origin::Down(monitor), body }) == Some(true) {
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

    fn put(&self, stored: Stored) -> Option<bool> {
        let mut queue = self.lock();
        if queue.closed {
            return None;
        }
        queue.messages.push_back(stored);
        Some(queue.messages.len() == 1)
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
