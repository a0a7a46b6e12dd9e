//! The results, as people read them.

use comfy_table::Table;

use super::report::{Outcome, Run, unit};
use crate::args::{Mode, RateTransport};
use crate::bench::stats::{Microseconds, Spread};
use crate::bench::table::{self, add, dash, ratio, spread, table};

/// All results.
pub(crate) fn render(outcome: &Outcome) -> String {
    let unit = unit(outcome.mode);
    let config = &outcome.config;
    let congestion = if config.congestion.is_empty() { "unknown" } else { &config.congestion };
    let mut text = format!(
        "{} x {} {unit}, {} rounds of {} s\n{} cores, --threads {}, congestion control {congestion}\n",
        config.pairs, config.size, config.rounds, config.seconds, config.cores, config.threads
    );
    let rates = compared(outcome, format!("{unit}/s"), Run::rate, 0);
    text += &format!("\nMedian (least - most)\n{rates}\n");
    text += &format!("\n{}\n", compared(outcome, "CPU us each".to_owned(), Run::cpu, 2));
    if outcome.mode == Mode::Call {
        text += &format!("\nRound trips in microseconds\n{}\n", round_trips(outcome));
    }
    let rounds = |run: &Run| (run.transport.name().to_owned(), run.rounds.clone());
    let rounds = table::rounds(&format!("{unit}/s"), &outcome.runs.iter().map(rounds).collect::<Vec<_>>());
    text += &format!("\nRounds, one after the other\n{rounds}\n");
    let notes: Vec<_> = outcome.runs.iter().filter_map(|run| note(outcome.mode, run.transport)).collect();
    if !notes.is_empty() {
        text += &format!("\n{}\n", notes.join("\n"));
    }
    text
}

/// What a baseline is.
fn note(mode: Mode, transport: RateTransport) -> Option<&'static str> {
    match (mode, transport) {
        (_, RateTransport::Teleport | RateTransport::Tls) => None,
        (Mode::Send, RateTransport::Raw) => Some(
            "raw: plain sockets; a queue to the thread that writes, and one from the thread\nthat reads to the receiver",
        ),
        (Mode::Send, RateTransport::Inline) => {
            Some("inline: plain sockets without handing over: the bound that nothing with queues\nreaches")
        }
        (Mode::Call, _) => {
            Some("raw: plain sockets; request and reply are written and read by one thread at\neither side")
        }
    }
}

/// A figure of every transport's rounds, and how many times that of `raw`.
fn compared(outcome: &Outcome, title: String, figure: fn(&Run) -> Option<Spread>, decimals: usize) -> Table {
    let raw = raw(outcome);
    let mut header = vec!["transport".to_owned(), title];
    header.extend(raw.map(|_| "x raw".to_owned()));
    let mut table = table(header);
    for run in &outcome.runs {
        let mut row = vec![run.transport.name().to_owned(), spread(figure(run), decimals)];
        row.extend(raw.map(|raw| ratio(figure(run), figure(raw))));
        add(&mut table, row);
    }
    table
}

fn round_trips(outcome: &Outcome) -> Table {
    let raw = raw(outcome);
    let mut header = vec!["transport"];
    for name in ["p50", "p99"] {
        header.push(name);
        header.extend(raw.map(|_| "x raw"));
    }
    header.extend(["max", "count"]);
    let mut table = table(header.into_iter().map(str::to_owned).collect());
    let percentiles: [fn(Microseconds) -> f64; 2] = [|us| us.p50, |us| us.p99];
    for run in &outcome.runs {
        let own = run.round_trips.microseconds();
        let mut row = vec![run.transport.name().to_owned()];
        for percentile in percentiles {
            let figure = |us: Option<Microseconds>| Spread::of(us.map(percentile));
            row.push(own.map_or_else(dash, |us| format!("{:.1}", percentile(us))));
            row.extend(raw.map(|raw| ratio(figure(own), figure(raw.round_trips.microseconds()))));
        }
        row.push(own.map_or_else(dash, |us| format!("{:.1}", us.max)));
        row.push(run.round_trips.count().to_string());
        add(&mut table, row);
    }
    table
}

/// What others are compared with.
fn raw(outcome: &Outcome) -> Option<&Run> {
    outcome.runs.iter().find(|run| run.transport == RateTransport::Raw)
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::example;
    use super::*;
    use crate::bench::table::tests::wider_than_a_terminal;

    #[test]
    fn rates_have_medians_spreads_and_ratios() {
        let text = render(&example(&[]));
        let teleport = text.lines().find(|line| line.contains("1000000 (500000 - 1500000)")).unwrap();
        assert!(teleport.contains("0.25"), "{teleport}");
        assert!(text.lines().any(|line| line.contains("teleport") && line.contains("4.00")), "{text}");
        assert!(text.contains("messages/s") && !text.contains("p99"), "{text}");
        let inline = text.lines().find(|line| line.contains("8000000 (4000000 - 12000000)")).unwrap();
        assert!(inline.contains("inline") && inline.contains("2.00"), "{inline}");
        assert!(text.contains("\nraw: ") && text.contains("\ninline: "), "{text}");
    }

    #[test]
    fn tables_fit_a_terminal() {
        for mode in [&[][..], &["--mode", "call"]] {
            assert_eq!(wider_than_a_terminal(&render(&example(mode))), [""; 0]);
        }
    }

    #[test]
    fn calls_have_round_trips() {
        let text = render(&example(&["--mode", "call"]));
        let raw = text.lines().rfind(|line| line.contains("raw") && line.contains("400.0")).unwrap();
        assert!(raw.contains("30.0") && raw.contains("1.00") && raw.contains(" 3 "), "{raw}");
        assert!(text.contains("calls/s") && !text.contains("inline"), "{text}");
    }

    #[test]
    fn without_raw_there_are_no_ratios() {
        let mut outcome = example(&["--mode", "call"]);
        outcome.runs.pop();
        assert!(!render(&outcome).contains("raw"));
    }
}
