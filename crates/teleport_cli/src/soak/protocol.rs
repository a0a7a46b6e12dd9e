//! What the coordinator and the nodes of a soak say to each other besides the greeting.

use serde::{Deserialize, Serialize};

use super::ledger::{Account, Range};
use crate::bench::protocol;

/// From the coordinator to a node, the greeting included.
pub(super) type Command = protocol::Command<Order>;

/// From a node to the coordinator, the greeting included.
pub(super) type Event = protocol::Event<Answer>;

/// From the coordinator to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub(super) enum Order {
    /// Answer [`Answer::Account`].
    Tell,
    /// Do something to yourself; answer [`Answer::Struck`].
    Strike {
        /// What.
        blow: Blow,
        /// With which peer, connection or process, counted around.
        pick: u32,
    },
    /// Shut down under load; answer [`Answer::Left`].
    Leave,
    /// Begin nothing more; answer [`Answer::Account`].
    Calm,
    /// Answer [`Answer::Explained`].
    Explain {
        /// Messages of this node's that are missing.
        missing: Vec<Missing>,
    },
}

/// What a node does to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Blow {
    /// Break a pool connection.
    Cut,
    /// Break a control connection.
    Control,
    /// End a session.
    Disconnect,
    /// End the servers.
    Exit,
}

/// Messages that have not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Missing {
    /// The sender.
    pub(super) worker: u16,
    /// The destination's node.
    pub(super) node: u16,
    /// The destination.
    pub(super) inbox: u16,
    /// Their numbers.
    pub(super) range: Range,
}

/// From a node to the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Answer {
    /// What the node knows.
    Account(Box<Account>),
    /// Whether there was anything to strike.
    Struck {
        /// What was to be done.
        blow: Blow,
        /// Whether it was.
        done: bool,
    },
    /// The node is shut down.
    Left {
        /// Messages to these nodes are not known to be delivered, and how many.
        unconfirmed: Vec<(u16, u64)>,
        /// The last that it knows.
        account: Box<Account>,
    },
    /// How many of the missing messages were confirmed to their sender, range by range.
    Explained {
        /// In the order of the question.
        confirmed: Vec<u64>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_answers_survive_the_line() {
        let missing = vec![Missing { worker: 1, node: 2, inbox: 0, range: (3, u64::MAX) }];
        for order in [
            Order::Tell,
            Order::Leave,
            Order::Strike { blow: Blow::Cut, pick: 7 },
            Order::Explain { missing },
        ] {
            let command = Command::Order(order);
            assert_eq!(serde_json::from_str::<Command>(&command.to_json().unwrap()).unwrap(), command);
        }
        let mut account = Box::new(Account { incarnation: u32::MAX, ..Account::default() });
        account.gauges.insert("sends_waiting".to_owned(), 1);
        for answer in [
            Answer::Account(account.clone()),
            Answer::Left { unconfirmed: vec![(1, 2)], account },
            Answer::Explained { confirmed: vec![0, 1] },
        ] {
            let event = Event::Answer(answer);
            let line = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
        }
    }
}
