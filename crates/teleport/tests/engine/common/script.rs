//! A peer that does just what a test writes: it speaks the handshake, and then whatever bytes it is given.

use super::COOKIE;
use bytes::{BufMut, BytesMut};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use teleport::NodeName;
use teleport_proto::Incarnation;
use teleport_proto::handshake::{
    CHALLENGE_LEN, Cookie, Dialler, Established, HELLO_LEN, HandshakeError, Limits, LocalNode, Opening,
    VERDICT_LEN,
};
use teleport_proto::wire::envelope::Envelope;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) struct Script {
    pub(crate) local: LocalNode,
    peer: NodeName,
    address: SocketAddr,
    nonce: u8,
}

impl Script {
    /// A peer of that name, which will dial the node there.
    pub(crate) fn new(own: &str, peer: &NodeName, address: SocketAddr) -> Self {
        let bytes = |n| NonZeroU64::new(n).unwrap();
        let limits =
            Limits { max_message: bytes(1 << 30), peer_window: bytes(1 << 26), mailbox_window: None };
        let incarnation = Incarnation::new(77).unwrap();
        let local = LocalNode { name: super::name(own), incarnation, features: 0, limits };
        Self { local, peer: peer.clone(), address, nonce: 0 }
    }

    /// Opens a control connection for a new session.
    pub(crate) async fn session(&mut self) -> (TcpStream, Established) {
        let cookie = Cookie::new(COOKIE.as_bytes()).unwrap();
        self.open(Opening::NewSession { cookie, dial: 1 }).await.unwrap()
    }

    /// Opens a connection of any kind.
    pub(crate) async fn open(
        &mut self,
        opening: Opening,
    ) -> Result<(TcpStream, Established), HandshakeError> {
        let (mut stream, dialler, hello) = self.begin(opening).await;
        stream.write_all(&hello).await.unwrap();
        let (dialler, proof) = dialler.challenge(&read::<CHALLENGE_LEN>(&mut stream).await)?;
        stream.write_all(&proof).await.unwrap();
        let established = dialler.verdict(&read::<VERDICT_LEN>(&mut stream).await)?;
        Ok((stream, established))
    }

    /// Connects, and leaves the hello to the caller.
    pub(crate) async fn begin(&mut self, opening: Opening) -> (TcpStream, Dialler, [u8; HELLO_LEN]) {
        self.nonce = self.nonce.wrapping_add(1);
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (dialler, hello) = Dialler::new(&self.local, &self.peer, opening, &[], [self.nonce; 32]).unwrap();
        (stream, dialler, hello)
    }
}

pub(crate) async fn read<const N: usize>(stream: &mut TcpStream) -> [u8; N] {
    let mut bytes = [0; N];
    super::within(stream.read_exact(&mut bytes)).await.unwrap();
    bytes
}

/// Reads until the node closes.
pub(crate) async fn closed_by_peer(stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    // Closed or reset: both are an end.
    let _ = super::within(stream.read_to_end(&mut bytes)).await;
}

/// A batch of one message, as it goes over an express connection, if all that were sent before were small, too.
pub(crate) fn batch(envelope: &Envelope, body: &[u8]) -> BytesMut {
    let mut message = BytesMut::new();
    envelope.encode(&mut message);
    put_varint(&mut message, body.len());
    message.put_slice(body);
    let mut frame = BytesMut::new();
    frame.put_u32(12 + message.len() as u32);
    frame.put_slice(&[1, 0, 0, 1]);
    frame.put_u64(envelope.seq - 1);
    frame.put_slice(&message);
    frame
}

fn put_varint(out: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}
