//! Opening connections.

use super::handshake::{self, Failure};
use super::{Engine, socket};
use crate::ConnectError;
use std::net::SocketAddr;
use std::sync::Arc;
use teleport_proto::handshake::{Established, Opening};
use teleport_proto::{NodeName, membership};
use tokio::net::TcpStream;

/// Connects to a peer and runs the handshake, all within the set-up time.
pub(crate) async fn open(
    engine: &Engine,
    peer: &NodeName,
    opening: Opening,
) -> Result<(TcpStream, Established), ConnectError> {
    let limit = engine.config.setup_timeout;
    tokio::time::timeout(limit, open_unbounded(engine, peer, opening))
        .await
        .unwrap_or_else(|_| Err(ConnectError::Timeout { peer: peer.clone(), limit }))
}

async fn open_unbounded(
    engine: &Engine,
    peer: &NodeName,
    opening: Opening,
) -> Result<(TcpStream, Established), ConnectError> {
    let (mut stream, address) = connect(engine, peer).await?;
    match handshake::dial(&mut stream, &engine.local, peer, opening).await {
        Ok(established) => Ok((stream, established)),
        Err(Failure::Closed) => Err(ConnectError::Closed { peer: peer.clone(), address }),
        Err(Failure::Refused(source)) => Err(ConnectError::Handshake { peer: peer.clone(), source }),
        Err(Failure::Io(source)) => {
            Err(ConnectError::Connect { peer: peer.clone(), address, source: Arc::new(source) })
        }
    }
}

/// Connects to the first of the peer's addresses that answers.
pub(crate) async fn connect(
    engine: &Engine,
    peer: &NodeName,
) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let mut last = ConnectError::UnknownNode(peer.clone());
    for address in engine.resolver.resolve(peer).await {
        match socket::connect(address, &engine.config).await {
            Ok(stream) => return Ok((stream, address)),
            Err(source) => {
                last = ConnectError::Connect { peer: peer.clone(), address, source: Arc::new(source) }
            }
        }
    }
    Err(last)
}

/// What a failure means for membership.
pub(crate) fn failure(error: &ConnectError) -> membership::Failure {
    match error {
        ConnectError::Handshake { source, .. } => source.into(),
        _ => membership::Failure::Other,
    }
}
