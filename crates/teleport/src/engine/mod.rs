//! The engine of a node: sockets, threads and buffers around the state machines of `teleport_proto`.
//!
//! Two locks matter most: that of the [`Directory`](directory::Directory), which decides on sessions and is asked when
//! connections come and go, and that of each [`Session`]'s machine, which messages pass. The control thread takes
//! neither, and a sender only the second. Their order, and that of those below them, is in [`lock`](crate::base::lock).

pub(crate) mod accept;
pub(crate) mod control;
mod dial;
mod directory;
mod handshake;
mod lifecycle;
pub(crate) mod monitors;
mod peers;
mod reached;
pub(crate) mod strays;

use crate::base::allow::AllowList;
use crate::base::config;
use crate::base::cookies::KnownCookies;
use crate::base::lock::{Lock, Rank};
use crate::base::recorder;
use crate::base::resolver::Resolver;
use crate::base::seldom::{OfNode, OfPeer, say_seldom, warn_seldom};
use crate::engine::monitors::Monitors;
use crate::host::Hosting;
use crate::io::places::{Place, Places};
use crate::io::runtime::{BulkThreads, Thread};
use crate::io::stream::Stream;
use crate::io::tls::Tls;
use crate::io::{socket, source::Source};
use crate::local::Peer;
use crate::session::{Command, Core, Session, SessionEvent};
use crate::{Config, ConnectError, PeerInfo, SendError, TlsError};
use accept::{Listening, Unproven};
use control::TickObserver;
use dial::{DialFor, Failed, Opened};
use directory::Directory;
use handshake::Failure;
pub(crate) use handshake::random;
pub(crate) use lifecycle::Lifecycle;
use peers::Peers;
use reached::Reached;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use strays::Strays;
use teleport_proto::handshake::{
    Authenticated, ConnectionKind, Cookie, FEATURE_TLS, LocalNode, Opening, Refusal, SessionKey,
};
use teleport_proto::liveness;
use teleport_proto::membership::{Begun, EndReason};
use teleport_proto::wire::pool::Class;
use teleport_proto::{ConnectionId, Incarnation, NodeName, SessionId};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};

/// Goes with what is said of peers that cannot be reached.
const ADVICE: &str = "Node::check says at which step it fails";

/// Failures in a row to open a pool connection before there is a warning.
const JOINS_TO_WARN_AFTER: u32 = 5;

pub(crate) struct Engine {
    pub(crate) core: Arc<Core>,
    pub(crate) address: SocketAddr,
    bulk: BulkThreads,
    pub(crate) monitors: Monitors,
    pub(crate) strays: Strays,
    resolver: Arc<dyn Resolver>,
    pub(crate) cookies: KnownCookies,
    pub(crate) tls: Option<Arc<Tls>>,
    reached: Reached,
    /// In milliseconds.
    net_ticktime: AtomicU64,
    observer: Option<TickObserver>,
    control: Thread,
    pub(crate) peers: Peers,
    directory: Lock<Directory>,
    lifecycle: Lifecycle,
    /// The directory has a new deadline.
    deadline_changed: Notify,
    /// A session is wanted.
    wanted: Notify,
    unproven: Unproven,
    /// For pool connections that peers open.
    places: Arc<Places>,
    stopped: AtomicBool,
    ended: AtomicBool,
    /// The sessions that there were when the node began to end: who asks for a shutdown later is told of them, too.
    last: Lock<Vec<Arc<Session>>>,
    tasks: Lock<Vec<AbortHandle>>,
    /// Its sender goes with the listener.
    listening: watch::Receiver<()>,
}

/// What an engine is made of.
pub(crate) struct Parts {
    pub(crate) local: LocalNode,
    pub(crate) config: Config,
    pub(crate) handle: Handle,
    pub(crate) bulk: BulkThreads,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) cookies: KnownCookies,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) observer: Option<TickObserver>,
    pub(crate) control: Thread,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) hosting: Option<Arc<Hosting>>,
}

