//! Opening connections: a peer's addresses race. The next one begins when one has failed or takes its time, and the first behind
//! which the peer itself is wins.

use super::handshake::{self, Failure, Greeted, Known};
use super::{ADVICE, Engine};
use crate::TlsError;
use crate::base::error::{AddressError, ConnectError, Tried, is_of_this_host};
use crate::base::lock::{Held, Lock};
use crate::base::resolver::Resolving;
use crate::base::seldom::warn_seldom;
use crate::io::socket;
use crate::io::stream::Stream;
use crate::local::Peer;
use crate::session::Session;
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, OptionFuture};
use futures_util::stream::FuturesUnordered;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use teleport_proto::handshake::{Established, Opening};
use teleport_proto::membership::Begun;
use teleport_proto::{NodeName, membership};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

/// How long one address has to answer before the next one is tried beside it: more than most round trips (RFC 8305).
const NEXT_AFTER: Duration = Duration::from_millis(250);

/// A session that takes longer is warned of while it is still tried: before the callers whose time ends first (OTP's is 5 s).
const EXPLAIN_AFTER: Duration = Duration::from_secs(3);

/// This part of the set-up time a dial has before the peer is asked to connect itself; and this part if it is at it.
const CALL_AFTER: u32 = 7;
const YIELD_AFTER: u32 = 2;

/// What a connection is to become.
#[derive(Debug)]
pub(crate) enum DialFor {
    /// The control connection of a new session: the number of the dial.
    NewSession(u64),
    /// One more of a session.
    Join(Opening),
}

/// A connection that has been opened, and accepted by the peer.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    pub(crate) established: Established,
    /// What had begun before the peer was given a proof.
    pub(crate) asked: Begun,
}

/// How a peer was reached that is to have a session.
pub(crate) enum Reached {
    By(Opened),
    /// It says that it has connected itself. If nothing is seen of that: what this node's own attempts have come to.
    Called(ConnectError),
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

/// What has become of the addresses by now.
#[derive(Debug, Default)]
struct Progress(Lock<Vec<Tried>>);

impl Progress {
    /// It has taken too long.
    fn late(&self, peer: &NodeName, limit: Duration) -> ConnectError {
        ConnectError::Timeout { peer: peer.clone(), limit, tried: self.lock().clone() }
    }

    fn lock(&self) -> Held<'_, Vec<Tried>> {
        self.0.lock()
    }

    fn note(&self, address: SocketAddr, error: AddressError) {
        let mut tried = self.lock();
        match tried.iter_mut().find(|tried| tried.address == address) {
            Some(tried) => tried.error = error,
            None => tried.push(Tried { address, error }),
        }
    }
}

/// Sets up a session with a peer that is to have one: connects to it, and if that takes its time or is in vain has it asked to
/// connect to this node.
pub(super) async fn open_or_be_called(
    engine: &Engine,
    peer: &NodeName,
    number: u64,
    lost: impl Fn(&ConnectError),
) -> Result<Reached, Failed> {
    let (limit, progress) = (engine.core.config.setup_timeout, Progress::default());
    let (until, in_vain) = (Instant::now() + limit, Notify::new());
    let opening = reach_in_time(engine, peer, DialFor::NewSession(number), &progress);
    let calling = async {
        let _ = timeout(limit / CALL_AFTER, in_vain.notified()).await;
        timeout_at(until, engine.resolver.call_back(peer)).await.unwrap_or(false)
    };
    let yielding = sleep(limit / YIELD_AFTER);
    tokio::pin!(opening, calling, yielding);
    let mut called = None;
    let failed = loop {
        // After this has stood still several are due at once: what has come of it counts, and nobody is at it who was not asked.
        tokio::select! {
            biased;
            opened = &mut opening => match opened {
                Ok(opened) => return Ok(Reached::By(opened)),
                Err(failed) => break failed,
            },
            has = &mut calling, if called.is_none() => match has {
                true => return Ok(Reached::Called(progress.late(peer, limit))),
                false => called = Some(false),
            },
            // It is at it: two dials that cross are in each other's way.
            () = &mut yielding, if called.is_none() => break progress.late(peer, limit / YIELD_AFTER).into(),
        }
    };
    lost(&failed.error);
    if failed.error.is_no_way() && called.is_none() {
        in_vain.notify_one();
        if calling.await {
            return Ok(Reached::Called(progress.late(peer, limit)));
        }
    }
    Err(failed)
}

/// Connects to a peer and runs the handshake, all within the set-up time.
///
/// Addresses behind which somebody else answers, or nobody that makes sense, lose. What the peer itself says is final.
pub(crate) async fn open(engine: &Engine, peer: &NodeName, what_for: DialFor) -> Result<Opened, Failed> {
    reach_in_time(engine, peer, what_for, &Progress::default()).await
}

