//! Accepting connections: whoever comes, and for as long as the node lives.

use super::Engine;
use super::handshake::{self, Failure};
use crate::seldom::Seldom;
use std::collections::VecDeque;
use std::mem::{Discriminant, discriminant};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use teleport_proto::handshake::HandshakeError;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// After an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that have not proved themselves yet, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Unproven {
    waiting: Mutex<VecDeque<(u64, IpAddr, AbortHandle)>>,
}

impl Unproven {
    /// Makes room for one more from `source`: first among those of the same source, then among all.
    fn make_room(&self, source: IpAddr, per_source: usize, all: usize) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let same = waiting.iter().filter(|(_, other, _)| *other == source).count();
        let oldest = if same >= per_source {
            waiting.iter().position(|(_, other, _)| *other == source)
        } else {
            (waiting.len() >= all).then_some(0)
        };
        if let Some((_, _, task)) = oldest.and_then(|at| waiting.remove(at)) {
            task.abort();
        }
    }

    /// Descriptors have run out: whoever holds one without a proof gives it back first.
    fn drop_oldest(&self) {
        let oldest = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if let Some((_, _, task)) = oldest {
            task.abort();
        }
    }

    /// Enters the task that `spawn` starts; it waits for the lock if it is through at once.
    fn add(&self, number: u64, source: IpAddr, spawn: impl FnOnce() -> AbortHandle) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back((number, source, spawn()));
    }

    /// Takes a connection off the list; `false` if it was chosen to make room.
    fn remove(&self, number: u64) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let at = waiting.iter().position(|(other, _, _)| *other == number);
        at.and_then(|at| waiting.remove(at)).is_some()
    }
}

/// Connections that were refused, for whoever looks after the node.
struct Refusals {
    /// By where they came from and what was wrong.
    said: Seldom<(IpAddr, Discriminant<HandshakeError>)>,
}

impl Refusals {
    fn note(&self, engine: &Engine, source: SocketAddr, error: &HandshakeError) {
        engine.meter.handshakes_refused.increment(1);
        let node = &engine.local.name;
        match self.said.note((source.ip(), discriminant(error)), Instant::now()) {
            Some(times) => {
                tracing::warn!(%node, %source, %error, not_said = times, "inbound connection refused");
            }
            None => tracing::debug!(%node, %source, %error, "inbound connection refused again"),
        }
    }
}

/// Accepts until the node goes. No error of a single connection ends it.
pub(crate) async fn accept_loop(engine: Arc<Engine>, listener: TcpListener) {
    let refusals = Arc::new(Refusals { said: Seldom::default() });
    let (per_source, all) = (engine.config.max_handshakes_per_source, engine.config.max_handshakes);
    for number in 0u64.. {
        let (stream, source) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(node = %engine.local.name, %error, "cannot accept; trying again");
                engine.unproven.drop_oldest();
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        engine.unproven.make_room(source.ip(), per_source, all);
        let proving = prove(engine.clone(), stream, source, number, refusals.clone());
        engine.unproven.add(number, source.ip(), || tokio::spawn(proving).abort_handle());
    }
}

/// One inbound connection, until it has proved itself and belongs to a session, or is closed.
async fn prove(
    engine: Arc<Engine>,
    mut stream: TcpStream,
    source: SocketAddr,
    number: u64,
    refusals: Arc<Refusals>,
) {
    let limit = engine.config.handshake_timeout;
    let handshake = async {
        stream.set_nodelay(true)?;
        handshake::accept(&mut stream, &engine.local, &*engine).await
    };
    let result = tokio::time::timeout(limit, handshake).await;
    if !engine.unproven.remove(number) {
        return;
    }
    match result {
        Ok(Ok(authenticated)) => engine.inbound(stream, authenticated).await,
        Ok(Err(Failure::Refused(error))) => refusals.note(&engine, source, &error),
        Ok(Err(Failure::Io(error))) => {
            tracing::debug!(node = %engine.local.name, %source, %error, "inbound connection lost")
        }
        Ok(Err(Failure::Closed)) => {
            tracing::debug!(node = %engine.local.name, %source, "inbound connection closed")
        }
        Err(_) => {
            tracing::debug!(node = %engine.local.name, %source, ?limit, "inbound connection took too long to prove itself")
        }
    }
}
