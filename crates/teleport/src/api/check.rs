//! Why there is a session with a peer, or why there is none.

use crate::engine::Engine;
use crate::session::Session;
use crate::{ConnectError, ConnectionCheck, ConnectionKind, PeerInfo};
use futures_util::future::{join, join_all};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use teleport_proto::NodeName;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The way to a peer, step by step, as [`Node::check`](crate::Node::check) found it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PeerCheck {
    /// Where the resolver says that the peer is, and what came of a TCP connection there. Empty if it does not know the peer.
    pub addresses: Vec<AddressCheck>,
    /// Whether there was a session before.
    pub was_up: bool,
    /// The session, which may be a new one, or why there is none. It stands only after a handshake, in which versions,
    /// cookies, names and lives of both sides fit. When the peer was last heard is in the [`PeerInfo`].
    pub session: Result<PeerInfo, ConnectError>,
    /// The session's connections: something was sent over each of them, and an answer waited for.
    pub connections: Vec<ConnectionCheck>,
}

impl PeerCheck {
    /// Whether messages get through: there is a session with a pool, and every connection has answered.
    pub fn is_well(&self) -> bool {
        let pool = |check: &ConnectionCheck| check.kind != ConnectionKind::Control;
        self.session.is_ok()
            && self.connections.iter().any(pool)
            && self.connections.iter().all(|check| check.answered.is_some())
    }
}

/// One of a peer's addresses.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AddressCheck {
    /// The address.
    pub address: SocketAddr,
    /// How long a TCP connection took, or why there was none.
    pub connected: Result<Duration, Arc<io::Error>>,
}

/// A session, and what came of asking over its connections.
type Found = (PeerInfo, Vec<ConnectionCheck>);

/// Goes the whole way. Sets a session and its pool up if there is none.
pub(crate) async fn check(engine: &Arc<Engine>, peer: &NodeName) -> PeerCheck {
    let (going, to) = (engine.clone(), peer.clone());
    // On the node's own runtime: the caller's may have no IO.
    let task = engine.core.handle.spawn(async move { go(&going, &to).await });
    task.await.unwrap_or_else(|_| {
        let session = Err(ConnectError::NotRunning);
        PeerCheck { addresses: Vec::new(), was_up: false, session, connections: Vec::new() }
    })
}

async fn go(engine: &Arc<Engine>, peer: &NodeName) -> PeerCheck {
    let up = engine.peers.session(peer);
    let was_up = up.is_some();
    let limit = engine.core.config.setup_timeout;
    let addresses = async {
        let looked_for = engine.addresses(peer).await;
        join_all(looked_for.into_iter().map(|address| connect(address, limit))).await
    };
    // One that stands shows more than an address, and where nothing passes none of them waits for the other.
    let found = async {
        match up {
            Some(session) => look_into(engine, session).await,
            None => set_up(engine, peer).await,
        }
    };
    let (addresses, found) = join(addresses, found).await;
    let (session, connections) = match found {
        Ok((info, connections)) => (Ok(info), connections),
        Err(error) => (Err(error), Vec::new()),
    };
    PeerCheck { addresses, was_up, session, connections }
}

async fn connect(address: SocketAddr, limit: Duration) -> AddressCheck {
    let begin = Instant::now();
    let connected = match timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(_stream)) => Ok(begin.elapsed()),
        Ok(Err(error)) => Err(Arc::new(error)),
        Err(_) => Err(Arc::new(io::ErrorKind::TimedOut.into())),
    };
    AddressCheck { address, connected }
}

async fn set_up(engine: &Arc<Engine>, peer: &NodeName) -> Result<Found, ConnectError> {
    let session = engine.session(peer).await?;
    // How far the pool gets is seen in the numbers.
    let _ = timeout(engine.core.config.setup_timeout, session.prime()).await;
    look_into(engine, session).await
}

async fn look_into(engine: &Arc<Engine>, session: Arc<Session>) -> Result<Found, ConnectError> {
    let connections = session.probe(engine.core.config.setup_timeout).await;
    match session.ended() {
        Some(reason) => Err(ConnectError::NodeDown { peer: session.peer.clone(), reason }),
        None => Ok((engine.peer_info(&session), connections)),
    }
}
