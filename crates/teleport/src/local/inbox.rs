//! The shared half of a mailbox: what is put in by those who deliver, and taken out in runs.

use super::room::{Entry, PlacedId, Room, Settled};
use super::{Monitored, Peer};
use crate::base::error::{CallError, SendError};
use crate::base::lock::{Held, Lock, Rank};
use crate::local::watch::Watchers;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use teleport_etf::Pid;
use teleport_proto::transfer::{Bodies, Credit, Deliveries, Delivery, Disposition, MESSAGE_COST};
use teleport_proto::wire::envelope::{Destination, ProcessId, RefId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// A run ends with this many bytes of credit, which go back together.
const RUN_BYTES: u64 = 64 * 1024;

/// And with this many messages, in case they came without credit.
const RUN_MESSAGES: usize = 1024;

/// So many DOWNs that were taken out may always have their places in a mailbox.
const MOST_EMPTY: usize = 64;

/// The shared half of a mailbox.
pub(crate) struct Inbox {
    pub(crate) process: ProcessId,
    pub(crate) name: Option<Arc<str>>,
    /// Who has to be told when the process ends.
    watchers: Watchers,
    queue: Lock<Queue>,
    /// The one task that waits for something to come.
    reader: AtomicWaker,
    /// Room for local senders, in units of [`ROOM_UNIT`] bytes; fair.
    room: Arc<Semaphore>,
    room_units: u32,
    /// No sender waits for room here.
    unbounded: AtomicBool,
}

const ROOM_UNIT: u64 = 64;

struct Queue {
    runs: VecDeque<Run>,
    /// Messages in them.
    waiting: usize,
    /// The DOWNs among them; in a run there is only the place of one.
    downs: FxHashMap<RefId, Stored>,
    /// Places of DOWNs that were taken out.
    empty: usize,
    /// What peers hold of it.
    room: Room,
    /// Monitors that the process has.
    monitors: FxHashSet<RefId>,
    /// The process is gone.
    closed: bool,
    /// No more messages will come.
    finished: bool,
}

/// Messages one behind the other that came the same way: what they have in common, they share.
struct Run {
    origin: RunOrigin,
    messages: SmallVec<[Stored; 1]>,
    /// There was no room for its only message.
    placed: Option<PlacedId>,
    /// How many messages there are.
    count: usize,
}

/// A run that is being read. It holds its credit until its last message has been taken.
pub(crate) struct Taken {
    pub(crate) origin: RunOrigin,
    open: Stored,
    rest: smallvec::IntoIter<[Stored; 1]>,
    left: usize,
}

/// Messages of one process, one behind the other.
pub(crate) struct Stored {
    from: ProcessId,
    bodies: Bodies,
}

impl Taken {
    /// Messages that are left: none but of one that is gone.
    pub(crate) fn len(&self) -> usize {
        self.left
    }

    /// The next message, and who sent it.
    pub(crate) fn next(&mut self) -> Option<(ProcessId, Bytes)> {
        loop {
            if let Some(body) = self.open.bodies.next() {
                self.left -= 1;
                return Some((self.open.from, body));
            }
            self.open = self.rest.next()?;
        }
    }
}

/// Where a run came from, and what it keeps of its sender's window.
pub(crate) enum RunOrigin {
    Local {
        from: Pid,
        /// `None` if it needs none.
        _room: Option<OwnedSemaphorePermit>,
    },
    /// The DOWN of one of the process's own monitors; there is at most one for each.
    Down(RefId),
    Remote {
        session: Arc<dyn Peer>,
        by_name: bool,
        credit: Credit,
    },
}

impl RunOrigin {
    /// Whether it is the DOWN of that monitor.
    pub(crate) fn is_down(&self, monitor: RefId) -> bool {
        matches!(self, Self::Down(down) if *down == monitor)
    }

    /// Returns the credit to whom it came from.
    pub(crate) fn consumed(self) {
        if let Self::Remote { session, credit, .. } = self
            && credit.account != 0
        {
            session.consumed(credit);
        }
    }
}

impl Run {
    fn new(origin: RunOrigin, messages: Stored) -> Self {
        let count = messages.bodies.len();
        Self { origin, messages: SmallVec::from_buf([messages]), placed: None, count }
    }

    fn single(origin: RunOrigin, from: ProcessId, body: Bytes) -> Self {
        Self::new(origin, Stored { from, bodies: Bodies::one(body) })
    }

    /// Whether it is none of those that have been placed and go.
    fn is_none_of(&self, gone: &FxHashSet<PlacedId>) -> bool {
        self.placed.is_none_or(|id| !gone.contains(&id))
    }

    /// Adds messages if they belong here, or gives them back.
    fn add(
        &mut self,
        from: &Arc<dyn Peer>,
        to_name: bool,
        more: Credit,
        messages: Stored,
    ) -> Result<(), Stored> {
        match &mut self.origin {
            RunOrigin::Remote { session, by_name, credit }
                if self.placed.is_none()
                    && Arc::ptr_eq(session, from)
                    && (*by_name, credit.account, credit.class) == (to_name, more.account, more.class)
                    && credit.bytes + more.bytes <= RUN_BYTES
                    && self.count < RUN_MESSAGES =>
            {
                credit.bytes += more.bytes;
                self.count += messages.bodies.len();
                self.messages.push(messages);
                Ok(())
            }
            _ => Err(messages),
        }
    }
}

/// What became of a message from a peer.
pub(crate) enum Put {
    /// It waits in the mailbox, which was empty before or was not.
    Waiting { first: bool, disposition: Disposition },
    /// The process is gone.
    Gone,
    /// It is more than the peer may have waiting here.
    Overrun,
}

/// Why a message was not put into a mailbox of its own node.
#[derive(Debug)]
pub(crate) enum LocalError {
    NoProcess,
    Send(SendError),
}

impl From<SendError> for LocalError {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

impl From<LocalError> for CallError {
    fn from(error: LocalError) -> Self {
        match error {
            LocalError::NoProcess => Self::NoProcess,
            LocalError::Send(error) => Self::Send(error),
        }
    }
}

impl Queue {
    fn new(window: u64, total: u64) -> Self {
        Self {
            runs: VecDeque::new(),
            waiting: 0,
            downs: FxHashMap::default(),
            empty: 0,
            room: Room::new(window, total),
            monitors: FxHashSet::default(),
            closed: false,
            finished: false,
        }
    }

    /// Takes the next run out; the last one has been read, and leaves room.
    fn next_run(&mut self, last: Option<&RunOrigin>, settled: &mut Settled) -> Option<Taken> {
        if let Some(RunOrigin::Remote { session, credit, .. }) = last {
            self.room.leave(session.name(), *credit, settled);
        }
        loop {
            let Run { origin, mut messages, placed, count } = self.runs.pop_front()?;
            if let RunOrigin::Down(monitor) = &origin {
                let Some(down) = self.downs.remove(monitor) else {
                    self.empty -= 1;
                    continue;
                };
                messages.push(down);
            }
            self.waiting -= count;
            if let (Some(id), RunOrigin::Remote { session, .. }) = (placed, &origin) {
                self.room.read(session.name(), id, settled);
            }
            let mut rest = messages.into_iter();
            return Some(Taken { origin, open: rest.next()?, rest, left: count });
        }
    }

    /// Puts a message of this node in, or a DOWN.
    fn push(&mut self, mut run: Run) {
        self.waiting += run.count;
        if let RunOrigin::Down(monitor) = run.origin {
            self.downs.extend(run.messages.pop().map(|down| (monitor, down)));
        }
        self.runs.push_back(run);
    }

    /// Takes out the DOWN of a monitor, and leaves its place empty: the mailbox may be long, and is not looked through for each.
    fn remove_down(&mut self, monitor: RefId) -> Option<Stored> {
        let down = self.downs.remove(&monitor)?;
        self.waiting -= 1;
        self.empty += 1;
        if self.empty > self.runs.len() / 2 + MOST_EMPTY {
            let downs = &self.downs;
            self.runs.retain(|run| match &run.origin {
                RunOrigin::Down(monitor) => downs.contains_key(monitor),
                _ => true,
            });
            self.empty = 0;
        }
        Some(down)
    }

    /// Puts messages in. `true` if there were none.
    fn put(
        &mut self,
        session: &Arc<dyn Peer>,
        by_name: bool,
        credit: Credit,
        messages: Stored,
        placed: Option<PlacedId>,
    ) -> bool {
        let first = self.waiting == 0;
        self.waiting += messages.bodies.len();
        let apart = match self.runs.back_mut() {
            Some(run) if placed.is_none() => run.add(session, by_name, credit, messages).err(),
            _ => Some(messages),
        };
        if let Some(messages) = apart {
            let origin = RunOrigin::Remote { session: session.clone(), by_name, credit };
            self.runs.push_back(Run { placed, ..Run::new(origin, messages) });
        }
        first
    }

    /// Takes runs of one message out, which have been placed and go: here are the messages.
    fn remove_placed(&mut self, gone: &FxHashSet<PlacedId>) -> Vec<SmallVec<[Stored; 1]>> {
        let mut removed = Vec::with_capacity(gone.len());
        self.runs.retain_mut(|run| {
            let stays = run.is_none_of(gone);
            if !stays {
                removed.push(std::mem::take(&mut run.messages));
            }
            stays
        });
        self.waiting -= removed.len();
        removed
    }
}

impl Inbox {
    /// Each peer, and all local senders, may have `window` bytes waiting here, and all peers together `total`.
    pub(crate) fn new(process: ProcessId, name: Option<Arc<str>>, window: u64, total: u64) -> Arc<Self> {
        let room_units =
            u32::try_from(window / ROOM_UNIT).unwrap_or(u32::MAX).clamp(1, Semaphore::MAX_PERMITS as u32);
        let room = Arc::new(Semaphore::new(room_units as usize));
        let queue = Lock::new(Rank::Inbox, Queue::new(window, total));
        let watchers = Watchers::default();
        Arc::new(Self {
            process,
            name,
            watchers,
            queue,
            reader: AtomicWaker::new(),
            room,
            room_units,
            unbounded: AtomicBool::new(false),
        })
    }

    /// Takes the next run out; the last one has been read, and leaves room.
    pub(crate) fn next_run(&self, last: Option<&RunOrigin>) -> Option<Taken> {
        let mut settled = Settled::default();
        let taken = self.lock().next_run(last, &mut settled);
        settled.tell(Disposition::Delivered);
        taken
    }

    /// Wakes the task once something has come. What came before this has to be looked for after it.
    pub(crate) fn wake_on_arrival(&self, reader: &Waker) {
        self.reader.register(reader);
    }

    /// No more messages will come.
    pub(crate) fn is_finished(&self) -> bool {
        self.lock().finished
    }

    /// Messages that nobody has taken.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// Takes out the DOWN of a monitor.
    pub(crate) fn remove_down(&self, monitor: RefId) {
        // A reason may be large, and is freed with the lock released.
        let _down = self.lock().remove_down(monitor);
    }

    /// From now on nobody waits for room.
    pub(crate) fn lift_bounds(&self) {
        self.unbounded.store(true, Ordering::Relaxed);
        self.room.close(); // senders that wait for it go on
        let mut settled = Settled::default();
        self.lock().room.let_all_in(&mut settled);
        settled.tell(Disposition::Delivered);
    }

    /// A session has ended: what it had placed here is dropped. Its peer counts it as unconfirmed.
    pub(crate) fn session_ended(&self, session: &Arc<dyn Peer>) {
        let mut settled = Settled::default();
        // That may be a window full of messages, which are freed with the lock released.
        let _removed = {
            let mut queue = self.lock();
            let gone = queue.room.forget(session, &mut settled);
            if gone.is_empty() { Vec::new() } else { queue.remove_placed(&gone) }
        };
        settled.tell(Disposition::Delivered);
    }

    /// The process is gone: nothing is put in any more. Gives what was there, and the monitors that the process had.
    pub(crate) fn close(&self) -> (Vec<RunOrigin>, FxHashSet<RefId>) {
        let mut settled = Settled::default();
        let (runs, _downs, gone, monitors) = {
            let mut queue = self.lock();
            queue.closed = true;
            let gone = queue.room.close(&mut settled);
            queue.waiting = 0;
            let (runs, downs) = (std::mem::take(&mut queue.runs), std::mem::take(&mut queue.downs));
            (runs, downs, gone, std::mem::take(&mut queue.monitors))
        };
        settled.tell(Disposition::NoProcess);
        self.room.close(); // local senders who wait for room
        (runs.into_iter().filter(|run| run.is_none_of(&gone)).map(|run| run.origin).collect(), monitors)
    }

    /// Takes a message from a peer.
    ///
    /// What is more than the room for it is placed all the same: then it goes on filling the peer's window. A peer that keeps
    /// to the credit that it has been given never overruns that: it learns later than this that there is room again.
    pub(crate) fn put_remote(&self, delivery: Delivery, session: &Arc<dyn Peer>) -> Put {
        let Delivery { seq, from, to, body, mut credit, .. } = delivery;
        let by_name = matches!(to, Destination::Name(_));
        let mut queue = self.lock();
        if queue.closed {
            return Put::Gone;
        }
        let mut disposition = Disposition::Delivered;
        let mut placed = None;
        if self.unbounded.load(Ordering::Relaxed) {
            credit = Credit { account: 0, bytes: 0, ..credit };
            disposition = Disposition::Consumed;
        } else if credit.bytes > 0 {
            match queue.room.enter(session, seq, by_name, credit) {
                Entry::Roomy => {}
                Entry::Placed(id) => (disposition, placed) = (Disposition::Placed, Some(id)),
                Entry::Overrun => return Put::Overrun,
            }
        }
        let first = queue.put(session, by_name, credit, Stored { from, bodies: Bodies::one(body) }, placed);
        Put::Waiting { first, disposition }
    }

    /// Takes some messages from a peer, or none of them if there is not room for all: then nothing has changed.
    pub(crate) fn put_all_remote(
        &self,
        deliveries: &mut Deliveries<'_>,
        session: &Arc<dyn Peer>,
    ) -> Option<Put> {
        let mut credit = deliveries.credit;
        let mut queue = self.lock();
        if queue.closed {
            return Some(Put::Gone);
        }
        let mut disposition = Disposition::Delivered;
        if self.unbounded.load(Ordering::Relaxed) {
            credit = Credit { account: 0, bytes: 0, ..credit };
            disposition = Disposition::Consumed;
        } else if !queue.room.enter_at_once(session, credit) {
            return None;
        }
        let by_name = matches!(deliveries.to, Destination::Name(_));
        let messages = Stored { from: deliveries.from, bodies: std::mem::take(&mut deliveries.bodies) };
        let first = queue.put(session, by_name, credit, messages, None);
        Some(Put::Waiting { first, disposition })
    }

    /// Takes a message from this node, when there is room.
    pub(crate) async fn put_local(&self, from: Pid, body: Bytes, wait: bool) -> Result<(), LocalError> {
        let units = u32::try_from((body.len() as u64 + MESSAGE_COST).div_ceil(ROOM_UNIT))
            .unwrap_or(u32::MAX)
            .min(self.room_units);
        let room = match self.room.clone().try_acquire_many_owned(units) {
            Err(TryAcquireError::NoPermits) if !wait => return Err(SendError::Busy.into()),
            Err(TryAcquireError::NoPermits) => self.room.clone().acquire_many_owned(units).await.ok(),
            taken => taken.ok(),
        };
        // Where there is none to be had any more, none is needed, or nothing is taken.
        let process = ProcessId { id: from.id, serial: from.serial };
        self.put(Run::single(RunOrigin::Local { from, _room: room }, process, body))
    }

    /// Wakes the owner.
    pub(crate) fn wake(&self) {
        self.reader.wake();
    }

    /// No more messages will come.
    pub(crate) fn finish(&self) {
        self.lock().finished = true;
        self.room.close(); // local senders who wait for room
        self.reader.wake();
    }

    /// Puts a message of this node in, or a DOWN, which may come behind the node's end.
    fn put(&self, run: Run) -> Result<(), LocalError> {
        let first = {
            let mut queue = self.lock();
            if queue.closed {
                return Err(LocalError::NoProcess);
            }
            if queue.finished && matches!(run.origin, RunOrigin::Local { .. }) {
                return Err(SendError::NotRunning.into());
            }
            queue.push(run);
            queue.waiting == 1
        };
        if first {
            self.wake();
        }
        Ok(())
    }

    fn lock(&self) -> Held<'_, Queue> {
        self.queue.lock()
    }
}

impl Monitored for Inbox {
    fn watchers(&self) -> &Watchers {
        &self.watchers
    }

    fn put_down(&self, monitor: RefId, body: Bytes) {
        self.note_monitor(monitor, false);
        let _ = self.put(Run::single(RunOrigin::Down(monitor), self.process, body)); // it may be gone
    }

    fn note_monitor(&self, monitor: RefId, present: bool) {
        let monitors = &mut self.lock().monitors;
        let _changed = if present { monitors.insert(monitor) } else { monitors.remove(&monitor) };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::lock::assert_may_call_out;

    const WINDOW: u64 = 1 << 20;

    /// Memory that is only to be freed under no lock, as debug builds find out.
    struct Reason;

    impl AsRef<[u8]> for Reason {
        fn as_ref(&self) -> &[u8] {
            b"a reason"
        }
    }

    impl Drop for Reason {
        fn drop(&mut self) {
            assert_may_call_out();
        }
    }

    fn monitor(number: u32) -> RefId {
        RefId::new(&[number]).expect("one word")
    }

    fn with_downs(count: u32) -> Arc<Inbox> {
        let inbox = Inbox::new(ProcessId { id: 1, serial: 0 }, None, WINDOW, WINDOW);
        (0..count).for_each(|number| inbox.put_down(monitor(number), Bytes::from_owner(Reason)));
        inbox
    }

    #[test]
    fn a_down_that_is_taken_out_leaves_the_others_in_order_and_is_freed_under_no_lock() {
        let inbox = with_downs(4);
        [0, 2, 2].into_iter().for_each(|taken_out| inbox.remove_down(monitor(taken_out)));
        assert_eq!(inbox.waiting(), 2);
        for left in [1, 3] {
            let mut run = inbox.next_run(None).expect("it waits");
            assert!(run.origin.is_down(monitor(left)));
            assert_eq!(run.next().expect("its message").1, "a reason");
            assert_eq!((run.len(), inbox.waiting()), (0, usize::from(left == 1)));
        }
        assert!(inbox.next_run(None).is_none());
        assert_eq!(inbox.lock().empty, 0);
    }

    #[test]
    fn places_of_downs_that_were_taken_out_do_not_pile_up() {
        let inbox = with_downs(1);
        for number in 1..10_000 {
            inbox.put_down(monitor(number), Bytes::from_owner(Reason));
            inbox.remove_down(monitor(number));
        }
        let places = inbox.lock().runs.len();
        assert!(places <= 3 * MOST_EMPTY, "{places}");
        assert_eq!(inbox.waiting(), 1);
        assert_eq!(inbox.close().0.len(), places);
    }
}
