//! The results, as they are stored and as people read them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::args::SoakOptions;
use crate::bench::table::{add, table};

/// All results of one run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// What traffic and faults were drawn from.
    pub(super) seed: u64,
    /// Accepted, to mailboxes with a ledger.
    pub(super) messages: u64,
    /// Of these, taken out of a mailbox.
    pub(super) delivered: u64,
    /// Not delivered, or not known to be: their session ended.
    pub(super) unconfirmed: u64,
    /// Not delivered, and no session ended.
    pub(super) lost: u64,
    /// Taken once more.
    pub(super) doubled: u64,
    /// Taken behind a later one of their pair.
    pub(super) reordered: u64,
    /// Calls that were made.
    pub(super) calls: u64,
    /// Calls that have neither an answer nor an error.
    pub(super) calls_unended: u64,
    /// What went wrong on purpose.
    pub(super) faults: BTreeMap<&'static str, u64>,
    /// What is left of the load, all nodes together.
    pub(super) gauges_at_end: BTreeMap<String, u64>,
    /// Of messages taken.
    #[serde(skip)]
    pub(super) bytes: u64,
    /// Monitors that were set.
    #[serde(skip)]
    pub(super) watches: u64,
    /// As both nodes of each saw it.
    #[serde(skip)]
    pub(super) sessions_ended: u64,
}

impl Report {
    /// Whether every promise was kept.
    pub(super) fn is_clean(&self) -> bool {
        let broken = self.lost + self.doubled + self.reordered + self.calls_unended;
        broken == 0 && self.gauges_at_end.values().all(|value| *value == 0)
    }

    /// A table.
    pub(super) fn render(&self, options: &SoakOptions) -> String {
        let minutes = options.minutes.as_secs_f64() / 60.0;
        let mut text = format!(
            "{} nodes for {minutes} minutes, messages up to {}, --seed {}\n\n",
            options.nodes, options.size, self.seed
        );
        let mut figures = table(vec!["what".to_owned(), "how many".to_owned()]);
        for (name, value) in [
            ("messages accepted", self.messages),
            ("delivered", self.delivered),
            ("unconfirmed at a session's end", self.unconfirmed),
            ("lost", self.lost),
            ("doubled", self.doubled),
            ("reordered", self.reordered),
            ("MB delivered", self.bytes / 1_000_000),
            ("calls", self.calls),
            ("calls without an end", self.calls_unended),
            ("monitors", self.watches),
            ("sessions that ended (both nodes count it)", self.sessions_ended),
        ] {
            add(&mut figures, vec![name.to_owned(), value.to_string()]);
        }
        text += &format!("{figures}\n\nFaults: {}\n", listed(self.faults.iter()));
        let left: Vec<_> = self.gauges_at_end.iter().filter(|(_, value)| **value > 0).collect();
        text += &match left.is_empty() {
            true => format!("All {} gauges are 0 at the end.\n", self.gauges_at_end.len()),
            false => format!("Left at the end: {}\n", listed(left.into_iter())),
        };
        text
    }
}

fn listed<'a, N: std::fmt::Display + 'a>(figures: impl Iterator<Item = (N, &'a u64)>) -> String {
    let figures: Vec<_> = figures.map(|(name, value)| format!("{value} {name}")).collect();
    if figures.is_empty() { "none".to_owned() } else { figures.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean() -> Report {
        Report {
            seed: 7,
            messages: 10,
            delivered: 9,
            unconfirmed: 1,
            lost: 0,
            doubled: 0,
            reordered: 0,
            calls: 3,
            calls_unended: 0,
            faults: BTreeMap::from([("kill", 2)]),
            gauges_at_end: BTreeMap::from([("queued".to_owned(), 0)]),
            bytes: 1 << 20,
            watches: 4,
            sessions_ended: 2,
        }
    }

    #[test]
    fn the_stored_form_is_the_published_one() {
        let expected = concat!(
            r#"{"seed":7,"messages":10,"delivered":9,"unconfirmed":1,"lost":0,"doubled":0,"reordered":0,"#,
            r#""calls":3,"calls_unended":0,"faults":{"kill":2},"gauges_at_end":{"queued":0}}"#,
        );
        assert_eq!(serde_json::to_string(&clean()).unwrap(), expected);
    }

    #[test]
    fn every_broken_promise_counts() {
        assert!(clean().is_clean());
        for broken in [
            Report { lost: 1, ..clean() },
            Report { doubled: 1, ..clean() },
            Report { reordered: 1, ..clean() },
            Report { calls_unended: 1, ..clean() },
            Report { gauges_at_end: BTreeMap::from([("queued".to_owned(), 1)]), ..clean() },
        ] {
            assert!(!broken.is_clean(), "{broken:?}");
        }
    }
}
