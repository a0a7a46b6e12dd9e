//! The socket of one pool connection, as its reader, its writer and the session share it.

use crate::base::lock::Lock;
use crate::io::options;
use crate::io::places::Place;
use crate::io::stream::Stream;
use bytes::Bytes;
use smallvec::SmallVec;
use socket2::SockRef;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use std::time::{Duration, Instant};
use teleport_proto::ConnectionId;
use teleport_proto::transfer::{Frame, Seen};
use teleport_proto::wire::pool::Class;
use tokio::sync::Notify;

/// A sender that sends again so soon after a write is in the middle of many messages: the connection's own task then
/// writes, and what is sent until it runs goes out together. Less than an answer takes to come back.
const MORE_TO_COME: Duration = Duration::from_micros(10);

/// A reader of a large fragment sleeps until this many bytes are there, or what is missing. Small enough for the kernel's
/// buffers, so that the sender is never held up by a reader that waits for more.
const MOST_WAITED_FOR: usize = 512 * 1024;

/// The most pieces in one vectored write (Linux takes 1,024).
const MAX_PIECES: usize = 1024;

#[derive(Debug)]
pub(crate) struct PoolConnection {
    pub(crate) id: ConnectionId,
    pub(crate) class: Class,
    pub(crate) stream: Stream,
    work: Notify,
    /// What a sender could not write at once, for the writer.
    left: Lock<Option<Unwritten>>,
    closed: AtomicBool,
    /// Broken on purpose.
    broken: AtomicBool,
    opened: Instant,
    /// Whole frames and bytes that the kernel has taken; tell a slow connection from one that stands still.
    frames: AtomicU64,
    written: AtomicU64,
    /// When it last took some, in nanoseconds since `opened`.
    written_at: AtomicU64,
    /// The reader is woken when this many bytes are there.
    low_water: AtomicUsize,
    /// If the peer has opened it.
    _place: Option<Place>,
}

impl PoolConnection {
    pub(crate) fn new(id: ConnectionId, class: Class, stream: Stream, place: Option<Place>) -> Self {
        Self {
            id,
            class,
            stream,
            work: Notify::new(),
            left: Lock::leaf(None),
            closed: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            opened: Instant::now(),
            frames: AtomicU64::new(0),
            written: AtomicU64::new(0),
            written_at: AtomicU64::new(0),
            low_water: AtomicUsize::new(1),
            _place: place,
        }
    }

    /// There is something for the writer.
    pub(crate) fn wake(&self) {
        self.work.notify_one();
    }

    /// Leaves the rest of a frame to the writer.
    pub(super) fn leave(&self, rest: Unwritten) {
        *self.left.lock() = Some(rest);
        self.wake();
    }

    /// What was left to the writer.
    pub(super) fn take_left(&self) -> Option<Unwritten> {
        self.left.lock().take()
    }

    /// Waits for [`PoolConnection::wake`]; `false` if the connection is closed.
    pub(crate) async fn work(&self) -> bool {
        if self.is_closed() {
            return false;
        }
        self.work.notified().await;
        !self.is_closed()
    }

    /// Whether it has stood for so long that its end says nothing about the next one.
    pub(crate) fn is_old(&self) -> bool {
        self.opened.elapsed() >= Duration::from_secs(1)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends reader and writer, whatever they wait for.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.work.notify_one();
        // It may be closed already.
        let _ = SockRef::from(self.stream.tcp()).shutdown(Shutdown::Both);
    }

    /// Breaks the connection as a fault would: what is under way is lost, and neither side is told why. `false` if it
    /// was broken or closed already.
    pub(crate) fn reset(&self) -> bool {
        if self.is_closed() || self.broken.swap(true, Ordering::AcqRel) {
            return false;
        }
        // A shutdown would still deliver what the kernel has taken; this drops it, and tells the peer by RST.
        if rustix::net::connect_unspec(self.stream.tcp()).is_err() {
            let socket = SockRef::from(self.stream.tcp());
            let _ = socket.set_linger(Some(Duration::ZERO));
            let _ = socket.shutdown(Shutdown::Both);
        }
        true
    }

    /// Lets the reader, which misses this many bytes, sleep until most of them are there. Never more than that, since
    /// nothing else may follow.
    pub(crate) fn wake_at(&self, missing: usize) -> io::Result<()> {
        let wanted = self.stream.at_the_socket(missing).min(MOST_WAITED_FOR);
        if self.low_water.swap(wanted, Ordering::Relaxed) != wanted {
            options::wake_at(self.stream.tcp(), wanted)?;
        }
        Ok(())
    }

    /// The kernel has taken the last byte of a frame.
    pub(super) fn note_frame(&self) {
        self.frames.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn note_written(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
        self.written_at.store(self.nanos(), Ordering::Relaxed);
    }

    /// Whether the last write was so long ago that nothing is likely to follow at once.
    pub(super) fn is_rested(&self) -> bool {
        let rest = self.nanos().saturating_sub(self.written_at.load(Ordering::Relaxed));
        u128::from(rest) >= MORE_TO_COME.as_nanos()
    }

    fn nanos(&self) -> u64 {
        self.opened.elapsed().as_nanos() as u64
    }

    /// What it has achieved, of which the peer has counted this many frames.
    pub(super) fn seen(&self, counted: u64) -> Seen {
        let frames = self.frames.load(Ordering::Acquire);
        let written = self.written.load(Ordering::Relaxed);
        // A socket that cannot say has ended, which its reader notices.
        let unacknowledged = options::unacknowledged(self.stream.tcp()).unwrap_or(0);
        Seen { frames, written, unacknowledged, counted }
    }
}

/// A frame, or the rest of one.
#[derive(Debug)]
pub(crate) struct Unwritten {
    chunks: SmallVec<[Bytes; 8]>,
    /// Chunks that are out, and bytes of the next.
    whole: usize,
    part: usize,
    pub(super) messages: usize,
}

impl From<Frame> for Unwritten {
    fn from(frame: Frame) -> Self {
        let messages = frame.messages();
        Self { chunks: frame.into_chunks(), whole: 0, part: 0, messages }
    }
}

impl Unwritten {
    /// Bytes of it.
    pub(super) fn len(&self) -> usize {
        self.chunks[self.whole..].iter().map(Bytes::len).sum::<usize>() - self.part
    }

    /// Writes until everything is out, or the kernel takes no more: `false`.
    pub(super) fn write(&mut self, connection: &PoolConnection) -> io::Result<bool> {
        while self.whole < self.chunks.len() {
            let rest = &self.chunks[self.whole..];
            let mut pieces = [IoSlice::new(&[]); 16];
            let mut large; // only for batches of many references
            let slices = if rest.len() <= pieces.len() {
                rest.iter().zip(&mut pieces).for_each(|(chunk, piece)| *piece = IoSlice::new(chunk));
                &mut pieces[..rest.len()]
            } else {
                large = rest.iter().take(MAX_PIECES).map(|chunk| IoSlice::new(chunk)).collect::<Vec<_>>();
                &mut large[..]
            };
            slices[0].advance(self.part);
            match connection.stream.try_write_vectored(slices) {
                Ok(written) => {
                    connection.note_written(written.sent);
                    self.advance(written.taken);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        while connection.stream.is_behind() {
            match connection.stream.try_flush() {
                Ok(n) => connection.note_written(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        connection.note_frame();
        Ok(true)
    }

    fn advance(&mut self, written: usize) {
        self.part += written;
        while let Some(chunk) = self.chunks.get(self.whole)
            && self.part >= chunk.len()
        {
            self.part -= chunk.len();
            self.whole += 1;
        }
    }
}
