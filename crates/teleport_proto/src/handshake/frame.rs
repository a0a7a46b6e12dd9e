//! The four frames, byte for byte. `docs/protocol.md` has the same as tables.

use std::num::NonZeroU64;

use super::error::HandshakeError;
use super::{ConnectionKind, Limits, LocalNode, NONCE_LEN, VERSION};
use crate::{Incarnation, NodeName, SessionId};

/// Length of the first frame, from the dialler.
pub const HELLO_LEN: usize = 640;
/// Length of the second frame, from the acceptor.
pub const CHALLENGE_LEN: usize = 384;
/// Length of the third frame, from the dialler.
pub const PROOF_LEN: usize = 48;
/// Length of the fourth frame, from the acceptor.
pub const VERDICT_LEN: usize = 56;

pub(super) const VERDICT_MAC_AT: usize = VERDICT_LEN - 32;

/// Whether this may become a handshake frame, from as few bytes as there are: so that a connection to something
/// else (an SSH server greets with 40 bytes and then waits) fails at once and not at the handshake's deadline.
///
/// # Errors
///
/// [`HandshakeError::NotTeleport`] with the first bytes.
///
/// ```
/// use teleport_proto::handshake::check_first_bytes;
///
/// assert!(check_first_bytes(b"\0\x06tele").is_ok());
/// assert!(check_first_bytes(b"SSH-2.0-OpenSSH_9.6").unwrap_err().to_string().contains("SSH-2.0"));
/// ```
pub fn check_first_bytes(bytes: &[u8]) -> Result<(), HandshakeError> {
    let length = bytes.len().min(MAGIC.len());
    if bytes[..length] == MAGIC[..length] {
        return Ok(());
    }
    let shown = &bytes[..bytes.len().min(16)];
    Err(HandshakeError::NotTeleport { first_bytes: shown.escape_ascii().to_string() })
}

/// The first frame.
#[derive(Debug)]
pub(super) struct Hello {
    pub(super) kind: ConnectionKind,
    pub(super) version: u16,
    pub(super) dialler: LocalNode,
    pub(super) wanted: NodeName,
    /// None for a new session.
    pub(super) session: Option<SessionId>,
    pub(super) connection: u64,
    pub(super) nonce: [u8; NONCE_LEN],
}

impl Hello {
    pub(super) fn encode(&self) -> [u8; HELLO_LEN] {
        let mut out = Writer::<HELLO_LEN>::new(FrameType::Hello);
        out.put(&[kind_code(self.kind)]);
        out.put(&self.version.to_be_bytes());
        out.node(&self.dialler);
        out.put(&self.connection.to_be_bytes());
        out.session(self.session);
        out.put(&self.nonce);
        out.name(&self.dialler.name);
        out.name(&self.wanted);
        out.bytes
    }

    /// The version alone: all that is sure in a hello of another version.
    pub(super) fn version(bytes: &[u8]) -> Result<u16, HandshakeError> {
        let mut input = Reader::new(FrameType::Hello, bytes)?;
        let [_kind] = input.take()?;
        Ok(u16::from_be_bytes(input.take()?))
    }

    pub(super) fn decode(bytes: &[u8; HELLO_LEN]) -> Result<Self, HandshakeError> {
        let mut input = Reader::new(FrameType::Hello, bytes)?;
        let [kind] = input.take()?;
        let kind = kind_from_code(kind).ok_or_else(|| input.malformed("connection kind"))?;
        let version = u16::from_be_bytes(input.take()?);
        let head = input.node()?;
        let connection = u64::from_be_bytes(input.take()?);
        let session = SessionId::new(input.take()?);
        if session.is_none() != (kind == ConnectionKind::NewSession) {
            return Err(input.malformed("session id"));
        }
        let nonce = input.take()?;
        let dialler = head.named(input.name()?);
        let wanted = input.name()?;
        // A newer release may use what we reserve; the proof covers it all the same.
        if version <= VERSION {
            input.end()?;
        }
        Ok(Hello { kind, version, dialler, wanted, session, connection, nonce })
    }
}

/// How the acceptor takes the hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChallengeStatus {
    Fine,
    Version,
    WrongNode,
    OwnName,
    Malformed,
}

/// The second frame.
#[derive(Debug)]
pub(super) struct Challenge {
    pub(super) status: ChallengeStatus,
    pub(super) version: u16,
    pub(super) acceptor: LocalNode,
    /// None in an error.
    pub(super) session: Option<SessionId>,
    pub(super) connection: u64,
    pub(super) nonce: [u8; NONCE_LEN],
}

impl Challenge {
    /// The answer to a hello that cannot be served: says who we are and what we speak, no more.
    pub(super) fn error(status: ChallengeStatus, acceptor: LocalNode) -> Self {
        Challenge { status, version: VERSION, acceptor, session: None, connection: 0, nonce: [0; NONCE_LEN] }
    }

