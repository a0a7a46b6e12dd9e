//! Express connections: batches of small messages.

use super::Session;
use super::connection::PoolConnection;
use super::deliver::Deliver;
use crate::io::readers::Reader;
use bytes::{Bytes, BytesMut};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use teleport_proto::transfer::Transfer;
use teleport_proto::wire::batch::{BATCH_HEADER_LEN, Front, split_batch};

/// Room for one read: grows with what comes, so that a quiet connection costs little.
const LEAST_READ: usize = 8 * 1024;
const MOST_READ: usize = 256 * 1024;

/// Bytes that a reader takes before others come first: some 30 messages, which take less time than a yield to the runtime.
const MUCH: usize = 4 * 1024;

/// The room for reads is given back when nothing has come for this long.
const QUIET: Duration = Duration::from_secs(1);

pub(super) async fn read_loop(session: Arc<Session>, connection: Arc<PoolConnection>) {
    session.begun().await;
    let reader = session.core.readers.add(session.source);
    let mut input = Input { received: BytesMut::new(), room: LEAST_READ, frames: Vec::new() };
    loop {
        match read_batches(&session, &connection, &reader, &mut input).await {
            // A socket that is never empty must not keep the thread.
            Ok(true) => tokio::task::consume_budget().await,
            Ok(false) => break,
            Err(error) => {
                tracing::debug!(parent: &session.span, connection = connection.id, %error, "express connection failed");
                break;
            }
        }
    }
    session.stop_reading(&connection, None);
}

struct Input {
    /// The beginning of a batch.
    received: BytesMut,
    /// Bytes to make room for.
    room: usize,
    frames: Vec<Bytes>,
}

/// Reads once, and takes every batch that is complete then. `false` ends the reader.
async fn read_batches(
    session: &Arc<Session>,
    connection: &PoolConnection,
    reader: &Reader,
    input: &mut Input,
) -> io::Result<bool> {
    let Input { received, room, .. } = &mut *input;
    if received.is_empty() && received.capacity() > LEAST_READ {
        // Of a connection that has become quiet nothing is kept.
        match tokio::time::timeout(QUIET, connection.stream.readable()).await {
            Ok(ready) => ready?,
            Err(_) => {
                (*received, *room) = (BytesMut::new(), LEAST_READ);
                return Ok(true);
            }
        }
    } else {
        connection.stream.readable().await?;
    }
    received.reserve(*room);
    match connection.stream.try_read_buf(received) {
        Ok(0) => return Ok(false),
        Ok(n) if n >= *room => *room = (*room * 2).min(MOST_READ),
        Ok(n) if n < *room / 4 => *room = (*room / 2).max(LEAST_READ),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
        Err(error) => return Err(error),
    }
    session.heard(session.core.clock.now());
    let turn = reader.turn().await;
    let is_much = received.len() >= MUCH;
    let goes_on = take_in(session, connection, input);
    if is_much && turn.is_one_of_many() {
        tokio::task::yield_now().await; // see `Turn`
    }
    drop(turn);
    Ok(goes_on)
}

/// Takes every batch that is complete. `false` ends the reader.
fn take_in(session: &Arc<Session>, connection: &PoolConnection, input: &mut Input) -> bool {
    let Input { received, room, frames } = input;
    let (mut out_of_step, mut begun) = (None, None);
    loop {
        match split_batch(received) {
            Ok(Front::Whole(frame)) => frames.push(frame),
            Ok(Front::Begun(needed)) => {
                *room = (*room).max(needed.saturating_sub(received.len()));
                begun = (needed > BATCH_HEADER_LEN).then_some(needed);
                break;
            }
            Err(error) => {
                out_of_step = Some(error);
                break;
            }
        }
    }
    let take = |transfer: &mut Transfer, sink: &mut Deliver<'_>| {
        frames.drain(..).try_for_each(|frame| transfer.receive_batch(connection.id, frame, sink))?;
        begun.map_or(Ok(()), |len| transfer.begin_batch(connection.id, len))
    };
    if session.receive(Deliver::new(session), take, Deliver::finish_reading).is_none() {
        return false;
    }
    match out_of_step {
        None => true,
        Some(error) => {
            session.out_of_step(connection, error);
            false
        }
    }
}
