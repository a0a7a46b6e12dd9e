//! What coordinator and nodes of `teleport rate` say to each other besides the greeting.

use serde::{Deserialize, Serialize};

use crate::bench::protocol;
use crate::bench::stats::RoundTrips;

/// From the coordinator to a node, the greeting included.
pub(crate) type Command = protocol::Command<Order>;

/// From a node to the coordinator, the greeting included.
pub(crate) type Event = protocol::Event<Answer>;

/// From the coordinator to both nodes. In a round they come in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub(crate) enum Order {
    /// A round is about to begin.
    Prepare {
        /// Whether messages are numbered, and receivers check them.
        verify: bool,
    },
    /// Senders and callers begin.
    Go,
    /// From now on it is measured.
    Begin,
    /// Until now it was measured.
    End,
    /// Senders and callers end; answer when they have.
    Halt,
    /// Only count.
    Count,
    /// Answer [`Answer::RoundTrips`].
    RoundTrips,
}

impl Order {
    /// What a node should do, for complaints if it does not.
    pub(crate) const fn purpose(self) -> &'static str {
        match self {
            Self::Prepare { .. } => "get ready for a round",
            Self::Go => "begin to send",
            Self::Begin | Self::End | Self::Count => "count",
            Self::Halt => "stop sending",
            Self::RoundTrips => "tell its round trips",
        }
    }
}

/// From a node to the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Answer {
    /// To all other orders.
    Counts(Counts),
    /// Those since the last time.
    RoundTrips {
        /// Of calls while it was measured.
        round_trips: RoundTrips,
    },
}

/// A node at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Messages sent or received, or calls made or answered, since its start.
    pub(crate) messages: u64,
    /// Since its start.
    pub(crate) elapsed_ns: u64,
    /// CPU time since its start.
    pub(crate) cpu_ns: u64,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn answers_survive_the_line() {
        let mut round_trips = RoundTrips::default();
        [20, 30, 20].into_iter().for_each(|us| round_trips.record(Duration::from_micros(us)));
        let counts = Counts { messages: 1, elapsed_ns: 2, cpu_ns: 3 };
        for answer in [Answer::Counts(counts), Answer::RoundTrips { round_trips }] {
            let event = Event::Answer(answer);
            let line = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event, "{line}");
        }
    }
}
