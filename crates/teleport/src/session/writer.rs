//! Writing: what goes out next is pulled when the last is out.
//!
//! Whoever gets a connection's wake-up has it to himself until there is nothing left to write. Usually that is the
//! connection's own task. A sender of small messages that finds an express connection idle writes at once instead, which
//! saves a change of threads; but not message by message when it sends many in a row.

use super::Session;
use super::linger::{Linger, MANY};
use super::link::{Link, Unwritten};
use std::io;
use std::sync::Arc;
use teleport_proto::transfer::Frame;

/// A sender writes so many frames at once; if there is more by then, others send too, and the connection's own task goes
/// on.
const FRAMES_AT_ONCE: usize = 2;

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
