//! What coordinator and nodes tell each other in a run under chaos.

use serde::{Deserialize, Serialize};

/// What a node is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// Start probes, senders and faults.
    Begin,
    /// Only tell what was counted so far.
    Count,
    /// No more faults, no more messages; what is under way goes on.
    Calm,
    /// Tell what was sent and received by pair.
    Ledger,
}

impl Step {
    /// The name in the protocol.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Count => "count",
            Self::Calm => "calm",
            Self::Ledger => "ledger",
        }
    }
}

/// What a node has counted so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Senders that have not ended.
    pub(crate) senders: u64,
    /// Messages accepted.
    pub(crate) sent: u64,
    /// How long sends waited to be accepted, together.
    pub(crate) send_seconds: f64,
    /// Different messages received.
    pub(crate) received: u64,
    /// Their payload.
    pub(crate) received_bytes: u64,
    /// Messages received once more.
    pub(crate) doubled: u64,
    /// Messages received after a later one of their pair.
    pub(crate) reordered: u64,
    /// Messages that are not what their sender made.
    pub(crate) damaged: u64,
    /// Pool connections killed.
    pub(crate) pool_killed: u64,
    /// Control connections killed.
    pub(crate) control_killed: u64,
    /// Pool connections that the product has retired; each counts at both ends.
    pub(crate) connections_retired: u64,
    /// Frames that were sent again.
    pub(crate) frames_resent: u64,
    /// Ticks that were not answered within their interval, or at all.
    pub(crate) ticks_missed: u64,
    /// Sessions that ended.
    pub(crate) nodedowns: u64,
    /// Messages accepted and not confirmed, by sessions that ended or at the moment.
    pub(crate) unconfirmed: u64,
}

impl Counts {
    /// What has come of the run so far, in a line.
    pub(crate) fn summary(&self) -> String {
        let Self { received, pool_killed, control_killed, frames_resent, .. } = self;
        format!(
            "{received} messages, {pool_killed} pool and {control_killed} control connections killed, {frames_resent} frames resent"
        )
    }

    /// Whether everything sent is received, and everybody knows.
    pub(crate) const fn is_settled(&self) -> bool {
        self.senders == 0 && self.unconfirmed == 0 && self.received >= self.sent
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, counts| Self {
            senders: sum.senders + counts.senders,
            sent: sum.sent + counts.sent,
            send_seconds: sum.send_seconds + counts.send_seconds,
            received: sum.received + counts.received,
            received_bytes: sum.received_bytes + counts.received_bytes,
            doubled: sum.doubled + counts.doubled,
            reordered: sum.reordered + counts.reordered,
            damaged: sum.damaged + counts.damaged,
            pool_killed: sum.pool_killed + counts.pool_killed,
            control_killed: sum.control_killed + counts.control_killed,
            connections_retired: sum.connections_retired + counts.connections_retired,
            frames_resent: sum.frames_resent + counts.frames_resent,
            ticks_missed: sum.ticks_missed + counts.ticks_missed,
            nodedowns: sum.nodedowns + counts.nodedowns,
            unconfirmed: sum.unconfirmed + counts.unconfirmed,
        })
    }
}

/// A sender and a destination: the unit of order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Pair {
    /// The sender's node.
    pub(crate) origin: u16,
    /// The sender.
    pub(crate) worker: u16,
    /// The destination's node.
    pub(crate) node: u16,
    /// The destination.
    pub(crate) inbox: u16,
}

/// What a node sent and received.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    /// Messages accepted, by pair.
    pub(crate) sent: Vec<Sent>,
    /// Messages received, by pair.
    pub(crate) received: Vec<Received>,
}

/// Messages of one pair that were accepted: numbers 1 to `messages`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sent {
    /// The pair.
    pub(crate) pair: Pair,
    /// How many.
    pub(crate) messages: u64,
}

/// Messages of one pair that are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Received {
    /// The pair.
    pub(crate) pair: Pair,
    /// How many different ones.
    pub(crate) messages: u64,
    /// The highest number.
    pub(crate) last: u64,
}
