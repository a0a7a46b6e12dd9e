//! What one life of a node knows: what it sent, what it took, which sessions it saw end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Numbers from the first to the last, both included.
pub(super) type Range = (u64, u64);

/// What a life of a node tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Account {
    /// By which other nodes know this life.
    pub(super) incarnation: u32,
    /// What it counted.
    pub(super) counts: Counts,
    /// What has to be 0 when all is quiet, by name.
    pub(super) gauges: BTreeMap<String, u64>,
    /// Messages that were accepted, by pair.
    pub(super) sent: Vec<Sent>,
    /// Messages that were taken out of mailboxes, by pair.
    pub(super) taken: Vec<Taken>,
    /// Sessions that ended.
    pub(super) downs: Vec<Down>,
    /// What was wrong, in words; not all of it if it is much.
    pub(super) complaints: Vec<String>,
}

/// What a life counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    /// Of messages taken.
    pub(super) bytes: u64,
    /// Calls that were made.
    pub(super) calls: u64,
    /// Calls that have ended, in whatever way.
    pub(super) calls_ended: u64,
    /// Monitors that were set.
    pub(super) watches: u64,
    /// What was promised to come before something else, and has not.
    pub(super) lost: u64,
    /// Requests that a server got again, and processes whose end was told again.
    pub(super) doubled: u64,
    /// Requests that came behind a later one.
    pub(super) reordered: u64,
    /// Messages, requests and replies that are not what their sender made. These count as lost besides.
    pub(super) damaged: u64,
}

/// Messages of one pair that were accepted: numbers 1 to `accepted`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sent {
    /// The sender.
    pub(super) worker: u16,
    /// The destination's node.
    pub(super) node: u16,
    /// The destination.
    pub(super) inbox: u16,
    /// How many.
    pub(super) accepted: u64,
    /// How many a second or two ago: a session that ended and is not yet noted did so later.
    pub(super) settled: u64,
    /// The ends of sessions with that node.
    pub(super) marks: Vec<Mark>,
}

/// The last message of a pair in a session that ended is one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The other node's life, or `None` if it may have been any.
    pub(super) incarnation: Option<u32>,
    /// Accepted some time before the end was told.
    pub(super) low: u64,
    /// Accepted when the end was told, and one that may just have been.
    pub(super) high: u64,
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { incarnation, low, high } = self;
        match incarnation {
            Some(incarnation) => write!(f, "{low} to {high} with {incarnation:08x}"),
            None => write!(f, "{low} or later"),
        }
    }
}

/// Messages of one pair that came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Taken {
    /// The sender's node.
    pub(super) origin: u16,
    /// The how manieth of its name.
    pub(super) life: u32,
    /// The sender.
    pub(super) worker: u16,
    /// The destination.
    pub(super) inbox: u16,
    /// Which.
    pub(super) seen: Seen,
}

/// A session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Down {
    /// With whom.
    pub(super) node: u16,
    /// Which of its lives.
    pub(super) incarnation: u32,
    /// Messages to it that were reported as not known to be delivered.
    pub(super) unconfirmed: u64,
}

/// The numbers that have come of one pair.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// The least; 0 if none has come.
    pub(super) first: u64,
    /// The greatest.
    pub(super) last: u64,
    /// Those between them that have not come.
    pub(super) gaps: Vec<Range>,
    /// How often one has come again.
    pub(super) doubled: u64,
    /// How many have come behind a greater one.
    pub(super) reordered: u64,
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, counts| Self {
            bytes: sum.bytes + counts.bytes,
            calls: sum.calls + counts.calls,
            calls_ended: sum.calls_ended + counts.calls_ended,
            watches: sum.watches + counts.watches,
            lost: sum.lost + counts.lost,
            doubled: sum.doubled + counts.doubled,
            reordered: sum.reordered + counts.reordered,
            damaged: sum.damaged + counts.damaged,
        })
    }
}

impl Seen {
    /// A number, from 1, has come.
    pub(super) fn record(&mut self, number: u64) {
        if self.first == 0 {
            (self.first, self.last) = (number, number);
        } else if number > self.last {
            if number > self.last + 1 {
                self.gaps.push((self.last + 1, number - 1));
            }
            self.last = number;
        } else if number < self.first {
            if number + 1 < self.first {
                self.gaps.insert(0, (number + 1, self.first - 1));
            }
            self.first = number;
            self.reordered += 1;
        } else if let Some(at) = self.gaps.iter().position(|gap| (gap.0..=gap.1).contains(&number)) {
            let (first, last) = self.gaps[at];
            let left = [(first, number - 1), (number + 1, last)];
            self.gaps.splice(at..=at, left.into_iter().filter(|(first, last)| first <= last));
            self.reordered += 1;
        } else {
            self.doubled += 1;
        }
    }

    /// How many different ones have come.
    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        if self.first == 0 {
            0
        } else {
            self.last - self.first + 1 - self.gaps.iter().copied().map(len).sum::<u64>()
        }
    }
}

/// How many numbers these are.
pub(super) const fn len((first, last): Range) -> u64 {
    last + 1 - first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(numbers: &[u64]) -> Seen {
        let mut seen = Seen::default();
        numbers.iter().for_each(|number| seen.record(*number));
        seen
    }

    #[test]
    fn what_comes_in_order_leaves_nothing_to_remember() {
        let of_all = seen(&[1, 2, 3]);
        assert_eq!(of_all, Seen { first: 1, last: 3, ..Seen::default() });
        assert_eq!((seen(&[]).count(), of_all.count()), (0, 3));
    }

    #[test]
    fn gaps_are_filled_from_all_sides() {
        assert_eq!(seen(&[4, 9, 12]).gaps, [(5, 8), (10, 11)]);
        let late = seen(&[4, 9, 12, 6, 5, 8, 7, 10]);
        assert_eq!((late.gaps.as_slice(), late.reordered, late.doubled), (&[(11, 11)][..], 5, 0));
        assert_eq!(late.count(), 8);
    }

    #[test]
    fn what_comes_again_is_doubled_and_what_comes_before_the_first_is_late() {
        let again = seen(&[4, 6, 4, 6, 5, 5]);
        assert_eq!((again.doubled, again.reordered, again.count()), (3, 1, 3));
        let before = seen(&[4, 1, 1, 3]);
        assert_eq!((before.first, before.gaps.as_slice()), (1, &[(2, 2)][..]));
        assert_eq!((before.doubled, before.reordered, before.count()), (1, 2, 3));
    }
}
