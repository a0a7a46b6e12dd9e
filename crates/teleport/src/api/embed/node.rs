//! The host's side of the node: sending in the names of its processes.

use super::told::Told;
use super::{Destination, ProcessId, Recipient, RefId, RequestError};
use crate::api::builder::NodeBuilder;
use crate::api::check;
use crate::api::node::Node;
use crate::api::process::Acknowledgement;
use crate::base::allow::AllowList;
use crate::base::lock::must_not_wait;
use crate::engine::Engine;
use crate::host::{Host, Hosting, Origin};
use crate::local::watch::{Path, Purpose, Via, Waiter};
use crate::session::{Offered, Patience, Session};
use crate::{
    ConnectError, DeliveryError, Incarnation, NodeInfo, NodeMonitor, NodeName, PeerCheck, PeerInfo,
    SendError, SendOptions, ShutdownReport, StartError,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use teleport_etf::Segments;
use teleport_proto::transfer::Outgoing;
use teleport_proto::wire::envelope::Kind;
use tokio::sync::oneshot;

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

impl NodeBuilder {
    /// Starts the node in a host, which has processes of its own; see [`embed`](crate::embed).
    ///
    /// # Errors
    ///
    /// [`StartError`] as [`NodeBuilder::start`].
    pub async fn embed(self, host: Arc<dyn Host>) -> Result<Embedded, StartError> {
        let node = self.hosting(Hosting { host }).start().await?;
        Ok(Embedded { node })
    }
}

impl Embedded {
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

    /// What there is to know about the node and its peers. It takes each session's lock in turn.
    pub fn info(&self) -> NodeInfo {
        self.node.info()
    }

    /// The sessions, as what comes over them has them.
    pub fn peers(&self) -> Vec<Origin> {
        self.engine().peers.sessions().into_iter().map(|session| Origin(session)).collect()
    }

    /// What there is to know about one peer; `None` if there is no session with it.
    pub fn peer(&self, name: &NodeName) -> Option<PeerInfo> {
        let _hurry = must_not_wait();
        self.node.peer(name)
    }

    /// Sees sessions begin and end from now on.
    pub fn monitor_nodes(&self) -> NodeMonitor {
        self.node.monitor_nodes()
    }

    /// Begins to end the session with a peer; `false` if there is none. What is sent before the host is told may still be
    /// accepted by it, and is then unconfirmed.
    pub fn disconnect(&self, peer: &NodeName) -> bool {
        self.disconnect_if(peer, |_| true)
    }

    /// Ends the session if it is with the life of the peer that is meant: one that is known to have ended, say.
    pub fn disconnect_if(&self, peer: &NodeName, is_meant: impl FnOnce(Incarnation) -> bool) -> bool {
        let _hurry = must_not_wait();
        self.engine().disconnect_soon(peer, is_meant)
    }

    /// Ends that session, and no later one with the same peer. `told` is called on a thread of the node, once it has ended.
    pub fn end(&self, origin: &Origin, told: impl FnOnce() + Send + 'static) {
        let _hurry = must_not_wait();
        self.engine().end_soon(origin.peer(), origin.id(), told);
    }

    /// Finds out why there is a session with a peer, or why there is none; see [`Node::check`]. `told` is called on a thread of the
    /// node.
    ///
    /// # Errors
    ///
    /// [`SendError::NotRunning`] when the node has stopped. Then, and when it stops meanwhile, `told` is not called.
    pub fn check(
        &self,
        peer: NodeName,
        told: impl FnOnce(PeerCheck) + Send + 'static,
    ) -> Result<(), SendError> {
        self.begin(|engine| async move { told(check::check(&engine, &peer).await) })
    }

    /// Another list says what peers may reach; see [`Node::set_allow`].
    pub fn set_allow(&self, list: AllowList) {
        self.node.set_allow(list);
    }

    /// Another `net_ticktime` holds; see [`Node::set_net_ticktime`].
    pub fn set_net_ticktime(&self, ticktime: Duration) {
        self.node.set_net_ticktime(ticktime);
    }

    /// Sets up the session with a peer and its whole pool; see [`Node::prime`]. `told` is called on a thread of the node.
    ///
    /// # Errors
    ///
    /// [`SendError::NotRunning`] when the node has stopped. Then, and when it stops meanwhile, `told` is not called.
    pub fn prime(
        &self,
        peer: NodeName,
        told: impl FnOnce(Result<(), ConnectError>) + Send + 'static,
    ) -> Result<(), SendError> {
        self.begin(|engine| async move { told(engine.prime(&peer).await) })
    }

    /// The session with a peer, which is set up if there is none, for [`Origin::carry`](super::Origin::carry). `told` is
    /// called on a thread of the node. Who connects again and again has to pace that: a failed attempt holds up no later one.
    ///
    /// # Errors
    ///
    /// [`SendError::NotRunning`] when the node has stopped; then `told` is not called.
    pub fn connect(
        &self,
        peer: NodeName,
        told: impl FnOnce(Result<Origin, SendError>) + Send + 'static,
    ) -> Result<(), SendError> {
        self.begin(|engine| async move {
            let session = engine.session_in(&peer, true).await;
            told(session.map(|session| Origin(session)).map_err(SendError::from));
        })
    }

    /// Begins something that takes its time, on the node's threads.
    fn begin<F: Future<Output = ()> + Send + 'static>(
        &self,
        task: impl FnOnce(Arc<Engine>) -> F,
    ) -> Result<(), SendError> {
        let engine = self.engine().clone();
        if engine.is_stopped() {
            return Err(SendError::NotRunning);
        }
        let handle = engine.core.handle.clone();
        handle.spawn(task(engine));
        Ok(())
    }

    /// Reads nothing of what peers send any more, for when the host is about to end: what is not taken in is not acknowledged. What
    /// this node has sent still gets there, until it is [shut down](Self::shutdown).
    pub fn take_nothing_in(&self) {
        self.engine().core.take_nothing_in();
    }

    /// Stops the node; see [`Node::shutdown`].
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        self.node.shutdown(deadline).await
    }

    /// Sends a message to a peer, in the name of one of the host's processes.
    ///
    /// `accepted` is called, on a thread of the node, if and only if this returns [`Sent::Waiting`].
    ///
    /// # Errors
    ///
    /// [`SendError`] if the message is not accepted and does not wait. What becomes of one that waits, `accepted` is told.
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
            if session.is_stale(incarnation) {
                return Ok(Offered::Accepted); // vanishes, as its process has
            }
            session.send(options.outgoing(Kind::Data, from, to, body))
        };
        self.offer(peer, options, None, offer, accepted)
    }

    /// Sends, but waits neither for room nor for a session: without room the message has its place behind what waits, without
    /// a bound, and nobody is told when it is accepted. A [shutdown](Self::shutdown) sees it through, until its deadline. If the
    /// session ends first it is among the unconfirmed ones. Without a session it is not sent, but one is begun, unless the options
    /// forbid that: [`SendError::Busy`].
    ///
    /// # Errors
    ///
    /// [`SendError`] if the message is not accepted and does not wait.
    pub fn send_behind(
        &self,
        from: ProcessId,
        to: Recipient,
        body: Segments,
        options: SendOptions,
    ) -> Result<(), SendError> {
        let _hurry = must_not_wait();
        let Recipient { peer, incarnation, to } = to;
        let engine = self.engine();
        if engine.is_stopped() {
            return Err(SendError::NotRunning);
        }
        let session = match options.session_now(engine, &peer)? {
            Some(session) => session,
            None => engine.session_now(&peer)?,
        };
        if session.is_stale(incarnation) {
            return Ok(());
        }
        session.send_behind(options.outgoing(Kind::Data, from, to, body))
    }

    /// Like [`send`](Self::send), and `told` is called, on a thread of the node, once the message is
    /// in the mailbox, or there turns out to be no such process, or nothing can be known since the peer went
    /// down. Exactly once, if the message is accepted; never, if this or `accepted` says that it was not.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_acknowledged(
        &self,
        from: ProcessId,
        to: Recipient,
        body: Segments,
        options: SendOptions,
        accepted: impl FnOnce(Result<(), SendError>) + Send + 'static,
        told: impl FnOnce(Result<(), DeliveryError>) + Send + 'static,
    ) -> Result<Sent, SendError> {
        let Recipient { peer, incarnation, to } = to;
        let asked = peer.clone();
        let offer = move |session: &Arc<Session>| {
            if session.is_stale(incarnation) {
                return Ok((Offered::Accepted, Acknowledgement::now(Err(DeliveryError::NoProcess))));
            }
            let message = options.outgoing(Kind::Data, from, to, body);
            let (offered, answer) = session.send_acknowledged(message)?;
            Ok((offered, Acknowledgement::later(answer, session.peer.clone())))
        };
        let handle = self.engine().core.handle.clone();
        let then = move |answer| drop(handle.spawn(Told::new(told, asked).when_it_comes(answer)));
        self.offer_then(peer, options, None, offer, then, accepted)
    }

    /// Calls a process on a peer. `body` is a tuple of three, the second of which is `{Pid, [alias|Ref]}` with the caller's
    /// pid and the reference, which must be one of this life of the node that was not used before. Who can guess it can answer:
    /// so it is better [sealed](RefId::sealed), with a [secret](super::secret()), in `{Pid, [[alias|Ref], Secret]}`.
    ///
    /// The end comes as [`Inbound::Ended`](super::Inbound::Ended), unless this, or the completion, says that nothing was
    /// sent.
    ///
    /// # Errors
    ///
    /// [`RequestError`] if the request is not accepted and does not wait; `accepted` is told the rest.
    pub fn request(
        &self,
        from: ProcessId,
        to: Recipient,
        reference: RefId,
        body: Segments,
        options: SendOptions,
        accepted: impl FnOnce(Result<(), RequestError>) + Send + 'static,
    ) -> Result<Sent, RequestError> {
        let message = move |to| options.outgoing(Kind::Request(reference), from, to, body);
        self.watch(from, to, reference, Purpose::Call, options, message, accepted)
    }

    /// Watches a process on a peer. Its end comes as [`Inbound::Ended`](super::Inbound::Ended), unless this, or the
    /// completion, says that there is no such process or no connection.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request).
    pub fn monitor(
        &self,
        from: ProcessId,
        to: Recipient,
        reference: RefId,
        options: SendOptions,
        accepted: impl FnOnce(Result<(), RequestError>) + Send + 'static,
    ) -> Result<Sent, RequestError> {
        let message = move |to| options.outgoing(Kind::Monitor(reference), from, to, Segments::default());
        self.watch(from, to, reference, Purpose::Monitor, options, message, accepted)
    }

    /// Ends a call or monitor that was accepted: its end does not come any more, unless it is on its way to the host. `false`
    /// if it had ended already. One that is [waiting](Waiting) has to be taken back instead.
    pub fn cancel(&self, reference: RefId) -> bool {
        let _hurry = must_not_wait();
        self.engine().core.watches.watching.cancel(reference)
    }

    /// A late answer: one that came when the host had ended the call or monitor on its side.
    pub fn count_late(&self) {
        self.engine().core.watches.watching.count_late();
    }

    fn engine(&self) -> &Arc<Engine> {
        self.node.engine()
    }

    /// Begins a call or a monitor.
    #[allow(clippy::too_many_arguments, reason = "what a message and its watch are made of")]
    fn watch(
        &self,
        from: ProcessId,
        to: Recipient,
        reference: RefId,
        purpose: Purpose,
        options: SendOptions,
        message: impl FnOnce(Destination) -> Outgoing + Send + 'static,
        accepted: impl FnOnce(Result<(), RequestError>) + Send + 'static,
    ) -> Result<Sent, RequestError> {
        let Recipient { peer, incarnation, to } = to;
        let engine = Arc::downgrade(self.engine());
        let offer = move |session: &Arc<Session>| {
            if session.is_stale(incarnation) {
                return Err(RequestError::NoProcess);
            }
            let engine = engine.upgrade().ok_or(SendError::NotRunning)?;
            let path = Path { via: Via::There(session.clone()), from, to: to.clone() };
            engine.core.watches.watching.begin(reference, path, Waiter::Host(purpose));
            let offered = session.send(message(to));
            Ok(offered.inspect_err(|_| engine.core.watches.watching.withdraw(reference))?)
        };
        self.offer(peer, options, Some(reference), offer, accepted)
    }

    /// Offers something to the session with a peer, at once if there is one and it has room.
    fn offer<E: From<SendError> + Send + 'static>(
        &self,
        peer: NodeName,
        options: SendOptions,
        watch: Option<RefId>,
        offer: impl FnOnce(&Arc<Session>) -> Result<Offered, E> + Send + 'static,
        accepted: impl FnOnce(Result<(), E>) + Send + 'static,
    ) -> Result<Sent, E> {
        let offer = |session: &Arc<Session>| Ok((offer(session)?, ()));
        self.offer_then(peer, options, watch, offer, drop, accepted)
    }

    /// Like `offer`, and hands on what comes of the offer once it is accepted.
    fn offer_then<T: Send + 'static, E: From<SendError> + Send + 'static>(
        &self,
        peer: NodeName,
        options: SendOptions,
        watch: Option<RefId>,
        offer: impl FnOnce(&Arc<Session>) -> Result<(Offered, T), E> + Send + 'static,
        then: impl FnOnce(T) + Send + 'static,
        accepted: impl FnOnce(Result<(), E>) + Send + 'static,
    ) -> Result<Sent, E> {
        let _hurry = must_not_wait();
        let engine = self.engine();
        if engine.is_stopped() {
            return Err(SendError::NotRunning.into());
        }
        let patience = options.patience(&engine.core.timers);
        let Some(session) = options.session_now(engine, &peer)? else {
            let dialling = engine.clone();
            let waiting = async move {
                let dialled = async { Ok::<_, SendError>(dialling.session(&peer).await?) };
                let (offered, outcome) = offer(&patience.within(dialled).await?)?;
                when_accepted(offered, outcome, patience).await
            };
            return Ok(Sent::Waiting(wait(engine, watch, waiting, then, accepted)));
        };
        match offer(&session)? {
            (Offered::Accepted, outcome) => {
                then(outcome);
                Ok(Sent::Accepted)
            }
            (waiting, outcome) => Ok(Sent::Waiting(wait(
                engine,
                watch,
                when_accepted(waiting, outcome, patience),
                then,
                accepted,
            ))),
        }
    }
}

