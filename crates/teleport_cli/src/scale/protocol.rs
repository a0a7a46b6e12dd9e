//! What coordinator and nodes of `teleport scale` say to each other besides the greeting.

use serde::{Deserialize, Serialize};

use crate::bench::protocol;
use crate::bench::stats::RoundTrips;

/// From the coordinator to a node, the greeting included.
pub(super) type Command = protocol::Command<Order>;

/// From a node to the coordinator, the greeting included.
pub(super) type Event = protocol::Event<Answer>;

/// From the coordinator to all nodes, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub(super) enum Order {
    /// Say something to every other node; answer [`Answer::Done`] when each has said something to you.
    Meet,
    /// Call every other node once a second; answer [`Answer::Done`] when you have begun.
    Use,
    /// Call nobody any more; answer [`Answer::Called`].
    Rest,
}

impl Order {
    /// What a node should do, for complaints if it does not.
    pub(super) const fn purpose(self) -> &'static str {
        match self {
            Self::Meet => "meet all others",
            Self::Use => "begin to call",
            Self::Rest => "come to rest",
        }
    }
}

/// From a node to the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Answer {
    /// What was to be done is done.
    Done,
    /// Nobody is called any more.
    Called {
        /// Of all calls.
        round_trips: RoundTrips,
    },
}
