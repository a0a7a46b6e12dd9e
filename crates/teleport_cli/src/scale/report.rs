//! The results, as they are stored and as people read them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::args::ScaleOptions;
use crate::bench::process::Usage;
use crate::bench::results;
use crate::bench::stats::{Microseconds, RoundTrips, Spread};
use crate::bench::table::{add, dash, spread, table};

/// What processes did in some time, by node.
#[derive(Debug)]
pub(super) struct Phase {
    /// At its begin.
    pub(super) before: Vec<Usage>,
    /// At its end.
    pub(super) after: Vec<Usage>,
    /// Its length.
    pub(super) time: Duration,
}

/// All results of one run. Each figure is the median of the nodes, the least and the most.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    nodes: u16,
    /// Of each node.
    peers: u16,
    /// How long nodes were watched while they were idle, and again while they were used.
    seconds: f64,
    /// From the order to connect until each node had a message of each other one.
    met_in_seconds: f64,
    cores: usize,
    /// Of this program and the kernel.
    versions: BTreeMap<String, String>,
    alone: Process,
    idle: Peers,
    used: Peers,
    /// Calls that were answered while nodes were used.
    calls: u64,
    call_us: Option<Microseconds>,
}

/// What a node's process has.
#[derive(Debug, Serialize)]
struct Process {
    /// Resident memory, code included.
    rss_kib: Spread,
    /// Of it, memory that no file stands for: heap and stacks.
    anonymous_kib: Spread,
    descriptors: Spread,
    threads: Spread,
}

/// What a node's process has and does with all its peers.
#[derive(Debug, Serialize)]
struct Peers {
    #[serde(flatten)]
    process: Process,
    /// What it has more than alone, divided by its peers.
    rss_kib_per_peer: Spread,
    anonymous_kib_per_peer: Spread,
    descriptors_per_peer: Spread,
    threads_per_peer: Spread,
    /// Voluntary context switches: threads that had gone to sleep.
    wakeups_per_peer_and_minute: Spread,
    /// Involuntary ones: another thread had its turn.
    preemptions_per_peer_and_minute: Spread,
    /// CPU time of the process.
    cpu_ms_per_minute: Spread,
}

impl Report {
    /// With what is known about the machine.
    pub(super) fn new(
        options: &ScaleOptions,
        met_in: Duration,
        alone: &[Usage],
        idle: &Phase,
        used: &Phase,
        round_trips: &RoundTrips,
    ) -> Self {
        Self {
            nodes: options.nodes,
            peers: options.nodes - 1,
            seconds: options.seconds.as_secs_f64(),
            met_in_seconds: met_in.as_secs_f64(),
            cores: results::cores(),
            versions: results::versions(),
            alone: Process::of(alone),
            idle: Peers::of(options.nodes - 1, alone, idle),
            used: Peers::of(options.nodes - 1, alone, used),
            calls: round_trips.count(),
            call_us: round_trips.microseconds(),
        }
    }

    /// A table.
    pub(super) fn render(&self) -> String {
        let mut text = format!(
            "{} nodes, each with {} peers, on {} cores; {} s idle, {} s used\nConnected in {:.1} s. Median of the nodes (least - most)\n",
            self.nodes, self.peers, self.cores, self.seconds, self.seconds, self.met_in_seconds
        );
        let mut of_node = table(["a node has", "alone", "idle", "used"].map(str::to_owned).to_vec());
        let rows: [Row<Process>; 4] = [
            ("memory, KiB", |process| process.rss_kib),
            ("heap and stacks", |process| process.anonymous_kib),
            ("descriptors", |process| process.descriptors),
            ("threads", |process| process.threads),
        ];
        for (name, figure) in rows {
            let processes = [&self.alone, &self.idle.process, &self.used.process];
            let cells = processes.map(|process| short_spread(figure(process)));
            add(&mut of_node, [vec![name.to_owned()], cells.to_vec()].concat());
        }
        text += &format!("\n{of_node}\n");
        let mut of_peer = table(["a peer costs", "idle", "used"].map(str::to_owned).to_vec());
        let rows: [Row<Peers>; 7] = [
            ("memory, KiB", |peers| peers.rss_kib_per_peer),
            ("of it heap and stacks, KiB", |peers| peers.anonymous_kib_per_peer),
            ("descriptors", |peers| peers.descriptors_per_peer),
            ("threads", |peers| peers.threads_per_peer),
            ("wake-ups a minute", |peers| peers.wakeups_per_peer_and_minute),
            ("preemptions a minute", |peers| peers.preemptions_per_peer_and_minute),
            ("all peers: CPU ms a minute", |peers| peers.cpu_ms_per_minute),
        ];
        for (name, figure) in rows {
            let cells = [&self.idle, &self.used].map(|peers| spread(Some(figure(peers)), 1));
            add(&mut of_peer, [vec![name.to_owned()], cells.to_vec()].concat());
        }
        text += &format!("\n{of_peer}\n");
        let us = self
            .call_us
            .map_or_else(dash, |us| format!("p50 {:.0}, p99 {:.0}, max {:.0}", us.p50, us.p99, us.max));
        text += &format!("\n{} calls of 1 KiB meanwhile, in microseconds: {us}\n", self.calls);
        text
    }
}

