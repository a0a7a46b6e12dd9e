//! Opening connections: a peer's addresses are tried in turn, the next one when one has failed or takes its time.

use super::Engine;
use super::handshake::{self, Failure};
use crate::io::socket;
use crate::{Config, ConnectError};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use teleport_proto::handshake::{Established, Opening};
use teleport_proto::{NodeName, membership};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// So long the next address waits for one that does not answer: more than most ways take there and back (RFC 8305).
const NEXT_AFTER: Duration = Duration::from_millis(250);

/// What a connection is to become.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// The control connection of a new session: the number of the dial.
    NewSession(u64),
    /// One more of a session.
    Join(Opening),
}

/// Why a connection could not be opened.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: ConnectError,
    /// Every address of the peer refused it: nothing listens there.
    pub(crate) refused: bool,
}

impl From<ConnectError> for Failed {
    fn from(error: ConnectError) -> Self {
        Self { error, refused: false }
    }
}

/// Connects to a peer and runs the handshake, all within the set-up time.
///
/// Where somebody else answers, or nobody that makes sense, the next address is tried. What the peer itself says is final.
pub(crate) async fn open(
    engine: &Engine,
    peer: &NodeName,
    purpose: Purpose,
) -> Result<(TcpStream, Established), Failed> {
    let limit = engine.config.setup_timeout;
    let deadline = Instant::now() + limit;
    let took_too_long = || ConnectError::Timeout { peer: peer.clone(), limit };
    let addresses = timeout_at(deadline, addresses(engine, peer)).await.map_err(|_| took_too_long())?;
    let mut attempts = Attempts::new(&engine.config, addresses);
    let (mut first, mut refused) = (None, true);
    loop {
        let Ok(attempt) = timeout_at(deadline, attempts.next()).await else {
            return Err(first.unwrap_or_else(took_too_long).into());
        };
        let Some((address, connected)) = attempt else { break };
        let error = match connected {
            Ok(mut stream) => {
                refused = false;
                let opening = match &purpose {
                    Purpose::Join(opening) => opening.clone(),
                    // Only now: it may have changed since somebody wanted the session.
                    Purpose::NewSession(dial) => match timeout_at(deadline, engine.cookies.of(peer)).await {
                        Ok(Some(cookie)) => Opening::NewSession { cookie, dial: *dial },
                        Ok(None) => return Err(ConnectError::NoCookie(peer.clone()).into()),
                        Err(_) => return Err(took_too_long().into()),
                    },
                };
                // Who takes the connection and says nothing must leave time for the others.
                let left = deadline.saturating_duration_since(Instant::now());
                let until = Instant::now() + left / (attempts.left() + 1);
                let mut proved = false;
                let dialled = handshake::dial(&mut stream, &engine.local, peer, opening, &mut proved);
                let error = match timeout_at(until, dialled).await {
                    Ok(Ok(established)) => return Ok((stream, established)),
                    Ok(Err(Failure::Closed)) => ConnectError::Closed { peer: peer.clone(), address },
                    Ok(Err(Failure::Refused(cause))) => ConnectError::Handshake { peer: peer.clone(), cause },
                    Ok(Err(Failure::Io(cause))) => {
                        ConnectError::Connect { peer: peer.clone(), address, cause: Arc::new(cause) }
                    }
                    Err(_) => took_too_long(),
                };
                if proved {
                    return Err(error.into());
                }
                error
            }
            Err(cause) => {
                refused &= cause.kind() == ErrorKind::ConnectionRefused;
                ConnectError::Connect { peer: peer.clone(), address, cause: Arc::new(cause) }
            }
        };
        first.get_or_insert(error);
    }
    match first {
        Some(error) => Err(Failed { error, refused }),
        None => Err(ConnectError::UnknownNode(peer.clone()).into()),
    }
}

/// Whether every address of the peer refuses a connection, and there is one.
pub(crate) async fn is_refused(engine: &Engine, peer: &NodeName) -> bool {
    let look = async {
        let addresses = addresses(engine, peer).await;
        let mut refused = !addresses.is_empty();
        let mut attempts = Attempts::new(&engine.config, addresses);
        while refused && let Some((_, connected)) = attempts.next().await {
            refused = connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        }
        refused
    };
    tokio::time::timeout(engine.config.setup_timeout, look).await.unwrap_or(false)
}

/// Where the peer is, the address that was reached before first.
async fn addresses(engine: &Engine, peer: &NodeName) -> Vec<SocketAddr> {
    let mut addresses = engine.resolver.resolve(peer).await;
    if let Some(reached) = engine.reached.of(peer)
        && let Some(at) = addresses.iter().position(|address| *address == reached)
    {
        addresses[..=at].rotate_right(1);
    }
    addresses
}

/// Connections to a peer's addresses that are begun one after the other.
struct Attempts<'a> {
    config: &'a Config,
    waiting: std::vec::IntoIter<SocketAddr>,
    under_way: FuturesUnordered<BoxFuture<'a, (SocketAddr, io::Result<TcpStream>)>>,
}

impl<'a> Attempts<'a> {
    fn new(config: &'a Config, addresses: Vec<SocketAddr>) -> Self {
        let mut attempts =
            Self { config, waiting: addresses.into_iter(), under_way: FuturesUnordered::new() };
        attempts.begin();
        attempts
    }

    /// Begins with the next address, if there is one more.
    fn begin(&mut self) -> bool {
        let Some(address) = self.waiting.next() else { return false };
        let config = self.config;
        self.under_way.push(Box::pin(async move { (address, socket::connect(address, config).await) }));
        true
    }

    /// The next one of which something has come. `None` if all have been tried.
    async fn next(&mut self) -> Option<(SocketAddr, io::Result<TcpStream>)> {
        loop {
            if self.under_way.is_empty() && !self.begin() {
                return None;
            }
            let more = self.waiting.len() > 0;
            tokio::select! {
                Some(done) = self.under_way.next() => {
                    if done.1.is_err() {
                        self.begin();
                    }
                    return Some(done);
                }
                () = tokio::time::sleep(NEXT_AFTER), if more => drop(self.begin()),
            }
        }
    }

    /// How many are still to come.
    fn left(&self) -> u32 {
        u32::try_from(self.waiting.len() + self.under_way.len()).unwrap_or(u32::MAX - 1)
    }
}

/// What a failure means for membership.
pub(crate) fn failure(error: &ConnectError) -> membership::Failure {
    match error {
        ConnectError::Handshake { cause, .. } => cause.into(),
        _ => membership::Failure::Other,
    }
}
