//! The results, and how they are stored.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::args::{Mode, RateOptions, RateTransport};
use crate::bench::results;
use crate::bench::stats::{Microseconds, RoundTrips, Spread};

/// All results of one run of the program.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What was measured, and where.
    pub(crate) config: Config,
    /// Of it.
    pub(crate) mode: Mode,
    /// One per transport.
    pub(crate) runs: Vec<Run>,
}

/// One transport's timed rounds.
#[derive(Debug)]
pub(crate) struct Run {
    /// What carried the messages.
    pub(crate) transport: RateTransport,
    /// Messages or calls per second, by round.
    pub(crate) rounds: Vec<f64>,
    /// Microseconds of CPU time of both nodes for each of them, by round.
    pub(crate) cpu: Vec<f64>,
    /// Of calls.
    pub(crate) round_trips: RoundTrips,
}

/// What is stored.
#[derive(Debug, Serialize)]
pub(crate) struct Report<'a> {
    config: &'a Config,
    runs: Vec<StoredRun>,
}

/// What was measured, and where.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Config {
    /// `send` or `call`.
    pub(crate) mode: &'static str,
    /// As given on the command line.
    pub(crate) size: String,
    /// Of a message.
    pub(crate) size_bytes: usize,
    /// Of sender and receiver.
    pub(crate) pairs: u16,
    /// Of a round.
    pub(crate) seconds: f64,
    /// Timed rounds.
    pub(crate) rounds: u32,
    /// Of teleport's nodes.
    pub(crate) threads: &'static str,
    /// Of the transports' sockets.
    pub(crate) congestion: String,
    /// Processors that this process may use.
    pub(crate) cores: usize,
    /// Of this program and the kernel.
    pub(crate) versions: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct StoredRun {
    transport: &'static str,
    /// By round. Calls per second, if calls were measured.
    messages_per_second: Vec<f64>,
    /// The median of the rounds.
    cpu_microseconds_per_message: f64,
    call_us: Option<Microseconds>,
}

impl Outcome {
    /// With what is known about the machine.
    pub(crate) fn new(options: &RateOptions, runs: Vec<Run>) -> Self {
        let config = Config {
            mode: options.mode.name(),
            size: options.size.to_string(),
            size_bytes: options.size.bytes(),
            pairs: options.pairs,
            seconds: options.seconds.as_secs_f64(),
            rounds: options.rounds,
            threads: options.threads.name(),
            congestion: results::congestion(options.congestion.as_deref()),
            cores: results::cores(),
            versions: results::versions(),
        };
        Self { config, mode: options.mode, runs }
    }
}

impl<'a> Report<'a> {
    /// What of the outcome is stored.
    pub(crate) fn of(outcome: &'a Outcome) -> Self {
        let stored = |run: &Run| StoredRun {
            transport: run.transport.name(),
            messages_per_second: run.rounds.clone(),
            cpu_microseconds_per_message: run.cpu().map_or(0.0, |cpu| cpu.median),
            call_us: run.round_trips.microseconds(),
        };
        Self { config: &outcome.config, runs: outcome.runs.iter().map(stored).collect() }
    }
}

impl Run {
    /// No rounds yet.
    pub(crate) fn new(transport: RateTransport) -> Self {
        Self { transport, rounds: Vec::new(), cpu: Vec::new(), round_trips: RoundTrips::default() }
    }

    /// Messages or calls per second.
    pub(crate) fn rate(&self) -> Option<Spread> {
        Spread::of(self.rounds.iter().copied())
    }

    /// Microseconds of CPU time per message or call.
    pub(crate) fn cpu(&self) -> Option<Spread> {
        Spread::of(self.cpu.iter().copied())
    }
}

/// What is counted.
pub(crate) const fn unit(mode: Mode) -> &'static str {
    match mode {
        Mode::Send => "messages",
        Mode::Call => "calls",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    pub(crate) fn example(arguments: &[&str]) -> Outcome {
        let Command::Rate(options) = Cli::parse_from(["teleport", "rate"].iter().chain(arguments)).command
        else {
            unreachable!("`rate` was parsed");
        };
        let run = |transport, rate: f64| {
            let mut round_trips = RoundTrips::default();
            if options.mode == Mode::Call {
                [20, 30, 400].into_iter().for_each(|us| round_trips.record(Duration::from_micros(us)));
            }
            Run { transport, rounds: vec![rate, rate * 1.5, rate * 0.5], cpu: vec![2e6 / rate], round_trips }
        };
        let rates = [1e6, 4e6, 8e6];
        let runs = options.transports().into_iter().zip(rates).map(|(transport, rate)| run(transport, rate));
        Outcome::new(&options, runs.collect())
    }

    #[test]
    fn stored_with_the_published_names() {
        let json = serde_json::to_value(Report::of(&example(&["--mode", "call"]))).unwrap();
        assert_eq!(json["config"]["mode"], "call");
        let expected = serde_json::json!({
            "transport": "teleport",
            "messages_per_second": [1e6, 1.5e6, 0.5e6],
            "cpu_microseconds_per_message": 2.0,
            "call_us": {"p50": 30.0, "p99": 400.0, "max": 400.0},
        });
        assert_eq!(json["runs"][0], expected);
        let json = serde_json::to_value(Report::of(&example(&[]))).unwrap();
        assert_eq!(json["runs"][1]["call_us"], serde_json::Value::Null);
        assert_eq!(json["runs"][2]["transport"], "inline");
    }
}
