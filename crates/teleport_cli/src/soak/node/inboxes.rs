//! Destinations: every message is checked against what its sender must have made.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use teleport::{Binary, Mailbox, Message};

use super::book::{Author, Book};
use super::inbox_name;
use crate::bench::child::NodeError;

/// One message of so many makes the process slow for a while, so that mailboxes fill up.
const SLOW_ONE_OF: u32 = 300;

/// How slow, at the most.
const SLOWEST: Duration = Duration::from_millis(30);

/// What is sent. A broadcast has a number for each node that it goes to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Parcel {
    pub(super) from: Author,
    /// Counts what the sender has begun to send, whether it was accepted or not.
    pub(super) serial: u64,
    /// By node: the number of the message in its pair.
    pub(super) numbers: Vec<(u16, u64)>,
    pub(super) payload: Binary,
}

impl Parcel {
    pub(super) fn new(book: &Book, from: Author, serial: u64, numbers: Vec<(u16, u64)>) -> Self {
        let payload = Binary::from(book.payloads.of(("parcel", from, serial)));
        Self { from, serial, numbers, payload }
    }
}

/// A destination that is registered when this returns, and takes messages until the node is shut down.
pub(super) fn open(book: &Arc<Book>, inbox: u16) -> Result<impl Future<Output = ()> + use<>, NodeError> {
    let mailbox = book
        .node
        .register(&inbox_name(inbox))
        .map_err(NodeError::teleport("cannot register a destination"))?;
    Ok(run(Arc::clone(book), inbox, mailbox))
}

async fn run(book: Arc<Book>, inbox: u16, mut mailbox: Mailbox) {
    let mut random = book.random("inbox", inbox);
    while let Some(message) = mailbox.recv().await {
        match check(&book, &message) {
            Some((from, number, bytes)) => book.take(from, inbox, number, bytes),
            None => book.damaged(&format!("a message in inbox {inbox}")),
        }
        drop(message);
        if random.random_ratio(1, SLOW_ONE_OF) {
            book.pause(random.random_range(Duration::ZERO..SLOWEST)).await;
        }
    }
}

/// Whose it is, its number and size; `None` if it is not what its sender made.
fn check(book: &Book, message: &Message) -> Option<(Author, u64, u64)> {
    let parcel: Parcel = match message.decode() {
        Ok(parcel) => parcel,
        Err(_) => message.cast()?.decode().ok()?,
    };
    let (_, number) = parcel.numbers.iter().find(|(node, _)| *node == book.index)?;
    let is_intact = book.payloads.of(("parcel", parcel.from, parcel.serial)) == parcel.payload[..];
    is_intact.then_some((parcel.from, *number, parcel.payload.len() as u64))
}
