//! The watcher's side: who waits for a reply, or for the end of a process.

use super::{End, Purpose, Via, reason};
use crate::base::down;
use crate::base::lock::{Lock, Rank};
use crate::base::meter::Tally;
use crate::base::random;
use crate::local::{Monitored, Peer};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use teleport_etf::{Reference, Segments, Term};
use teleport_proto::membership::EndReason;
use teleport_proto::transfer::Outgoing;
use teleport_proto::watches::Waiting;
use teleport_proto::wire::envelope::{Destination, Kind, ProcessId, RefId};
use tokio::sync::oneshot;

/// Watches that end under one lock of their table.
const ENDED_AT_ONCE: usize = 64;

/// Told how what a host's processes wait for has ended.
pub(crate) trait HostedWaiters: Send + Sync {
    fn ended(&self, reference: RefId, end: End);
}

/// Everything that this node's processes wait for.
pub(crate) struct Watching {
    last: AtomicU64,
    table: Lock<Waiting<OpenWatch>>,
    late: Arc<Tally>,
    host: Option<Arc<dyn HostedWaiters>>,
}

struct OpenWatch {
    path: Path,
    waiter: Waiter,
}

/// The process that waits, and what it waits for.
pub(crate) struct Path {
    pub(crate) via: Via,
    pub(crate) from: ProcessId,
    pub(crate) to: Destination,
}

impl Path {
    /// Ends the watch on the other side too.
    fn end(self, reference: RefId) {
        match self.via {
            Via::Here(_) => drop(self.via.end(reference)),
            Via::There(peer) => {
                // If the session has ended, so has the watch.
                let (kind, body) = (Kind::Demonitor(reference), Segments::default());
                let _ = peer.send_exempt(Outgoing::of_kind(kind, self.from, self.to, body));
            }
        }
    }
}

/// Who is to be told.
pub(crate) enum Waiter {
    /// The caller.
    Call(oneshot::Sender<End>),
    /// A process that gets DOWN.
    Monitor { process: Arc<dyn Monitored>, reference: Reference, object: Term },
    /// A call or a monitor of one of the host's processes.
    Host(Purpose),
}

impl Waiter {
    fn purpose(&self) -> Purpose {
        match self {
            Self::Call(_) => Purpose::Call,
            Self::Monitor { .. } => Purpose::Monitor,
            Self::Host(purpose) => *purpose,
        }
    }

    /// DOWN goes to the mailbox while the table is locked, so that a thread that finds no watch in it finds the DOWN there. A
    /// caller is told later.
    fn end(self, id: RefId, end: End) -> Option<Ending> {
        match self {
            Self::Call(caller) => Some(Ending { reference: id, caller: Some(caller), end, over: None }),
            Self::Host(_) => Some(Ending { reference: id, caller: None, end, over: None }),
            Self::Monitor { process, reference, object } => {
                let reason = match end {
                    End::Reply(reason) | End::Down(reason) | End::Rejected(reason) => reason,
                    End::NodeDown(_) => reason::no_connection().into_contiguous(),
                };
                process.put_down(id, down::message(&reference, &object, reason));
                None
            }
        }
    }
}

/// How a call of this node, or something that a host's process waits for, has ended; for who waits, when no lock is held.
pub(crate) struct Ending {
    reference: RefId,
    /// `None` if it is one of the host's processes that waits.
    caller: Option<oneshot::Sender<End>>,
    end: End,
    over: Option<Over>,
}

/// A watch of which the server's side is still there because somebody elsewhere has answered.
pub(crate) struct Over(RefId, Path);

impl Over {
    /// Ends it there too.
    pub(crate) fn end(self) {
        self.1.end(self.0);
    }
}

impl Ending {
    /// For who hands over to the host what has come, in its place.
    pub(crate) fn for_host(self) -> (End, Option<Over>) {
        (self.end, self.over)
    }

    pub(crate) fn give(self, watching: &Watching) {
        match (self.caller, &watching.host) {
            (Some(caller), _) => {
                // The caller may have given up just now.
                if let Err(End::Reply(_)) = caller.send(self.end) {
                    watching.count_late();
                }
            }
            (None, Some(host)) => host.ended(self.reference, self.end),
            (None, None) => {}
        }
        if let Some(over) = self.over {
            over.end();
        }
    }
}

impl Watching {
    pub(super) fn new(late: Arc<Tally>, host: Option<Arc<dyn HostedWaiters>>) -> Self {
        let table = Lock::new(Rank::Watching, Waiting::default());
        Self { last: AtomicU64::new(0), table, late, host }
    }

