//! Bulk connections: fragments of large messages, read straight to where they belong.

use super::Session;
use super::deliver::Deliver;
use super::link::Link;
use crate::base::seldom::{OfPeer, warn_seldom};
use bytes::{BufMut, BytesMut};
use std::io;
use std::sync::Arc;
use teleport_proto::membership::EndReason;
use teleport_proto::transfer::{ReceiveError, Region};
use teleport_proto::wire::WireError;
use teleport_proto::wire::pool::{BULK_PROBE, FRAGMENT_HEADER_LEN, FragmentHeader};

pub(super) async fn read_loop(session: Arc<Session>, link: Arc<Link>) {
    session.begun().await;
    let mut head = BytesMut::with_capacity(1024);
    loop {
        match read_fragment(&session, &link, &mut head).await {
            Ok(true) => {}
            Ok(false) => return session.stop_reading(&link, None),
            Err((error, region)) => {
                tracing::debug!(parent: &session.span, connection = link.id, %error, "bulk connection failed");
                return session.stop_reading(&link, region);
            }
        }
    }
}

/// Reads one fragment: its header, and its data straight into the message. `false` ends the reader.
async fn read_fragment(
    session: &Arc<Session>,
    link: &Link,
    head: &mut BytesMut,
) -> Result<bool, (io::Error, Option<Region>)> {
    head.clear();
    let plain = |error| (error, None);
    if !read_exact(link, head, FRAGMENT_HEADER_LEN).await.map_err(plain)? {
        return Ok(false);
    }
    if head[..] == BULK_PROBE {
        session.heard(session.core.clock.now());
        let taken = session.change(|transfer| transfer.receive_bulk_probe(link.id));
        tokio::task::yield_now().await;
        return Ok(taken == Some(true));
    }
    let decoded = head.first_chunk::<FRAGMENT_HEADER_LEN>().map(FragmentHeader::decode);
    let header = match decoded {
        Some(Ok(header)) => header,
        Some(Err(error)) => {
            session.out_of_step(link, error);
            return Ok(false);
        }
        None => return Ok(false),
    };
    head.clear();
    if !read_exact(link, head, header.envelope_len.into()).await.map_err(plain)? {
        return Ok(false);
    }
    let begun = session.change(|transfer| transfer.begin_fragment(link.id, &header, head));
    let mut region = match begun {
        None | Some(Ok(None)) => return Ok(false),
        Some(Ok(Some(region))) => region,
        Some(Err(error)) => {
            session.receive_failed(error);
            return Ok(false);
        }
    };
    let mut missing = region.missing();
    match read_exact(link, region.buffer(), missing).await {
        Ok(true) => {}
        Ok(false) => return Err((io::ErrorKind::UnexpectedEof.into(), Some(region))),
        Err(error) => return Err((error, Some(region))),
    }
    missing = region.missing();
    debug_assert_eq!(missing, 0);
    session.heard(session.core.clock.now());
    let mut sink = Deliver::new(session);
    let ended = session.change(|transfer| transfer.end_fragment(link.id, region, &mut sink));
    sink.finish_reading();
    match ended {
        None => Ok(false),
        Some(Ok(())) => {
            tokio::task::yield_now().await;
            Ok(true)
        }
        Some(Err(error)) => {
            session.receive_failed(error);
            Ok(false)
        }
    }
}

/// Appends exactly `len` bytes to `buffer`; `false` at the end of the stream.
///
/// Asks to be woken only when a good part of what is missing is there: otherwise the reader would be woken for every few
/// packets, which costs more than reading them.
async fn read_exact(link: &Link, buffer: &mut (dyn BufMut + Send + Sync), len: usize) -> io::Result<bool> {
    let mut missing = len;
    while missing > 0 {
        match link.stream.try_read_buf(&mut (&mut *buffer).limit(missing)) {
            Ok(0) => return Ok(false),
            Ok(read) => missing -= read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                link.wake_at(missing)?;
                link.stream.readable().await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

impl Session {
    /// A reader has ended, for whatever reason: its connection is retired with what it has counted.
    pub(super) fn stop_reading(&self, link: &Link, region: Option<Region>) {
        let useful = self.with(|state, after| {
            let useful = state.change(after, |transfer| transfer.has_carried(link.id)) == Some(true);
            state.change(after, |transfer| transfer.reader_stopped(link.id, region));
            state.links.remove(&link.id);
            useful
        });
        self.was_of_use(useful || link.is_old());
        link.close();
        self.pool_changed.notify_waiters();
    }

    /// What a connection has received is no frame.
    pub(super) fn out_of_step(&self, link: &Link, error: WireError) {
        let refused = self.change(|transfer| transfer.out_of_step(link.id, error));
        if let Some(error) = refused {
            self.receive_failed(error);
        }
    }

    /// What a reader got could not be taken.
    pub(super) fn receive_failed(&self, error: ReceiveError) {
        warn_seldom!(self.note(OfPeer::OutOfStep), parent: &self.span, %error, "received what does not fit");
        if let ReceiveError::Session(_) = error {
            self.core.events.end(self.id, EndReason::ProtocolError);
        }
    }
}
