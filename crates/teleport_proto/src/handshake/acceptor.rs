//! The side that was dialled. It tells nothing but its name and version before the dialler has proved itself.

use super::error::{HandshakeError, Refusal, Rejection, not_proven};
use super::frame::{
    ACCEPTED, CHALLENGE_LEN, Challenge, ChallengeStatus, FrameType, HELLO_LEN, Hello, NOT_PROVEN, PROOF_LEN,
    VERDICT_LEN, Verdict, decode_proof, whole,
};
use super::keys::{Cookie, Key, Secret, SessionKey, Transcript};
use super::{
    ACCEPTOR_RANDOM_LEN, ConnectionKind, Established, LocalNode, MIN_VERSION, NONCE_LEN, Request, Role,
    VERSION,
};
use crate::{Incarnation, NodeName, SessionId};

/// An acceptor that waits for a hello.
#[derive(Debug)]
pub struct Acceptor {
    local: LocalNode,
    binding: Box<[u8]>,
    random: Random,
}

impl Acceptor {
    /// Begins. `binding` is as for [`Dialler::new`](super::Dialler::new); `random` must be fresh random bytes.
    pub fn new(local: &LocalNode, binding: &[u8], random: [u8; ACCEPTOR_RANDOM_LEN]) -> Self {
        Acceptor { local: local.clone(), binding: binding.into(), random: Random::split(random) }
    }

    /// Takes the dialler's hello: [`HELLO_LEN`] bytes, or however few there were before the connection ended.
    ///
    /// # Errors
    ///
    /// [`Rejection`], with what is to be sent before the connection is closed.
    pub fn hello(self, bytes: &[u8]) -> Result<Claim, Rejection> {
        let bytes = whole(FrameType::Hello, bytes)?;
        let theirs = Hello::version(&bytes)?;
        if theirs < MIN_VERSION {
            let error = HandshakeError::Version { ours: VERSION, theirs };
            return Err(self.reject(ChallengeStatus::Version, error));
        }
        let hello = match Hello::decode(&bytes) {
            Ok(hello) => hello,
            Err(error) => return Err(self.reject(ChallengeStatus::Malformed, error)),
        };
        if hello.wanted != self.local.name {
            let error = HandshakeError::WrongNode { wanted: hello.wanted, reached: self.local.name.clone() };
            return Err(self.reject(ChallengeStatus::WrongNode, error));
        }
        if hello.dialler.name == self.local.name {
            let error = HandshakeError::OwnName { name: hello.dialler.name };
            return Err(self.reject(ChallengeStatus::OwnName, error));
        }
        let kind = hello.kind;
        let pending = Pending { acceptor: self, hello, bytes };
        Ok(match kind {
            ConnectionKind::NewSession => Claim::New(NewClaim(pending)),
            ConnectionKind::Resume | ConnectionKind::Express | ConnectionKind::Bulk => {
                Claim::Join(JoinClaim(pending))
            }
        })
    }

    fn reject(self, status: ChallengeStatus, error: HandshakeError) -> Rejection {
        Rejection { reply: Some(Challenge::error(status, self.local).encode().to_vec()), error }
    }
}

/// What a dialler claims to be, unproven. The kind decides which secret it has to prove itself with.
#[derive(Debug)]
pub enum Claim {
    /// It wants a new session: the cookie.
    New(NewClaim),
    /// It wants to join a session: the session's key.
    Join(JoinClaim),
}

impl Claim {
    /// The node that the dialler says it is.
    pub fn peer(&self) -> &NodeName {
        &self.pending().hello.dialler.name
    }

    /// The incarnation it says it is.
    pub fn peer_incarnation(&self) -> Incarnation {
        self.pending().hello.dialler.incarnation
    }

    /// What it wants the connection for.
    pub fn kind(&self) -> ConnectionKind {
        self.pending().hello.kind
    }

    fn pending(&self) -> &Pending {
        match self {
            Claim::New(NewClaim(pending)) | Claim::Join(JoinClaim(pending)) => pending,
        }
    }
}

/// A dialler that wants a new session.
#[derive(Debug)]
pub struct NewClaim(Pending);

impl NewClaim {
    /// The node that the dialler says it is.
    pub fn peer(&self) -> &NodeName {
        &self.0.hello.dialler.name
    }

    /// Challenges it to prove that it knows the cookie; the bytes are to be sent. `None`, no cookie for this
    /// peer, goes on all the same and rejects the proof, whatever it is.
    pub fn challenge(self, cookie: Option<&Cookie>) -> (AwaitingProof, [u8; CHALLENGE_LEN]) {
        let known = cookie.is_some();
        let key =
            cookie.map_or_else(|| self.0.acceptor.random.stand_in.clone(), |cookie| cookie.key().clone());
        self.0.challenge(Secret::Cookie(key), known)
    }
}

/// A dialler that wants to join a session, with a pool connection or a new control connection.
#[derive(Debug)]
pub struct JoinClaim(Pending);

impl JoinClaim {
    /// The node that the dialler says it is.
    pub fn peer(&self) -> &NodeName {
        &self.0.hello.dialler.name
    }

    /// The session it wants to join.
    pub fn session(&self) -> SessionId {
        self.0.session()
    }