async fn reach_in_time(
    engine: &Engine,
    peer: &NodeName,
    what_for: DialFor,
    progress: &Progress,
) -> Result<Opened, Failed> {
    let limit = engine.core.config.setup_timeout;
    let deadline = Instant::now() + limit;
    let reaching = reach(engine, peer, &what_for, progress);
    tokio::pin!(reaching);
    tokio::select! {
        reached = &mut reaching => return reached,
        () = sleep(EXPLAIN_AFTER.min(limit)) => {}
    }
    if matches!(what_for, DialFor::NewSession(_)) && EXPLAIN_AFTER < limit {
        let (node, noted) = (&engine.core.local.name, engine.core.warnings.of_unreached(peer));
        let error = progress.late(peer, EXPLAIN_AFTER);
        warn_seldom!(noted, %node, %peer, %error, advice = ADVICE, "cannot connect");
    }
    timeout_at(deadline, reaching).await.unwrap_or_else(|_| Err(progress.late(peer, limit).into()))
}

/// For as long as it takes.
async fn reach(
    engine: &Engine,
    peer: &NodeName,
    what_for: &DialFor,
    progress: &Progress,
) -> Result<Opened, Failed> {
    // Where it was reached it still is, whether or not the resolver answers at present.
    let known = engine.reached.of(peer).map(|way| way.address);
    let asking = || engine.resolver.resolve(peer);
    let mut attempts =
        Attempts::new(known, asking, |address| Box::pin(greet(engine, peer, what_for, address, progress)));
    while let Some(attempt) = attempts.next().await {
        match attempt {
            // The others stand still meanwhile: one alone is given a proof.
            Ok((address, stream, greeted)) => return prove(engine, peer, address, stream, greeted).await,
            Err(Lost::Here(address, error)) => progress.note(address, error),
            Err(Lost::Everywhere(error)) => return Err(error.into()),
        }
    }
    let tried = progress.lock().clone();
    // There was a way to the one that is known.
    let is_judged = |tried: &&Tried| known == Some(tried.address) || !tried.error.is_of_this_host();
    let mut judged = tried.iter().filter(is_judged).peekable();
    let refused = judged.peek().is_some() && judged.all(|tried| tried.error.is_refusal());
    match ConnectError::of_all(peer, tried) {
        Some(error) => Err(Failed { error, refused }),
        None => Err(ConnectError::UnknownNode(peer.clone()).into()),
    }
}

/// Why an attempt is over.
enum Lost {
    /// The address is not the way.
    Here(SocketAddr, AddressError),
    /// None is.
    Everywhere(ConnectError),
}

/// Connects to an address, and hears who is there: the peer by its own words, which are not proved yet.
async fn greet(
    engine: &Engine,
    peer: &NodeName,
    what_for: &DialFor,
    address: SocketAddr,
    progress: &Progress,
) -> Result<(SocketAddr, Stream, Greeted), Lost> {
    let here = |error| Lost::Here(address, error);
    progress.note(address, AddressError::Unanswered);
    let stream = connect(engine, peer, what_for, address, progress).await;
    let stream = stream.map_err(|failure| here(failure.into()))?;
    let opening = match what_for {
        DialFor::Join(opening) => opening.clone(),
        // Only now: it may have changed since somebody wanted the session.
        DialFor::NewSession(dial) => match engine.cookies.of(peer).await {
            Some(cookie) => Opening::NewSession { cookie, dial: *dial },
            None => return Err(Lost::Everywhere(ConnectError::NoCookie(peer.clone()))),
        },
    };
    match handshake::greet(&stream, &engine.core.local, peer, opening).await {
        Ok(greeted) => Ok((address, stream, greeted)),
        Err(failure) => Err(here(failure.into())),
    }
}

/// Connects to an address, with TLS if this node has it.
async fn connect(
    engine: &Engine,
    peer: &NodeName,
    what_for: &DialFor,
    address: SocketAddr,
    progress: &Progress,
) -> Result<Stream, Failure> {
    let connected = async || {
        let tcp = socket::connect(address, &engine.core.config).await.map_err(Failure::Io)?;
        progress.note(address, AddressError::Mute);
        Ok::<_, Failure>(tcp)
    };
    let Some(tls) = &engine.tls else { return Ok(connected().await?.into()) };
    // A session that has begun without TLS goes on so.
    let is_plain = tls.upgrades()
        && matches!(what_for, DialFor::Join(_))
        && engine.reached.of(peer).is_some_and(|way| !way.encrypted);
    if !is_plain {
        match tls.dial(connected().await?, peer).await {
            // So does a node that has none; that it has none is checked when it has proved itself.
            Err(TlsError::Closed { heard: false }) if tls.upgrades() => {}
            done => return Ok(done?.into()),
        }
    }
    Ok(connected().await?.into())
}

