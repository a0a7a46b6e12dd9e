//! Sending, as a process.

use crate::api::node::Node;
use crate::base::address::{Address, Target};
use crate::base::down;
use crate::base::encoding::{atom_of, encode, encode_unless};
use crate::base::error::{DeliveryError, MonitorError, RequestError, SendError};
use crate::local::watch::{HERE, Path, Purpose, Refused, Subject, Via, Waiter, reason};
use crate::local::{Monitored, inbox::Inbox};
use crate::session::{Confirmation, Offered, Patience, Session};
use serde::Serialize;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use teleport_etf::{Atom, Pid, Reference, Segments, Term};
use teleport_proto::membership::EndReason;
use teleport_proto::transfer::Outgoing;
use teleport_proto::wire::envelope::{Destination, Kind, ProcessId};
use teleport_proto::{InvalidNodeName, NodeName};

/// How a message is sent. The default is Erlang's `!`: in order, and waiting while the way is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendOptions {
    unordered: bool,
    nosuspend: bool,
    noconnect: bool,
    timeout: Option<Duration>,
}

impl SendOptions {
    /// Neither wait for earlier messages of the same pair of processes, nor be waited for by later ones.
    pub fn unordered(self) -> Self {
        Self { unordered: true, ..self }
    }

    /// Answer [`SendError::Busy`] rather than wait: for room in a window, or for the first session to be set up (which
    /// is begun).
    pub fn nosuspend(self) -> Self {
        Self { nosuspend: true, ..self }
    }

    /// Answer [`SendError::NotConnected`] rather than set up a session with the peer.
    pub fn noconnect(self) -> Self {
        Self { noconnect: true, ..self }
    }

    /// Wait no longer than that, for the session and for room together: then [`SendError::Timeout`] is the answer, and nothing
    /// was sent.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    pub(crate) fn is_nosuspend(self) -> bool {
        self.nosuspend
    }

    pub(crate) fn is_noconnect(self) -> bool {
        self.noconnect
    }

    /// What is offered now waits so long.
    pub(crate) fn patience(self) -> Patience {
        Patience::new(self.timeout)
    }

    /// The message, sent like that.
    pub(crate) fn outgoing(self, from: ProcessId, to: Destination, body: Segments) -> Outgoing {
        let mut message = Outgoing::new(from, to, body);
        (message.unordered, message.nosuspend) = (self.unordered, self.nosuspend);
        message
    }
}

/// The sender of one process's messages. Cheap to clone; messages sent through clones count as one process's.
#[derive(Clone)]
pub struct Process {
    node: Node,
    id: ProcessId,
}

/// What becomes of an acknowledged message: a future, which is ready when the message is in the mailbox, or when it is known
/// that there is no such process, or when nothing can be known because the peer went down.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use teleport::{DeliveryError, Node, SendOptions};
/// # let node = Node::builder("shop@127.0.0.1").cookie("cEbLxqUGdSvV2N9x").start().await?;
/// let sent = node.process().send_acknowledged("nobody", &"hello", SendOptions::default()).await?;
/// assert_eq!(sent.await, Err(DeliveryError::NoProcess));
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "an acknowledgement says nothing until it is awaited"]
pub struct Acknowledgement(Ack);

#[derive(Debug)]
enum Ack {
    Now(Result<(), DeliveryError>),
    Later(Confirmation, NodeName),
}

impl Future for Acknowledgement {
    type Output = Result<(), DeliveryError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match &mut self.0 {
            Ack::Now(result) => result.clone(),
            Ack::Later(confirmation, peer) => {
                let lost =
                    || DeliveryError::Unconfirmed { peer: peer.clone(), reason: EndReason::Disconnected };
                ready!(Pin::new(confirmation).poll(context)).unwrap_or_else(|_| Err(lost()))
            }
        })
    }
}

/// Where an address leads.
pub(crate) enum Route {
    Here(Destination),
    There(NodeName, Destination, Option<u32>),
}

impl Node {
    /// The sender of messages that come from no particular process of the node.
    pub fn process(&self) -> Process {
        Process::new(self.clone(), self.own())
    }

    /// Sends a message as the node itself; see [`Process::send`].
    ///
    /// # Errors
    ///
    /// [`SendError`]: the message is not accepted, and nothing of it is sent.
    pub async fn send<M: Serialize + ?Sized>(
        &self,
        to: impl Into<crate::Address>,
        message: &M,
    ) -> Result<(), SendError> {
        self.process().send(to, message).await
    }
}

impl Process {
    pub(crate) fn new(node: Node, id: ProcessId) -> Self {
        Self { node, id }
    }

    /// The process's pid.
    pub fn pid(&self) -> Pid {
        self.node.pid_of(self.id)
    }

