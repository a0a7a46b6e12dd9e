//! The machine under its lock. A change says what is to be done, which is done when the lock is free.

use super::connection::PoolConnection;
use super::shelves::Shelves;
use super::{Session, SessionEvent};
use crate::base::error::{DeliveryError, SendError};
use crate::local::{Accepted, Backlog};
use bytes::BytesMut;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use teleport_etf::Segments;
use teleport_proto::ConnectionId;
use teleport_proto::membership::EndReason;
use teleport_proto::transfer::{
    AckToken, Action, Outcome, Outgoing, Posted, Refused, Sent, Ticket, Transfer, TransferStats, Urgency,
};
use teleport_proto::wire::envelope::{Destination, Kind, ProcessId};
use teleport_proto::wire::pool::Class;
use tokio::sync::oneshot;

/// Waits for a message to be accepted.
pub(super) enum Grant {
    Sender(oneshot::Sender<Result<(), SendError>>),
    /// Something that is carried.
    Carried(Accepted, Backlog),
    /// Nobody: its sender was told that it is sent.
    Behind,
}

impl Grant {
    /// Tells them what has become of it; with the lock released.
    pub(super) fn tell_all(
        grants: impl IntoIterator<Item = Self>,
        session: &Session,
        result: impl Fn() -> Result<(), SendError>,
    ) {
        let mut carried: SmallVec<[(Accepted, Backlog); 1]> = SmallVec::new();
        for grant in grants {
            match grant {
                Self::Sender(sender) => drop(sender.send(result())), // it may have given up
                Self::Carried(accepted, waited) => match carried.last_mut() {
                    Some((last, sum)) if Arc::ptr_eq(last, &accepted) => *sum += waited,
                    _ => carried.push((accepted, waited)),
                },
                Self::Behind => {}
            }
        }
        if !carried.is_empty() {
            // This may be a thread of the host's, which must not be called on those.
            session.core.handle.spawn(async move {
                carried.into_iter().for_each(|(accepted, waited)| accepted(waited));
            });
        }
    }
}

/// Who waits for messages to be accepted, by their tickets.
#[derive(Default)]
pub(super) struct Grants {
    waiting: FxHashMap<Ticket, Grant>,
    /// Those that nobody waits for.
    untold: u64,
}

impl Grants {
    pub(super) fn insert(&mut self, ticket: Ticket, grant: Grant) {
        self.untold += u64::from(matches!(grant, Grant::Behind));
        self.waiting.insert(ticket, grant);
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Grant> {
        let grant = self.waiting.remove(&ticket)?;
        self.untold -= u64::from(matches!(grant, Grant::Behind));
        Some(grant)
    }

    /// How many of the messages nobody can be told of: their senders know them to be sent.
    pub(super) fn untold(&self) -> u64 {
        self.untold
    }

    pub(super) fn into_all(self) -> impl Iterator<Item = Grant> {
        self.waiting.into_values()
    }
}

/// Waits for what becomes of an accepted message.
pub(super) type Fate = oneshot::Sender<Result<(), DeliveryError>>;

/// What the session's lock protects.
pub(super) struct State {
    /// `None` once the session has ended.
    pub(super) transfer: Option<Transfer>,
    pub(super) shelves: Arc<Shelves>,
    pub(super) ended: Option<EndReason>,
    pub(super) connections: FxHashMap<ConnectionId, Arc<PoolConnection>>,
    pub(super) grants: Grants,
    pub(super) outcomes: FxHashMap<AckToken, Fate>,
    pub(super) last_token: AckToken,
    /// The session's task has been told that the control connection has something to say, soon or now.
    flush_planned: bool,
    flush_begun: bool,
    /// At the end, so that it can still be asked for.
    pub(super) unconfirmed: u64,
}

impl State {
    pub(super) fn new(transfer: Transfer, shelves: Arc<Shelves>) -> Self {
        Self {
            transfer: Some(transfer),
            shelves,
            ended: None,
            connections: FxHashMap::default(),
            grants: Grants::default(),
            outcomes: FxHashMap::default(),
            last_token: 0,
            flush_planned: false,
            flush_begun: false,
            unconfirmed: 0,
        }
    }

    /// Everything the control connection has to say.
    pub(super) fn take_control(&mut self) -> Option<BytesMut> {
        (self.flush_planned, self.flush_begun) = (false, false);
        let mut out = BytesMut::new();
        self.transfer.as_mut()?.take_control(&mut out);
        Some(out)
    }

    /// What there is to say when the control connection has written the last, which the task has not been told of then.
    pub(super) fn due_behind(&mut self) -> Option<Urgency> {
        let due = self.transfer.as_ref()?.control_due();
        if due.is_none() {
            (self.flush_planned, self.flush_begun) = (false, false);
        }
        due
    }

    /// Changes the machine's state, and notes what that asks for. `None` once the session has ended.
    pub(super) fn change<R>(
        &mut self,
        after: &mut After,
        change: impl FnOnce(&mut Transfer) -> R,
    ) -> Option<R> {
        let transfer = self.transfer.as_mut()?;
        let result = change(transfer);
        after.spent.append(&mut transfer.take_spent());
        while let Some(action) = transfer.poll_action() {
            match action {
                Action::Wake(id) => after.wake.extend(self.connections.get(&id).cloned()),
                Action::Close(id) => after.close.extend(self.connections.get(&id).cloned()),
                Action::Granted(ticket) => {
                    after.granted.extend(self.grants.remove(ticket));
                }
                Action::Outcome(token, outcome) => {
                    let result = match outcome {
                        Outcome::Delivered => Ok(()),
                        Outcome::NoProcess => Err(DeliveryError::NoProcess),
                    };
                    after.told.extend(self.outcomes.remove(&token).map(|waiting| (waiting, result)));
                }
            }
        }
        after.join.extend(std::iter::from_fn(|| transfer.next_join()));
        after.look = transfer.is_under_way();
        match transfer.control_due() {
            // The task is woken once for all that comes until it flushes.
            Some(Urgency::Now) => after.now |= !std::mem::replace(&mut self.flush_begun, true),
            Some(Urgency::Soon) => after.soon |= !std::mem::replace(&mut self.flush_planned, true),
            None => {}
        }
        Some(result)
    }

