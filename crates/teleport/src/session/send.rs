//! Sending: a message is offered to the machine, and accepted, refused or told to wait.

use super::state::{After, Grant, State};
use super::{Session, writer};
use crate::base::error::{DeliveryError, SendError};
use crate::io::runtime::Timers;
use crate::local::Unsent;
use std::sync::Arc;
use std::time::Duration;
use teleport_proto::NodeName;
use teleport_proto::membership::EndReason;
use teleport_proto::transfer::{AckToken, Outgoing, Refused, Sent, Ticket};
use teleport_proto::wire::envelope::{Destination, Kind, ProcessId};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long a message waits.
#[derive(Debug, Clone)]
pub(crate) struct Patience(Option<Limit>);

#[derive(Debug, Clone)]
struct Limit {
    timeout: Duration,
    end: Instant,
    timers: Timers,
}

impl Patience {
    pub(crate) const ENDLESS: Self = Self(None);

    /// From now on; a time beyond what a clock can tell is none.
    pub(crate) fn new(timeout: Option<Duration>, timers: &Timers) -> Self {
        Self(
            timeout.and_then(|timeout| {
                Some(Limit { timeout, end: timers.end(timeout)?, timers: timers.clone() })
            }),
        )
    }

    /// What comes of it in time.
    pub(crate) async fn within<T, E: From<SendError>>(
        &self,
        waiting: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        match &self.0 {
            None => waiting.await,
            Some(Limit { timeout, end, timers }) => {
                let in_time = timers.timeout_at(*end, waiting).await;
                in_time.unwrap_or_else(|_| Err(SendError::Timeout(*timeout).into()))
            }
        }
    }
}

/// A message that waits to be accepted. Dropping it takes the message back.
pub(crate) struct Pending {
    session: Arc<Session>,
    ticket: Ticket,
    token: Option<AckToken>,
    granted: oneshot::Receiver<Result<(), SendError>>,
}

impl Pending {
    /// Waits until the message is accepted, or never will be.
    pub(crate) async fn accepted(mut self, patience: &Patience) -> Result<(), SendError> {
        let in_time = patience.within(async { Ok::<_, SendError>((&mut self.granted).await) }).await;
        let granted = match in_time {
            // It may have been accepted just now.
            Err(too_late) if self.take_back() => return Err(too_late),
            Err(_) => (&mut self.granted).await,
            Ok(granted) => granted,
        };
        granted.unwrap_or_else(|_| Err(self.session.node_down()))
    }

    /// `false` if it does not wait any more.
    fn take_back(&self) -> bool {
        let ticket = self.ticket;
        // Who waits is dropped with the lock released.
        let (waits, _outcome) = self.session.with(|state, after| {
            let Some(grant) = state.grants.remove(ticket) else { return (None, None) };
            state.change(after, |transfer| transfer.cancel(ticket));
            (Some(grant), self.token.and_then(|token| state.outcomes.remove(&token)))
        });
        let waits = waits.is_some();
        if waits {
            self.session.show_soon();
        }
        waits
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.take_back();
    }
}

/// What became of a message offered to the session.
pub(crate) enum Offered {
    Accepted,
    Waiting(Pending),
}

/// The answer to an acknowledged send, when it comes.
pub(crate) type Confirmation = oneshot::Receiver<Result<(), DeliveryError>>;

impl Session {
    /// Sends a small ordinary message at once, if nothing is in its way: `false` if there is, or may be.
    pub(crate) fn post(&self, from: ProcessId, to: &Destination, body: &[u8]) -> bool {
        self.shelves.lay(from, to, body)
            || self.offering(|state, after| state.post(after, Kind::Data, from, to, body))
    }

    fn was_posted(&self, message: &Outgoing) -> bool {
        let body = message.body.as_contiguous().filter(|_| message.is_plain() && message.kind == Kind::Data);
        body.is_some_and(|body| self.post(message.from, &message.to, body))
    }

    /// Offers a message.
    pub(crate) fn send(self: &Arc<Self>, message: Outgoing) -> Result<Offered, SendError> {
        if self.was_posted(&message) {
            return Ok(Offered::Accepted);
        }
        self.offering(|state, after| {
            let sent = self.offer(state, after, message).map_err(|denied| denied.of_send(&self.peer))?;
            Ok(self.offered(state, sent, None))
        })
    }

