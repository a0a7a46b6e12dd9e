//! One typed error per operation. Each names the thing and the way out.
//!
//! What an error displays includes its cause. So none has a `source()` that would say it once more, where chains are printed.

use bytes::Bytes;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use teleport_etf::{DecodeError, Term};
use teleport_proto::NodeName;
use teleport_proto::handshake::{HandshakeError, UnusableCookie};
use teleport_proto::membership::EndReason;

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The node's name is invalid.
    #[error(transparent)]
    Name(#[from] teleport_proto::InvalidNodeName),
    /// The cookie is of no use.
    #[error(transparent)]
    Cookie(#[from] UnusableCookie),
    /// No cookie was given.
    #[error("node {0} has no cookie; give it the cluster's with NodeBuilder::cookie")]
    NoCookie(NodeName),
    /// A field of the configuration is out of its range.
    #[error("the configuration's {field} is out of range; it takes {allowed}")]
    Config {
        /// The field.
        field: &'static str,
        /// What it takes.
        allowed: &'static str,
    },
    /// The kernel does not have the congestion control.
    #[error(
        "no congestion control {name:?}: {cause}; see net.ipv4.tcp_available_congestion_control for what the kernel has"
    )]
    Congestion {
        /// As configured.
        name: String,
        /// What the system said.
        cause: io::Error,
    },
    /// The address to listen on is taken, or not ours.
    #[error("cannot listen on {address}: {cause}; choose another address, or port 0 for any free one")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
    /// TLS cannot be had as configured.
    #[error("TLS as configured cannot be had: {0}")]
    Tls(#[from] TlsError),
    /// The system gave no thread, timer or random bytes.
    #[error("the system did not give what a node needs ({what}): {cause}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        cause: io::Error,
    },
}

/// What is wrong with TLS, of a node or of a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {why}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// What was configured is of no use.
    #[error("the {what} cannot be used: {why}")]
    Unusable {
        /// What it should be.
        what: &'static str,
        /// Why it is not.
        why: String,
    },
    /// The handshake failed on this side: the other end's certificate is by nobody we trust, say, or has expired.
    #[error("no TLS: {0}")]
    Failed(String),
    /// The other end ended it, and said why.
    #[error(
        "the other end refused TLS with us ({0}): see its log, and check our certificate and its authorities"
    )]
    Refused(String),
    /// The connection ended in the middle of the handshake.
    #[error(
        "the other end closed the connection in TLS' handshake: {}",
        if *.heard { "see its log" } else { "it has no TLS, or is no teleport node" }
    )]
    Closed {
        /// Whether it had said anything.
        heard: bool,
    },
    /// The certificate is another node's.
    #[error(
        "its certificate is not for {name}, but for {named}: it needs the URI teleport://{name}, or the host as DNS name"
    )]
    WrongName {
        /// The node's name.
        name: NodeName,
        /// What the certificate names.
        named: String,
    },
    /// The other end takes no plain connections.
    #[error("the other end wants TLS: configure certificates on this node, as there")]
    Wanted,
    /// A plain connection has come, or would have to be opened, and is not allowed.
    #[error("it comes without TLS, which this node is not configured to take: configure TLS there")]
    Plain,
    /// A plain connection though both ends have TLS.
    #[error("both ends have TLS, and the connection is a plain one: something in between keeps TLS away")]
    Downgraded,
}

/// Why a name could not be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// Another mailbox has it.
    #[error("the name {0:?} is registered already; choose another one, or drop the mailbox that has it")]
    Taken(String),
    /// Longer than 255 bytes, or empty.
    #[error("a registered name has 1 to 255 bytes, {0:?} has not")]
    Length(String),
    /// The node has been shut down.
    #[error("the node has been shut down")]
    NotRunning,
}

