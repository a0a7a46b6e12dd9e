//! The results, as they are stored.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::args::RingOptions;
use crate::bench::results;
use crate::bench::stats::{Latency, Spread};

/// All results of one run of the program.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// What was measured, and where.
    pub(crate) config: Config,
    /// One per transport.
    pub(crate) runs: Vec<Run>,
}

/// What was measured, and where.
#[derive(Debug, Serialize)]
pub(crate) struct Config {
    /// Nodes in the ring.
    pub(crate) nodes: u16,
    /// Workers per node.
    pub(crate) workers: u16,
    /// As given on the command line.
    pub(crate) size: String,
    /// Of a message.
    pub(crate) size_bytes: usize,
    /// Timed rounds.
    pub(crate) rounds: u32,
    /// Rounds before the timed ones.
    pub(crate) warmup: u32,
    /// Of the transports' sockets.
    pub(crate) congestion: String,
    /// Processors that this process may use.
    pub(crate) cores: usize,
    /// Of this program, the kernel, and the transports' nodes.
    pub(crate) versions: BTreeMap<String, String>,
    /// Transports asked for, but not possible here.
    pub(crate) left_out: Vec<LeftOut>,
}

/// A transport that could not be measured.
#[derive(Debug, Serialize)]
pub(crate) struct LeftOut {
    /// Its label.
    pub(crate) transport: String,
    /// Why, and what to do about it.
    pub(crate) reason: String,
}

/// One transport's results.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    /// The name on the command line.
    pub(crate) transport: String,
    /// The name with what tells it from other runs of the same transport.
    pub(crate) label: String,
    /// The first warm-up round.
    pub(crate) cold_seconds: Option<f64>,
    /// The timed rounds.
    pub(crate) rounds: Vec<Round>,
    /// Round trips of ticks during the timed rounds.
    pub(crate) tick_ms: Latency,
    /// Round trips of 1 KiB messages during the timed rounds.
    pub(crate) echo_ms: Latency,
    /// Ticks and echo messages that were never answered.
    pub(crate) probes_unanswered: u64,
    /// Each node's peak resident memory.
    pub(crate) peak_rss_mib: Vec<f64>,
    /// Messages sent in all rounds, also those of the warm-up.
    pub(crate) messages: u64,
    /// Messages that never arrived.
    pub(crate) lost: u64,
    /// Messages that arrived once more.
    pub(crate) doubled: u64,
    /// Messages that arrived after a later one of their sender.
    pub(crate) reordered: u64,
    /// Connections that were killed on purpose.
    pub(crate) connections_killed: u64,
    /// Frames that were sent again.
    pub(crate) frames_resent: u64,
    /// Only in a run under chaos.
    #[serde(flatten)]
    pub(crate) chaos: Option<ChaosRun>,
}

/// What there is to say about a run under chaos besides.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct ChaosRun {
    /// How long connections were killed; messages under way then took a little longer.
    pub(crate) seconds: u64,
    /// What messages and faults were drawn from.
    pub(crate) seed: u64,
    /// Messages that are not what their sender made.
    pub(crate) damaged: u64,
    /// Control connections that were killed on purpose, besides those of the pools.
    pub(crate) control_killed: u64,
    /// Pool connections that the product has retired; each counts at both ends.
    pub(crate) connections_retired: u64,
    /// Ticks that were not answered within their interval, or at all.
    pub(crate) ticks_missed: u64,
    /// Sessions that ended.
    pub(crate) nodedowns: u64,
    /// Messages that were accepted and never confirmed.
    pub(crate) unconfirmed: u64,
}

/// One timed round.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Round {
    /// From the go signal to the last sender's acknowledgement.
    pub(crate) seconds: f64,
    /// Payload bytes times hops, in units of 10^6, per second.
    pub(crate) megabytes_per_second: f64,
    /// From send to acknowledgement.
    pub(crate) mean_sender_seconds: f64,
    /// CPU time of all nodes per 10^9 payload bytes times hops.
    pub(crate) cpu_seconds_per_gigabyte: f64,
}

