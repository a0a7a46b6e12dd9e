//! A node: the front door of the crate.

use crate::api::check::{self, PeerCheck};
use crate::base::allow::AllowList;
use crate::base::encoding::atom_of;
use crate::base::info::{NodeInfo, PeerInfo};
use crate::engine::Engine;
use crate::engine::monitors::NodeMonitor;
use crate::io::runtime::Main;
use crate::local::inbox::Inbox;
use crate::session::{Session, drain};
use crate::{ConnectError, RegisterError};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use teleport_etf::{Atom, Pid, Reference};
use teleport_proto::handshake::{Cookie, UnusableCookie};
use teleport_proto::wire::envelope::{ProcessId, RefId};
use teleport_proto::{Incarnation, NodeName};

/// A running node. Cheap to clone; the node stops when [`Node::shutdown`] is called or the last handle to it, its
/// mailboxes and processes included, is dropped.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use teleport::{Node, StaticPeers};
///
/// let peers = StaticPeers::new();
/// let cookie = "cEbLxqUGdSvV2N9x";
/// let shop = Node::builder("shop@127.0.0.1").cookie(cookie).resolver(peers.clone()).start().await?;
/// let bank = Node::builder("bank@127.0.0.1").cookie(cookie).resolver(peers.clone()).start().await?;
/// peers.insert(bank.name().clone(), bank.address());
///
/// let mut teller = bank.register("teller")?;
/// shop.send(("teller", bank.name()), &("deposit", 100)).await?;
/// let (what, amount): (String, u64) = teller.recv().await.expect("the node runs").decode()?;
/// assert_eq!((what.as_str(), amount), ("deposit", 100));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Node {
    running: Arc<Running>,
}

struct Running {
    engine: Arc<Engine>,
    own: ProcessId,
    atom: Atom,
    _runtime: Option<Main>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.engine.stop());
    }
}

/// What [`Node::shutdown`] could not see through: messages accepted and not confirmed as delivered, by peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "tells whether anything may have been lost"]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Peers with unconfirmed messages, and how many.
    pub unconfirmed: Vec<(NodeName, u64)>,
}

/// How long all goodbyes may take. Each has half of it, and they go side by side.
const MOST_PARTING: Duration = Duration::from_secs(1);

impl Node {
    pub(crate) fn start(engine: Arc<Engine>, runtime: Option<Main>) -> Result<Self, RegisterError> {
        // The node's own process has no mailbox: what is sent to it vanishes.
        let inbox = engine.core.registry.add(None, |process, name| Inbox::new(process, name, 1, 1))?;
        engine.core.registry.remove(inbox.process, None);
        let atom = atom_of(&engine.core.local.name);
        Ok(Self { running: Arc::new(Running { own: inbox.process, engine, atom, _runtime: runtime }) })
    }

    /// The node's name.
    pub fn name(&self) -> &NodeName {
        &self.engine().core.local.name
    }

    /// The node's present life.
    pub fn incarnation(&self) -> Incarnation {
        self.engine().core.local.incarnation
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.engine().address
    }

    /// Sets up the session with a peer and its whole pool, ahead of use.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]: why there is no session, or that it ended before it had its pool; or that connections are still missing after
    /// [`setup_timeout`](crate::Config::setup_timeout), which are tried further.
    pub async fn prime(&self, peer: &NodeName) -> Result<(), ConnectError> {
        self.engine().prime(peer).await
    }

    /// Sees sessions begin and end from now on.
    pub fn monitor_nodes(&self) -> NodeMonitor {
        self.engine().monitors.add()
    }

    /// Another [`net_ticktime`](crate::Config::net_ticktime) holds from now on, in all sessions, also for how soon a peer that nothing
    /// listens for is gone; within 4 ms and 30 days. What
    /// peers did before is not held against them: each has a whole new deadline. Erlang's `net_kernel:set_net_ticktime/1`.
    pub fn set_net_ticktime(&self, ticktime: Duration) {
        self.engine().set_net_ticktime(ticktime);
    }

    /// Another list says from now on what peers may reach, also those that have a session. What was let in before stays: messages,
    /// calls and monitors.
    pub fn set_allow(&self, list: AllowList) {
        self.engine().core.allowed.set(list);
    }

    /// Reads the certificates and keys of TLS again. What the files have now is for new connections, and nothing of earlier ones is
    /// resumed. Without this they are looked at every [`reload_every`](crate::TlsConfig::reload_every).
    ///
    /// # Errors
    ///
    /// [`TlsError`](crate::TlsError): what cannot be used. Then all stays as it was.
    #[cfg(feature = "tls")]
    pub fn reload_tls(&self) -> Result<(), crate::TlsError> {
        self.engine().tls.as_ref().map_or(Ok(()), |tls| tls.reload())
    }

    /// Ends the session with a peer, at once. `false` if there is none. The next send begins another one.
    pub fn disconnect(&self, peer: &NodeName) -> bool {
        self.engine().disconnect(peer)
    }

    /// Finds out why there is a session with a peer, or why there is none: goes the way that a first send goes, and tells of
    /// each step. Sets a session and its pool up if that can be done, sends something over each of its connections, and waits for
    /// the answers. Where nothing gets through this takes [`setup_timeout`](crate::Config::setup_timeout); up to three times that
    /// where a session begins and its connections do not, or do not answer.
    pub async fn check(&self, peer: &NodeName) -> PeerCheck {
        check::check(self.engine(), peer).await
    }

