//! Sending, as a process.

use crate::api::node::Node;
use crate::api::send_options::SendOptions;
use crate::base::address::{Address, Recipient, Target};
use crate::base::encoding::{Encoded, encode, post_or_encode};
use crate::base::error::{DeliveryError, SendError};
use crate::local::inbox::{Inbox, LocalError};
use crate::session::{Confirmation, Offered, Session};
use serde::Serialize;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use teleport_etf::{Pid, Segments};
use teleport_proto::membership::EndReason;
use teleport_proto::wire::envelope::{Destination, Kind, ProcessId};
use teleport_proto::{InvalidNodeName, NodeName};

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

impl Acknowledgement {
    /// Known already.
    pub(crate) fn now(result: Result<(), DeliveryError>) -> Self {
        Self(Ack::Now(result))
    }

    /// Of a message to that peer.
    pub(crate) fn later(confirmation: Confirmation, peer: NodeName) -> Self {
        Self(Ack::Later(confirmation, peer))
    }
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
    There(Recipient),
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
        let route = self.turn().await.route(to.into())?;
        let encoded = match &route {
            Route::There(to) if !options.unordered => post_or_encode(message, |body| self.post(to, body))?,
            _ => Encoded::Body(encode(message)?),
        };
        match encoded {
            Encoded::Body(body) => self.send_routed(route, body, options).await,
            Encoded::Posted => Ok(()),
        }
    }

    /// Sends a small message at once, if there is a session and nothing is in the way.
    fn post(&self, to: &Recipient, body: &[u8]) -> bool {
        let engine = self.node.engine();
        let post =
            |session: Arc<Session>| !session.is_stale(to.incarnation) && session.post(self.id, &to.to, body);
        !engine.is_stopped() && engine.peers.session(&to.peer).is_some_and(post)
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
        self.send_routed(self.turn().await.route(to.into())?, body, options).await
    }

    async fn send_routed(&self, route: Route, body: Segments, options: SendOptions) -> Result<(), SendError> {
        let patience = options.patience(&self.node().engine().core.timers);
        match route {
            Route::Here(to) => {
                match patience.within(self.send_here(to, body, options)).await {
                    Ok(()) | Err(LocalError::NoProcess) => Ok(()), // it vanishes, as in Erlang
                    Err(LocalError::Send(error)) => Err(error),
                }
            }
            Route::There(Recipient { peer, incarnation, to }) => {
                let session = patience.within(self.session(&peer, options)).await?;
                if session.is_stale(incarnation) {
                    return Ok(());
                }
                match session.send(options.outgoing(Kind::Data, self.id, to, body))? {
                    Offered::Accepted => Ok(()),
                    Offered::Waiting(pending) => pending.accepted(&patience).await,
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
        let (body, patience) = (encode(message)?, options.patience(&self.node().engine().core.timers));
        match self.turn().await.route(to.into())? {
            Route::Here(to) => match patience.within(self.send_here(to, body, options)).await {
                Ok(()) => Ok(Acknowledgement::now(Ok(()))),
                Err(LocalError::NoProcess) => Ok(Acknowledgement::now(Err(DeliveryError::NoProcess))),
                Err(LocalError::Send(error)) => Err(error),
            },
            Route::There(Recipient { peer, incarnation, to }) => {
                let session = patience.within(self.session(&peer, options)).await?;
                if session.is_stale(incarnation) {
                    return Ok(Acknowledgement::now(Err(DeliveryError::NoProcess)));
                }
                let (offered, answer) =
                    session.send_acknowledged(options.outgoing(Kind::Data, self.id, to, body))?;
                if let Offered::Waiting(pending) = offered {
                    pending.accepted(&patience).await?;
                }
                Ok(Acknowledgement::later(answer, peer))
            }
        }
    }

    pub(crate) fn id(&self) -> ProcessId {
        self.id
    }

    /// With this begins all that is sent. A task that sends without a pause must not keep the thread from others; nothing is accepted
    /// yet, so that it may be given up here.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        tokio::task::coop::consume_budget().await;
        Turn(self)
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
        match options.session_now(engine, peer)? {
            Some(session) => Ok(session),
            None => Ok(engine.session(peer).await?),
        }
    }

    async fn send_here(
        &self,
        to: Destination,
        body: Segments,
        options: SendOptions,
    ) -> Result<(), LocalError> {
        let inbox = self.inbox_for(&to, &body)?;
        inbox.put_local(self.pid(), body.into_contiguous(), !options.nosuspend).await
    }

    /// The inbox on this node that a message goes to, if it may.
    pub(crate) fn inbox_for(&self, to: &Destination, body: &Segments) -> Result<Arc<Inbox>, LocalError> {
        let engine = self.node.engine();
        let (size, limit) = (body.len() as u64, engine.core.config.max_message.get());
        if size > limit {
            return Err(SendError::TooLarge { size, limit }.into());
        }
        if engine.is_stopped() {
            return Err(SendError::NotRunning.into());
        }
        engine.core.registry.find(to).ok_or(LocalError::NoProcess)
    }
}

/// Where no process is.
pub(crate) const NOBODY: Destination = Destination::Process(ProcessId::NOBODY);

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Process").field(&self.pid()).finish()
    }
}

/// A process that sends something, and has let others run before.
pub(crate) struct Turn<'a>(&'a Process);

impl Turn<'_> {
    /// Where an address leads.
    pub(crate) fn route(self, to: Address) -> Result<Route, InvalidNodeName> {
        let node = &self.0.node;
        let own = node.name();
        Ok(match to.0 {
            Target::Local(name) => Route::Here(Destination::Name(name)),
            Target::Remote(name, node) if node == *own => Route::Here(Destination::Name(name)),
            Target::Remote(name, peer) => {
                Route::There(Recipient { peer, incarnation: None, to: Destination::Name(name) })
            }
            Target::Pid(pid) => {
                let to = Destination::Process(ProcessId { id: pid.id, serial: pid.serial });
                if pid.node.as_str() != own.as_str() {
                    let peer = NodeName::new(pid.node.as_str())?;
                    Route::There(Recipient { peer, incarnation: Some(pid.creation), to })
                } else if pid.creation == node.incarnation().as_u32() {
                    Route::Here(to)
                } else {
                    Route::Here(NOBODY) // a process of an earlier life of this node
                }
            }
        })
    }
}
