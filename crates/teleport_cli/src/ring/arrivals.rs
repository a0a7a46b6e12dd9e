//! The count of what arrived at a message's last node: once, twice, in order?

use std::collections::BTreeSet;
use std::collections::HashMap;

use super::protocol::Tally;

/// Counts by sender: (node, worker).
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    seen: HashMap<(u16, u16), BTreeSet<u32>>,
    tally: Tally,
}

impl Arrivals {
    /// A sender's message of a round is here.
    pub(crate) fn record(&mut self, origin: u16, worker: u16, round: u32) {
        let rounds = self.seen.entry((origin, worker)).or_default();
        let late = rounds.last().is_some_and(|&last| last > round);
        if !rounds.insert(round) {
            self.tally.doubled += 1;
            return;
        }
        self.tally.messages += 1;
        self.tally.reordered += u64::from(late);
    }

    /// All counts.
    pub(crate) const fn tally(&self) -> Tally {
        self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_and_disorder_are_told_apart() {
        let mut arrivals = Arrivals::default();
        for (origin, round) in [(0, 1), (0, 2), (1, 1), (0, 4), (0, 3), (0, 3), (0, 2)] {
            arrivals.record(origin, 0, round);
        }
        assert_eq!(arrivals.tally(), Tally { messages: 5, doubled: 2, reordered: 1 });
    }
}