    /// Challenges it to prove that it knows the session's key; the bytes are to be sent. `None`, no such
    /// session, goes on all the same and rejects the proof, whatever it is: so nobody can find out which
    /// sessions there are.
    pub fn challenge(self, key: Option<&SessionKey>) -> (AwaitingProof, [u8; CHALLENGE_LEN]) {
        let stand_in = || SessionKey::stand_in(self.0.acceptor.random.stand_in.clone());
        let secret = Secret::Session(key.cloned().unwrap_or_else(stand_in));
        self.0.challenge(secret, key.is_some())
    }
}

/// An acceptor that has sent its challenge.
#[derive(Debug)]
pub struct AwaitingProof {
    transcript: Transcript,
    key: Key,
    /// Whether there is a secret at all for this claim.
    known: bool,
    established: Established,
}

impl AwaitingProof {
    /// Takes the dialler's proof: [`PROOF_LEN`] bytes, or however few there were before the connection ended.
    ///
    /// # Errors
    ///
    /// [`Rejection`], with what is to be sent before the connection is closed.
    pub fn proof(self, bytes: &[u8]) -> Result<Authenticated, Rejection> {
        let bytes = whole(FrameType::Proof, bytes)?;
        let proof = decode_proof(&bytes)?;
        if !(self.transcript.proves(&self.key, &proof) & self.known) {
            let Established { kind, peer, session, .. } = self.established;
            let reply = Verdict { code: NOT_PROVEN, last_dial: 0, mac: [0; 32] }.encode().to_vec();
            return Err(Rejection { reply: Some(reply), error: not_proven(kind, peer, session) });
        }
        let AwaitingProof { transcript, key, established, .. } = self;
        let request = Request {
            peer: established.peer.clone(),
            peer_incarnation: established.peer_incarnation,
            kind: established.kind,
            session: established.session,
            connection: established.connection,
        };
        Ok(Authenticated { transcript, key, proof: bytes, established, request })
    }
}

/// A dialler that has proved itself and waits for the verdict.
#[derive(Debug)]
pub struct Authenticated {
    transcript: Transcript,
    key: Key,
    proof: [u8; PROOF_LEN],
    established: Established,
    request: Request,
}

impl Authenticated {
    /// What it asks for; [`Membership::inbound`](crate::membership::Membership::inbound) decides on it.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// The features both have.
    pub fn features(&self) -> u64 {
        self.established.features
    }

    /// Accepts; the bytes are to be sent. `last_dial` is the last dial number that this node has given out:
    /// [`Membership::last_dial`](crate::membership::Membership::last_dial).
    pub fn accept(self, last_dial: u64) -> ([u8; VERDICT_LEN], Established) {
        let verdict = self.sealed(ACCEPTED, last_dial);
        (verdict, self.established)
    }

    /// Refuses; the bytes are to be sent.
    pub fn refuse(self, refusal: Refusal) -> [u8; VERDICT_LEN] {
        self.sealed(refusal.code(), 0)
    }

    fn sealed(&self, code: u8, last_dial: u64) -> [u8; VERDICT_LEN] {
        let mac = self.transcript.seal(&self.key, &self.proof, &Verdict::sealed_part(code, last_dial));
        Verdict { code, last_dial, mac }.encode()
    }
}

/// A hello that can be answered, and what the answer needs.
#[derive(Debug)]
struct Pending {
    acceptor: Acceptor,
    hello: Hello,
    bytes: [u8; HELLO_LEN],
}

impl Pending {
    fn session(&self) -> SessionId {
        self.hello.session.unwrap_or(self.acceptor.random.session)
    }

    fn challenge(self, secret: Secret, known: bool) -> (AwaitingProof, [u8; CHALLENGE_LEN]) {
        let session = self.session();
        let Pending { acceptor: Acceptor { local, binding, random }, hello, bytes } = self;
        let version = hello.version.min(VERSION);
        let challenge = Challenge {
            status: ChallengeStatus::Fine,
            version,
            acceptor: local.clone(),
            session: Some(session),
            connection: hello.connection,
            nonce: random.nonce,
        }
        .encode();
        let transcript = Transcript::new(bytes, challenge, binding);
        let key = secret.proof_key();
        let established = Established {
            role: Role::Acceptor,
            kind: hello.kind,
            peer: hello.dialler.name,
            peer_incarnation: hello.dialler.incarnation,
            session,
            connection: hello.connection,
            peer_dial: hello.connection,
            version,
            features: local.features & hello.dialler.features,
            max_message: local.limits.max_message.min(hello.dialler.limits.max_message),
            send: hello.dialler.limits,
            receive: local.limits,
            key: secret.session_key(&transcript),
        };
        (AwaitingProof { transcript, key, known, established }, challenge)
    }
}

/// The random bytes, by their use.
#[derive(Debug)]
struct Random {
    nonce: [u8; NONCE_LEN],
    session: SessionId,
    stand_in: Key,
}

impl Random {
    fn split(random: [u8; ACCEPTOR_RANDOM_LEN]) -> Self {
        let mut nonce = [0; NONCE_LEN];
        let mut session = [0; 16];
        let mut stand_in = [0; 32];
        nonce.copy_from_slice(&random[..32]);
        session.copy_from_slice(&random[32..48]);
        stand_in.copy_from_slice(&random[48..]);
        // Sixteen zeros are as likely as any other id, but taken.
        let session = SessionId::new(session).unwrap_or(SessionId::ONE);
        Random { nonce, session, stand_in: Key(stand_in) }
    }
}
