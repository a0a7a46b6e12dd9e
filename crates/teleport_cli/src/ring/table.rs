//! The results, as people read them.

use std::fmt::Write;

use comfy_table::Table;

use super::report::{ChaosRun, Config, Report, Round, Run};
use crate::bench::stats::{Latency, Spread};
use crate::bench::table::{self, add, dash, ratio, spread, table};

/// With fewer round trips than this, the highest percentile rests on a few samples.
const ENOUGH_SAMPLES: usize = 3_000;

/// All results.
pub(crate) fn render(report: &Report) -> String {
    let config = &report.config;
    let chaos = report.runs.iter().find_map(|run| run.chaos);
    let mut text = headline(config, chaos);
    let mut sections = vec![
        ("MB/s in payload-hops: median (least - most)", throughput(report)),
        ("CPU seconds per GB of it", cpu_time(report)),
        ("Seconds of a round, of the cold one, and until a sender is acknowledged", seconds(report)),
        ("Ticks during the flood: ms from the time they were due", ticks(report)),
        ("Echoes of 1 KiB meanwhile: ms from the time they were due", echoes(report)),
        ("Memory and delivery", delivery(report)),
    ];
    sections.push(match chaos {
        Some(_) => ("Faults, and what the product made of them", faults(report)),
        None => ("Rounds in MB/s, one after the other", rounds(report)),
    });
    // Writing to a String cannot fail.
    for (title, table) in sections {
        let _ = write!(text, "\n{title}\n{table}\n");
    }
    let more = if chaos.is_some() { "more --seconds" } else { "more --rounds" };
    for run in report.runs.iter().filter(|run| run.tick_ms.count.min(run.echo_ms.count) < ENOUGH_SAMPLES) {
        let label = &run.label;
        let _ =
            write!(text, "\n{label}: fewer than {ENOUGH_SAMPLES} round trips; {more} give a firmer p99\n");
    }
    for out in &config.left_out {
        let _ = write!(text, "\n{} is left out: {}\n", out.transport, out.reason);
    }
    text
}

fn headline(config: &Config, chaos: Option<ChaosRun>) -> String {
    let Config { nodes, workers, size, cores, .. } = config;
    let work = match chaos {
        None => format!("{size}, {} rounds after {} to warm up", config.rounds, config.warmup),
        Some(ChaosRun { seconds, seed, .. }) => {
            format!("64B to {size}, {seconds} s under chaos, --seed {seed}")
        }
    };
    let congestion = if config.congestion.is_empty() { "unknown" } else { &config.congestion };
    format!("{nodes} nodes x {workers} workers x {work}\n{cores} cores, congestion control {congestion}\n")
}

fn throughput(report: &Report) -> Table {
    compared(report, "MB/s", speed, 0)
}

fn cpu_time(report: &Report) -> Table {
    compared(report, "CPU s/GB", cpu, 2)
}

/// A figure of every transport's rounds, and how many times those that others are compared with.
fn compared(report: &Report, title: &str, figure: fn(&Round) -> f64, decimals: usize) -> Table {
    let of = |name: &str| report.runs.iter().find(|run| run.transport == name);
    let references = ["raw", "disterl"].map(of).into_iter().flatten().collect::<Vec<_>>();
    let mut header = vec!["transport".to_owned(), title.to_owned()];
    header.extend(references.iter().map(|run| format!("x {}", run.transport)));
    let mut table = table(header);
    for run in &report.runs {
        let mut row = vec![run.label.clone(), spread(run.spread(figure), decimals)];
        row.extend(references.iter().map(|reference| ratio(run.spread(figure), reference.spread(figure))));
        add(&mut table, row);
    }
    table
}

fn seconds(report: &Report) -> Table {
    let mut table = table(["transport", "round s", "cold s", "sender s"].map(str::to_owned).to_vec());
    for run in &report.runs {
        let cold = run.cold_seconds.map_or_else(dash, |seconds| format!("{seconds:.3}"));
        let sender =
            run.spread(|round| round.mean_sender_seconds).map_or_else(dash, |s| format!("{:.3}", s.median));
        add(&mut table, vec![run.label.clone(), spread(run.spread(|round| round.seconds), 3), cold, sender]);
    }
    table
}

fn ticks(report: &Report) -> Table {
    let mut table = table(["transport", "p50", "p99", "max", "count"].map(str::to_owned).to_vec());
    for run in &report.runs {
        add(&mut table, std::iter::once(run.label.clone()).chain(latency(run.tick_ms)).collect());
    }
    table
}

