//! Why there is a session with a peer, or why there is none.

use crate::engine::Engine;
use crate::{ConnectError, PeerInfo, SendError};
use futures_util::future::join_all;
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
    /// cookies, names and lives of both sides fit.
    pub session: Result<PeerInfo, SendError>,
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

/// Goes the whole way. Sets a session and its pool up if there is none.
pub(crate) async fn check(engine: &Arc<Engine>, peer: &NodeName) -> PeerCheck {
    let (going, to) = (engine.clone(), peer.clone());
    // On the node's own runtime: the caller's may have no IO.
    let task = engine.handle.spawn(async move { go(&going, &to).await });
    task.await.unwrap_or_else(|_| {
        let session = Err(SendError::NotRunning);
        PeerCheck { addresses: Vec::new(), was_up: false, session }
    })
}

async fn go(engine: &Arc<Engine>, peer: &NodeName) -> PeerCheck {
    let was_up = engine.session_if_up(peer).is_some();
    let addresses = engine.addresses(peer).await;
    let limit = engine.config.setup_timeout;
    let addresses = join_all(addresses.into_iter().map(|address| connect(address, limit))).await;
    let session = match unreachable(peer, &addresses) {
        // One that stands shows more than an address.
        Some(error) if engine.session_if_up(peer).is_none() => Err(error.into()),
        _ => session(engine, peer).await,
    };
    PeerCheck { addresses, was_up, session }
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

/// The reason, if the peer is known and none of its addresses can be reached.
fn unreachable(peer: &NodeName, addresses: &[AddressCheck]) -> Option<ConnectError> {
    let mut last = None;
    for AddressCheck { address, connected } in addresses {
        let source = connected.as_ref().err()?.clone();
        last = Some(ConnectError::Connect { peer: peer.clone(), address: *address, source });
    }
    last
}

async fn session(engine: &Arc<Engine>, peer: &NodeName) -> Result<PeerInfo, SendError> {
    let session = engine.session(peer).await?;
    // How far the pool gets is seen in the numbers.
    let _ = timeout(engine.config.setup_timeout, session.prime()).await;
    Ok(engine.peer_info(&session))
}
