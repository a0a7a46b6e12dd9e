//! How a session is set up, and what it can tell about itself.

use super::message::{AckToken, Ticket};

/// What both sides agreed on, and how this side sets itself up.
#[derive(Debug, Clone)]
pub struct TransferConfig {
    /// This side opens the session's connections.
    pub dialler: bool,
    /// The largest message either way, in bytes.
    pub max_message: u64,
    /// How much of the peer's memory this side may fill, in bytes.
    pub send_window: u64,
    /// How much of this side's memory the peer may fill, in bytes.
    pub receive_window: u64,
    /// The window of each of the peer's mailboxes, in bytes; `None` if they are unbounded.
    pub mailbox_window: Option<u64>,
    /// The window of each of this side's mailboxes, in bytes; `None` if they are unbounded.
    pub own_mailbox_window: Option<u64>,
    /// Bytes of a fragment.
    pub fragment_size: u32,
    /// The most express connections.
    pub express_connections: u32,
    /// Bulk connections that are opened as soon as messages queue up.
    pub bulk_connections: u32,
    /// The most bulk connections: those above [`bulk_connections`](Self::bulk_connections) are for as long as they bring something.
    pub most_bulk_connections: u32,
}

impl TransferConfig {
    pub(super) fn most_bulk(&self) -> u32 {
        self.most_bulk_connections.max(self.bulk_connections)
    }
}

/// Counters and gauges of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransferStats {
    /// Live express connections.
    pub express_connections: usize,
    /// Live bulk connections.
    pub bulk_connections: usize,
    /// Connections that are being retired.
    pub retiring_connections: usize,
    /// Express messages waiting for a connection.
    pub queued_express: usize,
    /// Bulk messages with fragments waiting for a connection.
    pub queued_bulk: usize,
    /// Sends that wait for credit.
    pub waiting: usize,
    /// Messages without credit, such as replies, that wait for their turn.
    pub exempt_waiting: usize,
    /// Bytes of messages without credit that the peer has not taken, [`MESSAGE_COST`](super::MESSAGE_COST) each included.
    pub answer_bytes: u64,
    /// Replies that were not kept since the peer takes none, and requests of the peer that were rejected for that.
    pub answers_refused: u64,
    /// Messages accepted and not known to be delivered.
    pub unconfirmed: u64,
    /// Those of them that are carried.
    pub unconfirmed_carried: u64,
    /// Bytes of all these, [`MESSAGE_COST`](super::MESSAGE_COST) each included.
    pub unconfirmed_bytes: u64,
    /// Bytes received, or being received, and not yet delivered.
    pub undelivered_bytes: u64,
    /// Bytes that the peer may have under way: those received and not delivered, and those that it may still send.
    pub granted_bytes: u64,
    /// Messages accepted since the session began.
    pub messages_sent: u64,
    /// Messages received whole since the session began.
    pub messages_received: u64,
    /// Encoded bytes of the messages sent.
    pub bytes_sent: u64,
    /// Encoded bytes of the messages received.
    pub bytes_received: u64,
    /// Messages received for which there was no process.
    pub no_process: u64,
    /// Frames queued again because their connection was lost.
    pub frames_resent: u64,
    /// Connections retired.
    pub connections_retired: u64,
    /// Remembered things that go when nothing is in flight: messages, pairs, holds, accounts, partial messages.
    pub entries: usize,
}

/// What is open when a session ends.
#[derive(Debug, Default)]
pub struct Ending {
    /// Messages accepted and not known to be delivered.
    pub unconfirmed: u64,
    /// Sends that were still waiting; none of them was accepted.
    pub waiting: Vec<Ticket>,
    /// Acknowledged sends that will get no outcome.
    pub acknowledgements: Vec<AckToken>,
}
