//! What the ring's coordinator and nodes say to each other besides the greeting.

use serde::{Deserialize, Serialize};

use crate::bench::protocol;

use super::figures::{Counts, Ledger, Step};

/// From the coordinator to a node, the greeting included.
pub(crate) type Command = protocol::Command<Order>;

/// From a node to the coordinator, the greeting included.
pub(crate) type Event = protocol::Event<Answer>;

/// From the coordinator to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub(crate) enum Order {
    /// Start the probes, let every worker send its message, answer [`Answer::Done`]. The probes go on.
    Go {
        /// Counts all rounds from 1.
        round: u32,
        /// Whether the last node checks the payload.
        verify: bool,
    },
    /// End the probes, wait for answers under way, answer [`Answer::Probes`].
    StopProbes,
    /// Answer [`Answer::Report`].
    Report,
    /// Do this in a run under chaos; answer [`Answer::Counts`] or, if asked for it, [`Answer::Ledger`].
    Chaos {
        /// What to do.
        step: Step,
    },
}

/// The line that an Erlang node reads: a term, since JSON came only with OTP 27.
pub(crate) fn to_erlang(command: &Command) -> Result<String, serde_json::Error> {
    Ok(match command {
        Command::Peers { addresses } => {
            let names: Vec<String> = addresses.iter().map(|name| format!("'{name}'")).collect();
            format!("{{peers,[{}]}}.", names.join(","))
        }
        Command::Order(Order::Go { round, verify }) => format!("{{go,{round},{verify}}}."),
        Command::Order(Order::StopProbes) => "stop_probes.".to_owned(),
        Command::Order(Order::Report) => "report.".to_owned(),
        Command::Order(Order::Chaos { step }) => format!("{{chaos,{}}}.", step.name()),
    })
}

/// From a node to the coordinator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Answer {
    /// All messages of this node's workers are acknowledged.
    Done {
        /// The round.
        round: u32,
        /// From send to acknowledgement, per worker.
        sender_seconds: Vec<f64>,
    },
    /// The probes are ended.
    Probes(ProbeSamples),
    /// All that was counted since the start.
    Report(Tally),
    /// What was counted so far in a run under chaos.
    Counts(Counts),
    /// What was sent and received in a run under chaos.
    Ledger(Ledger),
}

/// Round trips of one round's probes, each from the time it was due.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProbeSamples {
    /// Of ticks, in microseconds.
    pub(crate) tick_us: Vec<u64>,
    /// Of 1 KiB echo messages, in microseconds.
    pub(crate) echo_us: Vec<u64>,
    /// Probes that were never answered.
    pub(crate) unanswered: u64,
}

impl std::ops::AddAssign for ProbeSamples {
    fn add_assign(&mut self, other: Self) {
        self.tick_us.extend(other.tick_us);
        self.echo_us.extend(other.echo_us);
        self.unanswered += other.unanswered;
    }
}

/// What a node counted of the messages that ended at it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Messages that made their last hop, doubles apart.
    pub(crate) messages: u64,
    /// Messages that came once more.
    pub(crate) doubled: u64,
    /// Messages that came after a later one of the same sender.
    pub(crate) reordered: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_both_dialects() {
        let erlang = |command: Command| to_erlang(&command).unwrap();
        let go = Command::Order(Order::Go { round: 4, verify: true });
        assert_eq!(go.to_json().unwrap(), r#"{"command":"go","round":4,"verify":true}"#);
        assert_eq!(erlang(go), "{go,4,true}.");
        let calm = Command::Order(Order::Chaos { step: Step::Calm });
        assert_eq!(calm.to_json().unwrap(), r#"{"command":"chaos","step":"calm"}"#);
        assert_eq!(serde_json::from_str::<Command>(&calm.to_json().unwrap()).unwrap(), calm);
        assert_eq!(erlang(calm), "{chaos,calm}.");
        let peers = Command::Peers { addresses: vec!["node0@127.0.0.1".into(), "node1@127.0.0.1".into()] };
        assert_eq!(serde_json::from_str::<Command>(&peers.to_json().unwrap()).unwrap(), peers);
        assert_eq!(erlang(peers), "{peers,['node0@127.0.0.1','node1@127.0.0.1']}.");
    }

    #[test]
    fn events_as_erlang_prints_them() {
        let line = r#"{"event":"probes","tick_us":[1,2],"echo_us":[],"unanswered":0}"#;
        let expected = ProbeSamples { tick_us: vec![1, 2], ..ProbeSamples::default() };
        assert_eq!(serde_json::from_str::<Event>(line).unwrap(), Event::Answer(Answer::Probes(expected)));
        let line = r#"{"event":"report","messages":3,"doubled":0,"reordered":0}"#;
        let report = serde_json::from_str(line).unwrap();
        assert!(matches!(report, Event::Answer(Answer::Report(Tally { messages: 3, .. }))));
    }
}