/// Why there is no connection to a peer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The resolver does not know the node.
    #[error("nobody knows where {0} listens: check the name, that it runs, and where peers are configured")]
    UnknownNode(NodeName),
    /// No address answered, or the answer was no.
    #[error("cannot connect to {peer} at {address}: {cause}; is the node running, and the port right?")]
    Connect {
        /// The peer.
        peer: NodeName,
        /// Where it should be.
        address: SocketAddr,
        /// What the system said.
        cause: Arc<io::Error>,
    },
    /// The connection ended in the middle of the handshake.
    #[error("{address} closed the connection during the handshake with {peer}; is that a teleport node?")]
    Closed {
        /// The peer.
        peer: NodeName,
        /// Where it should be.
        address: SocketAddr,
    },
    /// It took too long.
    #[error(
        "setting up the connection to {peer} took longer than {limit:?}: {}; check the network, and that its port is a teleport node's",
        listed(.tried)
    )]
    Timeout {
        /// The peer.
        peer: NodeName,
        /// The limit.
        limit: Duration,
        /// What has become of its addresses by then. Empty if even the resolver had not answered.
        tried: Vec<Tried>,
    },
    /// There is a session, and not all connections of its pool. They are tried further.
    #[error(
        "{open} connections of the pool with {peer} are open after {limit:?}, and others missing: check the peer, and the log of both"
    )]
    Incomplete {
        /// The peer.
        peer: NodeName,
        /// The limit.
        limit: Duration,
        /// Connections for messages, small or large, that are open.
        open: usize,
    },
    /// None of several addresses is the way.
    #[error("none of the addresses leads to {peer}: {}", listed(.tried))]
    Nowhere {
        /// The peer.
        peer: NodeName,
        /// The addresses, in their order.
        tried: Vec<Tried>,
    },
    /// The handshake failed.
    #[error("the handshake with {peer} at {address} failed: {cause}")]
    Handshake {
        /// The peer.
        peer: NodeName,
        /// Where it should be.
        address: SocketAddr,
        /// Why.
        cause: HandshakeError,
    },
    /// TLS could not be set up.
    #[error("no connection to {peer} at {address}: {cause}")]
    Tls {
        /// The peer.
        peer: NodeName,
        /// Where it should be.
        address: SocketAddr,
        /// Why.
        cause: TlsError,
    },
    /// This node has no cookie for the peer: its source of cookies has none.
    #[error("this node has no cookie for {0}: set one that is the same on both")]
    NoCookie(NodeName),
    /// This node has been shut down.
    #[error("this node has been shut down")]
    NotRunning,
    /// A node does not connect to itself.
    #[error("{0} is this node itself; send to its names and pids directly")]
    OwnName(NodeName),
    /// There was a session, and it ended while its connections were being set up or looked into.
    #[error("{peer} went down meanwhile: {reason}")]
    NodeDown {
        /// The peer.
        peer: NodeName,
        /// Why the session ended.
        reason: EndReason,
    },
}

/// One of a peer's addresses, and why it was not the way.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Tried {
    /// The address.
    pub address: SocketAddr,
    /// Why it was not the way.
    pub error: AddressError,
}

/// Why an address was not the way to a peer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// No answer has come at all, as where packets are dropped.
    #[error("no answer")]
    Unanswered,
    /// It accepts connections, and says nothing.
    #[error("it accepts connections and says nothing, like a stopped process, or no teleport node")]
    Mute,
    /// The connection could not be made, or broke.
    #[error("{0}")]
    Failed(Arc<io::Error>),
    /// The connection ended in the middle of the handshake.
    #[error("it closed the connection during the handshake, like no teleport node")]
    Closed,
    /// The handshake failed: another node listens there, say.
    #[error("{0}")]
    Handshake(HandshakeError),
    /// TLS could not be set up.
    #[error("{0}")]
    Tls(TlsError),
}

impl AddressError {
    /// Nothing listens there.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Failed(cause) if cause.kind() == io::ErrorKind::ConnectionRefused)
    }

    /// This host has no way to such addresses, such as those of IPv6: that says nothing of the peer.
    pub(crate) fn is_of_this_host(&self) -> bool {
        matches!(self, Self::Failed(cause) if is_of_this_host(cause))
    }
}

/// See [`AddressError::is_of_this_host`].
pub(crate) fn is_of_this_host(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable)
        || cause.raw_os_error() == Some(nix::libc::EAFNOSUPPORT)
}

impl Tried {
    /// As the one reason why there is no connection.
    pub(crate) fn alone(self, peer: &NodeName) -> ConnectError {
        let (peer, address) = (peer.clone(), self.address);
        match self.error {
            AddressError::Failed(cause) => ConnectError::Connect { peer, address, cause },
            AddressError::Closed => ConnectError::Closed { peer, address },
            AddressError::Handshake(cause) => ConnectError::Handshake { peer, address, cause },
            AddressError::Tls(cause) => ConnectError::Tls { peer, address, cause },
            AddressError::Unanswered | AddressError::Mute => {
                ConnectError::Nowhere { peer, tried: vec![self] }
            }
        }
    }
}

