//! Express connections: batches of small messages.

use super::Session;
use super::connection::PoolConnection;
use super::deliver::Deliver;
use crate::io::readers::{Reader, Turn};
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
    let (mut input, mut frames) = (Input::default(), Vec::new());
    loop {
        match read_batches(&session, &connection, &reader, &mut input, &mut frames).await {
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

/// What has been read and is not a whole batch yet, and room for more. No credit covers that room: it is for as much as comes, and
/// no longer than it comes.
struct Input {
    received: BytesMut,
    /// The whole piece of memory that `received` is in, at the most.
    held: usize,
    /// Bytes to make room for.
    room: usize,
    /// What is missing of a batch that has begun: that is counted.
    missing: usize,
}

impl Default for Input {
    fn default() -> Self {
        Self { received: BytesMut::new(), held: 0, room: LEAST_READ, missing: 0 }
    }
}

impl Input {
    /// Makes room for the next read. The connection may have so many bytes of it.
    fn make_room(&mut self, most: usize) {
        self.room = self.room.min(most).max(LEAST_READ);
        let (len, room) = (self.received.len(), self.room.max(self.missing));
        if self.held > 2 * (len + room) || !self.received.try_reclaim(room) {
            self.move_to(len + room);
        }
    }

    /// So much was there to be read: the more comes, the more room there is.
    fn has_read(&mut self, bytes: usize) {
        if bytes >= self.room {
            self.room = (self.room * 2).min(MOST_READ);
        } else if bytes < self.room / 4 {
            self.room = (self.room / 2).max(LEAST_READ);
        }
    }

    fn holds_much(&self) -> bool {
        self.held > LEAST_READ.max(self.received.len())
    }

    /// Of a connection that has become quiet nothing is kept but what has come.
    fn rest(&mut self) {
        self.room = LEAST_READ;
        self.move_to(self.received.len());
    }

    fn move_to(&mut self, capacity: usize) {
        let mut memory = BytesMut::with_capacity(capacity);
        memory.extend_from_slice(&self.received);
        (self.held, self.received) = (memory.capacity(), memory);
    }
}

/// Reads once, and takes every batch that is complete then. `false` ends the reader.
async fn read_batches(
    session: &Arc<Session>,
    connection: &PoolConnection,
    reader: &Reader,
    input: &mut Input,
    frames: &mut Vec<Bytes>,
) -> io::Result<bool> {
    if input.holds_much() {
        match tokio::time::timeout(QUIET, connection.stream.readable()).await {
            Ok(ready) => ready?,
            Err(_) => {
                input.rest();
                return Ok(true);
            }
        }
    } else {
        connection.stream.readable().await?;
    }
    session.core.takes_in().await;
    input.make_room(reader.most_room());
    match connection.stream.try_read_buf(&mut input.received) {
        Ok(0) => return Ok(false),
        Ok(n) => input.has_read(n),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
        Err(error) => return Err(error),
    }
    session.heard(session.core.clock.now());
    let turn = reader.turn().await;
    let is_much = input.received.len() >= MUCH;
    let goes_on = take_in(session, connection, input, frames);
    let turn = session.hand_over(Some(reader), Some(turn)).await;
    if is_much && turn.as_ref().is_some_and(Turn::is_one_of_many) {
        tokio::task::yield_now().await; // see `Turn`
    }
    drop(turn);
    Ok(goes_on)
}

/// Takes every batch that is complete. `false` ends the reader.
fn take_in(
    session: &Arc<Session>,
    connection: &PoolConnection,
    input: &mut Input,
    frames: &mut Vec<Bytes>,
) -> bool {
    let (mut out_of_step, mut begun) = (None, None);
    loop {
        match split_batch(&mut input.received) {
            Ok(Front::Whole(frame)) => frames.push(frame),
            Ok(Front::Begun(needed)) => {
                input.missing = needed.saturating_sub(input.received.len());
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
    if session.receive(Deliver::new(session), take, Deliver::finish).is_none() {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads as much as there is room for, of bytes that are taken at once.
    fn burst(input: &mut Input, most: usize) {
        input.make_room(most);
        let room = input.received.capacity() - input.received.len();
        input.received.resize(input.received.len() + room, 0);
        input.has_read(room);
        let _ = input.received.split();
    }

    fn after_a_flood() -> Input {
        let mut input = Input::default();
        (0..10).for_each(|_| burst(&mut input, usize::MAX));
        assert!((MOST_READ..=2 * MOST_READ).contains(&input.held));
        input
    }

    #[test]
    fn of_a_connection_that_has_become_quiet_only_what_has_come_is_kept() {
        for begun in [0, 5, 100] {
            let mut input = after_a_flood();
            input.received.extend_from_slice(&vec![1; begun]);
            assert!(input.holds_much());
            input.rest();
            assert!(!input.holds_much() && input.held <= 2 * begun && input.received.capacity() <= 2 * begun);
            assert_eq!(input.received, vec![1; begun]);
        }
    }

    #[test]
    fn who_sends_byte_by_byte_loses_the_room_of_a_flood() {
        let mut input = after_a_flood();
        for _ in 0..10 {
            input.make_room(usize::MAX);
            input.received.extend_from_slice(&[1]);
            input.has_read(1);
        }
        assert!(input.held <= 2 * (LEAST_READ + 10), "{} bytes are held", input.held);
        assert_eq!(input.received[..], [1; 10]);
    }

    #[test]
    fn one_of_many_has_little_room_and_a_batch_that_has_begun_what_it_misses() {
        let mut input = after_a_flood();
        (0..3).for_each(|_| burst(&mut input, 0));
        assert!(input.held <= 2 * LEAST_READ, "{} bytes are held", input.held);
        input.missing = 1 << 20;
        input.make_room(0);
        assert!(input.received.capacity() >= 1 << 20);
    }
}
