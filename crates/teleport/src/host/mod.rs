//! The seam to a host, which has processes of its own: what it is handed, and how it answers.

mod arrivals;
mod newcomer;
mod receipt;

pub(crate) use arrivals::Arrivals;
pub(crate) use newcomer::CloseOnDrop;
pub use newcomer::{Close, Newcomer};
pub use receipt::Receipt;

use crate::base::encoding::encode;
use crate::base::lock::{assert_may_call_out, must_not_wait};
use crate::io::buffers::Provider;
pub use crate::local::watch::End;
use crate::local::watch::{HostedWaiters, Purpose, Via, reason};
pub use crate::local::{Accepted, Backlog, Carry};
use crate::local::{Peer, Unsent};
use crate::{Incarnation, NodeName, ReplyError, SendError};
use bytes::Bytes;
use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use teleport_etf::{Pid, Segments};
use teleport_proto::transfer::Outgoing;
pub use teleport_proto::transfer::{Bodies, Foreign, Piece};
use teleport_proto::wire::envelope::{Destination, Kind, ProcessId, RefId};

/// What has processes of its own. All functions are called on the node's threads.
pub trait Host: Send + Sync + 'static {
    /// The process that is meant, if it lives.
    ///
    /// Asked for every message, with a session locked: it must only look the process up, and must not call the node.
    fn find(&self, to: &Destination) -> Option<ProcessId>;

    /// Whether the host may be unable to deliver this at once, when it [takes](Self::take) it: then it counts as delivered,
    /// and returns its room in the peer's window, when its [`Receipt`] is dropped. Until then the host keeps what comes
    /// behind it in order: what it is asked about for the same process, over the same session, it should defer too.
    ///
    /// Asked about everything up to 64 KiB, in the order in which it will be taken, with a session locked: as for
    /// [`find`](Self::find). Default: nothing is deferred.
    fn defers(&self, _origin: &Origin, _arriving: &Arriving<'_>) -> bool {
        false
    }

    /// Something from a peer, in its place: what was sent from one process to another comes in the order it was sent in.
    ///
    /// Called under none of the node's locks, so it may call [`Embedded`](crate::embed::Embedded). It must
    /// not wait for a process of the host: what takes long is done elsewhere, and the [`Receipt`] dropped
    /// when it is done. Meanwhile no large message comes that has to come behind it; for small ones see
    /// [`defers`](Self::defers).
    fn take(&self, inbound: Inbound);

    /// Memory for a [carried](Inbound::Carried) message of more than 64 KiB, of this many bytes, whatever `max_message` is. Default: none,
    /// and the node's is used, for messages up to `max_message`.
    ///
    /// Called with a session locked: it must only allocate.
    fn memory(&self, _len: usize) -> Option<Box<dyn Foreign>> {
        None
    }

    /// Whether the host takes connections of distributed Erlang over sessions, as [`Inbound::Carried`]. Peers are told when a session
    /// begins. Asked for when the node starts. Default: no.
    fn carries(&self) -> bool {
        false
    }

    /// Whether the host takes [connections](Self::distribution) of distributed Erlang, and is [carried](Inbound::Carried) messages of any
    /// size. Default: no.
    ///
    /// Also called with a session locked: it must only look.
    fn takes_distribution(&self) -> bool {
        false
    }

    /// A connection to the node's address that begins like distributed Erlang's handshake. Nothing of it has been read. Called
    /// under none of the node's locks, if the host [takes](Self::takes_distribution) them. It is one of the newcomers, and may have to make
    /// room for another one before it has proved itself: then what this returns is called. Default: it is closed.
    fn distribution(&self, _connection: TcpStream, _newcomer: Newcomer) -> Option<Close> {
        None
    }

    /// A session has ended: nothing comes over it any more. Called under none of the node's locks. Default: nothing.
    fn session_ended(&self, _origin: &Origin) {}
}

