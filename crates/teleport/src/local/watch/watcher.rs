//! The watcher's side: who waits for a reply, or for the end of a process.

use super::{Via, reason};
use crate::base::down;
use crate::base::lock::{Lock, Rank, assert_may_call_out};
use crate::host::{Host, Inbound, Origin, Receipt};
use crate::local::inbox::Inbox;
use crate::session::Session;
use ::metrics::Counter;
use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use teleport_etf::{Reference, Segments, Term};
use teleport_proto::membership::EndReason;
use teleport_proto::wire::envelope::{Destination, Kind, ProcessId, RefId};
use tokio::sync::oneshot;

/// So many watches end under one lock of their table.
const ENDED_AT_ONCE: usize = 64;

/// How a call ended, if not by a reply.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The server ended, or was not there: the encoded reason.
    Down(Bytes),
    /// It goes on, and nobody is going to answer: the encoded text.
    Rejected(Bytes),
    /// Its node went down.
    NodeDown(EndReason),
}

/// The reply to a call, as it came, or why there is none.
pub(crate) type Outcome = Result<Bytes, Ended>;

/// Everything that this node's processes wait for.
#[derive(Debug)]
pub(crate) struct Watching {
    last: AtomicU64,
    table: Lock<Table>,
    late: AtomicU64,
    late_meter: Counter,
}

#[derive(Debug, Default)]
struct Table {
    watches: FxHashMap<RefId, Watch>,
    /// Those that end with a session, by that session.
    sessions: FxHashMap<usize, FxHashSet<RefId>>,
}

impl Table {
    fn get(&self, reference: RefId) -> Option<&Watch> {
        self.watches.get(&reference)
    }

    fn insert(&mut self, reference: RefId, watch: Watch) {
        if let Via::There(_) = watch.path.via {
            self.sessions.entry(watch.path.via.key()).or_default().insert(reference);
        }
        self.watches.insert(reference, watch);
    }

    fn remove(&mut self, reference: RefId) -> Option<Watch> {
        let watch = self.watches.remove(&reference)?;
        let session = watch.path.via.key();
        if let Some(references) = self.sessions.get_mut(&session) {
            references.remove(&reference);
            if references.is_empty() {
                self.sessions.remove(&session);
            }
        }
        Some(watch)
    }
}

#[derive(Debug)]
struct Watch {
    path: Path,
    waiter: Waiter,
}

/// The process that waits, and what it waits for.
#[derive(Debug)]
struct Path {
    via: Via,
    from: ProcessId,
    to: Destination,
}

impl Path {
    /// Ends the watch on the other side too.
    fn end(self, reference: RefId) {
        match self.via {
            Via::Here(_) => drop(self.via.end(reference)),
            Via::There(session) => {
                // If the session has ended, so has the watch.
                let kind = Kind::Demonitor(reference);
                let _ = session.send_exempt(self.from, self.to, kind, Segments::default());
            }
        }
    }
}

enum Waiter {
    Call(oneshot::Sender<Outcome>),
    Monitor {
        inbox: Arc<Inbox>,
        reference: Reference,
        object: Term,
    },
    /// A call or a monitor of one of the host's processes.
    Host {
        host: Arc<dyn Host>,
        is_call: bool,
    },
}

impl std::fmt::Debug for Waiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Call(_) => "Call",
            Self::Monitor { .. } => "Monitor",
            Self::Host { .. } => "Host",
        })
    }
}

impl Waiter {
    fn is_call(&self) -> bool {
        matches!(self, Self::Call(_) | Self::Host { is_call: true, .. })
    }

    /// DOWN goes to the mailbox while the table is locked, so that whoever finds no watch in it finds the DOWN there. A
    /// caller's answer is given later.
    fn end(self, id: RefId, ended: Ended) -> Option<Answer> {
        match self {
            Self::Call(caller) => {
                Some(Answer { taker: Taker::Caller(caller), outcome: Err(ended), over: None })
            }
            Self::Host { host, .. } => {
                Some(Answer { taker: Taker::Host(host, id), outcome: Err(ended), over: None })
            }
            Self::Monitor { inbox, reference, object } => {
                let reason = match ended {
                    Ended::Down(reason) | Ended::Rejected(reason) => reason,
                    Ended::NodeDown(_) => reason::no_connection().into_contiguous(),
                };
                inbox.put_down(id, down::message(&reference, &object, reason));
                None
            }
        }
    }
}