    /// The node it runs on.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Sends a message, like Erlang's `!`.
    ///
    /// Returns when the message is accepted: from then on the session with the peer answers for it. Waits while a
    /// window on the way is full, and for the session at the first send. Dropping the future takes the message back,
    /// unless it was accepted at that very moment; it is never half sent.
    ///
    /// A message for a process that does not exist vanishes, as in Erlang;
    /// [`send_acknowledged`](Self::send_acknowledged) tells.
    ///
    /// # Errors
    ///
    /// [`SendError`]: the message is not accepted, and nothing of it is sent.
    pub async fn send<M: Serialize + ?Sized>(
        &self,
        to: impl Into<Address>,
        message: &M,
    ) -> Result<(), SendError> {
        self.send_with(to, message, SendOptions::default()).await
    }

    /// Sends a message with options.
    ///
    /// # Errors
    ///
    /// [`SendError`]: nothing was sent, and why. Which of them there can be depends on the options.
    pub async fn send_with<M: Serialize + ?Sized>(
        &self,
        to: impl Into<Address>,
        message: &M,
        options: SendOptions,
    ) -> Result<(), SendError> {
        let route = self.route(to.into())?;
        let body = match &route {
            Route::There(peer, to, incarnation) if !options.unordered => {
                encode_unless(message, |body| self.post(peer, to, *incarnation, body))?
            }
            _ => Some(encode(message)?),
        };
        match body {
            Some(body) => self.send_routed(route, body, options).await,
            None => {
                tokio::task::coop::consume_budget().await; // see `session`
                Ok(())
            }
        }
    }

    /// Sends a small message at once, if there is a session and nothing is in the way.
    fn post(&self, peer: &NodeName, to: &Destination, incarnation: Option<u32>, body: &[u8]) -> bool {
        let engine = self.node.engine();
        !engine.is_stopped()
            && engine
                .peers
                .session(peer)
                .is_some_and(|session| !session.is_stale(incarnation) && session.post(self.id, to, body))
    }

    /// Sends a term that is encoded already, such as the [`body`](crate::Message::body) of a message passed on.
    ///
    /// # Errors
    ///
    /// Those of [`send_with`](Self::send_with).
    pub async fn send_encoded(
        &self,
        to: impl Into<Address>,
        body: Segments,
        options: SendOptions,
    ) -> Result<(), SendError> {
        self.send_routed(self.route(to.into())?, body, options).await
    }

    async fn send_routed(&self, route: Route, body: Segments, options: SendOptions) -> Result<(), SendError> {
        let patience = options.patience();
        match route {
            Route::Here(to) => {
                match patience.within(self.send_here(to, body, options)).await {
                    Ok(()) | Err(RequestError::NoProcess) => Ok(()), // it vanishes, as in Erlang
                    Err(RequestError::Send(error)) => Err(error),
                }
            }
            Route::There(peer, to, incarnation) => {
                let session = patience.within(self.session(&peer, options)).await?;
                if session.is_stale(incarnation) {
                    return Ok(());
                }
                match session.send(options.outgoing(self.id, to, body))? {
                    Offered::Accepted => Ok(()),
                    Offered::Waiting(pending) => pending.accepted(patience).await,
                }
            }
        }
    }

    /// Sends a message, and asks what becomes of it. Returns when it is accepted; the answer comes by itself.
    ///
    /// # Errors
    ///
    /// Those of [`send_with`](Self::send_with). What becomes of an accepted message the [`Acknowledgement`] says.
    pub async fn send_acknowledged<M: Serialize + ?Sized>(
        &self,
        to: impl Into<Address>,
        message: &M,
        options: SendOptions,
    ) -> Result<Acknowledgement, SendError> {
        let (body, patience) = (encode(message)?, options.patience());
        match self.route(to.into())? {
            Route::Here(to) => match patience.within(self.send_here(to, body, options)).await {
                Ok(()) => Ok(Acknowledgement(Ack::Now(Ok(())))),
                Err(RequestError::NoProcess) => Ok(Acknowledgement(Ack::Now(Err(DeliveryError::NoProcess)))),
                Err(RequestError::Send(error)) => Err(error),
            },
            Route::There(peer, to, incarnation) => {
                let session = patience.within(self.session(&peer, options)).await?;
                if session.is_stale(incarnation) {
                    return Ok(Acknowledgement(Ack::Now(Err(DeliveryError::NoProcess))));
                }
                let (offered, answer) = session.send_acknowledged(options.outgoing(self.id, to, body))?;
                if let Offered::Waiting(pending) = offered {
                    pending.accepted(patience).await?;
                }
                Ok(Acknowledgement(Ack::Later(answer, peer)))
            }
        }
    }