/// What is about to come to a [`Host`].
#[derive(Debug, Clone, Copy)]
pub enum Arriving<'a> {
    /// [`Inbound::Message`]: for whom, and the encoded term.
    Message(ProcessId, &'a [u8]),
    /// The same, and its sender is told when it has been delivered. If it is not deferred, that may be said a moment before it is taken.
    Acknowledged(ProcessId, &'a [u8]),
    /// [`Inbound::Request`], likewise.
    Request(ProcessId, &'a [u8]),
    /// [`Inbound::Monitor`], of that process.
    Monitor(ProcessId),
    /// [`Inbound::Ended`]: of that call or monitor, and the encoded term that comes with it.
    Ended(RefId, &'a [u8]),
}

/// What comes to a [`Host`].
///
/// A host may keep a body, or slices of it, for as long as it likes, also after the node has stopped: a body owns its memory.
/// That of a large one goes back to the node's pool of buffers when the last slice is dropped. That of a small one may be much more
/// than the body, and should be copied to be kept, unless the host has [deferred](Host::defers) it.
#[derive(Debug)]
pub enum Inbound {
    /// A message.
    Message {
        /// Whose mailbox it is for.
        to: ProcessId,
        /// The encoded term.
        body: Bytes,
        /// The session that it comes from.
        origin: Origin,
        /// To be dropped when it is in the mailbox.
        receipt: Receipt,
    },
    /// A message that is answered. The process has to be watched from now on: if it ends without having answered, that is the
    /// answer.
    Request {
        /// Whose mailbox it is for.
        to: ProcessId,
        /// The encoded term: a tuple of three whose second element is `{Pid, [alias|Ref]}`.
        body: Bytes,
        /// To be answered.
        watch: Watch,
        /// The session that it comes from.
        origin: Origin,
        /// To be dropped when it is in the mailbox.
        receipt: Receipt,
    },
    /// A process has to be watched from now on.
    Monitor {
        /// To be answered when it has ended.
        watch: Watch,
        /// To be dropped when it is watched.
        receipt: Receipt,
    },
    /// The answer to that request or monitor is not awaited any more.
    Unwatched {
        /// The process that was watched.
        process: ProcessId,
        /// As in [`Watch::id`].
        watch: u64,
    },
    /// Messages of connections of distributed Erlang, sent by [`Origin::carry`].
    Carried {
        /// The session that they come from.
        origin: Origin,
        /// In their order.
        messages: Vec<CarriedMessages>,
    },
    /// A call or monitor of one of the host's processes has ended. Comes once for each that was begun and not cancelled.
    Ended {
        /// As given to [`Embedded::request`](crate::embed::Embedded::request) or [`Embedded::monitor`](crate::embed::Embedded::monitor).
        reference: RefId,
        /// How.
        end: End,
        /// The session that it came over, if it came from a peer.
        origin: Option<Origin>,
        /// To be dropped when the process has been told.
        receipt: Receipt,
    },
}

impl Inbound {
    /// What is to be dropped when it is done, if there is one such thing for all of it.
    pub fn receipt(&self) -> Option<&Receipt> {
        match self {
            Self::Message { receipt, .. }
            | Self::Request { receipt, .. }
            | Self::Monitor { receipt, .. }
            | Self::Ended { receipt, .. } => Some(receipt),
            Self::Unwatched { .. } | Self::Carried { .. } => None,
        }
    }
}

/// The session that something came over.
#[derive(Clone)]
pub struct Origin(pub(crate) Arc<dyn Peer>);

impl Origin {
    /// The peer.
    pub fn peer(&self) -> &NodeName {
        self.0.name()
    }

    /// The session's number, which no other session of this program's life has.
    pub fn id(&self) -> u64 {
        self.0.number()
    }

    /// The address that it comes from, of IPv6 the network: unlike the peer's name, nobody makes it up.
    pub fn place(&self) -> IpAddr {
        self.0.source().address()
    }

    /// Delivers something, unless the end of the session has been told; and it is not told meanwhile. So nothing comes to a
    /// process behind the end of the session that it has come over. `deliver` should only send, and must not call the node.
    pub fn while_up<R>(&self, deliver: impl FnOnce() -> R) -> Option<R> {
        self.0.up().then(deliver)
    }
}

impl Origin {
    /// The peer's life.
    pub fn incarnation(&self) -> Incarnation {
        self.0.incarnation()
    }

    /// Where the peer's end of the last control connection was.
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.address()
    }

    /// When the last byte came from the peer, in milliseconds of the node's clock.
    pub fn last_heard(&self) -> u64 {
        self.0.last_heard().as_millis() as u64
    }

    /// Whether both ends of the session [carry](Host::carries) connections of distributed Erlang.
    pub fn carries(&self) -> bool {
        self.0.carries()
    }

    /// Has the peer say something, which makes it [heard](Self::last_heard), unless that is awaited of it already.
    pub fn ask(&self) {
        self.0.ask();
    }

    /// Warns, at most once a minute, that a connection of distributed Erlang that the peer has opened was closed, and why.
    pub fn warn_of_carried(&self, why: &str) {
        self.0.warn_of_carried(why);
    }

    /// Sends messages of a connection of distributed Erlang, which come as [`Inbound::Carried`], one behind the other as far as
    /// they say so. `accepted` is called, on a thread of the node, for what waits for room, with what does no longer;
    /// returns what waits.
    ///
    /// # Errors
    ///
    /// [`SendError::NodeDown`] when the session has ended, [`SendError::TooLarge`] when one is larger than both nodes take,
    /// and [`SendError::NotRunning`] while the node stops. Those before it are sent.
    pub fn carry<'a>(
        &self,
        messages: impl IntoIterator<Item = Carry<'a>>,
        accepted: &Accepted,
    ) -> Result<Backlog, SendError> {
        let _hurry = must_not_wait();
        self.0.clone().carry(&mut messages.into_iter(), accepted)
    }
}

/// Messages of a connection of distributed Erlang that have come: a large one, or small ones that follow one another.
#[derive(Debug)]
pub struct CarriedMessages {
    /// Which connection, and what they are, as their sender said.
    pub to: ProcessId,
    /// What was sent.
    pub bodies: Bodies,
    /// To be dropped when they have been taken.
    pub receipt: Receipt,
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Origin {}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Origin").field(self.peer()).finish()
    }
}