impl Config {
    /// What is known before the nodes have told their versions.
    pub(crate) fn new(options: &RingOptions, left_out: Vec<LeftOut>) -> Self {
        Self {
            nodes: options.nodes,
            workers: options.workers,
            size: options.size.to_string(),
            size_bytes: options.size.bytes(),
            rounds: options.rounds,
            warmup: options.warmup,
            congestion: results::congestion(options.congestion.as_deref()),
            cores: results::cores(),
            versions: results::versions(),
            left_out,
        }
    }
}

impl Run {
    /// A figure's spread over the timed rounds.
    pub(crate) fn spread(&self, figure: impl Fn(&Round) -> f64) -> Option<Spread> {
        Spread::of(self.rounds.iter().map(figure))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    pub(crate) fn example() -> Report {
        let Command::Ring(options) = Cli::parse_from(["teleport", "ring"]).command else {
            unreachable!("`ring` was parsed");
        };
        let reason = "`erlc` not found".to_owned();
        let run = |name: &str, seconds: f64| Run {
            transport: name.to_owned(),
            label: name.to_owned(),
            cold_seconds: Some(2.5),
            rounds: [0.9, 1.0, 1.2].map(|factor| round(seconds * factor)).to_vec(),
            tick_ms: Latency { p50: 0.25, p99: 4.0, max: 9.5, count: 4200 },
            echo_ms: Latency { p50: 0.5, p99: 5.0, max: 12.0, count: 4200 },
            probes_unanswered: 0,
            peak_rss_mib: vec![100.0, 120.5],
            messages: 288,
            lost: 0,
            doubled: 0,
            reordered: 0,
            connections_killed: 0,
            frames_resent: 0,
            chaos: None,
        };
        Report {
            config: Config::new(&options, vec![LeftOut { transport: "other".to_owned(), reason }]),
            runs: vec![run("raw", 1.0), run("disterl", 2.0)],
        }
    }

    fn round(seconds: f64) -> Round {
        Round {
            seconds,
            megabytes_per_second: 2000.0 / seconds,
            mean_sender_seconds: seconds / 2.0,
            cpu_seconds_per_gigabyte: seconds / 2.0,
        }
    }

    #[test]
    fn stored_with_the_published_names() {
        let json = serde_json::to_value(example()).unwrap();
        let run = &json["runs"][0];
        assert_eq!(run["transport"], "raw");
        assert_eq!(run["rounds"][1]["megabytes_per_second"], 2000.0);
        for name in ["seconds", "mean_sender_seconds", "cpu_seconds_per_gigabyte"] {
            assert!(run["rounds"][0][name].is_f64(), "{name}");
        }
        for name in ["p50", "p99", "max", "count"] {
            assert!(run["tick_ms"][name].is_number() && run["echo_ms"][name].is_number(), "{name}");
        }
        for name in ["messages", "lost", "doubled", "reordered", "connections_killed", "frames_resent"] {
            assert!(run[name].is_u64(), "{name}");
        }
        assert_eq!(run["peak_rss_mib"], serde_json::json!([100.0, 120.5]));
        assert_eq!(json["config"]["size_bytes"], 10 << 20);
    }

    #[test]
    fn figures_of_chaos_stand_beside_the_others() {
        let mut report = example();
        report.runs[1].chaos = Some(ChaosRun {
            seconds: 60,
            seed: 7,
            damaged: 0,
            control_killed: 20,
            connections_retired: 960,
            ticks_missed: 3,
            nodedowns: 0,
            unconfirmed: 0,
        });
        let json = serde_json::to_value(report).unwrap();
        assert_eq!((&json["runs"][1]["control_killed"], &json["runs"][1]["lost"]), (&20.into(), &0.into()));
        assert_eq!(json["runs"][0].get("control_killed"), None);
    }
}