    /// Watches a process on behalf of the one that the inbox is of. There is always an answer, in the inbox.
    pub(crate) async fn watch(&self, to: Address, inbox: &Arc<Inbox>) -> Result<Reference, MonitorError> {
        let engine = self.node.engine();
        if engine.is_stopped() {
            return Err(MonitorError::NotRunning);
        }
        let id = engine.core.watches.watching.make_reference();
        let reference = self.node.reference_of(id);
        let object = self.object(&to)?;
        let here = Via::Here(engine.core.watches.clone());
        let (via, to) = match self.route(to)? {
            Route::Here(to) => (here, to),
            Route::There(peer, to, incarnation) => match self.session(&peer, SendOptions::default()).await {
                Ok(session) if session.is_stale(incarnation) => (here, NOBODY),
                Ok(session) => (Via::There(session), to),
                Err(_) => {
                    inbox.put_down(
                        id,
                        down::message(&reference, &object, reason::no_connection().into_contiguous()),
                    );
                    return Ok(reference);
                }
            },
        };
        let waiter = Waiter::Monitor { process: inbox.clone(), reference: reference.clone(), object };
        let path = Path { via: via.clone(), from: inbox.process, to: to.clone() };
        engine.core.watches.watching.begin(id, path, waiter);
        match &via {
            Via::Here(_) => {
                let found = engine.core.registry.find(&to).ok_or(Refused::NoProcess);
                if let Err(refused) = found
                    .and_then(|watched| via.begin(Purpose::Monitor, id, self.id, Subject::Inbox(watched)))
                {
                    engine.core.watches.watching.down(id, refused.reason().into_contiguous(), HERE);
                }
            }
            Via::There(session) => {
                if session
                    .send_exempt(Outgoing::of_kind(Kind::Monitor(id), self.id, to, Segments::default()))
                    .is_err()
                {
                    let reason = reason::no_connection().into_contiguous();
                    engine.core.watches.watching.down(id, reason, session.number());
                }
            }
        }
        Ok(reference)
    }

    /// What DOWN calls the process: the pid, or the name with its node.
    fn object(&self, to: &Address) -> Result<Term, MonitorError> {
        let named = |name: &str, node: &NodeName| {
            let name = Atom::new(name).map_err(|_| MonitorError::NameTooLong(name.len()))?;
            Ok(Term::tuple([name.into(), atom_of(node).into()]))
        };
        match &to.0 {
            Target::Local(name) => named(name, self.node.name()),
            Target::Remote(name, node) => named(name, node),
            Target::Pid(pid) => Ok(pid.clone().into()),
        }
    }

    pub(crate) fn id(&self) -> ProcessId {
        self.id
    }

    pub(crate) fn route(&self, to: Address) -> Result<Route, InvalidNodeName> {
        let own = self.node.name();
        Ok(match to.0 {
            Target::Local(name) => Route::Here(Destination::Name(name)),
            Target::Remote(name, node) if node == *own => Route::Here(Destination::Name(name)),
            Target::Remote(name, node) => Route::There(node, Destination::Name(name), None),
            Target::Pid(pid) => {
                let to = Destination::Process(ProcessId { id: pid.id, serial: pid.serial });
                if pid.node.as_str() != own.as_str() {
                    Route::There(NodeName::new(pid.node.as_str())?, to, Some(pid.creation))
                } else if pid.creation == self.node.incarnation().as_u32() {
                    Route::Here(to)
                } else {
                    Route::Here(NOBODY) // a process of an earlier life of this node
                }
            }
        })
    }

    pub(crate) async fn session(
        &self,
        peer: &NodeName,
        options: SendOptions,
    ) -> Result<Arc<Session>, SendError> {
        let engine = self.node.engine();
        if engine.is_stopped() {
            return Err(SendError::NotRunning);
        }
        // A task that sends without a pause must not keep the thread from those that write.
        tokio::task::coop::consume_budget().await;
        match options {
            _ if options.noconnect => engine.peers.session(peer).ok_or_else(|| not_connected(peer)),
            _ if options.nosuspend => engine.session_now(peer),
            _ => Ok(engine.session(peer).await?),
        }
    }

    async fn send_here(
        &self,
        to: Destination,
        body: Segments,
        options: SendOptions,
    ) -> Result<(), RequestError> {
        let inbox = self.inbox_for(&to, &body)?;
        inbox.put_local(self.pid(), body.into_contiguous(), !options.nosuspend).await
    }

    /// The inbox on this node that a message goes to, if it may.
    pub(crate) fn inbox_for(&self, to: &Destination, body: &Segments) -> Result<Arc<Inbox>, RequestError> {
        let engine = self.node.engine();
        let (size, limit) = (body.len() as u64, engine.core.config.max_message.get());
        if size > limit {
            return Err(SendError::TooLarge { size, limit }.into());
        }
        if engine.is_stopped() {
            return Err(SendError::NotRunning.into());
        }
        engine.core.registry.find(to).ok_or(RequestError::NoProcess)
    }
}

const NOBODY: Destination = Destination::Process(ProcessId::NOBODY);

/// There is no session with the peer, and none was to be set up.
pub(crate) fn not_connected(peer: &NodeName) -> SendError {
    SendError::NotConnected { peer: peer.clone() }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Process").field(&self.pid()).finish()
    }
}
