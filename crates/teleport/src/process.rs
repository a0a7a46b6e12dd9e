//! Sending, as a process.

use crate::SendError;
use crate::address::{Address, Target};
use crate::node::Node;
use crate::session::{Answer, Offered, Session};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use teleport_etf::{Pid, Segments};
use teleport_proto::NodeName;
use teleport_proto::transfer::Outgoing;
use teleport_proto::wire::envelope::{Destination, ProcessId};

/// How a message is sent. The default is Erlang's `!`: in order, and waiting while the way is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendOptions {
    unordered: bool,
    nosuspend: bool,
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
}

/// The sender of one process's messages. Cheap to clone; messages sent through clones count as one process's.
#[derive(Clone)]
pub struct Process {
    node: Node,
    id: ProcessId,
}

/// What becomes of an acknowledged message.
#[derive(Debug)]
#[must_use = "an acknowledgement says nothing until it is awaited"]
pub struct Acknowledgement(Ack);

#[derive(Debug)]
enum Ack {
    Now(Result<(), SendError>),
    Later(Answer, NodeName),
}

impl Acknowledgement {
    /// Waits until the message is in the mailbox: `Ok`; or it is known that there is no such process, or nothing can
    /// be known because the peer went down.
    pub async fn delivered(self) -> Result<(), SendError> {
        match self.0 {
            Ack::Now(result) => result,
            Ack::Later(answer, peer) => answer.await.unwrap_or_else(|_| {
                let reason = teleport_proto::membership::EndReason::Disconnected;
                Err(SendError::Unconfirmed { peer, reason })
            }),
        }
    }
}

/// Where an address leads.
enum Route {
    Here(Destination),
    There(NodeName, Destination, Option<u32>),
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
    /// window on the way is full, and for the session at the first send. Dropping the future before it is ready sends
    /// nothing.
    ///
    /// A message for a process that does not exist vanishes, as in Erlang;
    /// [`send_acknowledged`](Self::send_acknowledged) tells.
    pub async fn send<M: Serialize + ?Sized>(
        &self,
        to: impl Into<Address>,
        message: &M,
    ) -> Result<(), SendError> {
        self.send_with(to, message, SendOptions::default()).await
    }

    /// Sends a message with options.
    pub async fn send_with<M: Serialize + ?Sized>(
        &self,
        to: impl Into<Address>,
        message: &M,
        options: SendOptions,
    ) -> Result<(), SendError> {
        self.send_encoded(to, teleport_etf::to_segments(message)?, options).await
    }

    /// Sends a term that is encoded already, such as the [`body`](crate::Message::body) of a message passed on.
    pub async fn send_encoded(
        &self,
        to: impl Into<Address>,
        body: Segments,
        options: SendOptions,
    ) -> Result<(), SendError> {
        match self.route(to.into())? {
            Route::Here(to) => self.send_here(to, body, options).await.or_else(ignore_no_process),
            Route::There(peer, to, incarnation) => {
                let session = self.session(&peer, options).await?;
                if is_stale(&session, incarnation) {
                    return Ok(());
                }
                match session.send(self.outgoing(to, body, options))? {
                    Offered::Accepted => Ok(()),
                    Offered::Waiting(pending) => pending.accepted().await,
                }
            }
        }
    }

    /// Sends a message, and asks what becomes of it. Returns when it is accepted; the answer comes by itself.
    pub async fn send_acknowledged<M: Serialize + ?Sized>(
        &self,
        to: impl Into<Address>,
        message: &M,
        options: SendOptions,
    ) -> Result<Acknowledgement, SendError> {
        let body = teleport_etf::to_segments(message)?;
        match self.route(to.into())? {
            Route::Here(to) => match self.send_here(to, body, options).await {
                Err(error) if !matches!(error, SendError::NoProcess) => Err(error),
                result => Ok(Acknowledgement(Ack::Now(result))),
            },
            Route::There(peer, to, incarnation) => {
                let session = self.session(&peer, options).await?;
                if is_stale(&session, incarnation) {
                    return Ok(Acknowledgement(Ack::Now(Err(SendError::NoProcess))));
                }
                let (offered, answer) = session.send_acknowledged(self.outgoing(to, body, options))?;
                if let Offered::Waiting(pending) = offered {
                    pending.accepted().await?;
                }
                Ok(Acknowledgement(Ack::Later(answer, peer)))
            }
        }
    }

    fn route(&self, to: Address) -> Result<Route, SendError> {
        let own = self.node.name();
        Ok(match to.0 {
            Target::Local(name) => Route::Here(Destination::Name(name)),
            Target::Remote(name, node) => match node? {
                node if node == *own => Route::Here(Destination::Name(name)),
                node => Route::There(node, Destination::Name(name), None),
            },
            Target::Pid(pid) => {
                let to = Destination::Process(ProcessId { id: pid.id, serial: pid.serial });
                if pid.node.as_str() != own.as_str() {
                    Route::There(NodeName::new(pid.node.as_str())?, to, Some(pid.creation))
                } else if pid.creation == self.node.incarnation().as_u32() {
                    Route::Here(to)
                } else {
                    // A process of an earlier life of this node: id 0 is never given out.
                    Route::Here(Destination::Process(ProcessId { id: 0, serial: 0 }))
                }
            }
        })
    }

    async fn session(&self, peer: &NodeName, options: SendOptions) -> Result<Arc<Session>, SendError> {
        let engine = self.node.engine();
        if engine.is_stopped() {
            return Err(SendError::NotRunning);
        }
        if options.nosuspend { engine.session_now(peer) } else { engine.session(peer).await }
    }

    fn outgoing(&self, to: Destination, body: Segments, options: SendOptions) -> Outgoing {
        let mut message = Outgoing::new(self.id, to, body);
        (message.unordered, message.nosuspend) = (options.unordered, options.nosuspend);
        message
    }

    async fn send_here(
        &self,
        to: Destination,
        body: Segments,
        options: SendOptions,
    ) -> Result<(), SendError> {
        let engine = self.node.engine();
        let (size, limit) = (body.len() as u64, engine.config.max_message.get());
        if size > limit {
            return Err(SendError::TooLarge { size, limit });
        }
        if engine.is_stopped() {
            return Err(SendError::NotRunning);
        }
        let inbox = engine.registry.find(&to).ok_or(SendError::NoProcess)?;
        let put = inbox.put_local(self.pid(), body.into_contiguous(), !options.nosuspend).await?;
        put.ok_or(SendError::NoProcess)
    }
}

/// A message without a taker vanishes, as in Erlang.
fn ignore_no_process(error: SendError) -> Result<(), SendError> {
    if matches!(error, SendError::NoProcess) { Ok(()) } else { Err(error) }
}

/// A pid of an earlier incarnation: its process is gone.
fn is_stale(session: &Session, incarnation: Option<u32>) -> bool {
    incarnation.is_some_and(|creation| creation != session.peer_incarnation().as_u32())
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Process").field(&self.pid()).finish()
    }
}
