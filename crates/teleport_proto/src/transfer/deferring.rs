//! Small messages that a sink delivers later, and what it was done with meanwhile.

use super::Disposition;
use crate::wire::envelope::{Destination, ProcessId, Seq};
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;
use std::collections::{BTreeSet, VecDeque};
use std::hash::BuildHasher;

/// A sender and a destination, hashed: of two that come out the same, one may wait for the other.
pub(crate) type PairId = u64;

pub(crate) fn pair_of(from: ProcessId, to: &Destination) -> PairId {
    FxBuildHasher.hash_one((from, to))
}

/// The small messages of a pair that are deferred.
#[derive(Default)]
pub(crate) struct Deferring {
    seqs: BTreeSet<Seq>,
    /// What the sink was done with behind some of them, in order.
    done: VecDeque<(Seq, Disposition)>,
}

impl Deferring {
    /// One is deferred.
    pub(crate) fn begin(&mut self, seq: Seq) {
        self.seqs.insert(seq);
    }

    /// The sink is done with one behind them.
    pub(crate) fn done_with(&mut self, seq: Seq, end: Disposition) {
        self.done.push_back((seq, end));
    }

    /// One has been delivered. Returns what comes with it, as nothing before that is deferred any more.
    pub(crate) fn delivered(&mut self, seq: Seq) -> SmallVec<[(Seq, Disposition); 1]> {
        self.seqs.remove(&seq);
        let first = self.seqs.first();
        let count = self.done.iter().take_while(|(seq, _)| first.is_none_or(|first| seq < first)).count();
        self.done.drain(..count).collect()
    }

    /// Whether none is left.
    pub(crate) fn is_over(&self) -> bool {
        self.seqs.is_empty()
    }
}
