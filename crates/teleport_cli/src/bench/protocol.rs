//! What coordinators and nodes say to each other: one line each, over the node's stdin and stdout.
//!
//! How nodes find each other is the same in every benchmark; each has its own orders and answers besides.

use serde::{Deserialize, Serialize};

/// From the coordinator to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub(crate) enum Command<O> {
    /// The addresses of all nodes by index: connect to those that matter, answer [`Event::Connected`].
    Peers {
        /// As told in [`Event::Ready`].
        addresses: Vec<String>,
    },
    /// An order of the benchmark's own, tagged by `command`, too.
    #[serde(untagged)]
    Order(O),
}

/// From a node to the coordinator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event<A> {
    /// The node can be reached.
    Ready {
        /// Where, in the transport's own notation.
        address: String,
        /// Of the transport's implementation.
        version: String,
    },
    /// The node has reached the others, and they have reached it.
    Connected,
    /// The node cannot go on.
    Failed {
        /// Why.
        reason: String,
    },
    /// An answer of the benchmark's own, tagged by `event`, too.
    #[serde(untagged)]
    Answer(A),
}

impl<O: Serialize> Command<O> {
    /// The line that a Rust node reads.
    pub(crate) fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

impl<A: Serialize> Event<A> {
    /// The event's name in the protocol.
    pub(crate) fn name(&self) -> String {
        let tag = |value: serde_json::Value| value["event"].as_str().map(str::to_owned);
        serde_json::to_value(self).ok().and_then(tag).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "event", rename_all = "snake_case")]
    enum Answer {
        Counted { messages: u64 },
        Nothing,
    }

    #[test]
    fn common_and_own_events_look_alike() {
        for (event, line) in [
            (Event::Connected, r#"{"event":"connected"}"#),
            (Event::Answer(Answer::Nothing), r#"{"event":"nothing"}"#),
            (Event::Answer(Answer::Counted { messages: 7 }), r#"{"event":"counted","messages":7}"#),
        ] {
            assert_eq!(serde_json::to_string(&event).unwrap(), line);
            assert_eq!(serde_json::from_str::<Event<Answer>>(line).unwrap(), event);
            assert!(line.contains(&event.name()), "{line}");
        }
        assert!(serde_json::from_str::<Event<Answer>>(r#"{"event":"other"}"#).is_err());
    }
}
