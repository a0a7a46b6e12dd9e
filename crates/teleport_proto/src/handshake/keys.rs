//! Keys and proofs: everything HMAC-SHA-256, every use with a label of its own.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::error::UnusableCookie;
use super::frame::{CHALLENGE_LEN, HELLO_LEN, PROOF_LEN, VERDICT_MAC_AT};

/// The secret that the nodes of a cluster share.
///
/// Holds a key derived from the cookie, not the cookie itself, and never shows it.
///
/// ```
/// use teleport_proto::handshake::Cookie;
///
/// assert!(Cookie::new(b"").is_err());
/// assert!(Cookie::new(b"monster").unwrap().is_weak());
/// assert!(!Cookie::new(b"kDz7kS6gh2PqvV1u").unwrap().is_weak());
/// assert_eq!(format!("{:?}", Cookie::new(b"secret").unwrap()), "Cookie(..)");
/// ```
#[derive(Clone)]
pub struct Cookie {
    key: Key,
    weakness: Option<&'static str>,
}

impl Cookie {
    /// Takes the cookie's bytes: the text of Erlang's cookie atom in UTF-8. An empty one is refused.
    ///
    /// # Errors
    ///
    /// [`UnusableCookie`] if it is empty.
    pub fn new(cookie: &[u8]) -> Result<Self, UnusableCookie> {
        if cookie.is_empty() {
            return Err(UnusableCookie);
        }
        Ok(Cookie {
            key: Key(mac(cookie, COOKIE_KEY, &[]).finalize().into_bytes().into()),
            weakness: weakness(cookie),
        })
    }

    /// Whether the cookie can be guessed: shorter than 16 bytes, built around a well-known word, or of hardly any
    /// different characters. An attacker who reaches the port, or poses as a node that is dialled, can then try it out.
    pub fn is_weak(&self) -> bool {
        self.weakness.is_some()
    }

    /// What makes it weak, in words that do not show it.
    pub fn weakness(&self) -> Option<&'static str> {
        self.weakness
    }

    pub(super) fn key(&self) -> &Key {
        &self.key
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie(..)")
    }
}

/// The key of one session, known to its two nodes only. Further connections prove themselves with it.
#[derive(Clone)]
pub struct SessionKey(Key);

impl SessionKey {
    pub(super) fn derive(cookie: &Key, transcript: &Transcript) -> Self {
        SessionKey(Key(transcript.mac(cookie, SESSION_KEY).finalize().into_bytes().into()))
    }

    /// A key that nobody knows, for a session that does not exist.
    pub(super) fn stand_in(random: Key) -> Self {
        SessionKey(random)
    }

    /// What a join proves itself with. Not the session key itself, so that no use of the one can stand in for
    /// a use of the other.
    pub(super) fn join_key(&self) -> Key {
        Key(mac(&self.0.0, JOIN_KEY, &[]).finalize().into_bytes().into())
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(..)")
    }
}

/// What a connection is authenticated with.
#[derive(Debug)]
pub(super) enum Secret {
    /// The key of a cookie.
    Cookie(Key),
    /// The key of a session.
    Session(SessionKey),
}

impl Secret {
    pub(super) fn proof_key(&self) -> Key {
        match self {
            Secret::Cookie(key) => key.clone(),
            Secret::Session(key) => key.join_key(),
        }
    }

    pub(super) fn session_key(self, transcript: &Transcript) -> SessionKey {
        match self {
            Secret::Cookie(key) => SessionKey::derive(&key, transcript),
            Secret::Session(key) => key,
        }
    }
}

/// A key of HMAC-SHA-256's own size.
#[derive(Clone)]
pub(super) struct Key(pub(super) [u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// What both sides have seen before the proof, byte for byte.
#[derive(Debug)]
pub(super) struct Transcript {
    hello: [u8; HELLO_LEN],
    challenge: [u8; CHALLENGE_LEN],
    binding: Box<[u8]>,
}

impl Transcript {
    pub(super) fn new(hello: [u8; HELLO_LEN], challenge: [u8; CHALLENGE_LEN], binding: Box<[u8]>) -> Self {
        Transcript { hello, challenge, binding }
    }

    /// The dialler's proof.
    pub(super) fn prove(&self, key: &Key) -> [u8; 32] {
        self.mac(key, DIALLER_PROOF).finalize().into_bytes().into()
    }

    /// Checks the dialler's proof, in constant time.
    pub(super) fn proves(&self, key: &Key, proof: &[u8; 32]) -> bool {
        self.mac(key, DIALLER_PROOF).verify_slice(proof).is_ok()
    }

    /// The acceptor's proof, over the `Proof` frame and the start of the `Verdict` too.
    pub(super) fn seal(
        &self,
        key: &Key,
        proof: &[u8; PROOF_LEN],
        verdict: &[u8; VERDICT_MAC_AT],
    ) -> [u8; 32] {
        self.verdict_mac(key, proof, verdict).finalize().into_bytes().into()
    }

    /// Checks the acceptor's proof, in constant time.
    pub(super) fn sealed(
        &self,
        key: &Key,
        proof: &[u8; PROOF_LEN],
        verdict: &[u8; VERDICT_MAC_AT],
        seal: &[u8; 32],
    ) -> bool {
        self.verdict_mac(key, proof, verdict).verify_slice(seal).is_ok()
    }

    fn verdict_mac(
        &self,
        key: &Key,
        proof: &[u8; PROOF_LEN],
        verdict: &[u8; VERDICT_MAC_AT],
    ) -> Hmac<Sha256> {
        self.mac(key, ACCEPTOR_VERDICT).chain_update(proof).chain_update(verdict)
    }

    fn mac(&self, key: &Key, label: &Label) -> Hmac<Sha256> {
        let binding_len = self.binding.len() as u64;
        mac(&key.0, label, &[&self.hello, &self.challenge, &binding_len.to_be_bytes(), &self.binding])
    }
}

// All labels have the same length, so none is the beginning of another.
type Label = [u8; 24];

const COOKIE_KEY: &Label = b"teleport/1 cookie key\0\0\0";
const SESSION_KEY: &Label = b"teleport/1 session key\0\0";
const JOIN_KEY: &Label = b"teleport/1 join key\0\0\0\0\0";
const DIALLER_PROOF: &Label = b"teleport/1 dialler proof";
const ACCEPTOR_VERDICT: &Label = b"teleport/1 verdict\0\0\0\0\0\0";

fn mac(key: &[u8], label: &Label, parts: &[&[u8]]) -> Hmac<Sha256> {
    // HMAC takes keys of any length; the error exists for other algorithms.
    #[allow(clippy::unwrap_used)]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(label);
    for part in parts {
        mac.update(part);
    }
    mac
}

fn weakness(cookie: &[u8]) -> Option<&'static str> {
    const WORDS: [&[u8]; 5] = [b"monster", b"cookie", b"secret", b"password", b"nocookie"];
    if cookie.len() < 16 {
        return Some("it has fewer than 16 bytes");
    }
    let lower = cookie.to_ascii_lowercase();
    // A well-known word in a long random cookie does no harm, a short remainder beside it does.
    let worded = WORDS
        .iter()
        .any(|word| lower.len() < word.len() + 16 && lower.windows(word.len()).any(|window| window == *word));
    if worded {
        return Some(
            "it has fewer than 16 bytes beside a word that is tried first, such as cookie or secret",
        );
    }
    let mut seen = [false; 256];
    cookie.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    (seen.iter().filter(|seen| **seen).count() < 6).then_some("it has hardly any different characters")
}