impl ConnectError {
    /// Whether the peer was not reached: it has not said no.
    pub(crate) fn is_no_way(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Closed { .. } | Self::Timeout { .. } | Self::Nowhere { .. } => true,
            Self::Tls { cause, .. } => matches!(cause, TlsError::Closed { .. } | TlsError::WrongName { .. }),
            Self::Handshake { cause, .. } => {
                matches!(cause, HandshakeError::WrongNode { .. } | HandshakeError::NotTeleport { .. })
            }
            _ => false,
        }
    }

    /// Whether somebody listens at an address of the peer who has hung up at the first bytes, or has said something that is not of
    /// this protocol.
    pub fn is_foreign(&self) -> bool {
        let foreign = |error: &AddressError| {
            matches!(
                error,
                AddressError::Closed | AddressError::Handshake(HandshakeError::NotTeleport { .. })
            )
        };
        match self {
            Self::Closed { .. } | Self::Handshake { cause: HandshakeError::NotTeleport { .. }, .. } => true,
            Self::Nowhere { tried, .. } => tried.iter().any(|tried| foreign(&tried.error)),
            _ => false,
        }
    }

    /// What it means that none of the addresses is the way. `None` if there are none.
    pub(crate) fn of_all(peer: &NodeName, mut tried: Vec<Tried>) -> Option<Self> {
        if tried.len() > 1 {
            return Some(Self::Nowhere { peer: peer.clone(), tried });
        }
        Some(tried.pop()?.alone(peer))
    }
}

fn listed(tried: &[Tried]) -> String {
    if tried.is_empty() {
        return "nobody has said in time where it listens".into();
    }
    let said: Vec<_> = tried.iter().map(|Tried { address, error }| format!("{address}: {error}")).collect();
    said.join("; ")
}

/// Why a message was not sent. Nothing of it was: it is never half sent.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The destination is a pid of a node whose name no node can have.
    #[error(transparent)]
    Name(#[from] teleport_proto::InvalidNodeName),
    /// No registered name is that long.
    #[error("the destination's name has {0} bytes, 255 are allowed")]
    NameTooLong(usize),
    /// The message has no form in the external term format.
    #[error("the message cannot be encoded: {0}")]
    Encode(teleport_etf::EncodeError),
    /// Larger than the two nodes have agreed on.
    #[error(
        "the message has {size} bytes, {limit} are allowed; send it in parts, or raise max_message on both nodes"
    )]
    TooLarge {
        /// Bytes of the encoded message.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// There is no session with the peer, and none could be set up.
    #[error("not connected: {0}")]
    NoConnection(ConnectError),
    /// There is no session with the peer, and `noconnect` was asked for.
    #[error("there is no session with {peer}; send without noconnect to set one up")]
    NotConnected {
        /// The peer.
        peer: NodeName,
    },
    /// The session ended while the message was waiting to be accepted.
    #[error("{peer} went down before the message was accepted: {reason}")]
    NodeDown {
        /// The peer.
        peer: NodeName,
        /// Why the session ended.
        reason: EndReason,
    },
    /// It would have had to wait, and `nosuspend` was asked for.
    #[error(
        "the way to the destination is full, or its session is still being set up; try again later, or send without nosuspend"
    )]
    Busy,
    /// It waited for as long as it was told to, for the session or for room.
    #[error("not accepted within {0:?}; the peer takes too little or is not reached in time")]
    Timeout(Duration),
    /// This node has been shut down.
    #[error("this node has been shut down")]
    NotRunning,
}

/// Why a message that was accepted is not known to be delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// There is no such process.
    #[error("there is no such process")]
    NoProcess,
    /// The session ended first. The message may or may not have been delivered.
    #[error("{peer} went down before delivery was confirmed: {reason}; the message may have arrived")]
    Unconfirmed {
        /// The peer.
        peer: NodeName,
        /// Why the session ended.
        reason: EndReason,
    },
}

/// Why an answer was not sent. A caller who is gone is no error.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The caller is a process of a node whose name no node can have.
    #[error(transparent)]
    Name(#[from] teleport_proto::InvalidNodeName),
    /// The answer has no form in the external term format. The caller is told.
    #[error("the message cannot be encoded: {0}")]
    Encode(teleport_etf::EncodeError),
    /// Larger than the two nodes have agreed on. The caller is told.
    #[error(
        "the message has {size} bytes, {limit} are allowed; send it in parts, or raise max_message on both nodes"
    )]
    TooLarge {
        /// Bytes of the encoded answer.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The caller's node does not take its answers: too many wait for this one to be kept. The caller is told.
    #[error(
        "the answers to the caller's node are not being taken: {waiting} bytes wait; find out why, or raise answers_window"
    )]
    NotTaken {
        /// Bytes of the answers that it has not taken.
        waiting: u64,
    },
    /// This node has been shut down.
    #[error("this node has been shut down")]
    NotRunning,
}

/// Why a call or a monitor was not begun: its message was not sent.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// There is no such process.
    #[error("there is no such process")]
    NoProcess,
    /// The message was not sent.
    #[error(transparent)]
    Send(#[from] SendError),
}

