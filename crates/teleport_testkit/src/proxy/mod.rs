//! A TCP proxy that does to connections what networks do to them: at byte N, at random, or at a test's word.
//!
//! It knows nothing of what passes through it. The client has to speak first: a connection's [`Faults`] are chosen when
//! its first bytes are there, so that they can depend on them.
//!
//! ```
//! # use std::io;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> io::Result<()> {
//! use teleport_testkit::proxy::{Fault, Faults, Proxy};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tokio::net::{TcpListener, TcpStream};
//!
//! let server = TcpListener::bind("127.0.0.1:0").await?;
//! let proxy = Proxy::start(server.local_addr()?).await?;
//! proxy.plan(|_| Faults { to_server: Fault::Cut { at: 3 }, ..Faults::default() });
//!
//! let mut client = TcpStream::connect(proxy.address()).await?;
//! client.write_all(b"hello").await?;
//! let mut received = Vec::new();
//! server.accept().await?.0.read_to_end(&mut received).await?;
//! assert_eq!(received, b"hel");
//! assert_eq!(proxy.struck(), 1);
//! # Ok(()) }
//! ```

mod pump;

use crate::cluster::Rng;
use crate::wait::PATIENCE;
use pump::{Flow, Way};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

/// What happens to the bytes of one direction. Positions count from the connection's first byte in that direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: all bytes pass.
    #[default]
    Pass,
    /// Both sides see the connection end after this many bytes.
    Cut {
        /// Bytes that pass.
        at: u64,
    },
    /// Both sides see the connection reset after this many bytes; what the kernel had not delivered yet is lost.
    Reset {
        /// Bytes that pass.
        at: u64,
    },
    /// This direction ends after this many bytes, the other one goes on.
    HalfClose {
        /// Bytes that pass.
        at: u64,
    },
    /// After this many bytes no more pass, and nobody is told, until [`Connection::release`].
    Stall {
        /// Bytes that pass.
        at: u64,
    },
    /// After this many bytes the rest is taken and goes nowhere, and nobody is told.
    Swallow {
        /// Bytes that pass.
        at: u64,
    },
    /// One bit arrives changed.
    Flip {
        /// The byte's position.
        at: u64,
        /// The bit, 0 to 7.
        bit: u8,
    },
    /// Bytes pass in pieces of this size, each after a pause.
    Drip {
        /// Bytes at a time.
        piece: usize,
        /// Before each piece.
        pause: Duration,
    },
}

/// The faults of a connection, one for each direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// What happens to the client's bytes.
    pub to_server: Fault,
    /// What happens to the server's bytes.
    pub to_client: Fault,
}

/// A connection that has come, as a plan sees it.
#[derive(Debug)]
pub struct Opening<'a> {
    /// The how manieth connection it is, from 0.
    pub number: u64,
    /// The first bytes of the client, at most 64.
    pub first: &'a [u8],
}

/// A proxy in front of one address. Dropping it closes its port and its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    door: mpsc::UnboundedSender<Door>,
    accepting: AbortHandle,
}

/// What the listener is told, and who waits for it to be done.
struct Door {
    open: bool,
    done: oneshot::Sender<()>,
}

/// A living connection through a [`Proxy`].
#[derive(Debug, Clone)]
pub struct Connection {
    number: u64,
    first: Arc<[u8]>,
    flow: Arc<watch::Sender<Flow>>,
    forwarded: Arc<AtomicU64>,
}

