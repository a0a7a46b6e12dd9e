//! What can be wrong with what the peer sends.

use crate::wire::WireError;
use crate::wire::envelope::{AccountId, Seq};

/// Why received bytes could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// The connection is out of step. It has been retired; the session goes on.
    #[error(transparent)]
    Connection(WireError),
    /// The peer broke a promise of the session, which has to end.
    #[error(transparent)]
    Session(#[from] Violation),
}

/// A promise that the peer broke. The session ends, since nothing that it says can be relied on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A message or fragment that was there already.
    #[error("the peer sent message {seq} or a part of it twice; the session ends")]
    Duplicate {
        /// The message's number.
        seq: Seq,
    },
    /// More than the window allows.
    #[error("the peer sent {bytes} bytes more than its credit (undelivered: {used}); the session ends")]
    Credit {
        /// Bytes in the window.
        used: u64,
        /// Bytes that came on top.
        bytes: u64,
    },
    /// More batches have begun to come than its credit explains.
    #[error("the peer has begun batches of {bytes} bytes, with a credit of {credit}; the session ends")]
    Batches {
        /// Bytes of the batches.
        bytes: u64,
        /// Bytes that it may send.
        credit: u64,
    },
    /// It gave up more than it had.
    #[error("the peer gives up {bytes} bytes of its credit, more than it has left; the session ends")]
    Waived {
        /// Bytes that it gives up, in all.
        bytes: u64,
    },
    /// Larger than agreed.
    #[error("the peer sent a message of {size} bytes, agreed were {limit} at most; the session ends")]
    TooLarge {
        /// Bytes of the message.
        size: u64,
        /// Bytes agreed.
        limit: u64,
    },
    /// Too many messages in parts, or one in too many parts.
    #[error(
        "the peer has {messages} messages in parts and began one of {fragments} fragments; the session ends"
    )]
    TooManyPartial {
        /// Partial messages.
        messages: usize,
        /// Fragments of the next.
        fragments: u64,
    },
    /// Fragments of one message that contradict each other.
    #[error("fragments of message {seq} contradict each other; the session ends")]
    Inconsistent {
        /// The message's number.
        seq: Seq,
    },
    /// An acknowledgement of something that was never sent.
    #[error("the peer acknowledged {what} {number}, which was never sent; the session ends")]
    NeverSent {
        /// What.
        what: &'static str,
        /// Its number.
        number: u64,
    },
    /// A mailbox's credit that was never taken came back.
    #[error("the peer reported more bytes consumed on account {account} than it was sent; the session ends")]
    Consumed {
        /// The account.
        account: AccountId,
    },
    /// Connection after connection got out of step: it is not the network.
    #[error(
        "{connections} connections of the peer got out of step, the last because {last}; the session ends"
    )]
    OutOfStep {
        /// How many.
        connections: u32,
        /// What was wrong with the last.
        last: WireError,
    },
    /// The peer makes this side remember more than any peer needs to.
    #[error("the peer keeps more than {limit} {what} open; the session ends")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// It takes too little of the answers that this side gives by itself, and cannot refuse.
    #[error(
        "the peer has not taken {bytes} bytes of outcomes and of answers to requests and monitors in vain, {limit} are \
         kept; the session ends"
    )]
    Answers {
        /// Bytes that it has not taken.
        bytes: u64,
        /// Bytes that are kept.
        limit: u64,
    },
    /// An answer from the session's own machinery that does not parse.
    #[error("the peer sent an outcome that does not parse; the session ends")]
    Outcome,
}

/// Whether the peer keeps to a limit.
pub(super) fn allow(what: &'static str, count: usize, limit: usize) -> Result<(), Violation> {
    if count <= limit { Ok(()) } else { Err(Violation::TooMuch { what, limit }) }
}
