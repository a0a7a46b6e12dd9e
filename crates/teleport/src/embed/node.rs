//! The host's side of the node: sending in the names of its processes.

use super::{Destination, ProcessId, RefId};
use crate::engine::Engine;
use crate::node::Node;
use crate::process::is_stale;
use crate::session::{Offered, Session};
use crate::watch::Via;
use crate::{Incarnation, NodeInfo, NodeMonitor, NodeName, SendError, SendOptions, ShutdownReport};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use teleport_etf::Segments;
use teleport_proto::transfer::Outgoing;
use teleport_proto::wire::envelope::Kind;
use tokio::sync::oneshot;

/// A process or name on a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The peer.
    pub peer: NodeName,
    /// For a pid, the life of the peer that it belongs to: in another one there is no such process.
    pub incarnation: Option<u32>,
    /// The process or name.
    pub to: Destination,
}

/// What became of something that was to be sent.
#[derive(Debug)]
pub enum Sent {
    /// The session with the peer answers for it now.
    Accepted,
    /// There is no session yet, or no room on the way: the completion that was given will be called. What the same process
    /// sends to the same destination meanwhile may overtake.
    Waiting(Waiting),
}

/// Something that waits to be accepted.
#[derive(Debug)]
pub struct Waiting(oneshot::Sender<()>);

impl Waiting {
    /// Takes it back: nothing is sent, and the completion is not called. `false` if it was accepted, or refused, already.
    ///
    /// Dropping this instead lets it wait.
    pub fn cancel(self) -> bool {
        self.0.send(()).is_ok()
    }
}

/// A node in a host. Cheap to clone; see [`Node`] for when it stops.
#[derive(Debug, Clone)]
pub struct Embedded {
    node: Node,
}

impl Embedded {
    pub(crate) fn new(node: Node) -> Self {
        Self { node }
    }

    /// The node's name.
    pub fn name(&self) -> &NodeName {
        self.node.name()
    }

    /// The node's present life.
    pub fn incarnation(&self) -> Incarnation {
        self.node.incarnation()
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.node.address()
    }

    /// What there is to know about the node and its peers.
    pub fn info(&self) -> NodeInfo {
        self.node.info()
    }

    /// Sees sessions begin and end from now on.
    pub fn monitor_nodes(&self) -> NodeMonitor {
        self.node.monitor_nodes()
    }

    /// Begins to end the session with a peer; `false` if there is none. What is sent before the host is told may still be
    /// accepted by it, and is then unconfirmed.
    pub fn disconnect(&self, peer: &NodeName) -> bool {
        self.engine().disconnect_soon(peer)
    }

    /// Sets up the session with a peer and its whole pool; see [`Node::prime`].
    pub async fn prime(&self, peer: &NodeName) -> Result<(), SendError> {
        self.node.prime(peer).await
    }