    /// The secret shared with one peer, in place of the cluster's, from the next handshake on; `None`: the cluster's. Sessions
    /// that stand are not touched.
    ///
    /// # Errors
    ///
    /// [`UnusableCookie`] if it cannot be a cookie.
    pub fn set_peer_cookie(&self, peer: &NodeName, cookie: Option<&[u8]>) -> Result<(), UnusableCookie> {
        let cookie = cookie.map(Cookie::new).transpose()?;
        self.engine().cookies.set(peer, cookie);
        Ok(())
    }

    /// The peers with a session, by name.
    pub fn peers(&self) -> Vec<NodeName> {
        let sessions = self.engine().peers.sessions();
        let mut peers: Vec<_> = sessions.iter().map(|session| session.peer.clone()).collect();
        peers.sort();
        peers
    }

    /// What there is to know about one peer; `None` if there is no session with it.
    pub fn peer(&self, name: &NodeName) -> Option<PeerInfo> {
        let engine = self.engine();
        engine.peers.session(name).map(|session| engine.peer_info(&session))
    }

    /// What there is to know about the node and its peers.
    pub fn info(&self) -> NodeInfo {
        let engine = self.engine();
        let mut peers: Vec<_> =
            engine.peers.sessions().iter().map(|session| engine.peer_info(session)).collect();
        peers.sort_by(|a, b| a.name.cmp(&b.name));
        let meter = &engine.core.meter;
        NodeInfo {
            name: self.name().clone(),
            incarnation: self.incarnation(),
            address: self.address(),
            net_ticktime: engine.net_ticktime(),
            bytes_in_flight: engine.core.bytes_in_flight(),
            watching: engine.core.watches.watching.len(),
            late_replies: engine.core.watches.watching.late_replies(),
            unconfirmed: meter.unconfirmed(),
            sessions_ended: meter.sessions_ended(),
            sessions_refused: meter.sessions_refused.so_far(),
            handshakes_refused: meter.handshakes_refused.so_far(),
            newcomers_dropped: (meter.newcomers_full.so_far(), meter.newcomers_slow.so_far()),
            tls_handshakes: engine.tls.as_ref().map_or((0, 0), |tls| tls.handshakes()),
            peers,
        }
    }

    /// Stops the node: refuses new sends and sessions, waits until everything accepted is delivered, at most for
    /// `deadline`, and says goodbye to its peers, for which it takes up to a second more. Its address is free then, and the process
    /// may end.
    ///
    /// Sends that wait for room are seen through as well if it comes while anything accepted is under way; if not they
    /// fail with [`SendError::NodeDown`](crate::SendError::NodeDown), and those to mailboxes of this node with
    /// [`SendError::NotRunning`](crate::SendError::NotRunning). A mailbox that nobody empties does not hold a shutdown up,
    /// unless a host has said of messages for it that they are sent.
    /// Messages from peers arrive until the end, and stay in their mailboxes. Of two calls the one that is done first ends the other.
    ///
    /// Stop servers first, with [`ServerRef::stop`](crate::gen_server::ServerRef::stop): then their last
    /// calls are answered, and those answers are seen through. Calls that are still being served are not
    /// waited for: their callers learn that the node is down.
    ///
    /// A node that is dropped instead says goodbye as well, but what is under way is lost. So it is when this future is dropped before it
    /// is done.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let engine = self.engine();
        engine.close_doors();
        let _given_up = StopOnDrop(engine);
        // Whatever is left at the deadline is reported.
        let timers = &engine.core.timers;
        let _ = timers.timeout(deadline, drain(&engine.peers.sessions())).await;
        let told = engine.stop();
        // Those of a shutdown that was given up before, too.
        let sessions = engine.last_sessions();
        let parting = async {
            engine.unlistened().await;
            for session in &sessions {
                session.said_goodbye().await;
            }
        };
        let _ = timers.timeout(MOST_PARTING, parting).await; // who does not answer learns it from the silence
        let _ = told.await; // an error would say that it has been told
        // A session that ended meanwhile counts too.
        let unconfirmed = |session: &Arc<Session>| (session.peer.clone(), session.stats().unconfirmed);
        ShutdownReport {
            unconfirmed: sessions.iter().map(unconfirmed).filter(|(_, count)| *count > 0).collect(),
        }
    }

    /// The process that the node itself sends as.
    pub(crate) fn own(&self) -> ProcessId {
        self.running.own
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.running.engine
    }

    pub(crate) fn pid_of(&self, process: ProcessId) -> Pid {
        let ProcessId { id, serial } = process;
        Pid { node: self.running.atom.clone(), id, serial, creation: self.incarnation().as_u32() }
    }

    pub(crate) fn reference_of(&self, reference: RefId) -> Reference {
        let reference =
            Reference::new(self.running.atom.clone(), self.incarnation().as_u32(), reference.words());
        reference.unwrap_or_else(|| unreachable!("a RefId has the words of a reference"))
    }

    /// What the node knows a reference by, if it is one of its present life.
    pub(crate) fn own_reference(&self, reference: &Reference) -> Option<RefId> {
        let own =
            *reference.node() == self.running.atom && reference.creation() == self.incarnation().as_u32();
        RefId::new(reference.words()).filter(|_| own)
    }

    /// Whether it is the pid of a process of this node's present life.
    pub(crate) fn is_own(&self, pid: &Pid) -> bool {
        pid.node == self.running.atom && pid.creation == self.incarnation().as_u32()
    }
}

/// Stops what would be left as it is if a shutdown is given up halfway: neither running nor over.
struct StopOnDrop<'a>(&'a Arc<Engine>);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        let _told = self.0.stop(); // nothing happens if that has been done
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", self.name()).field("address", &self.address()).finish()
    }
}
