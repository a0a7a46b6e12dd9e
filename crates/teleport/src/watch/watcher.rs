//! The watcher's side: who waits for a reply, or for the end of a process.

use super::Via;
use crate::down;
use crate::mailbox::Inbox;
use crate::session::Session;
use bytes::Bytes;
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use teleport_etf::{Reference, Segments, Term};
use teleport_proto::membership::EndReason;
use teleport_proto::wire::envelope::{Destination, Kind, ProcessId, RefId};
use tokio::sync::oneshot;

/// How a call ended, if not by a reply.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The server ended, or was not there: the encoded reason.
    Down(Bytes),
    /// Its node went down.
    NodeDown(EndReason),
}

/// The reply to a call, as it came, or why there is none.
pub(crate) type Outcome = Result<Bytes, Ended>;

/// Everything that this node's processes wait for.
#[derive(Debug, Default)]
pub(crate) struct Watching {
    last: AtomicU64,
    table: Mutex<FxHashMap<RefId, Watch>>,
    late: AtomicU64,
}

#[derive(Debug)]
struct Watch {
    via: Via,
    /// The process that waits, and what it waits for.
    from: ProcessId,
    to: Destination,
    waiter: Waiter,
}

#[derive(Debug)]
enum Waiter {
    Call(oneshot::Sender<Outcome>),
    Monitor { inbox: Arc<Inbox>, reference: Reference, object: Term },
}

impl Waiter {
    /// DOWN goes to the mailbox while the table is locked, so that whoever finds no watch in it finds the DOWN there. A
    /// caller's answer is given later.
    fn end(self, id: RefId, ended: Ended) -> Option<Answer> {
        match self {
            Self::Call(caller) => Some(Answer(caller, Err(ended))),
            Self::Monitor { inbox, reference, object } => {
                let reason = match ended {
                    Ended::Down(reason) => reason,
                    Ended::NodeDown(_) => down::no_connection(),
                };
                inbox.put_down(id, down::message(&reference, &object, reason));
                None
            }
        }
    }
}

/// What a caller is to be told, when no lock is held.
#[derive(Debug)]
pub(crate) struct Answer(oneshot::Sender<Outcome>, Outcome);

impl Answer {
    pub(crate) fn give(self) {
        let _ = self.0.send(self.1); // it may have given up just now
    }
}

impl Watching {
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
        self.lock().insert(reference, Watch { via, from, to, waiter: Waiter::Call(sender) });
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
        self.lock().insert(id, Watch { via, from: inbox.process, to, waiter });
    }

    /// The reply to a call has come. Late ones are counted.
    pub(crate) fn reply(&self, reference: RefId, reply: Bytes) -> Option<Answer> {
        match self.take_call(reference) {
            Some(caller) => Some(Answer(caller, Ok(reply))),
            None => {
                self.late.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// What is watched has ended. DOWN is in the mailbox when this returns.
    pub(crate) fn down(&self, reference: RefId, reason: Bytes, via: &Via) -> Option<Answer> {
        let mut table = self.lock();
        // Only the node that it is on can say that a process has ended.
        table.get(&reference).filter(|watch| watch.via.key() == via.key())?;
        table.remove(&reference)?.waiter.end(reference, Ended::Down(reason))
    }

    /// Nobody waits any more; the other side is told. `false` if it had ended already.
    pub(crate) fn cancel(&self, reference: RefId) -> bool {
        let Some(watch) = self.forget(reference) else { return false };
        match watch.via {
            Via::Here(_) => drop(watch.via.end(reference)),
            Via::There(session) => {
                // If the session has ended, so has the watch.
                let _ = session.send_exempt(
                    watch.from,
                    watch.to,
                    Kind::Demonitor(reference),
                    Segments::default(),
                );
            }
        }
        true
    }

    /// Nobody waits for what was never asked for.
    pub(crate) fn withdraw(&self, reference: RefId) {
        drop(self.forget(reference));
    }

    /// The session is over: all that was waited for over it ends so.
    pub(crate) fn session_down(&self, session: &Arc<Session>, reason: EndReason) {
        let answers: Vec<_> = {
            let mut table = self.lock();
            let over_it = |watch: &Watch| matches!(&watch.via, Via::There(via) if Arc::ptr_eq(via, session));
            let ended = table.extract_if(|_, watch| over_it(watch));
            ended.filter_map(|(id, watch)| watch.waiter.end(id, Ended::NodeDown(reason))).collect()
        };
        answers.into_iter().for_each(Answer::give);
    }

    /// How many calls and monitors are waited for.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Replies that came after their caller had given up, or a second time.
    pub(crate) fn late_replies(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    fn take_call(&self, reference: RefId) -> Option<oneshot::Sender<Outcome>> {
        let mut table = self.lock();
        if !matches!(table.get(&reference)?.waiter, Waiter::Call(_)) {
            return None; // a reply to what was no call
        }
        match table.remove(&reference)?.waiter {
            Waiter::Call(caller) => Some(caller),
            Waiter::Monitor { .. } => None,
        }
    }

    fn forget(&self, reference: RefId) -> Option<Watch> {
        let watch = self.lock().remove(&reference)?;
        if let Waiter::Monitor { inbox, .. } = &watch.waiter {
            inbox.note_monitor(reference, false);
        }
        Some(watch)
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<RefId, Watch>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
