//! Bulk connections: fragments of large messages, read straight to where they belong.

use super::Session;
use super::connection::PoolConnection;
use super::deliver::Deliver;
use crate::base::seldom::{OfPeer, warn_seldom};
use bytes::{BufMut, BytesMut};
use std::io;
use std::sync::Arc;
use teleport_proto::membership::EndReason;
use teleport_proto::transfer::{ReceiveError, Region, Transfer};
use teleport_proto::wire::WireError;
use teleport_proto::wire::pool::{BULK_PROBE, FRAGMENT_HEADER_LEN, FragmentHeader};

/// What is read with a fragment's header: the envelope, and the first bytes of the data, which are copied. A read less costs more.
const AHEAD: usize = 1024;

/// After this many bytes a reader or writer lets other connections of its thread have their turn.
pub(super) const MUCH: usize = 256 * 1024;

pub(super) async fn read_loop(session: Arc<Session>, connection: Arc<PoolConnection>) {
    session.begun().await;
    let mut ahead = BytesMut::with_capacity(AHEAD);
    let mut in_a_row = 0;
    loop {
        match read_fragment(&session, &connection, &mut ahead).await {
            Ok(Some(bytes)) => {
                in_a_row += bytes;
                if in_a_row >= MUCH {
                    in_a_row = 0;
                    tokio::task::yield_now().await;
                }
            }
            Ok(None) => return session.stop_reading(&connection, None),
            Err((error, region)) => {
                tracing::debug!(parent: &session.span, connection = connection.id, %error, "bulk connection failed");
                return session.stop_reading(&connection, region);
            }
        }
    }
}

/// Reads one fragment: its header, and its data straight into the message; how many bytes these are. `None` ends the reader.
///
/// `ahead` is what has been read and not used.
async fn read_fragment(
    session: &Arc<Session>,
    connection: &PoolConnection,
    ahead: &mut BytesMut,
) -> Result<Option<usize>, (io::Error, Option<Region>)> {
    let plain = |error| (error, None);
    if !read_ahead(connection, ahead, FRAGMENT_HEADER_LEN).await.map_err(plain)? {
        return Ok(None);
    }
    session.core.takes_in().await;
    let head = ahead.split_to(FRAGMENT_HEADER_LEN);
    if head[..] == BULK_PROBE {
        session.heard(session.core.clock.now());
        let taken = session.change(|transfer| transfer.receive_bulk_probe(connection.id));
        return Ok((taken == Some(true)).then_some(MUCH));
    }
    let decoded = head.first_chunk::<FRAGMENT_HEADER_LEN>().map(FragmentHeader::decode);
    let header = match decoded {
        Some(Ok(header)) => header,
        Some(Err(error)) => {
            session.out_of_step(connection, error);
            return Ok(None);
        }
        None => return Ok(None),
    };
    drop(head); // the buffer can be used again
    let envelope_len = usize::from(header.envelope_len);
    if !read_ahead(connection, ahead, envelope_len).await.map_err(plain)? {
        return Ok(None);
    }
    let envelope = ahead.split_to(envelope_len);
    let begin = |transfer: &mut Transfer, envelope: &mut BytesMut| {
        transfer.begin_fragment(connection.id, &header, envelope)
    };
    let Some(mut region) = session.receive(envelope, begin, drop).flatten() else { return Ok(None) };
    let len = region.missing();
    let first = ahead.split_to(ahead.len().min(len));
    region.buffer().put_slice(&first);
    drop(first);
    let missing = region.missing();
    match read_exact(connection, region.buffer(), missing).await {
        Ok(true) => {}
        Ok(false) => return Err((io::ErrorKind::UnexpectedEof.into(), Some(region))),
        Err(error) => return Err((error, Some(region))),
    }
    debug_assert_eq!(region.missing(), 0);
    session.heard(session.core.clock.now());
    let end =
        |transfer: &mut Transfer, sink: &mut Deliver<'_>| transfer.end_fragment(connection.id, region, sink);
    let ended = session.receive(Deliver::new(session), end, Deliver::finish);
    session.hand_over(None, None).await;
    Ok(ended.map(|()| len))
}

/// Reads until there are `len` bytes, and some more if they are there; `false` at the end of the stream.
async fn read_ahead(connection: &PoolConnection, ahead: &mut BytesMut, len: usize) -> io::Result<bool> {
    while ahead.len() < len {
        ahead.reserve(AHEAD.max(len) - ahead.len());
        match connection.stream.try_read_buf(ahead) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                connection.wake_at(len - ahead.len())?;
                connection.stream.readable().await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Appends exactly `len` bytes to `buffer`; `false` at the end of the stream.
///
/// Asks to be woken only when a good part of what is missing is there: otherwise the reader would be woken for every few
/// packets, which costs more than reading them.
async fn read_exact(
    connection: &PoolConnection,
    buffer: &mut (dyn BufMut + Send + Sync),
    len: usize,
) -> io::Result<bool> {
    let mut missing = len;
    while missing > 0 {
        match connection.stream.try_read_buf(&mut (&mut *buffer).limit(missing)) {
            Ok(0) => return Ok(false),
            Ok(read) => missing -= read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                connection.wake_at(missing)?;
                connection.stream.readable().await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

impl Session {
    /// A reader has ended, for whatever reason: its connection is retired with what it has counted.
    pub(super) fn stop_reading(&self, connection: &PoolConnection, region: Option<Region>) {
        let useful = self.with(|state, after| {
            let useful = state.change(after, |transfer| transfer.has_carried(connection.id)) == Some(true);
            state.change(after, |transfer| transfer.reader_stopped(connection.id, region));
            state.connections.remove(&connection.id);
            useful
        });
        self.was_of_use(useful || connection.is_old());
        connection.close();
        self.pool_changed.notify_waiters();
    }

    /// What a connection has received is no frame.
    pub(super) fn out_of_step(&self, connection: &PoolConnection, error: WireError) {
        let refused = self.change(|transfer| transfer.out_of_step(connection.id, error));
        if let Some(error) = refused {
            self.receive_failed(error);
        }
    }

    /// Takes in what has come from the peer; with the lock released, `finish` does what is left to do. `None` if the session has
    /// ended, or what has come does not fit.
    pub(super) fn receive<S, T, E: Into<ReceiveError>>(
        &self,
        mut sink: S,
        take: impl FnOnce(&mut Transfer, &mut S) -> Result<T, E>,
        finish: impl FnOnce(S),
    ) -> Option<T> {
        let taken = self.change(|transfer| take(transfer, &mut sink));
        finish(sink);
        taken?.map_err(|error| self.receive_failed(error.into())).ok()
    }

    /// What a reader got could not be taken.
    fn receive_failed(&self, error: ReceiveError) {
        warn_seldom!(self.note(OfPeer::OutOfStep), parent: &self.span, %error, "received what does not fit");
        if let ReceiveError::Session(_) = error {
            self.core.events.end(self.id, EndReason::ProtocolError);
        }
    }
}
