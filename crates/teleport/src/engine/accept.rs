//! Accepts connections for as long as the node lives.

use super::Engine;
use super::handshake::{self, Failure};
use crate::base::lock::Lock;
use crate::base::seldom::{OfNode, OfStranger, warn_seldom};
use crate::host::{CloseOnDrop, Newcomer};
use crate::io::source::Source;
use rustc_hash::FxHashMap;
use rustix::net::RecvFlags;
use std::fmt::Display;
use std::io;
use std::mem::discriminant;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use teleport_proto::handshake::Refusal;
use teleport_proto::newcomers::Newcomers;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

/// After an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The descriptors that this process may have.
pub(crate) fn descriptors() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Connections that have not proved themselves yet.
#[derive(Debug)]
pub(crate) struct Unproven(Lock<Inner>);

#[derive(Debug)]
struct Inner {
    newcomers: Newcomers<Source>,
    tasks: FxHashMap<u64, AbortHandle>,
}

impl Unproven {
    pub(crate) fn new(most: usize) -> Self {
        Self(Lock::leaf(Inner { newcomers: Newcomers::new(most), tasks: FxHashMap::default() }))
    }

    /// Enters the task that `spawn` starts; it waits for the lock if it is through at once. Another one may have to go: `true`.
    fn add(&self, number: u64, source: Source, spawn: impl FnOnce() -> AbortHandle) -> bool {
        let mut inner = self.0.lock();
        let victim = inner.newcomers.arrived(number, source);
        let dropped = inner.abort(victim);
        inner.tasks.insert(number, spawn());
        dropped
    }

    /// Descriptors have run out: somebody who holds one without a proof gives it back. `false` if nobody does.
    fn drop_one(&self) -> bool {
        let mut inner = self.0.lock();
        let victim = inner.newcomers.drop_one();
        inner.abort(victim)
    }

    /// A connection has said a valid hello.
    fn spoke(&self, number: u64) {
        self.0.lock().newcomers.spoke(number);
    }

    /// Takes a connection off the list; `false` if it had to go.
    fn remove(&self, number: u64, proved: bool) -> bool {
        let mut inner = self.0.lock();
        inner.tasks.remove(&number);
        if proved { inner.newcomers.proved(number) } else { inner.newcomers.left(number) }
    }
}

impl Inner {
    fn abort(&mut self, victim: Option<u64>) -> bool {
        let task = victim.and_then(|victim| self.tasks.remove(&victim));
        task.inspect(AbortHandle::abort).is_some()
    }
}

/// Counts and logs that a connection was refused.
fn note_refused(engine: &Engine, source: SocketAddr, what: OfStranger, error: &dyn Display) {
    engine.core.meter.handshakes_refused.count();
    let (node, noted) = (&engine.core.local.name, engine.core.warnings.of_stranger(source.ip(), what));
    warn_seldom!(noted, %node, %source, %error, "inbound connection refused");
}

/// The node's listener. The sender tells that it is closed: fields are dropped in this order, also of a task that has never run.
pub(crate) struct Listening {
    pub(crate) listener: TcpListener,
    pub(crate) _closed: watch::Sender<()>,
}

/// Accepts until the node goes. No error of a single connection ends it.
pub(crate) async fn accept_loop(engine: Arc<Engine>, listening: Listening) {
    for number in 0u64.. {
        let (stream, source) = match listening.listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                let (node, noted) =
                    (&engine.core.local.name, engine.core.warnings.of_node(OfNode::CannotAccept));
                warn_seldom!(noted, %node, %error, "cannot accept; trying again");
                if engine.unproven.drop_one() {
                    engine.core.meter.newcomers_full.count();
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let proving = prove(engine.clone(), stream, source, number);
        let spawn = || tokio::spawn(proving).abort_handle();
        if engine.unproven.add(number, Source::of(source.ip()), spawn) {
            engine.core.meter.newcomers_full.count();
        }
    }
}

/// What a connection begins like. Nothing of it is read.
#[derive(PartialEq, Eq)]
enum Speaks {
    Distribution,
    Tls,
    Other,
    /// It has been closed without a word, as who only looks whether somebody listens does.
    Nothing,
}

async fn first_bytes(stream: &TcpStream) -> io::Result<Speaks> {
    let mut bytes = [0; 3];
    let len = loop {
        let is_all = stream.ready(Interest::READABLE).await?.is_read_closed();
        let peek = || match rustix::net::recv(stream, &mut bytes[..], RecvFlags::PEEK)?.0 {
            // The rest is under way, and wakes this again.
            1 | 2 if !is_all => Err(io::ErrorKind::WouldBlock.into()),
            len => Ok(len),
        };
        match stream.try_io(Interest::READABLE, peek) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            peeked => break peeked?,
        }
    };
    Ok(match bytes {
        _ if len == 0 => Speaks::Nothing,
        _ if len < 3 => Speaks::Other,
        [22, 3, _] => Speaks::Tls,
        [_, _, b'N' | b'n'] => Speaks::Distribution,
        _ => Speaks::Other,
    })
}