    /// Accepts a small message at once, if nothing is in its way: `false` if there is, or may be.
    pub(super) fn post(
        &mut self,
        after: &mut After,
        kind: Kind,
        from: ProcessId,
        to: &Destination,
        body: &[u8],
    ) -> bool {
        let Some(transfer) = &mut self.transfer else { return false };
        let mut changed = kind == Kind::Data && self.shelves.put_away(transfer, from, to);
        let posted = transfer.post(kind, from, to, body);
        changed |= posted == Posted::First;
        if kind == Kind::Data && posted == Posted::Behind {
            self.shelves.open(transfer, from, to);
        }
        if changed {
            self.change(after, |_| ());
        }
        posted != Posted::No
    }

    /// Offers a message. `None` once the session has ended.
    pub(super) fn send(&mut self, after: &mut After, message: Outgoing) -> Option<Result<Sent, Refused>> {
        if self.transfer.is_none() {
            after.spent.push(message.body);
            return None;
        }
        let shelves = self.shelves.clone();
        self.change(after, |transfer| {
            shelves.put_away(transfer, message.from, &message.to);
            // It is not refused for room that the session keeps in trays; it comes behind what lies in them.
            if message.nosuspend || message.behind_all {
                shelves.put_all_away(transfer);
            }
            transfer.send(message)
        })
    }

    /// Counters and gauges, with what lies in trays, which is fetched for that. `None` once the session has ended.
    pub(super) fn stats(&mut self, after: &mut After) -> Option<TransferStats> {
        let shelves = self.shelves.clone();
        self.change(after, |transfer| {
            shelves.fetch(transfer);
            transfer.stats()
        })
    }

    /// Puts the trays away as soon as nothing fetches from them any more. To be called before the lock is released, and not before the
    /// grant of a send that began to wait has been entered: it may have room now.
    fn settle_trays(&mut self, after: &mut After) {
        let Some(transfer) = &mut self.transfer else { return };
        if self.shelves.have_trays() && !transfer.serves_trays() {
            self.shelves.put_all_away(transfer);
            self.change(after, |_| ());
        }
    }
}

/// What changes have asked for.
#[derive(Default)]
#[must_use = "it is to be done when the lock is free"]
pub(super) struct After {
    wake: SmallVec<[Arc<PoolConnection>; 2]>,
    close: Vec<Arc<PoolConnection>>,
    granted: SmallVec<[Grant; 1]>,
    told: SmallVec<[(Fate, Result<(), DeliveryError>); 1]>,
    join: Vec<(ConnectionId, Class)>,
    /// Something is under way: connections have to be looked after.
    look: bool,
    /// The control connection has something to say, now or soon.
    now: bool,
    soon: bool,
    /// Less is under way, maybe nothing.
    drained: bool,
    /// Large bodies that nobody needs any more: freeing them takes a while.
    spent: Vec<Segments>,
}

impl After {
    /// Leaves a connection that has something to be written to the caller, which writes it itself.
    pub(super) fn take_idle(&mut self) -> Option<Arc<PoolConnection>> {
        self.wake.pop()
    }

    pub(super) fn act(self, session: &Session) {
        self.wake.iter().for_each(|connection| connection.wake());
        for connection in self.close {
            tracing::debug!(parent: &session.span, connection = connection.id, "pool connection retired");
            connection.close();
        }
        Grant::tell_all(self.granted, session, || Ok(()));
        for (waiting, result) in self.told {
            let _ = waiting.send(result);
        }
        for (connection, class) in self.join {
            session.core.events.send(SessionEvent::Join { session: session.id, connection, class });
        }
        if self.look {
            session.look_after();
        }
        if self.now {
            session.now.notify_one();
        }
        if self.soon {
            session.soon.notify_one();
        }
        if self.drained {
            session.drained.notify_waiters();
        }
    }
}

impl Session {
    /// Changes the machine's state, and does what that asks for. `None` once the session has ended.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Transfer) -> R) -> Option<R> {
        self.with(|state, after| state.change(after, change))
    }

    /// Makes changes that belong together under one lock, and does what they ask for.
    pub(super) fn with<R>(&self, make: impl FnOnce(&mut State, &mut After) -> R) -> R {
        let (result, after) = self.locked(make);
        after.act(self);
        result
    }

    /// Makes changes under the lock. What they ask for is the caller's to do.
    pub(super) fn locked<R>(&self, make: impl FnOnce(&mut State, &mut After) -> R) -> (R, After) {
        let mut after = After::default();
        let mut state = self.lock();
        let had_trays = state.shelves.have_trays();
        let result = make(&mut state, &mut after);
        state.settle_trays(&mut after);
        after.drained = had_trays && !state.shelves.have_trays(); // they have given back their room
        drop(state);
        (result, after)
    }

    /// Has the task look after connections, unless it does.
    pub(super) fn look_after(&self) {
        // What is under way has been noted under the lock, so nothing is missed by looking first.
        if !self.looked_after.load(Ordering::Relaxed) && !self.looked_after.swap(true, Ordering::Relaxed) {
            self.in_use.notify_one();
        }
    }
}