/// The host that a node is embedded in, and the numbers of watches.
pub(crate) struct Hosting {
    pub(crate) host: Arc<dyn Host>,
}

/// Goes on when a node is started after another one: a holder of an old number must not meet it again.
static LAST_WATCH: AtomicU64 = AtomicU64::new(0);

/// The number of a new watch.
pub(crate) fn next_watch() -> u64 {
    LAST_WATCH.fetch_add(1, Ordering::Relaxed) + 1
}

impl Hosting {
    /// Calls the host.
    pub(crate) fn take(&self, inbound: Inbound) {
        assert_may_call_out();
        self.host.take(inbound);
    }
}

impl Provider for Hosting {
    fn is_carried(&self) -> bool {
        self.host.takes_distribution()
    }

    fn memory(&self, len: usize) -> Option<Box<dyn Foreign>> {
        self.host.memory(len)
    }
}

impl HostedWaiters for Hosting {
    fn ended(&self, reference: RefId, end: End) {
        self.take(Inbound::Ended { reference, end, origin: None, receipt: Receipt::none() });
    }
}

/// A process of a peer waits to be told of one of the host's: of its answer, or its end.
///
/// Dropped without any of them it says that nobody is going to answer, or of a monitor that it is `noconnection`.
pub struct Watch {
    pub(crate) peer: Arc<dyn Peer>,
    pub(crate) purpose: Purpose,
    pub(crate) id: u64,
    pub(crate) reference: RefId,
    pub(crate) watcher: ProcessId,
    pub(crate) watched: ProcessId,
}