    pub(super) fn encode(&self) -> [u8; CHALLENGE_LEN] {
        let mut out = Writer::<CHALLENGE_LEN>::new(FrameType::Challenge);
        out.put(&[self.status as u8]);
        out.put(&self.version.to_be_bytes());
        out.node(&self.acceptor);
        out.put(&self.connection.to_be_bytes());
        out.session(self.session);
        out.put(&self.nonce);
        out.name(&self.acceptor.name);
        out.bytes
    }

    /// Status and version alone: all that is sure in a challenge of another version.
    pub(super) fn head(bytes: &[u8]) -> Result<(u8, u16), HandshakeError> {
        let mut input = Reader::new(FrameType::Challenge, bytes)?;
        let [status] = input.take()?;
        Ok((status, u16::from_be_bytes(input.take()?)))
    }

    pub(super) fn decode(bytes: &[u8; CHALLENGE_LEN]) -> Result<Self, HandshakeError> {
        let mut input = Reader::new(FrameType::Challenge, bytes)?;
        let [status] = input.take()?;
        let status = status_from_code(status).ok_or_else(|| input.malformed("status"))?;
        let version = u16::from_be_bytes(input.take()?);
        let head = input.node()?;
        let connection = u64::from_be_bytes(input.take()?);
        let session = SessionId::new(input.take()?);
        let nonce = input.take()?;
        let acceptor = head.named(input.name()?);
        input.end()?;
        Ok(Challenge { status, version, acceptor, session, connection, nonce })
    }
}

/// The third frame, which is an HMAC and nothing else.
pub(super) fn encode_proof(mac: &[u8; 32]) -> [u8; PROOF_LEN] {
    let mut out = Writer::<PROOF_LEN>::new(FrameType::Proof);
    out.put(&[0; 7]);
    out.put(mac);
    out.bytes
}

pub(super) fn decode_proof(bytes: &[u8; PROOF_LEN]) -> Result<[u8; 32], HandshakeError> {
    let mut input = Reader::new(FrameType::Proof, bytes)?;
    input.zeros::<7>()?;
    let mac = input.take()?;
    input.end()?;
    Ok(mac)
}

/// The verdict's code for a proof that did not hold; such a verdict carries no HMAC.
pub(super) const NOT_PROVEN: u8 = 1;

/// The verdict's code for an accepted connection.
pub(super) const ACCEPTED: u8 = 0;

/// The fourth frame.
pub(super) struct Verdict {
    pub(super) code: u8,
    pub(super) last_dial: u64,
    pub(super) mac: [u8; 32],
}

impl Verdict {
    /// All but the HMAC, which covers it.
    pub(super) fn sealed_part(code: u8, last_dial: u64) -> [u8; VERDICT_MAC_AT] {
        let mut out = Writer::<VERDICT_MAC_AT>::new(FrameType::Verdict);
        out.put(&[code]);
        out.put(&[0; 6]);
        out.put(&last_dial.to_be_bytes());
        out.bytes
    }

    pub(super) fn encode(&self) -> [u8; VERDICT_LEN] {
        let mut bytes = [0; VERDICT_LEN];
        bytes[..VERDICT_MAC_AT].copy_from_slice(&Verdict::sealed_part(self.code, self.last_dial));
        bytes[VERDICT_MAC_AT..].copy_from_slice(&self.mac);
        bytes
    }

    pub(super) fn decode(bytes: &[u8; VERDICT_LEN]) -> Result<Self, HandshakeError> {
        let mut input = Reader::new(FrameType::Verdict, bytes)?;
        let [code] = input.take()?;
        input.zeros::<6>()?;
        let last_dial = u64::from_be_bytes(input.take()?);
        let mac = input.take()?;
        input.end()?;
        Ok(Verdict { code, last_dial, mac })
    }
}

/// Checks that exactly one frame is there. Something else than teleport is told from a frame cut short.
pub(super) fn whole<const N: usize>(frame: FrameType, bytes: &[u8]) -> Result<[u8; N], HandshakeError> {
    check_first_bytes(bytes)?;
    bytes.try_into().map_err(|_| HandshakeError::Truncated {
        frame: frame.name(),
        expected: N,
        got: bytes.len(),
    })
}

#[derive(Debug, Clone, Copy)]
pub(super) enum FrameType {
    Hello = 1,
    Challenge = 2,
    Proof = 3,
    Verdict = 4,
}

impl FrameType {
    fn name(self) -> &'static str {
        match self {
            FrameType::Hello => "hello",
            FrameType::Challenge => "challenge",
            FrameType::Proof => "proof",
            FrameType::Verdict => "verdict",
        }
    }
}

/// To a listener of distributed Erlang, whose packets begin with two bytes for their length, this is a packet of six bytes that is
/// no part of its handshake: it closes at once.
const MAGIC: &[u8; 8] = b"\0\x06telept";

const NAME_FIELD: usize = 256;

fn kind_code(kind: ConnectionKind) -> u8 {
    match kind {
        ConnectionKind::NewSession => 1,
        ConnectionKind::Resume => 2,
        ConnectionKind::Express => 3,
        ConnectionKind::Bulk => 4,
    }
}

