//! The side that opens the connection, and proves itself first.

use super::error::{HandshakeError, Refusal, not_proven};
use super::frame::{
    ACCEPTED, CHALLENGE_LEN, Challenge, ChallengeStatus, FrameType, HELLO_LEN, Hello, NOT_PROVEN, PROOF_LEN,
    VERDICT_MAC_AT, Verdict, encode_proof, whole,
};
use super::keys::{Cookie, Key, Secret, SessionKey, Transcript};
use super::{ConnectionKind, Established, LocalNode, MIN_VERSION, NONCE_LEN, Role, VERSION};
use crate::{NodeName, SessionId};

/// What a dialler opens a connection for, and the secret that it needs for it.
#[derive(Debug, Clone)]
pub enum Opening {
    /// A new session.
    NewSession {
        /// The cookie shared with the peer.
        cookie: Cookie,
        /// The number of this dial, larger than that of any earlier dial in this life of the node; see
        /// [`Membership`](crate::membership::Membership), which gives them out.
        dial: u64,
    },
    /// A new control connection for a living session.
    Resume {
        /// The session.
        session: SessionId,
        /// Its key.
        key: SessionKey,
        /// Larger than that of any earlier attempt.
        generation: u64,
    },
    /// A pool connection for small messages.
    Express {
        /// The session.
        session: SessionId,
        /// Its key.
        key: SessionKey,
        /// The connection's id, never used before in this session.
        connection: u64,
    },
    /// A pool connection for large messages.
    Bulk {
        /// The session.
        session: SessionId,
        /// Its key.
        key: SessionKey,
        /// The connection's id, never used before in this session.
        connection: u64,
    },
}

/// A dialler that has said hello.
#[derive(Debug)]
pub struct Dialler {
    local: LocalNode,
    wanted: NodeName,
    kind: ConnectionKind,
    session: Option<SessionId>,
    connection: u64,
    secret: Secret,
    hello: [u8; HELLO_LEN],
    binding: Box<[u8]>,
}

impl Dialler {
    /// Begins; the bytes are to be sent. `binding` ties the handshake to the channel below it, such as the
    /// exporter of a TLS connection; empty on plain TCP. `nonce` must be fresh random bytes.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::OwnName`] if the node would dial itself.
    pub fn new(
        local: &LocalNode,
        wanted: &NodeName,
        opening: Opening,
        binding: &[u8],
        nonce: [u8; NONCE_LEN],
    ) -> Result<(Self, [u8; HELLO_LEN]), HandshakeError> {
        if local.name == *wanted {
            return Err(HandshakeError::OwnName { name: wanted.clone() });
        }
        let (kind, session, connection, secret) = match opening {
            Opening::NewSession { cookie, dial } => {
                (ConnectionKind::NewSession, None, dial, Secret::Cookie(cookie.key().clone()))
            }
            Opening::Resume { session, key, generation } => {
                (ConnectionKind::Resume, Some(session), generation, Secret::Session(key))
            }
            Opening::Express { session, key, connection } => {
                (ConnectionKind::Express, Some(session), connection, Secret::Session(key))
            }
            Opening::Bulk { session, key, connection } => {
                (ConnectionKind::Bulk, Some(session), connection, Secret::Session(key))
            }
        };
        let hello = Hello {
            kind,
            version: VERSION,
            dialler: local.clone(),
            wanted: wanted.clone(),
            session,
            connection,
            nonce,
        }
        .encode();
        let dialler = Dialler {
            local: local.clone(),
            wanted: wanted.clone(),
            kind,
            session,
            connection,
            secret,
            hello,
            binding: binding.into(),
        };
        Ok((dialler, hello))
    }