async fn prove(
    engine: &Engine,
    peer: &NodeName,
    address: SocketAddr,
    stream: Stream,
    greeted: Greeted,
) -> Result<Opened, Failed> {
    let asked = engine.begun();
    let proved = match handshake::prove(&stream, greeted).await {
        Ok(established) => engine.check_tls(&stream, peer, established.features).map(|()| established),
        Err(failure) => Err(failure),
    };
    match proved {
        Ok(established) => Ok(Opened { stream, established, asked }),
        Err(failure) => Err(Tried { address, error: failure.into() }.alone(peer).into()),
    }
}

impl From<Failure> for AddressError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Closed => Self::Closed,
            Failure::Refused(cause) => Self::Handshake(cause),
            Failure::Tls(cause) => Self::Tls(cause),
            Failure::Io(cause) => Self::Failed(Arc::new(cause)),
        }
    }
}

/// Whether every address of the peer that this host has a way to refuses a connection, and there is one. To where the session has
/// come from there was a way.
pub(crate) async fn is_refused(engine: &Engine, session: &Session) -> bool {
    let (peer, known) = (&session.peer, session.address().map(|address| address.ip()));
    let look = async {
        let addresses = engine.resolver.resolve(peer).await;
        let asking = || -> Resolving<'_> { Box::pin(std::future::ready(addresses)) };
        let mut attempts = Attempts::new(None, asking, |address| {
            let connecting = socket::connect(address, &engine.core.config);
            Box::pin(async move { connecting.await.map_err(|error| (address, error)) })
        });
        let mut refused = false;
        while let Some(connected) = attempts.next().await {
            match connected {
                Err((_, error)) if error.kind() == ErrorKind::ConnectionRefused => refused = true,
                Err((address, error)) if known != Some(address.ip()) && is_of_this_host(&error) => {}
                _ => return false,
            }
        }
        refused
    };
    tokio::time::timeout(engine.core.config.setup_timeout, look).await.unwrap_or(false)
}

/// Attempts at a peer's addresses that are begun one after the other: at the one that is known, and then at those that the resolver
/// has. It is asked when it is needed: nearly always the known one answers.
struct Attempts<'a, A, F, T, E> {
    attempt: F,
    known: Option<SocketAddr>,
    asking: Option<A>,
    /// Until it has answered.
    asked: Option<Resolving<'a>>,
    waiting: VecDeque<SocketAddr>,
    under_way: FuturesUnordered<BoxFuture<'a, Result<T, E>>>,
    /// When the next one begins, if none fails before.
    next_at: Instant,
}

impl<'a, A, F, T, E> Attempts<'a, A, F, T, E>
where
    A: FnOnce() -> Resolving<'a>,
    F: Fn(SocketAddr) -> BoxFuture<'a, Result<T, E>>,
{
    fn new(known: Option<SocketAddr>, asking: A, attempt: F) -> Self {
        let (waiting, under_way) = (known.into_iter().collect(), FuturesUnordered::new());
        let asking = Some(asking);
        Self { attempt, known, asking, asked: None, waiting, under_way, next_at: Instant::now() }
    }

    /// The resolver has answered.
    fn learn(&mut self, addresses: Vec<SocketAddr>) {
        self.asked = None;
        self.waiting.extend(addresses.into_iter().filter(|address| Some(*address) != self.known));
    }

    /// Begins with the next address, or asks the resolver for more.
    fn begin(&mut self) {
        if let Some(address) = self.waiting.pop_front() {
            self.under_way.push((self.attempt)(address));
            self.next_at = Instant::now() + NEXT_AFTER;
        } else if let Some(ask) = self.asking.take() {
            self.asked = Some(ask());
        }
    }

    /// What has come of the next one that has ended. `None` if all have.
    async fn next(&mut self) -> Option<Result<T, E>> {
        loop {
            if self.under_way.is_empty() {
                self.begin();
            }
            if self.under_way.is_empty() {
                let addresses = self.asked.as_mut()?.await;
                self.learn(addresses);
                continue;
            }
            let more = !self.waiting.is_empty() || self.asking.is_some();
            tokio::select! {
                Some(ended) = self.under_way.next() => {
                    if ended.is_err() {
                        self.begin();
                    }
                    return Some(ended);
                }
                Some(addresses) = OptionFuture::from(self.asked.as_mut()), if self.asked.is_some() => self.learn(addresses),
                () = sleep_until(self.next_at), if more => self.begin(),
            }
        }
    }
}

/// What a failure means for membership.
pub(crate) fn failure(error: &ConnectError) -> membership::Failure {
    match error {
        ConnectError::Handshake { cause, .. } => cause.into(),
        _ => membership::Failure::Other,
    }
}
