//! A set of message numbers: a watermark and the intervals above it.

use crate::wire::envelope::Seq;
use std::collections::BTreeMap;
use std::iter;

/// Which messages have been delivered. Small as long as what is missing is in few places.
#[derive(Debug, Default)]
pub(crate) struct NumberSet {
    /// Every number up to and including this one is in the set.
    watermark: Seq,
    /// First and last of each run above the watermark; runs never touch each other or the watermark.
    runs: BTreeMap<Seq, Seq>,
}

impl NumberSet {
    pub(crate) fn watermark(&self) -> Seq {
        self.watermark
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = (Seq, Seq)> + '_ {
        self.runs.iter().map(|(&first, &last)| (first, last))
    }

    /// How many runs there are above the watermark.
    pub(crate) fn scattered(&self) -> usize {
        self.runs.len()
    }

    /// Takes out the lowest runs above a number, up to `most`, and all that is not above it.
    pub(crate) fn take_above(&mut self, number: Seq, most: usize) -> impl Iterator<Item = (Seq, Seq)> + '_ {
        let mut taken = 0;
        std::iter::from_fn(move || {
            while taken < most
                && let Some((first, last)) = self.runs.pop_first()
            {
                if last > number {
                    taken += 1;
                    return Some((first.max(number + 1), last));
                }
            }
            None
        })
    }

    /// Adds the numbers in the lowest gaps until at most `most` runs are left.
    pub(crate) fn close_gaps(&mut self, most: usize) {
        while self.runs.len() > most
            && let Some((_, last)) = self.runs.pop_first()
        {
            self.watermark = last;
        }
    }

    pub(crate) fn contains(&self, number: Seq) -> bool {
        number <= self.watermark
            || self.runs.range(..=number).next_back().is_some_and(|(_, &last)| number <= last)
    }

    /// Adds one number; `false` if it was there.
    pub(crate) fn insert(&mut self, number: Seq) -> bool {
        let mut added = false;
        self.insert_run(number, number, |_| added = true);
        added
    }

    /// The runs of numbers from `first` to `last` that are not in the set, ascending. The largest number of all, which no
    /// sender reaches, is never among them.
    pub(crate) fn gaps(&self, first: Seq, last: Seq) -> impl Iterator<Item = (Seq, Seq)> + '_ {
        let last = last.min(Seq::MAX - 1);
        let mut next = first.max(self.watermark + 1);
        // The first of them may begin below `next`.
        let from = self.runs.range(..=next).next_back().map_or(next, |(&start, _)| start);
        let mut runs = self.runs.range(from..);
        iter::from_fn(move || {
            while next <= last {
                let run = runs.next().filter(|&(&start, _)| start <= last);
                let (start, end) = run.map_or((last + 1, last), |(&start, &end)| (start, end));
                let gap = (next, start - 1);
                next = next.max(end + 1);
                if gap.0 <= gap.1 {
                    return Some(gap);
                }
            }
            None
        })
    }

    /// Adds the numbers from `first` to `last`, and calls `new` for those that were not in the set, ascending. The
    /// largest number of all is never added.
    pub(crate) fn insert_run(&mut self, first: Seq, last: Seq, mut new: impl FnMut(Seq)) {
        let last = last.min(Seq::MAX - 1);
        let first = first.max(self.watermark + 1);
        if first > last {
            return;
        }
        if self.runs.is_empty() && first == self.watermark + 1 {
            (first..=last).for_each(new);
            self.watermark = last;
            return;
        }
        self.gaps(first, last).for_each(|(first, last)| (first..=last).for_each(&mut new));
        let (mut start, mut end) = (first, last);
        if let Some((&below, &below_end)) = self.runs.range(..first).next_back()
            && below_end + 1 >= first
        {
            self.runs.remove(&below);
            (start, end) = (below, end.max(below_end));
        }
        while let Some((&run, &run_end)) = self.runs.range(start..=end + 1).next() {
            self.runs.remove(&run);
            end = end.max(run_end);
        }
        if start == self.watermark + 1 {
            self.watermark = end;
        } else {
            self.runs.insert(start, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let mut numbers = NumberSet::default();
        for number in [Seq::MAX, Seq::MAX - 1, Seq::MAX - 2, Seq::MAX, Seq::MAX - 1] {
            numbers.insert(number);
        }
        assert_eq!(numbers.runs().collect::<Vec<_>>(), [(Seq::MAX - 2, Seq::MAX - 1)]);
        assert!(!numbers.insert(Seq::MAX));
    }

    #[test]
    fn the_lowest_gaps_are_closed_first() {
        let mut numbers = NumberSet::default();
        for number in [2, 5, 6, 9, 12] {
            numbers.insert(number);
        }
        numbers.close_gaps(4);
        assert_eq!(numbers.scattered(), 4);
        numbers.close_gaps(2);
        assert_eq!((numbers.watermark(), numbers.scattered()), (6, 2));
        assert!(!numbers.insert(3) && numbers.insert(7) && numbers.insert(8));
        assert_eq!((numbers.watermark(), numbers.scattered()), (9, 1));
    }

    proptest! {
        #[test]
        fn behaves_like_a_plain_set(runs in prop::collection::vec((1u64..60, 0u64..8), 0..60)) {
            let (mut numbers, mut plain) = (NumberSet::default(), BTreeSet::new());
            for (first, more) in runs {
                let mut new = Vec::new();
                numbers.insert_run(first, first + more, |n| new.push(n));
                let expected: Vec<_> = (first..=first + more).filter(|&n| plain.insert(n)).collect();
                prop_assert_eq!(new, expected);
                let listed: BTreeSet<_> =
                    (1..=numbers.watermark()).chain(numbers.runs().flat_map(|(a, b)| a..=b)).collect();
                prop_assert_eq!(&listed, &plain);
                (0..80).for_each(|n| assert_eq!(numbers.contains(n), n == 0 || plain.contains(&n)));
                let mut last = numbers.watermark();
                for (a, b) in numbers.runs() {
                    prop_assert!(a > last + 1 && b >= a);
                    last = b;
                }
            }
        }
    }
}