impl Engine {
    /// Starts accepting and dialling.
    pub(crate) fn start(
        parts: Parts,
        allow: Option<AllowList>,
        listener: TcpListener,
        address: SocketAddr,
    ) -> Arc<Self> {
        let Parts {
            local,
            config,
            handle,
            bulk,
            resolver,
            cookies,
            tls,
            observer,
            control,
            lifecycle,
            hosting,
        } = parts;
        recorder::describe();
        let (core, told) = Core::new(local, config, handle, bulk.timers(), hosting);
        if let Some(list) = allow {
            core.allowed.set(list);
        }
        let config = &core.config;
        let (_closed, listening) = watch::channel(());
        let engine = Arc::new(Self {
            directory: Lock::new(Rank::Directory, Directory::new(core.local.name.clone(), config)),
            unproven: Unproven::new(config.max_handshakes.min(accept::descriptors() / 4)),
            places: Places::new(accept::descriptors() / 2),
            net_ticktime: AtomicU64::new(millis(config.net_ticktime)),
            core,
            monitors: Monitors::default(),
            strays: Strays::default(),
            peers: Peers::default(),
            deadline_changed: Notify::new(),
            wanted: Notify::new(),
            stopped: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            last: Lock::leaf(Vec::new()),
            reached: Reached::default(),
            tasks: Lock::default(),
            listening,
            address,
            bulk,
            resolver,
            cookies,
            tls,
            observer,
            control,
            lifecycle,
        });
        let listener = Listening { listener, _closed };
        let accepting = engine.core.handle.spawn(accept::accept_loop(engine.clone(), listener));
        let directing = engine.core.handle.spawn(directory::run(engine.clone(), told));
        let trimming =
            engine.core.handle.spawn(engine.core.buffers.clone().keep_trimmed(engine.core.config.bulk_idle));
        let guarding = engine.core.handle.spawn(last_as_long(StopsEngine(Arc::downgrade(&engine))));
        let tasks = [accepting, directing, trimming, guarding];
        *engine.tasks.lock() = tasks.iter().map(JoinHandle::abort_handle).collect();
        engine
    }

    /// The session with a peer; sets one up if there is none.
    pub(crate) async fn session(self: &Arc<Self>, peer: &NodeName) -> Result<Arc<Session>, ConnectError> {
        self.session_in(peer, false).await
    }

    /// The same for somebody who paces attempts: if the last one failed, the next one begins `at_once`.
    pub(crate) async fn session_in(
        self: &Arc<Self>,
        peer: &NodeName,
        at_once: bool,
    ) -> Result<Arc<Session>, ConnectError> {
        if let Some(session) = self.peers.session(peer) {
            return Ok(session);
        }
        if *peer == self.core.local.name {
            return Err(ConnectError::OwnName(peer.clone()));
        }
        let waiting = match self.peers.wait_for(peer) {
            Ok(session) => return Ok(session),
            Err(waiting) => waiting,
        };
        // Behind the entry: what ends before it could be seen is seen here.
        self.want(peer, at_once)?;
        waiting.await.unwrap_or(Err(ConnectError::NotRunning))
    }

    /// Sets up the session with a peer and its whole pool.
    pub(crate) async fn prime(self: &Arc<Self>, peer: &NodeName) -> Result<(), ConnectError> {
        let (session, limit) = (self.session(peer).await?, self.core.config.setup_timeout);
        self.core.timers.timeout(limit, session.prime()).await.unwrap_or_else(|_| {
            let open = self.peer_info(&session).transfer;
            let open = open.express_connections + open.bulk_connections;
            Err(ConnectError::Incomplete { peer: peer.clone(), limit, open })
        })
    }

    /// The session with a peer, if there is one; begins to set one up if not.
    pub(crate) fn session_now(self: &Arc<Self>, peer: &NodeName) -> Result<Arc<Session>, SendError> {
        if let Some(session) = self.peers.session(peer) {
            return Ok(session);
        }
        self.want(peer, false)?;
        Err(SendError::Busy)
    }

    /// Where a peer is, as far as the resolver knows.
    pub(crate) async fn addresses(&self, peer: &NodeName) -> Vec<SocketAddr> {
        let limit = self.core.config.setup_timeout;
        tokio::time::timeout(limit, self.resolver.resolve(peer)).await.unwrap_or_default()
    }