/// What a caller is to be told, when no lock is held.
pub(crate) struct Answer {
    taker: Taker,
    outcome: Outcome,
    /// The watch, if the server's side of it is still there because somebody elsewhere has answered.
    over: Option<(RefId, Path)>,
}

enum Taker {
    Caller(oneshot::Sender<Outcome>),
    Host(Arc<dyn Host>, RefId),
}

impl Answer {
    /// What came with it: the reply, or the reason.
    pub(crate) fn body(&self) -> Bytes {
        match &self.outcome {
            Ok(body) | Err(Ended::Down(body) | Ended::Rejected(body)) => body.clone(),
            Err(Ended::NodeDown(_)) => Bytes::new(),
        }
    }

    pub(crate) fn give(self, watching: &Watching) {
        self.give_with(Receipt::none(), None, || watching.count_late());
    }

    /// One of a peer's for a process of the host's, which says itself if it came late.
    pub(crate) fn give_to_host(self, receipt: Receipt, origin: Origin) {
        self.give_with(receipt, Some(origin), || ());
    }

    fn give_with(self, receipt: Receipt, origin: Option<Origin>, late: impl FnOnce()) {
        match self.taker {
            Taker::Host(host, reference) => {
                assert_may_call_out();
                host.take(Inbound::Ended { reference, end: self.outcome.into(), origin, receipt });
            }
            Taker::Caller(caller) => {
                // The caller may have given up just now.
                if let Err(Ok(_reply)) = caller.send(self.outcome) {
                    late();
                }
            }
        }
        if let Some((reference, path)) = self.over {
            path.end(reference);
        }
    }
}

impl Watching {
    /// Nothing is waited for. Late replies are also counted by the meter.
    pub(crate) fn new(late_meter: Counter) -> Self {
        let table = Lock::new(Rank::Watching, Table::default());
        Self { last: AtomicU64::new(0), table, late: AtomicU64::new(0), late_meter }
    }

    /// A reference that has not been used before.
    pub(crate) fn make_reference(&self) -> RefId {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        // Erlang takes 18 bits in the first word of a reference.
        let words = [(number & 0x3_ffff) as u32, (number >> 18) as u32, (number >> 50) as u32];
        RefId::new(&words).unwrap_or_else(|| unreachable!("three words are a reference"))
    }

    /// A call: the answer comes through the channel.
    pub(crate) fn call(
        &self,
        reference: RefId,
        via: Via,
        from: ProcessId,
        to: Destination,
    ) -> oneshot::Receiver<Outcome> {
        let (sender, answer) = oneshot::channel();
        let path = Path { via, from, to };
        self.table.lock().insert(reference, Watch { path, waiter: Waiter::Call(sender) });
        answer
    }

    /// A monitor: DOWN comes to the mailbox.
    pub(crate) fn monitor(
        &self,
        (id, reference): (RefId, Reference),
        via: Via,
        inbox: &Arc<Inbox>,
        to: Destination,
        object: Term,
    ) {
        let waiter = Waiter::Monitor { inbox: inbox.clone(), reference, object };
        inbox.note_monitor(id, true);
        let path = Path { via, from: inbox.process, to };
        self.table.lock().insert(id, Watch { path, waiter });
    }

    /// A call or monitor of one of the host's processes: the host is told.
    pub(crate) fn for_host(
        &self,
        reference: RefId,
        via: Via,
        from: ProcessId,
        to: Destination,
        is_call: bool,
        host: Arc<dyn Host>,
    ) {
        let (path, waiter) = (Path { via, from, to }, Waiter::Host { host, is_call });
        self.table.lock().insert(reference, Watch { path, waiter });
    }

    /// The reply to a call has come: from its server, or from whom that has handed it on to. Late ones are counted.
    pub(crate) fn reply(&self, reference: RefId, reply: Bytes, from: &Via) -> Option<Answer> {
        let answer = self.take_call(reference, from, Ok(reply));
        if answer.is_none() {
            self.count_late();
        }
        answer
    }