async fn when_accepted<T, E: From<SendError>>(
    offered: Offered,
    outcome: T,
    patience: Patience,
) -> Result<T, E> {
    if let Offered::Waiting(pending) = offered {
        pending.accepted(&patience).await?;
    }
    Ok(outcome)
}

/// Waits on a thread of the node, until it is accepted or taken back.
fn wait<T: Send + 'static, E: Send + 'static>(
    engine: &Arc<Engine>,
    watch: Option<RefId>,
    waiting: impl Future<Output = Result<T, E>> + Send + 'static,
    then: impl FnOnce(T) + Send + 'static,
    accepted: impl FnOnce(Result<(), E>) + Send + 'static,
) -> Waiting {
    let (cancel, mut cancelled) = oneshot::channel();
    let engine_then = engine.clone();
    engine.core.handle.spawn(async move {
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
            // It may have been accepted just before it was taken back, and then the peer has to hear of that.
            (Some(watch), None) => drop(engine.core.watches.watching.cancel(watch)),
            (Some(watch), Some(Ok(_))) if taken_back => drop(engine.core.watches.watching.cancel(watch)),
            (Some(watch), Some(Err(_))) => engine.core.watches.watching.withdraw(watch),
            _ => {}
        }
        match result.filter(|_| !taken_back) {
            Some(Ok(outcome)) => {
                accepted(Ok(()));
                then(outcome);
            }
            Some(Err(error)) => accepted(Err(error)),
            None => {}
        }
    });
    Waiting(cancel)
}
