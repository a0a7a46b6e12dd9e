//! What coordinator and nodes say to each other: one line each, over the node's stdin and stdout.

use serde::{Deserialize, Serialize};

use super::chaos::figures::{Counts, Ledger, Step};

/// From the coordinator to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub(crate) enum Command {
    /// The addresses of all nodes by index: connect to the neighbours, answer [`Event::Connected`].
    Peers {
        /// As told in [`Event::Ready`].
        addresses: Vec<String>,
    },
    /// Start the probes, let every worker send its message, answer [`Event::Done`]. The probes go on.
    Go {
        /// Counts all rounds from 1.
        round: u32,
        /// Whether the last node checks the payload.
        verify: bool,
    },
    /// End the probes, wait for answers under way, answer [`Event::Probes`].
    StopProbes,
    /// Answer [`Event::Report`].
    Report,
    /// Do this in a run under chaos; answer [`Event::Counts`] or, if asked for it, [`Event::Ledger`].
    Chaos {
        /// What to do.
        step: Step,
    },
}

impl Command {
    /// The line that a Rust node reads.
    pub(crate) fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// The line that an Erlang node reads: a term, since JSON came only with OTP 27.
    pub(crate) fn to_erlang(&self) -> String {
        match self {
            Self::Peers { addresses } => {
                let names: Vec<String> = addresses.iter().map(|name| format!("'{name}'")).collect();
                format!("{{peers,[{}]}}.", names.join(","))
            }
            Self::Go { round, verify } => format!("{{go,{round},{verify}}}."),
            Self::StopProbes => "stop_probes.".to_owned(),
            Self::Report => "report.".to_owned(),
            Self::Chaos { step } => format!("{{chaos,{}}}.", step.name()),
        }
    }
}

/// From a node to the coordinator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// The node can be reached.
    Ready {
        /// Where, in the transport's own notation.
        address: String,
        /// Of the transport's implementation.
        version: String,
    },
    /// The node has reached its neighbours, and they have reached it.
    Connected,
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
    /// The node cannot go on.
    Failed {
        /// Why.
        reason: String,
    },
}

impl Event {
    /// The event's name in the protocol.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Ready { .. } => "ready",
            Self::Connected => "connected",
            Self::Done { .. } => "done",
            Self::Probes(_) => "probes",
            Self::Report(_) => "report",
            Self::Counts(_) => "counts",
            Self::Ledger(_) => "ledger",
            Self::Failed { .. } => "failed",
        }
    }
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
        let go = Command::Go { round: 4, verify: true };
        assert_eq!(go.to_json().unwrap(), r#"{"command":"go","round":4,"verify":true}"#);
        assert_eq!(go.to_erlang(), "{go,4,true}.");
        assert_eq!(
            Command::Chaos { step: Step::Calm }.to_json().unwrap(),
            r#"{"command":"chaos","step":"calm"}"#
        );
        assert_eq!(Command::Chaos { step: Step::Calm }.to_erlang(), "{chaos,calm}.");
        let peers = Command::Peers { addresses: vec!["node0@127.0.0.1".into(), "node1@127.0.0.1".into()] };
        assert_eq!(peers.to_erlang(), "{peers,['node0@127.0.0.1','node1@127.0.0.1']}.");
        assert_eq!(serde_json::from_str::<Command>(&peers.to_json().unwrap()).unwrap(), peers);
    }

    #[test]
    fn events_as_erlang_prints_them() {
        let line = r#"{"event":"probes","tick_us":[1,2],"echo_us":[],"unanswered":0}"#;
        let expected = ProbeSamples { tick_us: vec![1, 2], ..ProbeSamples::default() };
        assert_eq!(serde_json::from_str::<Event>(line).unwrap(), Event::Probes(expected));
        let line = r#"{"event":"report","messages":3,"doubled":0,"reordered":0}"#;
        assert!(matches!(serde_json::from_str(line).unwrap(), Event::Report(Tally { messages: 3, .. })));
    }
}