type Plan = Box<dyn FnMut(&Opening<'_>) -> Faults + Send>;

struct Shared {
    target: SocketAddr,
    plan: Mutex<Plan>,
    connections: Mutex<Vec<Connection>>,
    accepted: AtomicU64,
    struck: AtomicU64,
}

impl Proxy {
    /// Listens on a free port of the loopback interface, for connections to `target`.
    ///
    /// # Errors
    ///
    /// The error of the system, if no port can be had.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            plan: Mutex::new(Box::new(|_| Faults::default())),
            connections: Mutex::default(),
            accepted: AtomicU64::new(0),
            struck: AtomicU64::new(0),
        });
        let (door, orders) = mpsc::unbounded_channel();
        let accepting = tokio::spawn(accept_loop(listener, orders, shared.clone())).abort_handle();
        Ok(Self { address, shared, door, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Refuses connections from now on, as if nothing listened here. Those there are go on.
    pub async fn shut(&self) {
        self.turn(false).await;
    }

    /// Takes connections again.
    pub async fn open(&self) {
        self.turn(true).await;
    }

    async fn turn(&self, open: bool) {
        let (done, turned) = oneshot::channel();
        let _ = self.door.send(Door { open, done });
        turned.await.expect("the proxy can listen on its own port");
    }

    /// Chooses the faults of connections that come from now on.
    pub fn plan(&self, plan: impl FnMut(&Opening<'_>) -> Faults + Send + 'static) {
        *lock(&self.shared.plan) = Box::new(plan);
    }

    /// Ends every connection that comes from now on at a random byte in either direction, before the one that `end`
    /// names for it, in one of the ways that networks have. The same seed, the same bytes.
    pub fn plan_cuts(&self, seed: u64, mut end: impl FnMut(&Opening<'_>) -> u64 + Send + 'static) {
        let mut rng = Rng::new(seed);
        self.plan(move |opening| {
            let end = end(opening);
            let mut fault = || {
                let at = rng.below(end);
                rng.pick(&[Fault::Cut { at }, Fault::Reset { at }, Fault::HalfClose { at }])
            };
            Faults { to_server: fault(), to_client: fault() }
        });
    }

    /// Lets everything pass from now on, on new connections.
    pub fn plan_none(&self) {
        self.plan(|_| Faults::default());
    }

    /// Living connections, oldest first.
    pub fn connections(&self) -> Vec<Connection> {
        lock(&self.shared.connections).clone()
    }

    /// Connections that have come.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Faults that have struck, those by [`Connection::cut`] and its like included. A test of faults has to make sure
    /// that there were some.
    pub fn struck(&self) -> u64 {
        self.shared.struck.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Connection {
    /// The how manieth connection of its proxy it is, from 0.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The first bytes of the client, at most 64.
    pub fn first(&self) -> &[u8] {
        &self.first
    }

    /// Bytes that have passed, in both directions together.
    pub fn forwarded(&self) -> u64 {
        self.forwarded.load(Ordering::Relaxed)
    }

    /// Ends it for both sides.
    pub fn cut(&self) {
        self.flow.send_replace(Flow::Cut);
    }

    /// Resets it for both sides.
    pub fn reset(&self) {
        self.flow.send_replace(Flow::Reset);
    }

    /// Lets nothing pass any more, in either direction, without telling anybody.
    pub fn stall(&self) {
        self.tell(Flow::Held);
    }

    /// Takes what comes from now on, in either direction, and passes nothing on, without telling anybody.
    pub fn swallow(&self) {
        self.tell(Flow::Swallowed);
    }

    /// Undoes [`Connection::stall`], and [`Fault::Stall`] if it has struck.
    pub fn release(&self) {
        self.tell(Flow::Released);
    }

    /// One that was told to end before still ends.
    fn tell(&self, told: Flow) {
        self.flow.send_if_modified(|flow| {
            let goes_on = !matches!(*flow, Flow::Cut | Flow::Reset);
            if goes_on {
                *flow = told;
            }
            goes_on
        });
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("target", &self.target).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept_loop(
    mut listener: TcpListener,
    mut door: mpsc::UnboundedReceiver<Door>,
    shared: Arc<Shared>,
) {
    let mut connections = JoinSet::new(); // ends them when this task does
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { return };
                let number = shared.accepted.fetch_add(1, Ordering::Relaxed);
                connections.spawn(serve(client, number, shared.clone()));
                while connections.try_join_next().is_some() {}
            }
            order = door.recv() => {
                let Some(Door { open, done }) = order else { return };
                if open {
                    let _ = done.send(());
                    continue;
                }
                let Some(opened) = away(listener, done, &mut door).await else { return };
                listener = opened;
            }
        }
    }
}

/// Refuses until told to listen again. The port stays taken.
async fn away(
    listener: TcpListener,
    done: oneshot::Sender<()>,
    door: &mut mpsc::UnboundedReceiver<Door>,
) -> Option<TcpListener> {
    let address = listener.local_addr().ok()?;
    drop(listener);
    let socket = bound(address).await?;
    let _ = done.send(());
    loop {
        let Door { open, done } = door.recv().await?;
        if open {
            let listener = socket.listen(1024).ok()?;
            let _ = done.send(());
            return Some(listener);
        }
        let _ = done.send(());
    }
}

/// A socket at an address at which one has listened until now. A process that another thread starts has copies of all descriptors, of
/// that listener too, until its program is loaded: so long the address is taken, and connections would not be refused.
async fn bound(address: SocketAddr) -> Option<TcpSocket> {
    let patience = Instant::now() + PATIENCE;
    loop {
        let socket = TcpSocket::new_v4().ok()?;
        socket.set_reuseaddr(true).ok()?;
        match socket.bind(address) {
            Ok(()) => return Some(socket),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < patience => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Err(_) => return None,
        }
    }
}

/// One connection, from its first bytes to its end.
async fn serve(client: TcpStream, number: u64, shared: Arc<Shared>) {
    let mut first = [0; 64];
    let Ok(len) = client.peek(&mut first).await else { return };
    let first = &first[..len];
    let faults = (lock(&shared.plan))(&Opening { number, first });
    let Ok(server) = TcpStream::connect(shared.target).await else { return };
    let (flow, mut orders) = watch::channel(Flow::Open);
    let connection = Connection {
        number,
        first: first.into(),
        flow: Arc::new(flow),
        forwarded: Arc::new(AtomicU64::new(0)),
    };
    lock(&shared.connections).push(connection.clone());
    for stream in [&client, &server] {
        // A socket that is gone already shows in what follows.
        let _ = stream.set_nodelay(true);
    }
    let way = |from, to, fault| {
        let (flow, counter) = (connection.flow.subscribe(), &connection.forwarded);
        Way { from, to, fault, flow, forwarded: counter, struck: &shared.struck, swallowing: false }
    };
    let (up, down) = (way(&client, &server, faults.to_server), way(&server, &client, faults.to_client));
    let end = tokio::select! {
        biased; // what it is told counts before what comes
        end = pump::ordered(&mut orders) => {
            shared.struck.fetch_add(1, Ordering::Relaxed);
            Some(end)
        }
        end = async { tokio::try_join!(up.run(), down.run()) } => end.err(),
    };
    if end == Some(Flow::Reset) {
        for stream in [&client, &server] {
            let _ = stream.set_zero_linger();
        }
    }
    lock(&shared.connections).retain(|other| other.number != number);
}

#[cfg(test)]
mod tests;