fn kind_from_code(code: u8) -> Option<ConnectionKind> {
    Some(match code {
        1 => ConnectionKind::NewSession,
        2 => ConnectionKind::Resume,
        3 => ConnectionKind::Express,
        4 => ConnectionKind::Bulk,
        _ => return None,
    })
}

fn status_from_code(code: u8) -> Option<ChallengeStatus> {
    use ChallengeStatus::*;
    [Fine, Version, WrongNode, OwnName, Malformed].into_iter().find(|status| *status as u8 == code)
}

/// Fills a frame from the front; what is left stays zero. A frame whose fields exceed it would panic: their
/// lengths are constants, and every frame is built in the tests.
struct Writer<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Writer<N> {
    fn new(frame: FrameType) -> Self {
        let mut writer = Writer { bytes: [0; N], at: 0 };
        writer.put(MAGIC);
        writer.put(&[frame as u8]);
        writer
    }

    fn put(&mut self, field: &[u8]) {
        self.bytes[self.at..self.at + field.len()].copy_from_slice(field);
        self.at += field.len();
    }

    fn node(&mut self, node: &LocalNode) {
        self.put(&node.incarnation.as_u32().to_be_bytes());
        self.put(&node.features.to_be_bytes());
        self.put(&node.limits.max_message.get().to_be_bytes());
        self.put(&node.limits.peer_window.get().to_be_bytes());
        self.put(&node.limits.mailbox_window.map_or(0, NonZeroU64::get).to_be_bytes());
    }

    fn session(&mut self, session: Option<SessionId>) {
        self.put(&session.map_or([0; 16], |session| *session.as_bytes()));
    }

    fn name(&mut self, name: &NodeName) {
        let mut field = [0; NAME_FIELD];
        let text = name.as_str().as_bytes();
        // A node name has 3 to 255 bytes.
        field[0] = text.len() as u8;
        field[1..=text.len()].copy_from_slice(text);
        self.put(&field);
    }
}

/// Takes a frame apart from the front.
struct Reader<'a> {
    frame: FrameType,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(frame: FrameType, bytes: &'a [u8]) -> Result<Self, HandshakeError> {
        check_first_bytes(bytes)?;
        let mut reader = Reader { frame, rest: bytes };
        reader.take::<{ MAGIC.len() }>()?;
        if reader.take()? != [frame as u8] {
            return Err(reader.malformed("frame type"));
        }
        Ok(reader)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], HandshakeError> {
        let (field, rest) = self.rest.split_first_chunk().ok_or_else(|| self.malformed("length"))?;
        self.rest = rest;
        Ok(*field)
    }

    fn zeros<const N: usize>(&mut self) -> Result<(), HandshakeError> {
        if self.take::<N>()? != [0; N] {
            return Err(self.malformed("reserved field"));
        }
        Ok(())
    }

    fn node(&mut self) -> Result<NodeHead, HandshakeError> {
        let incarnation = u32::from_be_bytes(self.take()?);
        let incarnation = Incarnation::new(incarnation).ok_or_else(|| self.malformed("incarnation"))?;
        let features = u64::from_be_bytes(self.take()?);
        let max_message = NonZeroU64::new(u64::from_be_bytes(self.take()?));
        let max_message = max_message.ok_or_else(|| self.malformed("message limit"))?;
        let peer_window = NonZeroU64::new(u64::from_be_bytes(self.take()?));
        let peer_window = peer_window.ok_or_else(|| self.malformed("peer window"))?;
        let mailbox_window = NonZeroU64::new(u64::from_be_bytes(self.take()?));
        Ok(NodeHead { incarnation, features, limits: Limits { max_message, peer_window, mailbox_window } })
    }

    fn name(&mut self) -> Result<NodeName, HandshakeError> {
        let field: [u8; NAME_FIELD] = self.take()?;
        let (text, padding) = field[1..].split_at(usize::from(field[0]));
        // One encoding per name.
        if padding.iter().any(|byte| *byte != 0) {
            return Err(self.malformed("name padding"));
        }
        let frame = self.frame.name();
        let text = std::str::from_utf8(text).map_err(|_| self.malformed("name"))?;
        NodeName::new(text).map_err(|cause| HandshakeError::BadName { frame, cause })
    }

    fn end(self) -> Result<(), HandshakeError> {
        if self.rest.iter().any(|byte| *byte != 0) {
            return Err(self.malformed("reserved field"));
        }
        Ok(())
    }

    fn malformed(&self, field: &'static str) -> HandshakeError {
        HandshakeError::Malformed { frame: self.frame.name(), field }
    }
}

/// A node but for its name, which stands at the end of the frames.
struct NodeHead {
    incarnation: Incarnation,
    features: u64,
    limits: Limits,
}

impl NodeHead {
    fn named(self, name: NodeName) -> LocalNode {
        LocalNode { name, incarnation: self.incarnation, features: self.features, limits: self.limits }
    }
}
