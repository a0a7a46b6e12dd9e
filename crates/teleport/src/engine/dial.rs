//! Opening connections.

use super::handshake::{self, Failure};
use super::{Engine, socket};
use crate::ConnectError;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use teleport_proto::handshake::{Established, Opening};
use teleport_proto::{NodeName, membership};
use tokio::net::TcpStream;

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
pub(crate) async fn open(
    engine: &Engine,
    peer: &NodeName,
    opening: Opening,
) -> Result<(TcpStream, Established), Failed> {
    let limit = engine.config.setup_timeout;
    tokio::time::timeout(limit, open_unbounded(engine, peer, opening))
        .await
        .unwrap_or_else(|_| Err(ConnectError::Timeout { peer: peer.clone(), limit }.into()))
}

async fn open_unbounded(
    engine: &Engine,
    peer: &NodeName,
    opening: Opening,
) -> Result<(TcpStream, Established), Failed> {
    let (mut stream, address) = connect(engine, peer).await?;
    match handshake::dial(&mut stream, &engine.local, peer, opening).await {
        Ok(established) => Ok((stream, established)),
        Err(Failure::Closed) => Err(ConnectError::Closed { peer: peer.clone(), address }.into()),
        Err(Failure::Refused(source)) => Err(ConnectError::Handshake { peer: peer.clone(), source }.into()),
        Err(Failure::Io(source)) => {
            Err(ConnectError::Connect { peer: peer.clone(), address, source: Arc::new(source) }.into())
        }
    }
}

/// Connects to the first of the peer's addresses that answers.
pub(crate) async fn connect(engine: &Engine, peer: &NodeName) -> Result<(TcpStream, SocketAddr), Failed> {
    let mut last = ConnectError::UnknownNode(peer.clone());
    let addresses = engine.resolver.resolve(peer).await;
    let mut refused = !addresses.is_empty();
    for address in addresses {
        match socket::connect(address, &engine.config).await {
            Ok(stream) => return Ok((stream, address)),
            Err(source) => {
                refused &= source.kind() == ErrorKind::ConnectionRefused;
                last = ConnectError::Connect { peer: peer.clone(), address, source: Arc::new(source) }
            }
        }
    }
    Err(Failed { error: last, refused })
}

/// What a failure means for membership.
pub(crate) fn failure(error: &ConnectError) -> membership::Failure {
    match error {
        ConnectError::Handshake { source, .. } => source.into(),
        _ => membership::Failure::Other,
    }
}
