//! The pairs that have messages in flight, and what the next message of each has to follow.

use super::Pair;
use super::numbers::NumberSet;
use crate::wire::envelope::{Destination, ProcessId, Seq};
use slab::Slab;
use std::collections::BTreeMap;

/// Pairs that are remembered before it is asked which of them have messages in flight.
const FEW: usize = 64;

/// Pairs, and their last messages. One is forgotten some time after its last message has been delivered.
#[derive(Default)]
pub(crate) struct Pairs {
    /// Answers go to processes that the peer chooses, so they are not hashed.
    ids: BTreeMap<Pair, usize>,
    entries: Slab<Entry>,
    /// The pair of the message before: the next one is often of the same.
    recent: usize,
    /// How many there were when those without messages were last forgotten, twice.
    most: usize,
}

/// What is known of a pair.
pub(crate) struct Entry {
    pair: Pair,
    /// The last message accepted; 0 if there was none.
    last: Seq,
    /// The last that was written into a batch and waits for nothing: small messages written later come behind it.
    written: Seq,
    /// The last was accepted before the one before it was delivered.
    flows: bool,
}

impl Entry {
    /// A message of the pair has been accepted. Returns the one before, if that may not have been delivered.
    pub(crate) fn accept(&mut self, seq: Seq, delivered: &NumberSet) -> Option<Seq> {
        let before = std::mem::replace(&mut self.last, seq);
        self.flows = !delivered.contains(before);
        self.flows.then_some(before)
    }

    /// Small messages, which are written one behind the other, have been accepted. `false`: one of them would have to name what it
    /// follows, and nothing has changed.
    pub(crate) fn accept_run(&mut self, first: Seq, messages: u64, delivered: &NumberSet) -> bool {
        let names_nothing = self.last == self.written || delivered.contains(self.last);
        if names_nothing {
            let last = first + messages - 1;
            (self.last, self.written, self.flows) = (last, last, true);
        }
        names_nothing
    }

    /// Whether its messages come faster than they are delivered.
    pub(crate) fn flows(&self) -> bool {
        self.flows
    }

    /// A message is written into a batch, behind all that were written before. It names what it has to follow only if that is not
    /// among those, or may itself be held back by something at the peer.
    pub(crate) fn write(
        &mut self,
        seq: Seq,
        follows: Option<Seq>,
        behind_all: bool,
        delivered: &NumberSet,
    ) -> Option<Seq> {
        let named = follows.filter(|&before| before != self.written && !delivered.contains(before));
        if named.is_none() && !behind_all {
            self.written = seq;
        }
        named
    }
}

impl Pairs {
    /// What is known of a pair.
    pub(crate) fn entry(&mut self, from: ProcessId, to: &Destination, delivered: &NumberSet) -> &mut Entry {
        let is_recent = |entry: &Entry| entry.pair.from == from && entry.pair.to == *to;
        if !self.entries.get(self.recent).is_some_and(is_recent) {
            let pair = Pair { from, to: to.clone() };
            self.recent = match self.ids.get(&pair) {
                Some(&id) => id,
                None => {
                    if self.entries.len() >= self.most.max(FEW) {
                        self.forget(delivered);
                    }
                    let id =
                        self.entries.insert(Entry { pair: pair.clone(), last: 0, written: 0, flows: false });
                    self.ids.insert(pair, id);
                    id
                }
            };
        }
        &mut self.entries[self.recent]
    }

    /// Forgets all: nothing is in flight.
    pub(crate) fn clear(&mut self) {
        if self.entries.len() > FEW {
            *self = Self::default();
        }
    }

    /// How many have messages in flight.
    pub(crate) fn in_flight(&self, delivered: &NumberSet) -> usize {
        self.entries.iter().filter(|(_, entry)| !delivered.contains(entry.last)).count()
    }

    /// Forgets those whose last message has been delivered.
    fn forget(&mut self, delivered: &NumberSet) {
        let Self { ids, entries, .. } = self;
        entries.retain(|_, entry| {
            let is_in_flight = !delivered.contains(entry.last);
            if !is_in_flight {
                ids.remove(&entry.pair);
            }
            is_in_flight
        });
        self.most = 2 * self.entries.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_follows_the_last_of_its_pair_until_that_is_delivered() {
        let from = ProcessId { id: 1, serial: 0 };
        let (a, b) = (Destination::Name("a".into()), Destination::Name("b".into()));
        let (mut pairs, mut delivered) = (Pairs::default(), NumberSet::default());
        assert_eq!(pairs.entry(from, &a, &delivered).accept(1, &delivered), None);
        assert_eq!(pairs.entry(from, &b, &delivered).accept(2, &delivered), None);
        assert_eq!(pairs.entry(from, &a, &delivered).accept(3, &delivered), Some(1));
        delivered.insert(3);
        assert_eq!(pairs.in_flight(&delivered), 1);
        assert_eq!(pairs.entry(from, &a, &delivered).accept(4, &delivered), None);
    }

    #[test]
    fn what_is_written_behind_its_predecessor_does_not_name_it_unless_that_waits() {
        let from = ProcessId { id: 1, serial: 0 };
        let to = Destination::Process(from);
        let (mut pairs, mut delivered) = (Pairs::default(), NumberSet::default());
        let entry = pairs.entry(from, &to, &delivered);
        // 1 is large; 2 to 4 are small.
        assert_eq!(entry.accept(1, &delivered), None);
        for seq in 2..=4 {
            let before = entry.accept(seq, &delivered);
            assert_eq!(entry.write(seq, before, false, &delivered), Some(seq - 1));
        }
        delivered.insert_run(1, 4, |_| {});
        for seq in 5..=7 {
            let before = entry.accept(seq, &delivered);
            assert_eq!(entry.write(seq, before, false, &delivered), None);
        }
        // One that everything may hold back is named by the next.
        entry.accept(8, &delivered);
        assert_eq!(entry.write(8, None, true, &delivered), None);
        let before = entry.accept(9, &delivered);
        assert_eq!(entry.write(9, before, false, &delivered), Some(8));
    }

    #[test]
    fn pairs_without_messages_are_forgotten_and_others_are_not() {
        let to = Destination::Name("a".into());
        let process = |id| ProcessId { id, serial: 0 };
        let (mut pairs, mut delivered) = (Pairs::default(), NumberSet::default());
        pairs.entry(process(1), &to, &delivered).accept(1, &delivered);
        for id in 2..1000 {
            pairs.entry(process(id), &to, &delivered).accept(id.into(), &delivered);
            delivered.insert(id.into());
        }
        assert!(pairs.entries.len() <= FEW + 1 && pairs.ids.len() == pairs.entries.len());
        assert_eq!(pairs.entry(process(1), &to, &delivered).accept(1000, &delivered), Some(1));
        pairs.clear();
        assert!(pairs.entries.len() <= FEW);
    }
}