/// One inbound connection, until it has proved itself and belongs to a session, or is closed.
async fn prove(engine: Arc<Engine>, stream: TcpStream, source: SocketAddr, number: u64) {
    let limit = engine.core.config.handshake_timeout;
    let deadline = Instant::now() + limit;
    let takes_plain = engine.tls.as_ref().is_none_or(|tls| tls.upgrades());
    let hosting = engine.core.hosting.as_deref().filter(|hosting| hosting.host.takes_distribution());
    let speaks = match hosting.is_some() || engine.tls.is_some() {
        true => timeout_at(deadline, first_bytes(&stream)).await,
        false => Ok(Ok(Speaks::Other)),
    };
    if let Some(hosting) = hosting
        && takes_plain
        && let Ok(Ok(Speaks::Distribution)) = speaks
    {
        let mut proved = false;
        if let Ok(stream) = stream.into_std() {
            let (newcomer, proof) = Newcomer::new();
            let close = CloseOnDrop::new(hosting.host.distribution(stream, newcomer));
            proved = proof.await.is_ok(); // or this task has to go
            close.call_off();
        }
        engine.unproven.remove(number, proved);
        return;
    }
    let handshake = async {
        stream.set_nodelay(true)?;
        let stream = match &engine.tls {
            Some(tls) if matches!(speaks, Ok(Ok(Speaks::Tls))) => tls.accept(stream).await?.into(),
            Some(_) if matches!(speaks, Ok(Ok(Speaks::Nothing))) => return Err(Failure::Closed),
            Some(_) if !takes_plain => return Err(handshake::refuse_plain(stream).await),
            _ => stream.into(),
        };
        let spoke = || engine.unproven.spoke(number);
        let (authenticated, asked) = handshake::accept(&stream, &engine.core.local, &*engine, spoke).await?;
        match engine.check_tls(&stream, &authenticated.request().peer, authenticated.features()) {
            Ok(()) => Ok((stream, authenticated, asked)),
            Err(failure) => {
                let _ = stream.write_all(&authenticated.refuse(Refusal::NotAllowed)).await; // if it still listens
                Err(failure)
            }
        }
    };
    let result = timeout_at(deadline, handshake).await;
    if !engine.unproven.remove(number, matches!(result, Ok(Ok(_)))) {
        return;
    }
    match result {
        Ok(Ok((stream, authenticated, asked))) => {
            engine.inbound(stream, authenticated, asked, Source::of(source.ip())).await
        }
        Ok(Err(Failure::Refused(error))) => {
            note_refused(&engine, source, OfStranger::Handshake(discriminant(&error)), &error)
        }
        Ok(Err(Failure::Tls(error))) => {
            note_refused(&engine, source, OfStranger::Tls(discriminant(&error)), &error)
        }
        Ok(Err(Failure::Io(error))) => {
            tracing::debug!(node = %engine.core.local.name, %source, %error, "inbound connection lost")
        }
        Ok(Err(Failure::Closed)) => {
            tracing::debug!(node = %engine.core.local.name, %source, "inbound connection closed")
        }
        Err(_) => {
            engine.core.meter.newcomers_slow.count();
            tracing::debug!(node = %engine.core.local.name, %source, ?limit, "inbound connection took too long to prove itself")
        }
    }
}
