//! TLS on one connection. Reader and writer share its state behind a lock, under which the connection's own socket is read and
//! written; that never waits.

use super::{failed, names, times};
use crate::base::lock::Lock;
use crate::{Names, TlsError, TlsSide, Verify};
use bytes::BufMut;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{Connection, HandshakeKind};
use std::io::{self, BufRead, IoSlice, Read, Write};
use teleport_proto::NodeName;
use tokio::net::TcpStream;

/// Bytes read from the socket at once: the more, the fewer calls, and what is read is still in the processor's cache.
const READ_AT_ONCE: usize = 64 * 1024;

/// Encrypted bytes that wait for the socket, at most.
const MOST_UNSENT: usize = 256 * 1024;

/// A reader that waits for more has at most so much of it already: a record that is not complete.
pub(crate) const MOST_HELD: usize = 17 * 1024;

/// For the exporter (RFC 9266).
const BINDING_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

#[derive(Debug)]
pub(crate) struct Session {
    inner: Lock<Inner>,
    binding: [u8; 32],
    /// The peer's certificate, if its names count.
    peer: Option<CertificateDer<'static>>,
    names: Names,
    resumed: bool,
    /// What is wrong with the certificates of the handshake that this one resumes.
    lapsed: Option<TlsError>,
}

#[derive(Debug)]
struct Inner {
    connection: Connection,
    /// Read from the socket, and not yet looked at.
    unread: Vec<u8>,
    /// Bytes of it that have been.
    seen: usize,
}

/// A socket as rustls uses it.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Session {
    /// Runs TLS' handshake.
    pub(super) async fn set_up(
        mut connection: Connection,
        tcp: &TcpStream,
        side: &TlsSide,
    ) -> Result<Self, TlsError> {
        connection.set_buffer_limit(Some(MOST_UNSENT));
        let mut heard = false;
        while connection.is_handshaking() || connection.wants_write() {
            let writing = connection.wants_write();
            let done = match writing {
                true => connection.write_tls(&mut Socket(tcp)),
                false => connection.read_tls(&mut Socket(tcp)),
            };
            match done {
                Ok(0) => return Err(TlsError::Closed { heard }),
                Ok(_) if writing => {}
                Ok(_) => {
                    if let Err(error) = connection.process_new_packets() {
                        // It is told why if it still listens.
                        let _ = connection.write_tls(&mut Socket(tcp));
                        return Err(failed(error));
                    }
                    heard = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let waited = if writing { tcp.writable().await } else { tcp.readable().await };
                    waited.map_err(|error| lost(&error, heard))?;
                }
                Err(error) => return Err(lost(&error, heard)),
            }
        }
        let binding = connection.export_keying_material([0; 32], BINDING_LABEL, None).map_err(failed)?;
        let shown = connection.peer_certificates().and_then(|chain| chain.first());
        let peer = shown.filter(|_| side.verify != Verify::Nothing).cloned().map(CertificateDer::into_owned);
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let inner = Lock::leaf(Inner { connection, unread: Vec::new(), seen: 0 });
        Ok(Self { inner, binding, peer, names: side.names, resumed, lapsed: None })
    }

    pub(crate) fn binding(&self) -> &[u8] {
        &self.binding
    }

    pub(crate) fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// A resumed connection is one of a peer whose certificates hold now.
    pub(super) fn check_times(
        &mut self,
        now: UnixTime,
        verify: impl FnOnce(&CertificateDer<'_>, &[CertificateDer<'_>], UnixTime) -> Result<(), rustls::Error>,
    ) {
        if !self.resumed {
            return;
        }
        let inner = self.inner.lock();
        let chain = inner.connection.peer_certificates().unwrap_or_default();
        self.lapsed = times::check(chain, now, verify).err().map(failed);
    }

    /// Whether the peer's certificate holds, and is for the node of that name. Without one nothing is wrong: where it is required there
    /// is one.
    pub(crate) fn check_peer(&self, name: &NodeName) -> Result<(), TlsError> {
        if let Some(lapsed) = &self.lapsed {
            return Err(lapsed.clone());
        }
        self.peer.as_ref().map_or(Ok(()), |certificate| names::check(certificate, name, self.names))
    }

    /// Something may be read without the socket.
    pub(crate) fn holds_more(&self) -> bool {
        let mut inner = self.inner.lock();
        inner.seen < inner.unread.len()
            || inner.connection.reader().fill_buf().is_ok_and(|chunk| !chunk.is_empty())
    }

    pub(crate) fn is_behind(&self) -> bool {
        self.inner.lock().connection.wants_write()
    }

    pub(crate) fn read(&self, tcp: &TcpStream, buffer: &mut impl BufMut) -> io::Result<usize> {
        self.inner.lock().read(tcp, buffer)
    }

    /// Bytes taken off the caller, and bytes that the kernel has taken.
    pub(crate) fn write(&self, tcp: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<(usize, usize)> {
        let mut inner = self.inner.lock();
        let before = inner.send(tcp)?;
        let taken = match inner.connection.wants_write() {
            true => 0,
            false => inner.connection.writer().write_vectored(slices)?,
        };
        match (taken, before + inner.send(tcp)?) {
            (0, 0) => Err(io::ErrorKind::WouldBlock.into()),
            done => Ok(done),
        }
    }

    pub(crate) fn flush(&self, tcp: &TcpStream) -> io::Result<usize> {
        let mut inner = self.inner.lock();
        match inner.send(tcp)? {
            0 if inner.connection.wants_write() => Err(io::ErrorKind::WouldBlock.into()),
            sent => Ok(sent),
        }
    }
}

impl Inner {
    /// Sends what is encrypted, as far as the kernel takes it.
    fn send(&mut self, tcp: &TcpStream) -> io::Result<usize> {
        let mut sent = 0;
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Socket(tcp)) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    /// Takes what is there; reads from the socket once if that is nothing.
    fn read(&mut self, tcp: &TcpStream, buffer: &mut impl BufMut) -> io::Result<usize> {
        let mut room = buffer.chunk_mut().len();
        let (mut taken, mut asked) = (0, false);
        while room > 0 {
            let mut reader = self.connection.reader();
            let n = match reader.fill_buf() {
                Ok([]) => return Ok(taken), // the peer has said that nothing more comes
                Ok(chunk) => {
                    let n = chunk.len().min(room);
                    buffer.put_slice(&chunk[..n]);
                    n
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            reader.consume(n);
            (taken, room) = (taken + n, room - n);
            if n > 0 {
                continue;
            }
            if self.seen == self.unread.len() {
                if taken > 0 {
                    break;
                }
                if asked {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                asked = true;
                let mut unread = Vec::with_capacity(READ_AT_ONCE);
                if tcp.try_read_buf(&mut unread)? == 0 {
                    return Ok(0);
                }
                (self.unread, self.seen) = (unread, 0);
            }
            self.seen += self.connection.read_tls(&mut &self.unread[self.seen..])?;
            if self.seen == self.unread.len() {
                (self.unread, self.seen) = (Vec::new(), 0);
            }
            let processed = self.connection.process_new_packets();
            if self.connection.wants_write() {
                self.send(tcp)?; // an answer of TLS', or why it ends
            }
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, failed(error)))?;
        }
        Ok(taken)
    }
}

/// The connection broke in the middle of TLS' handshake.
fn lost(error: &io::Error, heard: bool) -> TlsError {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => TlsError::Closed { heard },
        _ => TlsError::Failed(error.to_string()),
    }
}