    /// Who may answer says that nobody will.
    pub(crate) fn reject(&self, reference: RefId, why: Bytes, from: &Via) -> Option<Answer> {
        self.take_call(reference, from, Err(Ended::Rejected(why)))
    }

    /// What is watched has ended. DOWN is in the mailbox when this returns.
    pub(crate) fn down(&self, reference: RefId, reason: Bytes, from: &Via) -> Option<Answer> {
        let mut table = self.table.lock();
        // Only the node that it is on can say that a process has ended.
        let watch = table.get(reference).filter(|watch| watch.path.via.key() == from.key())?;
        let Waiter::Monitor { reference: monitor, object, .. } = &watch.waiter else {
            return table.remove(reference)?.waiter.end(reference, Ended::Down(reason));
        };
        let (monitor, object) = (monitor.clone(), object.clone());
        drop(table); // a reason may be large, and nobody else's watch should wait for it
        let message = down::message(&monitor, &object, reason);
        let mut table = self.table.lock();
        let Waiter::Monitor { inbox, .. } = table.remove(reference)?.waiter else { return None };
        inbox.put_down(reference, message);
        None
    }

    /// Nobody waits any more; the other side is told. `false` if it had ended already.
    pub(crate) fn cancel(&self, reference: RefId) -> bool {
        let Some(watch) = self.forget(reference) else { return false };
        watch.path.end(reference);
        true
    }

    /// Ends a monitor of that process. `false` if it had ended already, or is none of its monitors.
    pub(crate) fn cancel_monitor(&self, reference: RefId, of: ProcessId) -> bool {
        let is_it = |watch: &Watch| watch.path.from == of && matches!(watch.waiter, Waiter::Monitor { .. });
        // Nobody else ends a monitor of a process than the process itself, except for good.
        let found = self.table.lock().get(reference).is_some_and(is_it);
        found && self.cancel(reference)
    }

    /// Nobody waits for what was never asked for.
    pub(crate) fn withdraw(&self, reference: RefId) {
        drop(self.forget(reference));
    }

    /// The session is over: all that was waited for over it ends so.
    pub(crate) fn session_down(&self, session: &Arc<Session>, reason: EndReason) {
        let session = Via::There(session.clone()).key();
        loop {
            // Some at a time: processes that call others meanwhile need the table too.
            let answers: Vec<_> = {
                let mut table = self.table.lock();
                let Some(references) = table.sessions.get(&session) else { return };
                let some: Vec<_> = references.iter().copied().take(ENDED_AT_ONCE).collect();
                let ended = some.into_iter().filter_map(|id| Some((id, table.remove(id)?)));
                ended.filter_map(|(id, watch)| watch.waiter.end(id, Ended::NodeDown(reason))).collect()
            };
            answers.into_iter().for_each(|answer| answer.give(self));
        }
    }

    /// How many calls and monitors are waited for.
    pub(crate) fn len(&self) -> usize {
        self.table.lock().watches.len()
    }

    /// Replies that came after their caller had given up, or a second time.
    pub(crate) fn late_replies(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    /// A reply has come, and nobody has looked at it.
    pub(crate) fn count_late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
        self.late_meter.increment(1);
    }

    /// The call that this ends, if it is one that somebody waits for.
    fn take_call(&self, reference: RefId, from: &Via, outcome: Outcome) -> Option<Answer> {
        let mut table = self.table.lock();
        if !table.get(reference)?.waiter.is_call() {
            return None; // an answer to what was no call
        }
        let Watch { path, waiter } = table.remove(reference)?;
        let taker = match waiter {
            Waiter::Call(caller) => Taker::Caller(caller),
            Waiter::Host { host, .. } => Taker::Host(host, reference),
            Waiter::Monitor { .. } => return None, // is no call
        };
        let elsewhere = path.via.key() != from.key();
        Some(Answer { taker, outcome, over: elsewhere.then_some((reference, path)) })
    }

    fn forget(&self, reference: RefId) -> Option<Watch> {
        let watch = self.table.lock().remove(reference)?;
        if let Waiter::Monitor { inbox, .. } = &watch.waiter {
            inbox.note_monitor(reference, false);
        }
        Some(watch)
    }
}