    /// A reference that has not been used before, and that nobody can guess: who has it can answer, from wherever.
    pub(crate) fn make_reference(&self) -> RefId {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let secret = random::number();
        // Erlang takes 18 bits in the first word of a reference.
        let words = [(number & 0x3_ffff) as u32, (secret >> 32) as u32, secret as u32];
        RefId::new(&words).unwrap_or_else(|| unreachable!("three words are a reference"))
    }

    /// Begins to wait for what is on that path.
    pub(crate) fn begin(&self, reference: RefId, path: Path, waiter: Waiter) {
        if let Waiter::Monitor { process, .. } = &waiter {
            process.note_monitor(reference, true);
        }
        let (place, purpose) = (path.via.number(), waiter.purpose());
        self.table.lock().insert(reference, place, purpose, OpenWatch { path, waiter });
    }

    /// What is waited for has ended, as is said over that session or from [`HERE`](super::HERE). A process that a call was handed on to may
    /// answer it, too. Late replies are counted.
    pub(crate) fn end(&self, reference: RefId, end: End, from: u64) -> Option<Ending> {
        let is_reply = matches!(end, End::Reply(_));
        let answer = match end {
            End::Down(reason) => self.down(reference, reason, from),
            end => self.take_call(reference, from, end),
        };
        if is_reply && answer.is_none() {
            self.count_late();
        }
        answer
    }

    /// What is watched has ended. DOWN is in the mailbox when this returns.
    pub(crate) fn down(&self, reference: RefId, reason: Bytes, from: u64) -> Option<Ending> {
        let mut table = self.table.lock();
        let watch = table.watched_in(reference, from)?;
        let Waiter::Monitor { reference: monitor, object, .. } = &watch.waiter else {
            return table.remove(reference)?.waiter.end(reference, End::Down(reason));
        };
        let (monitor, object) = (monitor.clone(), object.clone());
        drop(table); // a reason may be large, and nobody else's watch should wait for it
        let message = down::message(&monitor, &object, reason);
        let mut table = self.table.lock();
        let Waiter::Monitor { process, .. } = table.remove(reference)?.waiter else { return None };
        process.put_down(reference, message);
        None
    }

    /// Ends a watch, and tells the other side. `false` if it had ended already.
    pub(crate) fn cancel(&self, reference: RefId) -> bool {
        let Some(watch) = self.forget(reference) else { return false };
        watch.path.end(reference);
        true
    }

    /// Ends a monitor of that process. `false` if it had ended already, or is none of its monitors.
    pub(crate) fn cancel_monitor(&self, reference: RefId, of: ProcessId) -> bool {
        let is_it =
            |watch: &OpenWatch| watch.path.from == of && matches!(watch.waiter, Waiter::Monitor { .. });
        // Only the process itself ends its monitors, or its own end does.
        let found = self.table.lock().get(reference).is_some_and(is_it);
        found && self.cancel(reference)
    }

    /// Drops a watch whose request was never sent; the peer is not told.
    pub(crate) fn withdraw(&self, reference: RefId) {
        drop(self.forget(reference));
    }

    /// The session is over: all that was waited for over it ends so.
    pub(crate) fn session_down(&self, session: &dyn Peer, reason: EndReason) {
        let session = session.number();
        loop {
            // Some at a time: processes that call others meanwhile need the table too.
            let endings: Vec<_> = {
                let mut table = self.table.lock();
                let ended = table.session_ended(session, ENDED_AT_ONCE);
                if ended.is_empty() {
                    return;
                }
                let told = |(id, watch): (_, OpenWatch)| watch.waiter.end(id, End::NodeDown(reason));
                ended.into_iter().filter_map(told).collect()
            };
            endings.into_iter().for_each(|ending| ending.give(self));
        }
    }

    /// How many calls and monitors are waited for.
    pub(crate) fn len(&self) -> usize {
        self.table.lock().len()
    }

    /// Replies that came after their caller had given up, or a second time.
    pub(crate) fn late_replies(&self) -> u64 {
        self.late.so_far()
    }

    /// A reply has come, and nobody has looked at it.
    pub(crate) fn count_late(&self) {
        self.late.count();
    }

    /// The call that this ends, if it is one that somebody waits for.
    fn take_call(&self, reference: RefId, from: u64, end: End) -> Option<Ending> {
        let mut table = self.table.lock();
        let (OpenWatch { path, waiter }, elsewhere) = table.answered(reference, from)?;
        let over = elsewhere.then_some(Over(reference, path));
        Some(Ending { over, ..waiter.end(reference, end)? })
    }

    fn forget(&self, reference: RefId) -> Option<OpenWatch> {
        let watch = self.table.lock().remove(reference)?;
        if let Waiter::Monitor { process, .. } = &watch.waiter {
            process.note_monitor(reference, false);
        }
        Some(watch)
    }
}
