//! The handshake that every TCP connection begins with.
//!
//! Four frames of fixed size, the same for control and pool connections; both sides prove that they know the
//! cookie (or, for a further connection of a living session, that session's key), the dialler first:
//!
//! | | frame | from | says |
//! |---|---|---|---|
//! | 1 | [`Hello`](HELLO_LEN) | dialler | who I am, whom I want, what this connection is for, a nonce |
//! | 2 | [`Challenge`](CHALLENGE_LEN) | acceptor | who I am, a nonce |
//! | 3 | [`Proof`](PROOF_LEN) | dialler | HMAC over both frames, byte for byte |
//! | 4 | [`Verdict`](VERDICT_LEN) | acceptor | accepted or why not, and an HMAC over all that and the proof |
//!
//! The two machines, [`Dialler`] and [`Acceptor`], hold no socket: bytes go in, bytes come out. Each step
//! consumes the machine and returns the next, so that none can be left out or done twice.
//!
//! ```
//! use teleport_proto::handshake::*;
//! # use std::num::NonZeroU64;
//! # use teleport_proto::Incarnation;
//!
//! # let limits = Limits { max_message: NonZeroU64::MIN, peer_window: NonZeroU64::MIN, mailbox_window: None };
//! # let node = |name: &str, incarnation| LocalNode {
//! #     name: name.parse().unwrap(), incarnation: Incarnation::new(incarnation).unwrap(), features: 0, limits,
//! # };
//! # let (shop, bank) = (node("shop@10.0.0.7", 1), node("bank@10.0.0.8", 2));
//! # let (nonce, random) = ([1; NONCE_LEN], [2; ACCEPTOR_RANDOM_LEN]);
//! let cookie = Cookie::new(b"kDz7kS6gh2PqvV1u").unwrap();
//! let opening = Opening::NewSession { cookie: cookie.clone(), dial: 1 };
//! let (dialler, hello) = Dialler::new(&shop, &bank.name, opening, &[], nonce)?;
//!
//! let claim = Acceptor::new(&bank, &[], random).hello(&hello).map_err(|rejection| rejection.error)?;
//! assert_eq!(claim.peer(), &shop.name);
//! let (acceptor, challenge) = match claim {
//!     Claim::New(claim) => claim.challenge(Some(&cookie)),
//!     Claim::Join(claim) => claim.challenge(None), // the key of `claim.session()`, if it is known
//! };
//! let (dialler, proof) = dialler.challenge(&challenge)?;
//! let authenticated = acceptor.proof(&proof).map_err(|rejection| rejection.error)?;
//! let (verdict, at_bank) = authenticated.accept(0);
//! let at_shop = dialler.verdict(&verdict)?;
//! assert_eq!((at_bank.session, &at_shop.peer), (at_shop.session, &bank.name));
//! # Ok::<(), HandshakeError>(())
//! ```

mod acceptor;
mod dialler;
mod error;
mod frame;
mod keys;

use std::num::NonZeroU64;

use crate::{Incarnation, NodeName, SessionId};

pub use acceptor::{Acceptor, Authenticated, AwaitingProof, Claim, JoinClaim, NewClaim};
pub use dialler::{AwaitingVerdict, Dialler, Opening};
pub use error::{HandshakeError, Refusal, Rejection, UnusableCookie};
pub use frame::{CHALLENGE_LEN, HELLO_LEN, PROOF_LEN, VERDICT_LEN, check_first_bytes};
pub use keys::{Cookie, SessionKey};

/// The protocol version that this crate speaks.
pub const VERSION: u16 = 3;

/// The oldest protocol version that this crate still speaks.
pub const MIN_VERSION: u16 = 3;

/// How many random bytes a [`Dialler`] needs.
pub const NONCE_LEN: usize = 32;

/// How many random bytes an [`Acceptor`] needs: a nonce, an id for a new session, and a stand-in for the key of
/// a session that does not exist.
pub const ACCEPTOR_RANDOM_LEN: usize = 80;

/// The feature of a node that has TLS: with another one it does without on no connection.
pub const FEATURE_TLS: u64 = 1;

/// The feature of a node that takes connections of distributed Erlang over its sessions.
pub const FEATURE_CARRIES: u64 = 2;

/// The node that runs the handshake, as it presents itself to every peer.
#[derive(Debug, Clone)]
pub struct LocalNode {
    /// Its name.
    pub name: NodeName,
    /// Its present life.
    pub incarnation: Incarnation,
    /// What it can do, a bit per feature. A session uses what both can.
    pub features: u64,
    /// How much it is willing to receive.
    pub limits: Limits,
}

/// How much a node is willing to receive, in bytes. Exchanged when a session begins and fixed for its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest message; both sides keep to the smaller one of their two.
    pub max_message: NonZeroU64,
    /// What one peer may have under way to all mailboxes of the node together.
    pub peer_window: NonZeroU64,
    /// What may be under way to one mailbox; `None` if mailboxes are unbounded, as Erlang's are.
    pub mailbox_window: Option<NonZeroU64>,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionKind {
    /// The first control connection of a new session.
    NewSession,
    /// A further control connection of a living session, in place of a lost one.
    Resume,
    /// A pool connection for small messages.
    Express,
    /// A pool connection for large messages.
    Bulk,
}

/// Which side of the handshake a node was on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// It opened the connection.
    Dialler,
    /// It accepted the connection.
    Acceptor,
}

/// What a dialler asks for, as its `Hello` has it. True only once the dialler is [`Authenticated`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The dialler's name.
    pub peer: NodeName,
    /// The dialler's incarnation.
    pub peer_incarnation: Incarnation,
    /// What the connection is for.
    pub kind: ConnectionKind,
    /// The session it belongs to; for [`ConnectionKind::NewSession`] the id that the acceptor has chosen.
    pub session: SessionId,
    /// The dialler's dial number for a new session, the control generation for a resume, else the id of the
    /// pool connection.
    pub connection: u64,
}

/// A connection whose two sides have proved themselves and agreed.
#[derive(Debug, Clone)]
pub struct Established {
    /// Our side.
    pub role: Role,
    /// What the connection is for.
    pub kind: ConnectionKind,
    /// The peer's name.
    pub peer: NodeName,
    /// The peer's incarnation.
    pub peer_incarnation: Incarnation,
    /// The session it belongs to.
    pub session: SessionId,
    /// The dialler's dial number for a new session, the control generation for a resume, else the id of the
    /// pool connection.
    pub connection: u64,
    /// The newest of the peer's dials that is older than this session: the dial itself if the peer dialled,
    /// else the last number that it had given out when it accepted.
    /// [`Membership`](crate::membership::Membership) orders sessions by it. Meaningful for [`ConnectionKind::NewSession`] only.
    pub peer_dial: u64,
    /// The protocol version both speak.
    pub version: u16,
    /// The features both have.
    pub features: u64,
    /// The largest message in either direction. This and the two windows belong to the session: those of its
    /// first connection count.
    pub max_message: NonZeroU64,
    /// What we may have under way to the peer (its limits).
    pub send: Limits,
    /// What the peer may have under way to us (our limits).
    pub receive: Limits,
    /// The key that further connections of the session prove themselves with.
    pub key: SessionKey,
}