    /// Stops the node; see [`Node::shutdown`].
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        self.node.shutdown(deadline).await
    }

    /// Sends a message to a peer, in the name of one of the host's processes.
    ///
    /// `accepted` is called, on a thread of the node, if and only if this returns [`Sent::Waiting`].
    pub fn send(
        &self,
        from: ProcessId,
        to: Recipient,
        body: Segments,
        options: SendOptions,
        accepted: impl FnOnce(Result<(), SendError>) + Send + 'static,
    ) -> Result<Sent, SendError> {
        let Recipient { peer, incarnation, to } = to;
        let offer = move |session: &Arc<Session>| {
            if is_stale(session, incarnation) {
                return Ok(Offered::Accepted); // vanishes, as its process has
            }
            session.send(options.outgoing(from, to, body))
        };
        self.offer(peer, options, None, offer, accepted)
    }

    /// Calls a process on a peer. `body` is a tuple of three, the second of which is `{Pid, [alias|Ref]}` with the caller's
    /// pid and the reference, which must be one of this life of the node that was not used before.
    ///
    /// The end comes as [`Inbound::Ended`](super::Inbound::Ended), unless this, or the completion, says that nothing was
    /// sent.
    pub fn request(
        &self,
        from: ProcessId,
        to: Recipient,
        reference: RefId,
        body: Segments,
        options: SendOptions,
        accepted: impl FnOnce(Result<(), SendError>) + Send + 'static,
    ) -> Result<Sent, SendError> {
        let Recipient { peer, incarnation, to } = to;
        let engine = Arc::downgrade(self.engine());
        let offer = move |session: &Arc<Session>| {
            if is_stale(session, incarnation) {
                return Err(SendError::NoProcess);
            }
            let mut message = options.outgoing(from, to.clone(), body);
            message.kind = Kind::Request(reference);
            let engine = engine.upgrade().ok_or(SendError::NotRunning)?;
            engine.watch_for_host(reference, session, from, to, true);
            session.send(message).inspect_err(|_| engine.watching.withdraw(reference))
        };
        self.offer(peer, options, Some(reference), offer, accepted)
    }

    /// Watches a process on a peer. Its end comes as [`Inbound::Ended`](super::Inbound::Ended), unless this, or the
    /// completion, says that there is no such process or no connection.
    pub fn monitor(
        &self,
        from: ProcessId,
        to: Recipient,
        reference: RefId,
        accepted: impl FnOnce(Result<(), SendError>) + Send + 'static,
    ) -> Result<Sent, SendError> {
        let Recipient { peer, incarnation, to } = to;
        let engine = Arc::downgrade(self.engine());
        let offer = move |session: &Arc<Session>| {
            if is_stale(session, incarnation) {
                return Err(SendError::NoProcess);
            }
            let engine = engine.upgrade().ok_or(SendError::NotRunning)?;
            engine.watch_for_host(reference, session, from, to.clone(), false);
            let message = Outgoing::of_kind(Kind::Monitor(reference), from, to, Segments::default());
            session.send(message).inspect_err(|_| engine.watching.withdraw(reference))
        };
        self.offer(peer, SendOptions::default(), Some(reference), offer, accepted)
    }

    /// Ends a call or monitor that was accepted: its end does not come any more, unless it is on its way to the host. `false`
    /// if it had ended already. One that is [waiting](Waiting) has to be taken back instead.
    pub fn cancel(&self, reference: RefId) -> bool {
        self.engine().watching.cancel(reference)
    }

    /// A late answer: one that came when the host had ended the call or monitor on its side.
    pub fn count_late(&self) {
        self.engine().watching.count_late();
    }

    fn engine(&self) -> &Arc<Engine> {
        self.node.engine()
    }

    /// Offers something to the session with a peer, at once if there is one and it has room.
    fn offer(
        &self,
        peer: NodeName,
        options: SendOptions,
        watch: Option<RefId>,
        offer: impl FnOnce(&Arc<Session>) -> Result<Offered, SendError> + Send + 'static,
        accepted: impl FnOnce(Result<(), SendError>) + Send + 'static,
    ) -> Result<Sent, SendError> {
        let engine = self.engine();
        if engine.is_stopped() {
            return Err(SendError::NotRunning);
        }
        let session = match options.is_nosuspend() {
            true => Some(engine.session_now(&peer)?),
            false => engine.session_if_up(&peer),
        };
        let Some(session) = session else {
            let dialling = engine.clone();
            let waiting = async move {
                match offer(&dialling.session(&peer).await?)? {
                    Offered::Accepted => Ok(()),
                    Offered::Waiting(pending) => pending.accepted().await,
                }
            };
            return Ok(Sent::Waiting(wait(engine, watch, waiting, accepted)));
        };
        match offer(&session)? {
            Offered::Accepted => Ok(Sent::Accepted),
            Offered::Waiting(pending) => Ok(Sent::Waiting(wait(engine, watch, pending.accepted(), accepted))),
        }
    }
}

/// Waits on a thread of the node, until it is accepted or taken back.
fn wait(
    engine: &Arc<Engine>,
    watch: Option<RefId>,
    waiting: impl Future<Output = Result<(), SendError>> + Send + 'static,
    accepted: impl FnOnce(Result<(), SendError>) + Send + 'static,
) -> Waiting {
    let (cancel, mut cancelled) = oneshot::channel();
    let engine_then = engine.clone();
    engine.handle.spawn(async move {
        let engine = engine_then;
        // The waiting message is dropped, and so taken back, before its watch is.
        let result = tokio::select! {
            biased;
            Ok(()) = &mut cancelled => None,
            result = waiting => Some(result),
        };
        cancelled.close();
        let taken_back = result.is_none() || cancelled.try_recv().is_ok();
        match (watch, &result) {
            (Some(watch), Some(Ok(()))) if taken_back => drop(engine.watching.cancel(watch)),
            (Some(watch), None | Some(Err(_))) => engine.watching.withdraw(watch),
            _ => {}
        }
        if let Some(result) = result.filter(|_| !taken_back) {
            accepted(result);
        }
    });
    Waiting(cancel)
}

impl Engine {
    /// A call or monitor of one of the host's processes: the host is told of its end.
    fn watch_for_host(
        &self,
        reference: RefId,
        session: &Arc<Session>,
        from: ProcessId,
        to: Destination,
        is_call: bool,
    ) {
        if let Some(hosting) = &self.hosting {
            let via = Via::There(session.clone());
            self.watching.for_host(reference, via, from, to, is_call, hosting.host.clone());
        }
    }
}
