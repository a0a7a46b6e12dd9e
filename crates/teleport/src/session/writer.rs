//! Writing: what goes out next is pulled when the last is out.
//!
//! The task or thread that takes a connection's wake-up writes alone until nothing is left to write. Usually that is the
//! connection's own task. A sender of something not too large that finds a connection idle writes at once instead, which
//! saves a change of threads; but not message by message when it sends many small ones in a row.

use super::Session;
use super::bulk::MUCH;
use super::connection::{PoolConnection, Unwritten};
use super::linger::{Linger, MANY};
use std::io;
use std::sync::Arc;
use teleport_proto::transfer::Transfer;
use teleport_proto::wire::pool::Class;

/// What a connection is to write next.
#[allow(clippy::large_enum_variant, reason = "it is made to be taken apart at once")]
enum Next {
    Frame(Unwritten),
    /// Nothing, until its writer is woken.
    Nothing,
    /// Nothing any more: the session has ended.
    Ended,
}

/// A sender writes this many frames at once; if there is more by then, others send too, and the connection's own task goes
/// on.
const FRAMES_AT_ONCE: usize = 2;

/// The most bytes that a sender writes at once, in some 20 µs. The kernel takes no more at a time anyway (`notsent_lowat`).
const MOST_AT_ONCE: usize = 128 * 1024;

/// The task of a connection: writes whatever the session has for it, until it is retired.
pub(super) async fn write_loop(session: Arc<Session>, connection: Arc<PoolConnection>) {
    let mut linger = Linger::default();
    let mut in_a_row = 0;
    loop {
        let next = match connection.take_left() {
            Some(rest) => rest,
            None => match session.next_frame(&connection) {
                Next::Frame(frame) => frame,
                Next::Nothing if connection.work().await => continue,
                Next::Nothing | Next::Ended => return,
            },
        };
        let (messages, len) = (next.messages, next.len());
        if let Err(error) = write_all(&connection, next).await {
            return session.write_failed(&connection, &error);
        }
        if messages >= MANY {
            linger.rest().await;
            continue;
        }
        in_a_row += len;
        // Other tasks that are ready come first; not on account of each of many frames of middle size.
        if connection.class == Class::Express || in_a_row >= MUCH {
            in_a_row = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Writes at once, on behalf of a sender who got the wake-up of an idle connection.
pub(super) fn write_now(session: &Session, connection: &PoolConnection) {
    // A large message is a write of its own anyway.
    if connection.class == Class::Express && !connection.is_rested() {
        return connection.wake();
    }
    for _ in 0..FRAMES_AT_ONCE {
        let Next::Frame(mut frame) = session.next_frame(connection) else { return };
        if frame.len() > MOST_AT_ONCE {
            return connection.leave(frame);
        }
        match frame.write(connection) {
            Ok(true) => {}
            Ok(false) => return connection.leave(frame),
            Err(error) => return session.write_failed(connection, &error),
        }
    }
    connection.wake();
}

async fn write_all(connection: &PoolConnection, mut frame: Unwritten) -> io::Result<()> {
    while !frame.write(connection)? {
        connection.stream.writable().await?;
    }
    Ok(())
}

impl Session {
    fn next_frame(&self, connection: &PoolConnection) -> Next {
        let pull = |transfer: &mut Transfer| {
            if connection.class == Class::Express {
                self.shelves.fetch(transfer);
            }
            let Some(frame) = transfer.next_frame(connection.id) else { return Next::Nothing };
            if connection.class == Class::Bulk {
                transfer.weigh(frame.len(), self.core.clock.now());
            }
            Next::Frame(frame.into())
        };
        self.change(pull).unwrap_or(Next::Ended)
    }

    fn write_failed(&self, connection: &PoolConnection, error: &io::Error) {
        tracing::debug!(parent: &self.span, connection = connection.id, %error, "pool connection failed");
        self.change(|transfer| transfer.retire(connection.id));
    }
}
