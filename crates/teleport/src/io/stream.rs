//! A connection as the engine reads from and writes to it: TCP, with or without TLS.
//!
//! A task waits for one to be ready, and then tries. On TCP that is one system call, straight from and into the message's memory.

use super::tls;
use bytes::BufMut;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio::runtime::Handle;

#[derive(Debug)]
pub(crate) struct Stream {
    tcp: TcpStream,
    tls: Option<Box<tls::Session>>,
}

/// A stream on its way to another runtime.
#[derive(Debug)]
pub(crate) struct Detached {
    tcp: std::net::TcpStream,
    tls: Option<Box<tls::Session>>,
}

/// What has become of a write.
pub(crate) struct Written {
    /// Bytes taken off the caller.
    pub(crate) taken: usize,
    /// Bytes that the kernel has taken.
    pub(crate) sent: usize,
}

impl From<TcpStream> for Stream {
    fn from(tcp: TcpStream) -> Self {
        Self { tcp, tls: None }
    }
}

impl From<(TcpStream, tls::Session)> for Stream {
    fn from((tcp, tls): (TcpStream, tls::Session)) -> Self {
        Self { tcp, tls: Some(Box::new(tls)) }
    }
}

impl Stream {
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    pub(crate) fn tls(&self) -> Option<&tls::Session> {
        self.tls.as_deref()
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.peer_addr()
    }

    /// What ties a handshake to this connection: nothing, without TLS.
    pub(crate) fn binding(&self) -> &[u8] {
        self.tls.as_ref().map_or(&[], |tls| tls.binding())
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        match &self.tls {
            Some(tls) if tls.holds_more() => Ok(()),
            _ => self.tcp.readable().await,
        }
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// Reads at most as much as there is room for, without making more.
    pub(crate) fn try_read_buf(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        match &self.tls {
            None => self.tcp.try_read_buf(buffer),
            Some(tls) => tls.read(&self.tcp, buffer),
        }
    }

    /// What it takes may have to be seen through by [`try_flush`](Self::try_flush).
    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<Written> {
        match &self.tls {
            None => self.tcp.try_write_vectored(slices).map(|n| Written { taken: n, sent: n }),
            Some(tls) => tls.write(&self.tcp, slices).map(|(taken, sent)| Written { taken, sent }),
        }
    }

    /// Takes some bytes, or sees through what it has taken.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match bytes {
            [] => self.try_flush().map(|_| 0),
            _ => self.try_write_vectored(&[IoSlice::new(bytes)]).map(|written| written.taken),
        }
    }

    /// Sends what a write has taken and the kernel has not: this many bytes. `Err(WouldBlock)` if nothing of it could be sent.
    pub(crate) fn try_flush(&self) -> io::Result<usize> {
        match &self.tls {
            None => Ok(0),
            Some(tls) => tls.flush(&self.tcp),
        }
    }

    /// Whether there is anything to be flushed.
    pub(crate) fn is_behind(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_behind())
    }

    pub(crate) async fn read_buf(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        loop {
            match self.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable().await?,
                done => return done,
            }
        }
    }

    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() || self.is_behind() {
            match self.try_write(bytes) {
                Ok(taken) => bytes = &bytes[taken..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// How many bytes a reader that misses `missing` can wait for at the socket.
    pub(crate) fn at_the_socket(&self, missing: usize) -> usize {
        match &self.tls {
            None => missing,
            Some(_) => missing.saturating_sub(tls::MOST_HELD).max(1),
        }
    }

    /// Takes it off its runtime.
    pub(crate) fn detach(self) -> io::Result<Detached> {
        Ok(Detached { tcp: self.tcp.into_std()?, tls: self.tls })
    }
}

impl Detached {
    /// Onto the runtime that this is called on.
    pub(crate) fn attach(self) -> io::Result<Stream> {
        Ok(Stream { tcp: TcpStream::from_std(self.tcp)?, tls: self.tls })
    }

    pub(crate) fn attach_to(self, thread: &Handle) -> io::Result<Stream> {
        let _entered = thread.enter();
        self.attach()
    }
}
