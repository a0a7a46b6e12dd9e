//! What can go wrong in a handshake, and what to do about it.

use thiserror::Error;

use super::ConnectionKind;
use crate::{InvalidNodeName, NodeName, SessionId};

/// A cookie that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the cookie is empty: set the same secret of at least 16 random characters on every node")]
pub struct UnusableCookie;

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The other end speaks another protocol.
    #[error(
        "the other end does not speak teleport, it sent \"{first_bytes}\": something else uses that address \
         and port; check both"
    )]
    NotTeleport {
        /// What it sent first, at most 16 bytes, with escapes.
        first_bytes: String,
    },

    /// The connection ended in the middle of a frame.
    #[error(
        "the connection ended after {got} of the {expected} bytes of the handshake's {frame}: the other end \
         stopped, ran out of time or turned us away; see its log"
    )]
    Truncated {
        /// The frame.
        frame: &'static str,
        /// Its length.
        expected: usize,
        /// How much of it came.
        got: usize,
    },

    /// A frame that breaks the protocol.
    #[error(
        "the handshake's {frame} has a wrong {field}: the other end is broken, or bytes were changed on the way"
    )]
    Malformed {
        /// The frame.
        frame: &'static str,
        /// What is wrong in it.
        field: &'static str,
    },

    /// A frame with a text in it that is not a node name.
    #[error("the handshake's {frame} names no node: {cause}")]
    BadName {
        /// The frame.
        frame: &'static str,
        /// What is wrong with the name.
        cause: InvalidNodeName,
    },

    /// The two nodes have no protocol version in common.
    #[error(
        "the peer speaks teleport protocol {theirs}, we speak {ours}: upgrade the older of the two nodes"
    )]
    Version {
        /// The version we speak.
        ours: u16,
        /// The version the peer speaks.
        theirs: u16,
    },

    /// The node at that address has another name.
    #[error("{wanted} was wanted, but {reached} was reached: correct the address of {wanted}")]
    WrongNode {
        /// Whom the dialler wanted.
        wanted: NodeName,
        /// The node that answered.
        reached: NodeName,
    },

    /// The peer has our own name.
    #[error("both ends are named {name}: a node cannot connect to itself; give every node a name of its own")]
    OwnName {
        /// The name.
        name: NodeName,
    },

    /// The acceptor could not make sense of our hello.
    #[error(
        "{peer} found our hello malformed: bytes were changed on the way, or the two releases do not fit"
    )]
    HelloRejected {
        /// The acceptor.
        peer: NodeName,
    },

    /// The dialler's proof was wrong.
    #[error("the cookies of {peer} and this node differ: set the same cookie on both")]
    Cookie {
        /// The other node.
        peer: NodeName,
    },

    /// The acceptor did not prove itself.
    #[error(
        "{peer} did not prove that it knows the cookie: the verdict is forged or was changed on the way; check \
         who listens at its address"
    )]
    Unproven {
        /// The node that the acceptor says it is.
        peer: NodeName,
    },

    /// A connection for a session that the acceptor does not have.
    #[error(
        "{peer} has no session {session} with the key that was used: it has ended or restarted since; open a \
         new session"
    )]
    UnknownSession {
        /// The other node.
        peer: NodeName,
        /// The session.
        session: SessionId,
    },

    /// Proved and well-formed, but refused.
    #[error("{peer} refused the connection: {refusal}")]
    Refused {
        /// The node that refused.
        peer: NodeName,
        /// Why.
        refusal: Refusal,
    },

    /// Refused by a newer release for a reason that this one does not know.
    #[error("{peer} refused the connection with the unknown code {code}: upgrade this node to learn why")]
    RefusedUnknown {
        /// The node that refused.
        peer: NodeName,
        /// The code.
        code: u8,
    },
}

/// Why an acceptor refuses a dialler that has proved itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Both dialled at once, and the acceptor's dial counts.
    #[error("it is connecting to us itself")]
    Simultaneous,
    /// There is a session under the name, and it has to show first whether it lives.
    #[error(
        "it still has a session with another node of our name, or with us; that is being checked, try again"
    )]
    NameInUse,
    /// No such session, or not with this node.
    #[error("it does not know the session: open a new one")]
    UnknownSession,
    /// A newer control connection of the session exists.
    #[error("a newer control connection of the session was accepted already")]
    StaleResume,
    /// A pool connection's id was used before.
    #[error("the id of the pool connection was used before: take a new one")]
    ConnectionIdUsed,
    /// The acceptor is going down.
    #[error("it is shutting down")]
    ShuttingDown,
    /// A cap is reached.
    #[error("it has as many connections as it is configured to take: raise its limit or wait")]
    TooManyConnections,
    /// The acceptor has as many sessions that others have opened as it takes.
    #[error(
        "it has as many sessions with others as it takes: raise max_sessions there, have it connect to us, or wait"
    )]
    TooManySessions,
    /// The acceptor's configuration excludes the dialler.
    #[error("its configuration does not allow this node: add it to the list of allowed nodes")]
    NotAllowed,
}

impl Refusal {
    pub(super) fn code(self) -> u8 {
        match self {
            Refusal::Simultaneous => 2,
            Refusal::NameInUse => 3,
            Refusal::UnknownSession => 4,
            Refusal::StaleResume => 5,
            Refusal::ConnectionIdUsed => 6,
            Refusal::ShuttingDown => 7,
            Refusal::TooManyConnections => 8,
            Refusal::NotAllowed => 9,
            Refusal::TooManySessions => 10,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            2 => Refusal::Simultaneous,
            3 => Refusal::NameInUse,
            4 => Refusal::UnknownSession,
            5 => Refusal::StaleResume,
            6 => Refusal::ConnectionIdUsed,
            7 => Refusal::ShuttingDown,
            8 => Refusal::TooManyConnections,
            9 => Refusal::NotAllowed,
            10 => Refusal::TooManySessions,
            _ => return None,
        })
    }
}

/// An acceptor's no: what to send before closing, and why.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{error}")]
pub struct Rejection {
    /// The frame that tells the dialler; `None` if it would not understand: close without a word.
    pub reply: Option<Vec<u8>>,
    /// What was wrong.
    pub error: HandshakeError,
}

impl From<HandshakeError> for Rejection {
    fn from(error: HandshakeError) -> Self {
        Rejection { reply: None, error }
    }
}

/// What a wrong proof means: for a new session the cookie; for a join there is no telling a session that has
/// ended from one with another key.
pub(super) fn not_proven(kind: ConnectionKind, peer: NodeName, session: SessionId) -> HandshakeError {
    match kind {
        ConnectionKind::NewSession => HandshakeError::Cookie { peer },
        ConnectionKind::Resume | ConnectionKind::Express | ConnectionKind::Bulk => {
            HandshakeError::UnknownSession { peer, session }
        }
    }
}
