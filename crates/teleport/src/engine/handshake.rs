//! The handshake over a socket: frames of fixed size, nothing read beyond them.

use crate::TlsError;
use crate::io::stream::Stream;
use socket2::SockRef;
use std::future::Future;
use std::io;
use std::net::Shutdown;
use teleport_proto::handshake::{
    ACCEPTOR_RANDOM_LEN, Acceptor, Authenticated, AwaitingVerdict, CHALLENGE_LEN, Claim, Cookie, Dialler,
    Established, HELLO_LEN, HandshakeError, LocalNode, NONCE_LEN, Opening, PROOF_LEN, Rejection, SessionKey,
    VERDICT_LEN, check_first_bytes,
};
use teleport_proto::membership::Begun;
use teleport_proto::{NodeName, SessionId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Why a connection did not get through its handshake.
#[derive(Debug)]
pub(crate) enum Failure {
    Io(io::Error),
    /// The other side closed in between.
    Closed,
    Refused(HandshakeError),
    Tls(TlsError),
}

/// How TLS says that a connection is not to be; so does a node that takes no plain ones.
const TLS_ALERT: [u8; 2] = [21, 3];

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if let Some(error) = error.get_ref().and_then(|cause| cause.downcast_ref::<TlsError>()) {
            return Self::Tls(error.clone());
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                Self::Closed
            }
            _ => Self::Io(error),
        }
    }
}

impl From<TlsError> for Failure {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

impl From<HandshakeError> for Failure {
    fn from(error: HandshakeError) -> Self {
        Self::Refused(error)
    }
}

/// What inbound connections are checked against.
pub(crate) trait Known {
    /// The cookie shared with that peer.
    fn cookie(&self, peer: &NodeName) -> impl Future<Output = Option<Cookie>> + Send;
    /// The key of a living session.
    fn session_key(&self, session: SessionId) -> Option<SessionKey>;
    /// How many sessions have begun by now.
    fn begun(&self) -> Begun;
}

/// The acceptor has said who it is, and waits for the proof of the dialler.
pub(crate) struct Greeted(AwaitingVerdict, [u8; PROOF_LEN]);

/// Begins the dialler's side: no proof has been given when this ends.
pub(crate) async fn greet(
    stream: &Stream,
    local: &LocalNode,
    peer: &NodeName,
    opening: Opening,
) -> Result<Greeted, Failure> {
    let (dialler, hello) = Dialler::new(local, peer, opening, stream.binding(), random::<NONCE_LEN>()?)?;
    stream.write_all(&hello).await?;
    let challenge = read_frame::<CHALLENGE_LEN>(stream).await?;
    let (dialler, proof) = dialler.challenge(&challenge)?;
    Ok(Greeted(dialler, proof))
}

/// Ends it.
pub(crate) async fn prove(stream: &Stream, greeted: Greeted) -> Result<Established, Failure> {
    let Greeted(dialler, proof) = greeted;
    stream.write_all(&proof).await?;
    let verdict = read_frame::<VERDICT_LEN>(stream).await?;
    Ok(dialler.verdict(&verdict)?)
}

/// Runs the acceptor's side up to the dialler's proof, and tells when it has said a valid hello. The caller decides, with what
/// had begun when it was challenged, and sends the verdict.
pub(crate) async fn accept(
    stream: &Stream,
    local: &LocalNode,
    known: &impl Known,
    spoke: impl FnOnce(),
) -> Result<(Authenticated, Begun), Failure> {
    let random = random::<ACCEPTOR_RANDOM_LEN>()?;
    let hello = read_frame::<HELLO_LEN>(stream).await?;
    let claim = match Acceptor::new(local, stream.binding(), random).hello(&hello) {
        Ok(claim) => claim,
        Err(rejection) => return Err(reject(stream, rejection).await),
    };
    spoke();
    let (acceptor, challenge) = match claim {
        Claim::New(claim) => {
            let cookie = known.cookie(claim.peer()).await;
            claim.challenge(cookie.as_ref())
        }
        Claim::Join(claim) => {
            let key = known.session_key(claim.session());
            claim.challenge(key.as_ref())
        }
    };
    let asked = known.begun();
    stream.write_all(&challenge).await?;
    let proof = read_frame::<PROOF_LEN>(stream).await?;
    match acceptor.proof(&proof) {
        Ok(authenticated) => Ok((authenticated, asked)),
        Err(rejection) => Err(reject(stream, rejection).await),
    }
}

/// Tells a plain connection that TLS is wanted.
pub(crate) async fn refuse_plain(mut stream: TcpStream) -> Failure {
    // A fatal alert, insufficient_security, in the words of TLS. It is told if it still listens.
    let _ = stream.write_all(&[TLS_ALERT[0], TLS_ALERT[1], 3, 0, 2, 2, 71]).await;
    // Closed with something unread, the alert might be lost.
    let _ = stream.shutdown().await;
    let _ = tokio::io::copy(&mut stream.take(HELLO_LEN as u64 + 1), &mut tokio::io::sink()).await;
    TlsError::Plain.into()
}

/// Fresh random bytes from the system.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

async fn reject(stream: &Stream, rejection: Rejection) -> Failure {
    if let Some(reply) = rejection.reply {
        // It is told why if it still listens.
        let _ = stream.write_all(&reply).await;
        let _ = SockRef::from(stream.tcp()).shutdown(Shutdown::Write);
    }
    Failure::Refused(rejection.error)
}

/// Reads one frame, and gives up at the first bytes that are not ours: a peer that speaks another protocol would
/// never send the rest.
async fn read_frame<const N: usize>(stream: &Stream) -> Result<[u8; N], Failure> {
    let mut frame = [0; N];
    let mut len = 0;
    while len < N {
        let n = stream.read_buf(&mut &mut frame[len..]).await?;
        if n == 0 {
            return Err(Failure::Closed);
        }
        len += n;
        if stream.tls().is_none() && frame.starts_with(&TLS_ALERT) {
            return Err(TlsError::Wanted.into());
        }
        check_first_bytes(&frame[..len])?;
    }
    Ok(frame)
}