impl Process {
    fn of(usage: &[Usage]) -> Self {
        let all = |figure: fn(&Usage) -> u64| figures(usage.iter().map(|usage| figure(usage) as f64));
        Self {
            rss_kib: all(|usage| usage.rss_kib),
            anonymous_kib: all(|usage| usage.anonymous_kib),
            descriptors: all(|usage| usage.descriptors),
            threads: all(|usage| usage.threads),
        }
    }
}

impl Peers {
    fn of(peers: u16, alone: &[Usage], phase: &Phase) -> Self {
        let minutes = phase.time.as_secs_f64() / 60.0;
        // Less than alone is possible, too: memory may be returned.
        let difference = |from: &[Usage], figure: fn(&Usage) -> f64, by: f64| {
            figures(from.iter().zip(&phase.after).map(|(from, to)| (figure(to) - figure(from)) / by))
        };
        let per_peer = |figure| difference(alone, figure, f64::from(peers));
        let per_minute = |figure| difference(&phase.before, figure, f64::from(peers) * minutes);
        Self {
            process: Process::of(&phase.after),
            rss_kib_per_peer: per_peer(|usage| usage.rss_kib as f64),
            anonymous_kib_per_peer: per_peer(|usage| usage.anonymous_kib as f64),
            descriptors_per_peer: per_peer(|usage| usage.descriptors as f64),
            threads_per_peer: per_peer(|usage| usage.threads as f64),
            wakeups_per_peer_and_minute: per_minute(|usage| usage.voluntary as f64),
            preemptions_per_peer_and_minute: per_minute(|usage| usage.involuntary as f64),
            cpu_ms_per_minute: difference(&phase.before, |usage| usage.cpu.as_secs_f64() * 1e3, minutes),
        }
    }
}

/// A name, and its figure.
type Row<T> = (&'static str, fn(&T) -> Spread);

/// `median (least-most)`, for many columns.
fn short_spread(Spread { median, min, max }: Spread) -> String {
    format!("{median:.0} ({min:.0}-{max:.0})")
}

/// There is a node, so there are figures.
fn figures(figures: impl Iterator<Item = f64>) -> Spread {
    Spread::of(figures).unwrap_or(Spread { median: 0.0, min: 0.0, max: 0.0 })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};
    use crate::bench::table::tests::wider_than_a_terminal;

    fn usage(rss_kib: u64, descriptors: u64, switches: u64) -> Usage {
        Usage {
            rss_kib,
            anonymous_kib: rss_kib / 2,
            descriptors,
            threads: 8,
            voluntary: switches,
            involuntary: switches / 10,
            cpu: Duration::from_millis(switches),
        }
    }

    fn example() -> Report {
        let Command::Scale(options) = Cli::parse_from(["teleport", "scale", "--nodes", "5"]).command else {
            unreachable!("`scale` was parsed")
        };
        let alone = [usage(6000, 20, 100), usage(6100, 20, 100), usage(6200, 20, 100)];
        let phase = |more: u64| Phase {
            before: alone.iter().map(|alone| usage(alone.rss_kib + 4 * more, 28, 1000)).collect(),
            after: alone.iter().map(|alone| usage(alone.rss_kib + 4 * more, 28, 1000 + more)).collect(),
            time: Duration::from_secs(30),
        };
        let mut round_trips = RoundTrips::default();
        [100, 200, 900].into_iter().for_each(|us| round_trips.record(Duration::from_micros(us)));
        Report::new(&options, Duration::from_millis(1500), &alone, &phase(40), &phase(4000), &round_trips)
    }

    #[test]
    fn a_peers_share_is_what_a_node_has_more_than_alone() {
        let json = serde_json::to_value(example()).unwrap();
        assert_eq!((&json["nodes"], &json["peers"]), (&5.into(), &4.into()));
        assert_eq!(
            json["alone"]["rss_kib"],
            serde_json::json!({"median": 6100.0, "min": 6000.0, "max": 6200.0})
        );
        let idle = |name: &str| json["idle"][name]["median"].as_f64().unwrap();
        assert_eq!(
            (idle("rss_kib"), idle("rss_kib_per_peer"), idle("anonymous_kib_per_peer")),
            (6260.0, 40.0, 20.0)
        );
        assert_eq!((idle("descriptors_per_peer"), idle("threads_per_peer")), (2.0, 0.0));
        // 40 in half a minute, with four peers.
        assert_eq!((idle("wakeups_per_peer_and_minute"), idle("cpu_ms_per_minute")), (20.0, 80.0));
        assert_eq!((json["calls"].as_u64(), json["call_us"]["p50"].as_f64()), (Some(3), Some(200.0)));
    }

    #[test]
    fn tables_fit_a_terminal() {
        let text = example().render();
        assert_eq!(wider_than_a_terminal(&text), [""; 0]);
        for part in [
            "5 nodes, each with 4 peers",
            "wake-ups a minute",
            "20.0 (20.0 - 20.0)",
            "6100 (6000-6200)",
            "p99 900",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
