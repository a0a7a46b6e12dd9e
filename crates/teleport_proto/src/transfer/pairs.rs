//! The pairs that have messages in flight.

use super::Pair;
use crate::wire::envelope::{Destination, ProcessId, Seq};
use slab::Slab;
use std::collections::BTreeMap;

/// Names a pair while it has messages in flight.
pub(crate) type PairId = usize;

/// Pairs by small numbers, so that a message does not carry its own.
#[derive(Default)]
pub(crate) struct Pairs {
    /// Answers go to processes that the peer chooses, so they are not hashed.
    ids: BTreeMap<Pair, PairId>,
    entries: Slab<Entry>,
    /// That of the message before: the next one is often of the same.
    recent: PairId,
}

struct Entry {
    pair: Pair,
    in_flight: usize,
    /// The last of its ordered messages, while that is in flight.
    last: Option<Seq>,
}

impl Pairs {
    /// One more message of a pair is in flight.
    pub(crate) fn enter(&mut self, from: ProcessId, to: Destination) -> PairId {
        match self.entries.get_mut(self.recent) {
            Some(entry) if entry.pair.from == from && entry.pair.to == to => entry.in_flight += 1,
            _ => {
                let pair = Pair { from, to };
                if let Some(&id) = self.ids.get(&pair) {
                    self.entries[id].in_flight += 1;
                    self.recent = id;
                } else {
                    self.recent = self.entries.insert(Entry { pair: pair.clone(), in_flight: 1, last: None });
                    self.ids.insert(pair, self.recent);
                }
            }
        }
        self.recent
    }

    /// Puts an ordered message behind the last one of its pair, which it returns if that is in flight.
    pub(crate) fn follow(&mut self, id: PairId, seq: Seq) -> Option<Seq> {
        self.entries.get_mut(id)?.last.replace(seq)
    }

    /// A message is in flight no more.
    pub(crate) fn leave(&mut self, id: PairId, seq: Seq) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        entry.in_flight -= 1;
        if entry.last == Some(seq) {
            entry.last = None;
        }
        if entry.in_flight == 0 {
            let Entry { pair, .. } = self.entries.remove(id);
            self.ids.remove(&pair);
        }
    }

    pub(crate) fn pair(&self, id: PairId) -> Option<&Pair> {
        self.entries.get(id).map(|entry| &entry.pair)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_known_while_it_has_messages_in_flight() {
        let from = ProcessId { id: 1, serial: 0 };
        let mut pairs = Pairs::default();
        let to = |name: &str| Destination::Name(name.into());
        let (a, b) = (pairs.enter(from, to("a")), pairs.enter(from, to("b")));
        assert_ne!(a, b);
        assert_eq!((pairs.follow(a, 1), pairs.follow(b, 2)), (None, None));
        assert_eq!((pairs.enter(from, to("a")), pairs.follow(a, 3)), (a, Some(1)));
        pairs.leave(a, 1);
        assert_eq!((pairs.enter(from, to("a")), pairs.follow(a, 4)), (a, Some(3)));
        // The last one is delivered before one that it followed: nothing more to follow, but the pair is still there.
        pairs.leave(a, 4);
        assert_eq!(pairs.pair(a).map(|pair| pair.to.clone()), Some(to("a")));
        assert_eq!((pairs.enter(from, to("a")), pairs.follow(a, 5)), (a, None));
        pairs.leave(a, 3);
        pairs.leave(a, 5);
        assert_eq!((pairs.len(), pairs.pair(a).is_none()), (1, true));
        pairs.leave(b, 2);
        assert_eq!((pairs.len(), pairs.ids.len()), (0, 0));
    }
}