    /// Sends a message that waits for its turn without anybody who waits for it.
    pub(crate) fn send_behind(self: &Arc<Self>, message: Outgoing) -> Result<(), SendError> {
        if self.was_posted(&message) {
            return Ok(());
        }
        self.offering(|state, after| {
            let sent = self.offer(state, after, message).map_err(|denied| denied.of_send(&self.peer))?;
            if let Sent::Waiting(ticket) = sent {
                state.grants.insert(ticket, Grant::Behind);
                self.show_soon();
            }
            Ok(())
        })
    }

    /// Offers a message, and asks what becomes of it.
    pub(crate) fn send_acknowledged(
        self: &Arc<Self>,
        mut message: Outgoing,
    ) -> Result<(Offered, Confirmation), SendError> {
        self.offering(|state, after| {
            state.last_token += 1;
            let token = state.last_token;
            message.acknowledge = Some(token);
            let sent = self.offer(state, after, message).map_err(|denied| denied.of_send(&self.peer))?;
            let (sender, answer) = oneshot::channel();
            state.outcomes.insert(token, sender);
            Ok((self.offered(state, sent, Some(token)), answer))
        })
    }

    /// Lets a sender offer something under the lock, and then write it on an idle connection itself.
    pub(super) fn offering<R>(&self, offer: impl FnOnce(&mut State, &mut After) -> R) -> R {
        let (result, mut after) = self.locked(offer);
        let connection = after.take_idle();
        after.act(self);
        if let Some(connection) = connection {
            writer::write_now(self, &connection);
        }
        result
    }

    pub(super) fn offer(
        &self,
        state: &mut State,
        after: &mut After,
        message: Outgoing,
    ) -> Result<Sent, Denied> {
        match state.send(after, message) {
            None => Err(Denied::Ended(state.ended.unwrap_or(EndReason::Disconnected))),
            Some(sent) => sent.map_err(Denied::Refused),
        }
    }

    pub(super) fn offered(
        self: &Arc<Self>,
        state: &mut State,
        sent: Sent,
        token: Option<AckToken>,
    ) -> Offered {
        match sent {
            Sent::Accepted => Offered::Accepted,
            Sent::Waiting(ticket) => {
                let (sender, granted) = oneshot::channel();
                state.grants.insert(ticket, Grant::Sender(sender));
                self.show_soon();
                Offered::Waiting(Pending { session: self.clone(), ticket, token, granted })
            }
        }
    }

    fn node_down(&self) -> SendError {
        let reason = self.lock().ended.unwrap_or(EndReason::Disconnected);
        SendError::NodeDown { peer: self.peer.clone(), reason }
    }
}

/// Why a message was not taken.
pub(super) enum Denied {
    /// The session has ended.
    Ended(EndReason),
    Refused(Refused),
}

impl Denied {
    /// What that means to a sender, whose message takes credit.
    pub(super) fn of_send(self, peer: &NodeName) -> SendError {
        match self {
            Self::Ended(reason) => SendError::NodeDown { peer: peer.clone(), reason },
            // Only what takes no credit can find the answers' room full.
            Self::Refused(Refused::Busy | Refused::AnswersFull { .. }) => SendError::Busy,
            Self::Refused(Refused::Sealed) => SendError::NotRunning,
            Self::Refused(Refused::TooLarge { size, limit }) => SendError::TooLarge { size, limit },
            Self::Refused(Refused::NameTooLong(len)) => SendError::NameTooLong(len),
        }
    }

    /// What that means to whom it would have taken no credit.
    pub(super) fn of_exempt(self) -> Unsent {
        match self {
            Self::Ended(_) => Unsent::Ended,
            Self::Refused(Refused::TooLarge { size, limit }) => Unsent::TooLarge { size, limit },
            Self::Refused(Refused::AnswersFull { waiting }) => Unsent::NotTaken { waiting },
            Self::Refused(Refused::NameTooLong(_)) => Unsent::NoSuchName,
            // It waits for nothing, so it is never told that it would have to.
            Self::Refused(Refused::Sealed | Refused::Busy) => Unsent::NotRunning,
        }
    }
}