fn echoes(report: &Report) -> Table {
    let header = ["transport", "p50", "p99", "max", "count", "unanswered"];
    let mut table = table(header.map(str::to_owned).to_vec());
    for run in &report.runs {
        let figures = latency(run.echo_ms).into_iter().chain([run.probes_unanswered.to_string()]);
        add(&mut table, std::iter::once(run.label.clone()).chain(figures).collect());
    }
    table
}

fn delivery(report: &Report) -> Table {
    let header = ["transport", "MiB per node", "messages", "lost", "doubled", "reordered"];
    let mut table = table(header.map(str::to_owned).to_vec());
    for run in &report.runs {
        let row = vec![
            run.label.clone(),
            spread(Spread::of(run.peak_rss_mib.iter().copied()), 0),
            run.messages.to_string(),
            run.lost.to_string(),
            run.doubled.to_string(),
            run.reordered.to_string(),
        ];
        add(&mut table, row);
    }
    table
}

/// Of the one transport that chaos is for, so that what happened stands below one another.
fn faults(report: &Report) -> Table {
    let mut table = table(["what", "count"].map(str::to_owned).to_vec());
    for run in &report.runs {
        let Some(chaos) = run.chaos else { continue };
        for (what, count) in [
            ("pool connections killed", run.connections_killed),
            ("control connections killed", chaos.control_killed),
            ("frames resent", run.frames_resent),
            ("damaged", chaos.damaged),
            ("ticks missed", chaos.ticks_missed),
            ("nodedowns", chaos.nodedowns),
            ("unconfirmed", chaos.unconfirmed),
        ] {
            add(&mut table, vec![what.to_owned(), count.to_string()]);
        }
    }
    table
}

fn rounds(report: &Report) -> Table {
    let speeds = |run: &Run| (run.label.clone(), run.rounds.iter().map(speed).collect());
    table::rounds("MB/s", &report.runs.iter().map(speeds).collect::<Vec<_>>())
}

fn latency(latency: Latency) -> [String; 4] {
    let Latency { p50, p99, max, count } = latency;
    if count == 0 {
        return [dash(), dash(), dash(), count.to_string()];
    }
    [format!("{p50:.2}"), format!("{p99:.2}"), format!("{max:.2}"), count.to_string()]
}

fn speed(round: &Round) -> f64 {
    round.megabytes_per_second
}

fn cpu(round: &Round) -> f64 {
    round.cpu_seconds_per_gigabyte
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::example;
    use super::*;
    use crate::bench::table::tests::wider_than_a_terminal;

    #[test]
    fn throughput_has_medians_spreads_and_ratios() {
        let text = render(&example());
        assert!(text.contains("2000 (1667 - 2222)"), "{text}");
        assert!(text.contains("1000 (833 - 1111)"), "{text}");
        let disterl = text.lines().find(|line| line.contains("1000 (")).unwrap();
        assert!(disterl.contains("0.50"), "{disterl}");
        let cpu = text.lines().find(|line| line.contains("1.00 (0.90 - 1.20)")).unwrap();
        assert!(cpu.contains("disterl") && cpu.contains("2.00"), "{cpu}");
        assert!(text.contains("4200"), "{text}");
        assert!(text.contains("other is left out: `erlc` not found"), "{text}");
    }

    #[test]
    fn tables_fit_a_terminal_whatever_is_in_them() {
        let mut report = example();
        assert_eq!(wider_than_a_terminal(&render(&report)), [""; 0]);
        report.runs[1].label = "disterl +zdbbl 131072 +MMscs 1500 +MMsco true".to_owned();
        let rounds = report.runs[1].rounds.clone();
        report.runs[1].rounds.extend(std::iter::repeat_n(rounds[0], 500));
        report.runs[1].probes_unanswered = 123_456_789;
        let text = render(&report);
        assert_eq!(wider_than_a_terminal(&text), [""; 0]);
        report.runs[0].chaos = Some(Default::default());
        assert_eq!(wider_than_a_terminal(&render(&report)), [""; 0]);
    }

    #[test]
    fn few_samples_are_pointed_out() {
        let mut report = example();
        assert!(!render(&report).contains("fewer than"));
        report.runs[1].echo_ms.count = ENOUGH_SAMPLES - 1;
        let text = render(&report);
        assert!(text.contains("disterl: fewer than 3000 round trips"), "{text}");
        assert!(!text.contains("raw: fewer"), "{text}");
    }
}
