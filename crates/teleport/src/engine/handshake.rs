//! The handshake over a socket: frames of fixed size, nothing read beyond them.

use std::future::Future;
use std::io;
use teleport_proto::handshake::{
    ACCEPTOR_RANDOM_LEN, Acceptor, Authenticated, AwaitingVerdict, CHALLENGE_LEN, Claim, Cookie, Dialler,
    Established, HELLO_LEN, HandshakeError, LocalNode, NONCE_LEN, Opening, PROOF_LEN, Rejection, SessionKey,
    VERDICT_LEN, check_first_bytes,
};
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
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                Self::Closed
            }
            _ => Self::Io(error),
        }
    }
}

impl From<HandshakeError> for Failure {
    fn from(error: HandshakeError) -> Self {
        Self::Refused(error)
    }
}

/// The secrets that inbound connections are checked against.
pub(crate) trait Secrets {
    /// The cookie shared with that peer.
    fn cookie(&self, peer: &NodeName) -> impl Future<Output = Option<Cookie>> + Send;
    /// The key of a living session.
    fn session_key(&self, session: SessionId) -> Option<SessionKey>;
}

/// The acceptor has said who it is, and waits for the proof of the dialler.
pub(crate) struct Greeted(AwaitingVerdict, [u8; PROOF_LEN]);

/// Begins the dialler's side: no proof has been given when this ends.
pub(crate) async fn greet(
    stream: &mut TcpStream,
    local: &LocalNode,
    peer: &NodeName,
    opening: Opening,
) -> Result<Greeted, Failure> {
    let (dialler, hello) = Dialler::new(local, peer, opening, &[], random::<NONCE_LEN>()?)?;
    stream.write_all(&hello).await?;
    let challenge = read_frame::<CHALLENGE_LEN>(stream).await?;
    let (dialler, proof) = dialler.challenge(&challenge)?;
    Ok(Greeted(dialler, proof))
}

/// Ends it.
pub(crate) async fn prove(stream: &mut TcpStream, greeted: Greeted) -> Result<Established, Failure> {
    let Greeted(dialler, proof) = greeted;
    stream.write_all(&proof).await?;
    let verdict = read_frame::<VERDICT_LEN>(stream).await?;
    Ok(dialler.verdict(&verdict)?)
}

/// Runs the acceptor's side up to the dialler's proof, and tells when it has said a valid hello. The caller decides, and
/// sends the verdict.
pub(crate) async fn accept(
    stream: &mut TcpStream,
    local: &LocalNode,
    secrets: &impl Secrets,
    spoke: impl FnOnce(),
) -> Result<Authenticated, Failure> {
    let random = random::<ACCEPTOR_RANDOM_LEN>()?;
    let hello = read_frame::<HELLO_LEN>(stream).await?;
    let claim = match Acceptor::new(local, &[], random).hello(&hello) {
        Ok(claim) => claim,
        Err(rejection) => return Err(reject(stream, rejection).await),
    };
    spoke();
    let (acceptor, challenge) = match claim {
        Claim::New(claim) => {
            let cookie = secrets.cookie(claim.peer()).await;
            claim.challenge(cookie.as_ref())
        }
        Claim::Join(claim) => {
            let key = secrets.session_key(claim.session());
            claim.challenge(key.as_ref())
        }
    };
    stream.write_all(&challenge).await?;
    let proof = read_frame::<PROOF_LEN>(stream).await?;
    match acceptor.proof(&proof) {
        Ok(authenticated) => Ok(authenticated),
        Err(rejection) => Err(reject(stream, rejection).await),
    }
}

/// Fresh random bytes from the system.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

async fn reject(stream: &mut TcpStream, rejection: Rejection) -> Failure {
    if let Some(reply) = rejection.reply {
        // It is told why if it still listens.
        let _ = stream.write_all(&reply).await;
        let _ = stream.shutdown().await;
    }
    Failure::Refused(rejection.error)
}

/// Reads one frame, and gives up at the first bytes that are none of ours: whoever speaks another protocol would
/// never send the rest.
async fn read_frame<const N: usize>(stream: &mut TcpStream) -> Result<[u8; N], Failure> {
    let mut frame = [0; N];
    let mut len = 0;
    while len < N {
        let n = stream.read(&mut frame[len..]).await?;
        if n == 0 {
            return Err(Failure::Closed);
        }
        len += n;
        check_first_bytes(&frame[..len])?;
    }
    Ok(frame)
}