/// Why a process is not monitored. That it does not exist, or is not reached, is told by a [`Down`](crate::Down) instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MonitorError {
    /// It is a pid of a node whose name no node can have.
    #[error(transparent)]
    Name(#[from] teleport_proto::InvalidNodeName),
    /// No registered name is that long.
    #[error("the name to monitor has {0} bytes, 255 are allowed")]
    NameTooLong(usize),
    /// This node has been shut down.
    #[error("this node has been shut down")]
    NotRunning,
}

/// Why a call has no reply. Every call ends exactly once, with a reply or one of these.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The request was not sent.
    #[error("the request was not sent: {0}")]
    Send(SendError),
    /// No reply within the time given. The server may have got the request; a reply that still comes is dropped.
    #[error("no reply within {0:?}; the server may still be at it")]
    Timeout(Duration),
    /// There is no such process, or name; or the server has itself ended with the reason `noproc`.
    #[error("there is no such process")]
    NoProcess,
    /// The server ended before it answered; this is its exit reason.
    #[error("the server ended before it answered: {0:?}")]
    Exit(Term),
    /// The server goes on, but this request is not going to be answered: it could not be read, say.
    #[error("the request was rejected: {0}")]
    Rejected(String),
    /// The server's node went down, or the session with it ended. The server may have got the request.
    #[error("{peer} went down before it answered: {reason}; the server may have got the request")]
    NodeDown {
        /// The peer.
        peer: NodeName,
        /// Why the session ended.
        reason: EndReason,
    },
    /// A process cannot wait for an answer from itself.
    #[error("a process called itself, which would wait for ever; call a function instead, or send")]
    CallingSelf,
    /// The reply is of another type than the caller expects.
    #[error("the reply is not of the type that was asked for: {0}")]
    Reply(DecodeError),
}

impl From<teleport_etf::EncodeError> for SendError {
    fn from(error: teleport_etf::EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl From<teleport_etf::EncodeError> for ReplyError {
    fn from(error: teleport_etf::EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl From<ConnectError> for SendError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::NotRunning => Self::NotRunning,
            ConnectError::NodeDown { peer, reason } => Self::NodeDown { peer, reason },
            error => Self::NoConnection(error),
        }
    }
}

impl From<SendError> for CallError {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

impl CallError {
    /// What a DOWN in place of a reply means.
    pub(crate) fn from_reason(reason: &Bytes) -> Self {
        let reason = Term::decode(reason).unwrap_or_else(|_| Term::atom("undefined"));
        if reason == Term::atom("noproc") { Self::NoProcess } else { Self::Exit(reason) }
    }

    /// What a rejection says.
    pub(crate) fn from_rejection(why: &Bytes) -> Self {
        Self::Rejected(teleport_etf::from_bytes(why).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;
    use teleport_etf::EncodeError;

    /// An error and what is behind it, as programs print it.
    fn chain(error: &dyn Error) -> String {
        std::iter::successors(Some(error), |error: &&dyn Error| (*error).source())
            .map(|error| format!("{error}: "))
            .collect()
    }

    #[test]
    fn a_cause_is_said_once() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let peer = || "b@127.0.0.1".parse::<NodeName>().expect("a name");
        let address: SocketAddr = "127.0.0.1:1".parse().expect("an address");
        let connect = || ConnectError::Connect { peer: peer(), address, cause: Arc::new(refused()) };
        let handshake = || ConnectError::Handshake {
            peer: peer(),
            address,
            cause: HandshakeError::Cookie { peer: peer() },
        };
        let send = |error: ConnectError| CallError::Send(error.into());
        let errors: [(Box<dyn Error>, &str); 9] = [
            (Box::new(send(connect())), "connection refused"),
            (Box::new(send(handshake())), "set the same cookie"),
            (Box::new(SendError::NoConnection(connect())), "connection refused"),
            (Box::new(RequestError::Send(connect().into())), "connection refused"),
            (Box::new(ReplyError::Encode(EncodeError::NestedLocal)), "local format"),
            (Box::new(CallError::Reply(DecodeError::Version { found: None })), "begins with"),
            (Box::new(StartError::Listen { address, cause: refused() }), "connection refused"),
            (
                Box::new(StartError::Congestion { name: "snail".into(), cause: refused() }),
                "connection refused",
            ),
            (Box::new(StartError::System { what: "threads", cause: refused() }), "connection refused"),
        ];
        for (error, cause) in errors {
            let said = chain(&*error);
            assert_eq!(said.matches(cause).count(), 1, "{said}");
        }
    }
}
