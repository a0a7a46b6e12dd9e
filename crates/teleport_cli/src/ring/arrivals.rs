//! The count of what arrived at its last node: once, twice, in order?

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use super::protocol::Tally;

/// Counts by sender, each of which numbers its messages from 1.
#[derive(Debug)]
pub(crate) struct Arrivals<K = (u16, u16)> {
    senders: HashMap<K, Seen>,
    tally: Tally,
}

/// The numbers of one sender that are here.
#[derive(Debug, Default)]
struct Seen {
    /// All numbers up to this one.
    all_to: u64,
    /// And these above it.
    beyond: BTreeSet<u64>,
}

impl Arrivals {
    /// The message that a worker of a node sent in a round is here.
    pub(crate) fn record(&mut self, origin: u16, worker: u16, round: u32) {
        self.record_from((origin, worker), round.into());
    }
}

impl<K: Eq + Hash> Arrivals<K> {
    /// A sender's message with that number is here.
    pub(crate) fn record_from(&mut self, sender: K, number: u64) {
        let seen = self.senders.entry(sender).or_default();
        let late = number < seen.last();
        if !seen.insert(number) {
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

    /// The highest number of each sender, and how many different ones are here.
    pub(crate) fn by_sender(&self) -> impl Iterator<Item = (&K, u64, u64)> {
        self.senders.iter().map(|(sender, seen)| (sender, seen.last(), seen.count()))
    }
}

impl<K> Default for Arrivals<K> {
    fn default() -> Self {
        Self { senders: HashMap::new(), tally: Tally::default() }
    }
}

impl Seen {
    fn last(&self) -> u64 {
        self.beyond.last().copied().unwrap_or(self.all_to)
    }

    fn count(&self) -> u64 {
        self.all_to + self.beyond.len() as u64
    }

    /// `false` if it was here before.
    fn insert(&mut self, number: u64) -> bool {
        if number <= self.all_to || !self.beyond.insert(number) {
            return false;
        }
        while self.beyond.remove(&(self.all_to + 1)) {
            self.all_to += 1;
        }
        true
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

    #[test]
    fn gaps_stay_visible() {
        let mut arrivals = Arrivals::default();
        [1, 2, 5, 3, 9].into_iter().for_each(|number| arrivals.record_from('a', number));
        assert_eq!(arrivals.by_sender().collect::<Vec<_>>(), [(&'a', 9, 5)]);
        assert_eq!(arrivals.tally(), Tally { messages: 5, doubled: 0, reordered: 1 });
    }
}