impl Watch {
    /// Its number, which no other watch of this program's life has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The process that waits.
    pub fn watcher(&self) -> Pid {
        self.peer.pid_of(self.watcher)
    }

    /// The process that is watched.
    pub fn watched(&self) -> ProcessId {
        self.watched
    }

    /// The session that it came over.
    pub fn origin(&self) -> Origin {
        Origin(self.peer.clone())
    }

    /// Tells, also when this has been given away, whether the process that waits still does, as far as is known here.
    pub fn awaited(&self) -> impl Fn() -> bool + use<> {
        let (via, reference, number) = (Via::There(self.peer.clone()), self.reference, self.id);
        move || via.has_hosted(reference, number)
    }

    /// Answers a request. Waits for nothing. If nobody waits for it any more, or it is a monitor, the answer vanishes.
    ///
    /// If the answer is too large, the caller is told so, and this returns an error.
    ///
    /// # Errors
    ///
    /// [`ReplyError`] if the answer is too large, or the caller's node does not take its answers.
    pub fn reply(self, body: Segments) -> Result<(), ReplyError> {
        let from = self.watched;
        self.reply_from(from, body)
    }

    /// Answers a request as [`reply`](Self::reply) does, in the name of another process of the host's: the answer comes behind what that
    /// one has sent to the pid of the process that waits.
    ///
    /// # Errors
    ///
    /// Those of [`reply`](Self::reply).
    pub fn reply_from(self, from: ProcessId, body: Segments) -> Result<(), ReplyError> {
        let _hurry = must_not_wait();
        if self.purpose == Purpose::Monitor || !self.end() {
            return Ok(());
        }
        let sent = self.send(from, Kind::Reply(self.reference), body).or_else(Unsent::of_reply);
        sent.inspect_err(|error| self.tell_rejection(from, &error.to_string()))
    }

    /// Says that a request is not going to be answered, though its process goes on: it cannot be read, say. If nobody waits
    /// for it any more, that vanishes. A monitor ends as if this were dropped.
    pub fn reject(self, why: &str) {
        let _hurry = must_not_wait();
        if self.purpose == Purpose::Call && self.end() {
            self.tell_rejection(self.watched, why);
        }
    }

    /// Tells that the watched process has ended, and why. If nobody waits for it any more, that vanishes.
    pub fn down(self, reason: Segments) {
        let _hurry = must_not_wait();
        if self.end() {
            self.tell_down(reason);
        }
    }

    fn tell_down(&self, reason: Segments) {
        let kind = Kind::Down(self.reference);
        Via::There(self.peer.clone()).down(self.watched, self.watcher, kind, reason);
    }

    /// Says to the caller, who is not in the table any more, that nobody is going to answer.
    fn tell_rejection(&self, from: ProcessId, why: &str) {
        // If the session has ended, its calls have too.
        let _ = encode(why).map(|body| self.send(from, Kind::Reject(self.reference), body));
    }

    /// The thread that takes it out of the table is the one to answer.
    fn end(&self) -> bool {
        Via::There(self.peer.clone()).end_hosted(self.reference, self.id)
    }

    fn send(&self, from: ProcessId, kind: Kind, body: Segments) -> Result<(), Unsent> {
        let to = Destination::Process(self.watcher);
        self.peer.send_exempt(Outgoing::of_kind(kind, from, to, body))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _hurry = must_not_wait();
        if self.end() {
            match self.purpose {
                Purpose::Call => {
                    self.tell_rejection(self.watched, "the process that was to watch it is gone");
                }
                Purpose::Monitor => self.tell_down(reason::no_connection()),
            }
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("id", &self.id).field("watched", &self.watched).finish_non_exhaustive()
    }
}
