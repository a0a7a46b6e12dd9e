//! Writing: one task per pool connection, of either class, that pulls its next frame when the last one is out.

use super::Session;
use super::link::Link;
use bytes::Bytes;
use std::io::{self, IoSlice};
use std::sync::Arc;
use teleport_proto::transfer::Frame;

/// The most pieces in one vectored write (Linux takes 1,024).
const MAX_PIECES: usize = 1024;

/// Writes whatever the session has for the connection, until it is retired.
pub(super) async fn write_loop(session: Arc<Session>, link: Arc<Link>) {
    loop {
        let next = session.run(&mut session.lock(), |transfer| transfer.next_frame(link.id));
        let result = match next {
            None => return,
            Some(Some(frame)) => write_frame(&link, frame).await,
            Some(None) if link.work().await => continue,
            Some(None) => return,
        };
        if let Err(error) = result {
            tracing::debug!(peer = %session.peer, connection = link.id, %error, "pool connection failed");
            session.run(&mut session.lock(), |transfer| transfer.retire(link.id));
            return;
        }
        // One frame at a time: whoever else is ready comes first.
        tokio::task::yield_now().await;
    }
}

async fn write_frame(link: &Link, frame: Frame) -> io::Result<()> {
    let chunks = frame.into_chunks();
    let mut rest: &[Bytes] = &chunks;
    let mut done = 0; // of the first chunk
    while !rest.is_empty() {
        let mut pieces = [IoSlice::new(&[]); 16];
        let mut large; // only for batches of many references
        let slices = if rest.len() <= pieces.len() {
            rest.iter().zip(&mut pieces).for_each(|(chunk, piece)| *piece = IoSlice::new(chunk));
            &mut pieces[..rest.len()]
        } else {
            large = rest.iter().take(MAX_PIECES).map(|chunk| IoSlice::new(chunk)).collect::<Vec<_>>();
            &mut large[..]
        };
        slices[0].advance(done);
        let mut n = match link.stream.try_write_vectored(slices) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                link.stream.writable().await?;
                continue;
            }
            Err(error) => return Err(error),
        };
        link.note_written(n);
        n += done;
        let whole =
            rest.iter().take_while(|chunk| n.checked_sub(chunk.len()).map(|left| n = left).is_some()).count();
        (rest, done) = (&rest[whole..], n);
    }
    Ok(())
}