    /// What there is to know about a session.
    pub(crate) fn peer_info(&self, session: &Session) -> PeerInfo {
        let (ticks, tick_round_trip) = *session.ticks.lock();
        PeerInfo {
            name: session.peer.clone(),
            incarnation: session.peer_incarnation,
            dialled: session.dialled,
            control_connected: session.is_control_connected(),
            encrypted: session.is_encrypted(),
            last_heard: self.core.clock.now().saturating_sub(session.last_heard()),
            tick_round_trip,
            ticks_missed: ticks.missed,
            control_lost: session.meter.control_lost.so_far(),
            connections_stalled: session.meter.connections_stalled.so_far(),
            watched: session.watched().len(),
            watches_refused: session.meter.watches_refused.so_far(),
            not_allowed: session.not_allowed(),
            carried: session.carried.so_far(),
            transfer: session.stats(),
        }
    }

    /// How long a peer may be silent: Erlang's `net_ticktime`.
    pub(crate) fn net_ticktime(&self) -> Duration {
        Duration::from_millis(self.net_ticktime.load(Ordering::Relaxed))
    }

    /// The intervals that hold now.
    fn liveness(&self) -> liveness::Config {
        self.core.config.liveness(self.net_ticktime())
    }

    /// Another one holds, in all sessions.
    pub(crate) fn set_net_ticktime(&self, ticktime: Duration) {
        let ticktime = ticktime.clamp(config::LEAST_TICKTIME, config::LONGEST_TICKTIME);
        // A session that begins meanwhile has the one or the other, and is told of the new one.
        let directory = self.directory.lock();
        self.net_ticktime.store(millis(ticktime), Ordering::Relaxed);
        let intervals = self.liveness();
        for session in directory.sessions().into_iter().filter_map(|id| directory.session(id)) {
            session.command(Command::Intervals(intervals));
        }
    }

    /// Ends the session with a peer, as seen from this side.
    pub(crate) fn disconnect(self: &Arc<Self>, peer: &NodeName) -> bool {
        let Some(session) = self.peers.session(peer) else { return false };
        // At once: what is sent after this must not be accepted by what has ended.
        self.end_session(session.id);
        true
    }

    /// Ends the session on a thread of the node, if it is with the life of the peer that is meant.
    pub(crate) fn disconnect_soon(
        self: &Arc<Self>,
        peer: &NodeName,
        is_meant: impl FnOnce(Incarnation) -> bool,
    ) -> bool {
        let session = self.peers.session(peer).filter(|session| is_meant(session.peer_incarnation));
        let Some(id) = session.map(|session| session.id) else { return false };
        let engine = self.clone();
        self.core.handle.spawn(async move { engine.end_session(id) });
        true
    }

    /// Ends the session of that number with a peer on a thread of the node, and tells when that is done.
    pub(crate) fn end_soon(
        self: &Arc<Self>,
        peer: &NodeName,
        number: u64,
        told: impl FnOnce() + Send + 'static,
    ) {
        let session = self.peers.session(peer).filter(|session| session.number() == number);
        let (engine, id) = (self.clone(), session.map(|session| session.id));
        self.core.handle.spawn(async move {
            if let Some(id) = id {
                engine.end_session(id);
            }
            told();
        });
    }

