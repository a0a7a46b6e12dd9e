//! Which of the connections that have not proved themselves has to go when there are too many.
//!
//! Connections can be opened without a proof, and a flood of them must not keep out those that will prove themselves. So the source
//! with the most unproved connections loses one first, which a flood from elsewhere is. Of its connections, and of those
//! of sources with as many, the oldest goes: one that has said nothing valid if those are more than half of all, else one
//! that is in the middle of its handshake. So neither kind drives the other out. A few connections of a source do not
//! count; of a source that has proved itself before they are more, and go last.
//!
//! What a flood from everywhere, or from the newcomer's own address, can do is bounded by the room: a newcomer has at least
//! the time in which half of it is filled anew for its first words, and as much for the rest.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;

use rustc_hash::FxHashMap;

/// Connections of a source which do not count: some peers behind one address that come at the same time.
const ALLOWANCE: usize = 8;

/// Connections that do not count of a source that has proved itself before: the pools of some peers.
const ALLOWANCE_OF_PROVED: usize = 64;

/// Sources that have proved themselves and are remembered; the one that did so longest ago is forgotten first.
const MOST_PROVED: usize = 1024;

/// Connections that have not proved themselves yet, by their numbers, which ascend. `S` is where they come from.
#[derive(Debug)]
pub struct Newcomers<S> {
    most: usize,
    connections: FxHashMap<u64, S>,
    sources: FxHashMap<S, Source>,
    /// How many have said nothing valid.
    silent: usize,
    /// Each source with its oldest connection of either kind; the last ones are those that go next.
    oldest_silent: BTreeSet<(Oldest, S)>,
    oldest_speaking: BTreeSet<(Oldest, S)>,
    proved: Proved<S>,
}

/// What is compared: the greatest goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Oldest {
    /// How many there are of the source, the allowance aside.
    count: usize,
    stranger: bool,
    /// The older ones, with the smaller numbers, are greater.
    number: Reverse<u64>,
}

#[derive(Debug, Default)]
struct Source {
    silent: BTreeSet<u64>,
    speaking: BTreeSet<u64>,
    known: bool,
}

impl<S: Copy + Eq + Hash + Ord> Newcomers<S> {
    /// Room for this many, at least one.
    pub fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            connections: FxHashMap::default(),
            sources: FxHashMap::default(),
            silent: 0,
            oldest_silent: BTreeSet::new(),
            oldest_speaking: BTreeSet::new(),
            proved: Proved { last: 0, by_source: FxHashMap::default(), by_age: BTreeMap::new() },
        }
    }

    /// A connection has come. Says which one has to go for it, if there is no room.
    pub fn arrived(&mut self, number: u64, source: S) -> Option<u64> {
        let victim = if self.connections.len() >= self.most { self.drop_one() } else { None };
        self.connections.insert(number, source);
        let known = self.proved.by_source.contains_key(&source);
        self.change(source, |source| {
            source.silent.insert(number);
            source.known = known;
        });
        victim
    }

    /// A connection has said something valid: it is in the middle of its handshake.
    pub fn spoke(&mut self, number: u64) {
        let Some(source) = self.connections.get(&number).copied() else { return };
        self.change(source, |source| {
            source.silent.remove(&number);
            source.speaking.insert(number);
        });
    }

    /// A connection has proved itself, so that its source is remembered. `false` if it had to go before.
    pub fn proved(&mut self, number: u64) -> bool {
        let Some(source) = self.connections.get(&number).copied() else { return false };
        if let Some(forgotten) = self.proved.note(source) {
            self.change(forgotten, |source| source.known = false);
        }
        self.change(source, |source| source.known = true);
        self.left(number)
    }

    /// A connection has ended. `false` if it had to go before.
    pub fn left(&mut self, number: u64) -> bool {
        let Some(source) = self.connections.remove(&number) else { return false };
        self.change(source, |source| {
            source.silent.remove(&number);
            source.speaking.remove(&number);
        });
        true
    }

    /// Lets the next one go, if there is any.
    pub fn drop_one(&mut self) -> Option<u64> {
        let silent = self.oldest_silent.last().map(|(oldest, _)| *oldest);
        let speaking = self.oldest_speaking.last().map(|(oldest, _)| *oldest);
        let victim = match (silent, speaking) {
            (Some(silent), Some(speaking)) => {
                match (silent.count, silent.stranger).cmp(&(speaking.count, speaking.stranger)) {
                    Ordering::Greater => silent,
                    Ordering::Less => speaking,
                    Ordering::Equal if self.silent > self.most / 2 => silent,
                    Ordering::Equal => speaking,
                }
            }
            (silent, speaking) => silent.or(speaking)?,
        };
        let Reverse(number) = victim.number;
        self.left(number);
        Some(number)
    }

    /// Changes what there is of a source, and keeps its place among the others up to date.
    fn change(&mut self, key: S, change: impl FnOnce(&mut Source)) {
        let source = self.sources.entry(key).or_default();
        let (silent, before) = (source.silent.len(), source.oldest());
        change(source);
        let now = source.oldest();
        self.silent = self.silent + source.silent.len() - silent;
        if now == [None; 2] {
            self.sources.remove(&key);
        }
        let sets = [&mut self.oldest_silent, &mut self.oldest_speaking];
        for ((set, before), now) in
            sets.into_iter().zip(before).zip(now).filter(|((_, before), now)| before != now)
        {
            before.map(|oldest| set.remove(&(oldest, key)));
            now.map(|oldest| set.insert((oldest, key)));
        }
    }
}

impl Source {
    /// The oldest silent one and the oldest one that speaks.
    fn oldest(&self) -> [Option<Oldest>; 2] {
        let allowance = if self.known { ALLOWANCE_OF_PROVED } else { ALLOWANCE };
        let count = (self.silent.len() + self.speaking.len()).saturating_sub(allowance);
        [&self.silent, &self.speaking].map(|all| {
            all.first().map(|first| Oldest { count, stranger: !self.known, number: Reverse(*first) })
        })
    }
}

/// Sources that have proved themselves, the least recent of which is forgotten.
#[derive(Debug)]
struct Proved<S> {
    last: u64,
    by_source: FxHashMap<S, u64>,
    by_age: BTreeMap<u64, S>,
}

impl<S: Copy + Eq + Hash> Proved<S> {
    /// Notes a source; returns the one that is forgotten for it.
    fn note(&mut self, source: S) -> Option<S> {
        self.last += 1;
        if let Some(before) = self.by_source.insert(source, self.last) {
            self.by_age.remove(&before);
        }
        self.by_age.insert(self.last, source);
        if self.by_source.len() <= MOST_PROVED {
            return None;
        }
        let (_, forgotten) = self.by_age.pop_first()?;
        self.by_source.remove(&forgotten);
        Some(forgotten)
    }
}