    /// Takes the acceptor's answer: [`CHALLENGE_LEN`] bytes, or however few there were before the connection
    /// ended. The bytes returned are to be sent.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`]: the acceptor's refusal, or what is wrong with its answer.
    pub fn challenge(self, bytes: &[u8]) -> Result<(AwaitingVerdict, [u8; PROOF_LEN]), HandshakeError> {
        let bytes: [u8; CHALLENGE_LEN] = whole(FrameType::Challenge, bytes)?;
        let (status, version) = Challenge::head(&bytes)?;
        if status == ChallengeStatus::Version as u8 || !(MIN_VERSION..=VERSION).contains(&version) {
            return Err(HandshakeError::Version { ours: VERSION, theirs: version });
        }
        let challenge = Challenge::decode(&bytes)?;
        let peer = challenge.acceptor;
        match challenge.status {
            ChallengeStatus::Fine | ChallengeStatus::WrongNode if peer.name != self.wanted => {
                return Err(HandshakeError::WrongNode { wanted: self.wanted, reached: peer.name });
            }
            ChallengeStatus::Fine => {}
            ChallengeStatus::OwnName => return Err(HandshakeError::OwnName { name: self.local.name }),
            ChallengeStatus::Malformed | ChallengeStatus::WrongNode | ChallengeStatus::Version => {
                return Err(HandshakeError::HelloRejected { peer: peer.name });
            }
        }
        let Some(session) = challenge.session else {
            return Err(HandshakeError::Malformed { frame: "challenge", field: "session id" });
        };
        if self.session.is_some_and(|ours| ours != session) {
            return Err(HandshakeError::Malformed { frame: "challenge", field: "session id" });
        }
        if challenge.connection != self.connection {
            return Err(HandshakeError::Malformed { frame: "challenge", field: "connection id" });
        }
        let transcript = Transcript::new(self.hello, bytes, self.binding);
        let key = self.secret.proof_key();
        let proof = encode_proof(&transcript.prove(&key));
        let session_key = self.secret.session_key(&transcript);
        let established = Established {
            role: Role::Dialler,
            kind: self.kind,
            peer: peer.name,
            peer_incarnation: peer.incarnation,
            session,
            connection: self.connection,
            peer_dial: 0, // known with the verdict
            version,
            features: self.local.features & peer.features,
            max_message: self.local.limits.max_message.min(peer.limits.max_message),
            send: peer.limits,
            receive: self.local.limits,
            key: session_key,
        };
        Ok((AwaitingVerdict { transcript, key, proof, established }, proof))
    }
}

/// A dialler that has proved itself and waits for the acceptor to do the same.
#[derive(Debug)]
pub struct AwaitingVerdict {
    transcript: Transcript,
    key: Key,
    proof: [u8; PROOF_LEN],
    established: Established,
}

impl AwaitingVerdict {
    /// Takes the acceptor's verdict: [`VERDICT_LEN`](super::VERDICT_LEN) bytes, or however few there were before
    /// the connection ended. A refusal is an error.
    ///
    /// [`HandshakeError::Cookie`] and [`HandshakeError::UnknownSession`] are the acceptor's word only: it does not
    /// prove itself to a dialler that did not. [`HandshakeError::Refused`] is proved.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`]: the acceptor's refusal, or what is wrong with its verdict.
    pub fn verdict(self, bytes: &[u8]) -> Result<Established, HandshakeError> {
        let bytes = whole(FrameType::Verdict, bytes)?;
        let verdict = Verdict::decode(&bytes)?;
        let established = self.established;
        let peer = established.peer.clone();
        if verdict.code == NOT_PROVEN {
            return Err(not_proven(established.kind, peer, established.session));
        }
        let mut sealed = [0; VERDICT_MAC_AT];
        sealed.copy_from_slice(&bytes[..VERDICT_MAC_AT]);
        if !self.transcript.sealed(&self.key, &self.proof, &sealed, &verdict.mac) {
            return Err(HandshakeError::Unproven { peer });
        }
        if verdict.code == ACCEPTED {
            return Ok(Established { peer_dial: verdict.last_dial, ..established });
        }
        Err(match Refusal::from_code(verdict.code) {
            Some(refusal) => HandshakeError::Refused { peer, refusal },
            None => HandshakeError::RefusedUnknown { peer, code: verdict.code },
        })
    }
}
