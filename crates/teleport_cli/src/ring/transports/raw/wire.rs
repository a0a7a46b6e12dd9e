//! Sockets, the hello that opens a connection, and the header in front of a message.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::bench::child::NodeError;
use crate::bench::socket::{self, HELLO_DEADLINE};
use crate::ring::probe::Kind;
use crate::ring::topology::Direction;

/// Bytes of a [`Header`].
pub(super) const HEADER: usize = 32;

/// Bytes of an acknowledgement: the round.
pub(super) const ACK: usize = 4;

const HELLO: usize = 4;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// A worker's messages.
    Lane(u16),
    /// The dialler's probes and their answers.
    Probe(Kind),
}

impl std::hash::Hash for Kind {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (*self as u8).hash(state);
    }
}

impl Purpose {
    /// All connections in one direction.
    pub(super) fn all(workers: u16) -> impl Iterator<Item = Self> {
        (0..workers).map(Self::Lane).chain(Kind::BOTH.map(Self::Probe))
    }
}

/// Connects, and says what for.
pub(super) fn dial(
    address: SocketAddr,
    congestion: Option<&str>,
    direction: Direction,
    purpose: Purpose,
) -> Result<TcpStream, NodeError> {
    let mut stream = socket::dial(address, congestion)?;
    stream
        .write_all(&hello(direction, purpose))
        .map_err(NodeError::io(format!("cannot tell {address} what a connection is for")))?;
    Ok(stream)
}

/// Waits for a connection and its hello.
pub(super) fn accept(
    listener: &TcpListener,
    workers: u16,
) -> Result<(TcpStream, Direction, Purpose), NodeError> {
    let (mut stream, peer) = listener.accept().map_err(NodeError::io("cannot accept a connection"))?;
    let mut hello = [0; HELLO];
    let mut greet = || {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(HELLO_DEADLINE))?;
        stream.read_exact(&mut hello)?;
        stream.set_read_timeout(None)
    };
    greet().map_err(NodeError::io(format!("cannot read the hello of {peer}")))?;
    let (direction, purpose) = parse_hello(hello, workers).ok_or_else(|| NodeError::Protocol {
        from: peer.to_string(),
        what: format!("the hello {hello:?}"),
    })?;
    Ok((stream, direction, purpose))
}

/// In front of every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of the payload.
    pub(super) length: u64,
    /// Hash of the payload.
    pub(super) checksum: u64,
    /// When it was sent.
    pub(super) round: u32,
    /// The sender's node.
    pub(super) origin: u16,
    /// The sender.
    pub(super) worker: u16,
    /// How often it was sent so far, 1 on the first connection.
    pub(super) hop: u16,
    /// Whether the last node checks the payload.
    pub(super) verify: bool,
}

impl Header {
    /// As it goes over the wire.
    pub(super) fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.round.to_le_bytes());
        bytes[20..22].copy_from_slice(&self.origin.to_le_bytes());
        bytes[22..24].copy_from_slice(&self.worker.to_le_bytes());
        bytes[24..26].copy_from_slice(&self.hop.to_le_bytes());
        bytes[26] = u8::from(self.verify);
        bytes
    }

    /// Any bytes are some header; the reader checks the fields.
    pub(super) fn from_bytes(bytes: &[u8; HEADER]) -> Self {
        Self {
            length: u64::from_le_bytes(part(bytes, 0)),
            checksum: u64::from_le_bytes(part(bytes, 8)),
            round: u32::from_le_bytes(part(bytes, 16)),
            origin: u16::from_le_bytes(part(bytes, 20)),
            worker: u16::from_le_bytes(part(bytes, 22)),
            hop: u16::from_le_bytes(part(bytes, 24)),
            verify: bytes[26] != 0,
        }
    }
}

/// Writes a message, its header and payload in one call if the socket takes them.
pub(super) fn write_message(mut stream: &TcpStream, header: Header, payload: &[u8]) -> io::Result<()> {
    let header = header.to_bytes();
    let mut slices = [IoSlice::new(&header), IoSlice::new(payload)];
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        match stream.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn part<const N: usize>(bytes: &[u8; HEADER], at: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[at..at + N]);
    part
}

fn hello(direction: Direction, purpose: Purpose) -> [u8; HELLO] {
    let (kind, worker) = match purpose {
        Purpose::Lane(worker) => (b'l', worker),
        Purpose::Probe(Kind::Tick) => (b't', 0),
        Purpose::Probe(Kind::Echo) => (b'e', 0),
    };
    let way = match direction {
        Direction::Forwards => b'f',
        Direction::Backwards => b'b',
    };
    let [low, high] = worker.to_le_bytes();
    [kind, way, low, high]
}

fn parse_hello([kind, way, low, high]: [u8; HELLO], workers: u16) -> Option<(Direction, Purpose)> {
    let direction = match way {
        b'f' => Direction::Forwards,
        b'b' => Direction::Backwards,
        _ => return None,
    };
    let purpose = match (kind, u16::from_le_bytes([low, high])) {
        (b'l', worker) if worker < workers => Purpose::Lane(worker),
        (b't', 0) => Purpose::Probe(Kind::Tick),
        (b'e', 0) => Purpose::Probe(Kind::Echo),
        _ => return None,
    };
    Some((direction, purpose))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::thread;

    use super::*;

    #[test]
    fn header_survives_the_wire() {
        let header = Header {
            length: 10 << 20,
            checksum: 0x0123_4567_89ab_cdef,
            round: 7,
            origin: 5,
            worker: 258,
            hop: 4,
            verify: true,
        };
        assert_eq!(Header::from_bytes(&header.to_bytes()), header);
    }

    #[test]
    fn hello_of_every_purpose() {
        for direction in Direction::BOTH {
            for purpose in Purpose::all(300) {
                assert_eq!(parse_hello(hello(direction, purpose), 300), Some((direction, purpose)));
            }
        }
        for bad in [*b"xf\0\0", *b"lx\0\0", *b"lf\x02\0", *b"tf\x01\0"] {
            assert_eq!(parse_hello(bad, 2), None);
        }
    }

    #[test]
    fn a_message_larger_than_the_socket_buffers() {
        let listener = socket::listen(Ipv4Addr::LOCALHOST, None).unwrap();
        let address = listener.local_addr().unwrap();
        let payload: Vec<u8> = (0..20_000_000u32).map(|i| i as u8).collect();
        let header =
            Header { length: 20_000_000, checksum: 0, round: 1, origin: 0, worker: 0, hop: 1, verify: false };
        let writer = thread::spawn({
            let payload = payload.clone();
            move || {
                let stream = dial(address, None, Direction::Forwards, Purpose::Lane(0)).unwrap();
                write_message(&stream, header, &payload).unwrap();
            }
        });
        let (mut stream, ..) = accept(&listener, 1).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        writer.join().unwrap();
        assert_eq!(received[..HEADER], header.to_bytes());
        assert!(received[HEADER..] == payload);
    }
}
