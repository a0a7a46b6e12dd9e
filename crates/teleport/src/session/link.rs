//! The socket of one pool connection, as its reader, its writer and the session share it.

use socket2::SockRef;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use teleport_proto::ConnectionId;
use tokio::net::TcpStream;
use tokio::sync::Notify;

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: ConnectionId,
    pub(crate) stream: TcpStream,
    work: Notify,
    closed: AtomicBool,
    /// Bytes that the kernel has taken; tells a slow connection from one that stands still.
    written: AtomicU64,
}

impl Link {
    pub(crate) fn new(id: ConnectionId, stream: TcpStream) -> Self {
        Self { id, stream, work: Notify::new(), closed: AtomicBool::new(false), written: AtomicU64::new(0) }
    }

    /// There is something for the writer.
    pub(crate) fn wake(&self) {
        self.work.notify_one();
    }

    /// Waits for [`Link::wake`]; `false` if the connection is closed.
    pub(crate) async fn work(&self) -> bool {
        if self.is_closed() {
            return false;
        }
        self.work.notified().await;
        !self.is_closed()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends reader and writer, whatever they wait for.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.work.notify_one();
        // It may be closed already.
        let _ = SockRef::from(&self.stream).shutdown(Shutdown::Both);
    }

    /// Breaks the connection as a fault would: what is under way is lost, and neither side is told why.
    pub(crate) fn reset(&self) {
        let socket = SockRef::from(&self.stream);
        let _ = socket.set_linger(Some(Duration::ZERO));
        let _ = socket.shutdown(Shutdown::Both);
    }

    pub(crate) fn note_written(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}
