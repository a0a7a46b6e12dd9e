//! A connection that proves itself, and what somebody writes down of it.

use bytes::Bytes;
use teleport_proto::Incarnation;
use teleport_proto::handshake::{AwaitingProof, AwaitingVerdict, ConnectionKind, Dialler};
use teleport_proto::membership::Begun;

/// A connection that proves itself.
pub(super) struct Shake {
    pub(super) dialler: usize,
    pub(super) dialler_life: Incarnation,
    pub(super) acceptor: usize,
    pub(super) acceptor_life: Incarnation,
    pub(super) kind: ConnectionKind,
    pub(super) session: Option<usize>,
    pub(super) number: u64,
    /// `None` once the dialler is through with it.
    pub(super) dialling: Option<Dialling>,
    /// What the acceptor had begun before its challenge, and the dialler before its proof.
    pub(super) asked: [Begun; 2],
    pub(super) accepting: Option<AwaitingProof>,
    /// The acceptor had the secret that it asked for.
    pub(super) known: bool,
    pub(super) accepted: bool,
    /// A bit of a frame was changed on the way.
    pub(super) changed: bool,
    /// A frame was held up on its way, since its sender was gone.
    pub(super) held_up: bool,
    /// The dialler has opened the same connection twice; this is the one that it makes nothing of.
    pub(super) twin: bool,
    pub(super) frames: [Bytes; 4],
}

pub(super) enum Dialling {
    Hello(Box<Dialler>),
    Proof(Box<AwaitingVerdict>),
}

/// What somebody has written down on the way.
pub(super) struct Recording {
    pub(super) dialler: usize,
    pub(super) acceptor: usize,
    pub(super) number: u64,
    pub(super) kind: ConnectionKind,
    pub(super) frames: [Bytes; 4],
}