    fn end_session(self: &Arc<Self>, id: SessionId) {
        let mut directory = self.directory.lock();
        let actions = directory.membership.end(id, EndReason::Disconnected);
        directory.apply(self, actions, None);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// No more sessions are begun, and nothing new is accepted for sending.
    pub(crate) fn close_doors(&self) {
        self.stopped.store(true, Ordering::Release);
        self.directory.lock().membership.shut_down();
        self.peers.fail_all().tell(&Err(ConnectError::NotRunning));
        self.note_last(self.peers.sessions());
    }

    fn note_last(&self, sessions: impl IntoIterator<Item = Arc<Session>>) {
        let mut last = self.last.lock();
        for session in sessions {
            if !last.iter().any(|other| Arc::ptr_eq(other, &session)) {
                last.push(session);
            }
        }
    }

    /// Ends everything, once. The result says when all who wait for something have been told; that of another call says nothing.
    pub(crate) fn stop(self: &Arc<Self>) -> oneshot::Receiver<()> {
        if self.ended.swap(true, Ordering::AcqRel) {
            return oneshot::channel().1; // the last handle may be dropped by a thread that must not wait
        }
        self.close_doors();
        {
            let mut directory = self.directory.lock();
            for session in directory.sessions() {
                self.note_last(directory.session(session));
                let actions = directory.membership.end(session, EndReason::Disconnected);
                directory.apply(self, actions, None);
            }
        }
        self.tasks.lock().drain(..).for_each(|task| task.abort());
        self.core.buffers.close();
        self.lifecycle.stopped(self)
    }

    /// All sessions that there were when the [doors were closed](Self::close_doors), or later.
    pub(crate) fn last_sessions(&self) -> Vec<Arc<Session>> {
        self.last.lock().clone()
    }

    /// Waits until nothing listens at the node's address any more: for its threads to get to it, behind [`stop`](Self::stop).
    pub(crate) async fn unlistened(&self) {
        while self.listening.clone().changed().await.is_ok() {}
    }

    /// Opens a pool connection for a session. After a failure it waits for the back-off.
    async fn join(self: Arc<Self>, session: Arc<Session>, connection: ConnectionId, class: Class) {
        let (key, id) = (session.key.clone(), session.id);
        let opening = match class {
            Class::Express => Opening::Express { session: id, key, connection },
            Class::Bulk => Opening::Bulk { session: id, key, connection },
        };
        if !self.paused(&session, session.join_failures()).await {
            return;
        }
        match dial::open(&self, &session.peer, DialFor::Join(opening)).await {
            Ok(Opened { stream, .. }) => {
                self.directory.lock().is_there(id);
                session.joined(true);
                self.attach(&session, connection, class, (stream, None));
            }
            Err(Failed { error, refused }) => {
                if !refused {
                    self.directory.lock().is_there(id);
                }
                self.note_failed_join(&session, &error);
                session.joined(false);
                session.join_failed(connection);
            }
        }
    }

    /// Waits before another connection of a session is opened, after so many in a row that were of no use. `false` if the session has
    /// ended meanwhile.
    async fn paused(&self, session: &Session, failures: u32) -> bool {
        let Some(before) = failures.checked_sub(1) else { return true };
        let backoff = &self.core.config.backoff;
        let pause = backoff.first.saturating_mul(2u32.pow(before.min(6)));
        tokio::time::sleep(pause.min(backoff.most)).await;
        session.ended().is_none()
    }

    /// An inbound connection that has proved itself.
    async fn inbound(
        self: &Arc<Self>,
        stream: Stream,
        authenticated: Authenticated,
        asked: Begun,
        source: Source,
    ) {
        let request = authenticated.request().clone();
        let (verdict, session, place) = {
            let mut directory = self.directory.lock();
            let mut decision = directory.inbound(self, &request, source, asked);
            let mut place = None;
            if matches!(request.kind, ConnectionKind::Express | ConnectionKind::Bulk)
                && let Some(session) = directory.session(request.session).filter(|_| decision.verdict.is_ok())
            {
                place = self.places.take(source, &session.joined_by_peer);
                if place.is_none() {
                    decision.verdict = Err(Refusal::TooManyConnections);
                }
            }
            match decision.verdict {
                Ok(last_dial) => {
                    let (verdict, established) = authenticated.accept(last_dial);
                    directory.apply(self, decision.actions, Some((&established, source)));
                    directory.is_there(established.session);
                    if request.kind == ConnectionKind::NewSession {
                        directory.limit.begun(established.session, source);
                    }
                    (verdict, directory.session(established.session), place)
                }
                Err(refusal) => {
                    let (node, peer, kind) = (&self.core.local.name, &request.peer, request.kind);
                    if refusal == Refusal::TooManySessions {
                        self.core.meter.sessions_refused.count();
                        let noted = self.core.warnings.of_node(OfNode::TooManySessions);
                        let from = source.address();
                        warn_seldom!(
                            noted, %node, %peer, %from,
                            "session refused: others have opened max_sessions, or one address a sixteenth of that; \
                             raise it if these are nodes of yours"
                        );
                    } else {
                        let noted = self.core.warnings.of_peer(peer, OfPeer::Refused);
                        say_seldom!(info or debug, noted, %node, %peer, ?kind, %refusal, "inbound connection refused");
                    }
                    directory.apply(self, decision.actions, None);
                    (authenticated.refuse(refusal), None, None)
                }
            }
        };
        self.deadline_changed.notify_one();
        let written = stream.write_all(&verdict).await.is_ok();
        let Some(session) = session else { return };
        let class = match request.kind {
            ConnectionKind::Express => Class::Express,
            ConnectionKind::Bulk => Class::Bulk,
            ConnectionKind::NewSession => return self.attach_control(&session, 0, written.then_some(stream)),
            ConnectionKind::Resume => {
                return self.attach_control(&session, request.connection, written.then_some(stream));
            }
        };
        if written {
            self.attach(&session, request.connection, class, (stream, place));
        }
    }

    /// Once is nothing; again and again means that messages wait though the peer ticks.
    fn note_failed_join(&self, session: &Session, error: &ConnectError) {
        match session.join_failures() + 1 {
            failures @ JOINS_TO_WARN_AFTER => {
                let noted = session.note(OfPeer::NoPool);
                warn_seldom!(
                    noted, parent: &session.span, failures, %error, advice = ADVICE,
                    "cannot open pool connections; trying again"
                );
            }
            failures => {
                tracing::debug!(parent: &session.span, failures, %error, "cannot open a pool connection")
            }
        }
    }

    fn attach(
        &self,
        session: &Arc<Session>,
        id: ConnectionId,
        class: Class,
        (stream, place): (Stream, Option<Place>),
    ) {
        if let Err(error) = socket::prepare_pool(stream.tcp(), class, &self.core.config) {
            tracing::debug!(parent: &session.span, %error, "a socket option was refused");
        }
        let moved = match class {
            Class::Express => Ok((stream, &self.core.handle)),
            Class::Bulk => {
                let thread = self.bulk.next();
                stream.detach().and_then(|stream| Ok((stream.attach_to(thread)?, thread)))
            }
        };
        match moved {
            Ok((stream, thread)) => drop(session.attach(id, class, (stream, place), thread)),
            Err(error) => {
                let noted = session.note(OfPeer::Unusable);
                warn_seldom!(noted, parent: &session.span, connection = id, %error, "a bulk connection is unusable");
                session.joined(false);
                session.join_failed(id);
            }
        }
    }

    /// Hands a control connection to the control thread, or reports its loss if there is none.
    fn attach_control(&self, session: &Session, generation: u64, stream: Option<Stream>) {
        let stream = stream.and_then(|stream| {
            session.set_encrypted(stream.tls().is_some());
            if let Err(error) = socket::prepare_control(stream.tcp(), self.net_ticktime()) {
                tracing::debug!(parent: &session.span, %error, "a socket option was refused");
            }
            stream.detach().ok()
        });
        match stream {
            Some(stream) => session.command(Command::Attach { stream, generation }),
            None => {
                session.note_control_use(false);
                self.core.events.send(SessionEvent::ControlLost { session: session.id, generation });
            }
        }
    }

    /// Whether a connection is encrypted as it should be, and for the node whose name it is. `features`: what both ends have.
    fn check_tls(&self, stream: &Stream, peer: &NodeName, features: u64) -> Result<(), Failure> {
        match stream.tls() {
            Some(tls) => tls.check_peer(peer)?,
            None if features & FEATURE_TLS != 0 => return Err(TlsError::Downgraded.into()),
            None if self.tls.is_some() => {
                let (node, noted) = (&self.core.local.name, self.core.warnings.of_peer(peer, OfPeer::Plain));
                warn_seldom!(noted, %node, %peer, "a connection is not encrypted: the peer has no TLS");
            }
            None => {}
        }
        Ok(())
    }

    /// Asks the directory for a session, without waiting for it.
    fn want(&self, peer: &NodeName, at_once: bool) -> Result<(), ConnectError> {
        if self.is_stopped() {
            return Err(ConnectError::NotRunning);
        }
        if self.peers.want(peer, at_once) {
            self.wanted.notify_one();
        }
        Ok(())
    }
}

/// Stops the engine if the runtime that does its work is shut down: else who waits for a session, or for room, would wait for ever.
struct StopsEngine(Weak<Engine>);

impl Drop for StopsEngine {
    fn drop(&mut self) {
        if let Some(engine) = self.0.upgrade() {
            drop(engine.stop());
        }
    }
}

/// A task that ends with its runtime, or with the engine.
async fn last_as_long(_stops: StopsEngine) {
    std::future::pending().await
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl handshake::Known for Engine {
    async fn cookie(&self, peer: &NodeName) -> Option<Cookie> {
        self.cookies.of(peer).await
    }

    fn session_key(&self, session: SessionId) -> Option<SessionKey> {
        self.directory.lock().session(session).map(|session| session.key.clone())
    }

    fn begun(&self) -> Begun {
        self.directory.lock().membership.begun()
    }
}
