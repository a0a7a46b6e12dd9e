//! Writing: what goes out next is pulled when the last is out.
//!
//! Whoever gets a connection's wake-up has it to himself until there is nothing left to write. Usually that is the
//! connection's own task. A sender of small messages that finds an express connection idle writes at once instead, which
//! saves a change of threads; but not message by message when it sends many in a row.

use super::Session;
use super::linger::{Linger, MANY};
use super::link::Link;
use bytes::Bytes;
use smallvec::SmallVec;
use std::io::{self, IoSlice};
use std::sync::Arc;
use teleport_proto::transfer::Frame;

/// The most pieces in one vectored write (Linux takes 1,024).
const MAX_PIECES: usize = 1024;

/// A sender writes so many frames at once; if there is more by then, others send too, and the connection's own task goes
/// on.
const FRAMES_AT_ONCE: usize = 2;

/// A frame, or the rest of one.
#[derive(Debug)]
pub(crate) struct Unwritten {
    chunks: SmallVec<[Bytes; 8]>,
    /// Chunks that are out, and bytes of the next.
    whole: usize,
    part: usize,
    messages: usize,
}

impl From<Frame> for Unwritten {
    fn from(frame: Frame) -> Self {
        let messages = frame.messages();
        Self { chunks: frame.into_chunks(), whole: 0, part: 0, messages }
    }
}

impl Unwritten {
    /// Writes until everything is out, or the kernel takes no more: `false`.
    fn write(&mut self, link: &Link) -> io::Result<bool> {
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
            match link.stream.try_write_vectored(slices) {
                Ok(n) => {
                    link.note_written(n);
                    self.advance(n);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        link.note_frame();
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

/// The task of a connection: writes whatever the session has for it, until it is retired.
pub(super) async fn write_loop(session: Arc<Session>, link: Arc<Link>) {
    let mut linger = Linger::default();
    loop {
        let next = match link.take_left() {
            Some(rest) => Some(rest),
            None => match session.next_frame(&link) {
                None => return,
                Some(frame) => frame.map(Unwritten::from),
            },
        };
        let Some(next) = next else {
            if link.work().await {
                continue;
            }
            return;
        };
        let messages = next.messages;
        if let Err(error) = write_all(&link, next).await {
            return session.write_failed(&link, &error);
        }
        if messages >= MANY {
            linger.rest().await;
        } else {
            // One frame at a time: whoever else is ready comes first.
            tokio::task::yield_now().await;
        }
    }
}

/// Writes at once, on behalf of a sender who got the wake-up of an idle connection.
pub(super) fn write_now(session: &Session, link: &Link) {
    if !link.is_rested() {
        return link.wake();
    }
    for _ in 0..FRAMES_AT_ONCE {
        let Some(Some(frame)) = session.next_frame(link) else { return };
        let mut frame = Unwritten::from(frame);
        match frame.write(link) {
            Ok(true) => {}
            Ok(false) => return link.leave(frame),
            Err(error) => return session.write_failed(link, &error),
        }
    }
    link.wake();
}

async fn write_all(link: &Link, mut frame: Unwritten) -> io::Result<()> {
    while !frame.write(link)? {
        link.stream.writable().await?;
    }
    Ok(())
}

impl Session {
    /// What to write next, if anything; `None` once the session has ended.
    fn next_frame(&self, link: &Link) -> Option<Option<Frame>> {
        self.run(&mut self.lock(), |transfer| transfer.next_frame(link.id))
    }

    fn write_failed(&self, link: &Link, error: &io::Error) {
        tracing::debug!(parent: &self.span, connection = link.id, %error, "pool connection failed");
        self.run(&mut self.lock(), |transfer| transfer.retire(link.id));
    }
}
