//! What a node's senders or receivers count, and what they are told.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::payload;
use crate::bench::child::NodeError;
use crate::bench::stats::RoundTrips;

/// One per node. Its flags change rarely, so that all cores have them at hand.
#[derive(Debug)]
pub(crate) struct Meters {
    verify: AtomicBool,
    halted: AtomicBool,
    measuring: AtomicBool,
    pairs: Vec<Meter>,
}

/// One per pair; no two share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Meter {
    /// Messages sent or received, or calls made or answered, since the start.
    count: AtomicU64,
    round_trips: Mutex<RoundTrips>,
}

/// A pair's view of its node's meters.
pub(crate) struct PairMeter<'a> {
    meters: &'a Meters,
    meter: &'a Meter,
    pair: u16,
}

impl Meters {
    /// Nothing is counted yet, and nobody is to send.
    pub(crate) fn new(pairs: u16) -> Self {
        Self {
            verify: AtomicBool::new(false),
            halted: AtomicBool::new(true),
            measuring: AtomicBool::new(false),
            pairs: (0..pairs).map(|_| Meter::default()).collect(),
        }
    }

    /// Before a round: senders may go on, and all know whether messages are numbered.
    pub(crate) fn prepare(&self, verify: bool) {
        self.verify.store(verify, Ordering::Release);
        self.halted.store(false, Ordering::Release);
    }

    /// From now on round trips count, or no longer.
    pub(crate) fn set_measuring(&self, measuring: bool) {
        self.measuring.store(measuring, Ordering::Relaxed);
    }

    /// Senders are to end.
    pub(crate) fn halt(&self) {
        self.halted.store(true, Ordering::Release);
    }

    /// Of all pairs.
    pub(crate) fn count(&self) -> u64 {
        self.pairs.iter().map(|pair| pair.count.load(Ordering::Relaxed)).sum()
    }

    /// Takes all pairs' round trips.
    pub(crate) fn take_round_trips(&self) -> RoundTrips {
        let mut all = RoundTrips::default();
        self.pairs.iter().for_each(|pair| all.extend(&std::mem::take(&mut *locked(&pair.round_trips))));
        all
    }

    /// For one pair.
    pub(crate) fn pair(&self, pair: u16) -> PairMeter<'_> {
        PairMeter { meters: self, meter: &self.pairs[usize::from(pair)], pair }
    }
}

impl PairMeter<'_> {
    /// Whether messages are numbered in this round.
    pub(crate) fn verifies(&self) -> bool {
        self.meters.verify.load(Ordering::Relaxed)
    }

    /// Whether no more is to be sent.
    pub(crate) fn is_halted(&self) -> bool {
        self.meters.halted.load(Ordering::Relaxed)
    }

    /// Adds to the count. Only one thread at a time counts for a pair, so plain loads and stores do.
    pub(crate) fn add(&self, messages: u64) {
        let count = self.meter.count.load(Ordering::Relaxed);
        self.meter.count.store(count + messages, Ordering::Relaxed);
    }

    /// A call that began then has just been answered.
    pub(crate) fn answered(&self, begun: Instant) {
        let round_trip = begun.elapsed();
        if self.meters.measuring.load(Ordering::Relaxed) {
            self.record(round_trip);
        }
        self.add(1);
    }

    fn record(&self, round_trip: Duration) {
        // Taken by another thread only after the round.
        locked(&self.meter.round_trips).record(round_trip);
    }

    /// In a round in which messages are numbered, whether this is the one whose turn it is.
    pub(crate) fn verify(&self, turn: &mut u64, message: &[u8], size: usize) -> Result<(), NodeError> {
        if !payload::is(*turn, message, size) {
            let what =
                format!("{} bytes that are not the message whose turn it is ({})", message.len(), *turn);
            return Err(NodeError::Protocol { from: format!("pair {}", self.pair), what });
        }
        *turn += 1;
        Ok(())
    }
}

/// Locks what is whole at any time, even if a thread panicked while it held the lock.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_out_of_turn_are_noticed() {
        let meters = Meters::new(2);
        let pair = meters.pair(1);
        let mut messages = [[0; 20]; 2];
        (0..).zip(&mut messages).for_each(|(number, message)| payload::fill(number, message));
        let mut turn = 0;
        for message in &messages {
            pair.verify(&mut turn, message, 20).unwrap();
        }
        let error = pair.verify(&mut turn, &messages[1], 20).unwrap_err().to_string();
        assert!(error.contains("pair 1") && error.contains("(2)"), "{error}");
    }

    #[test]
    fn round_trips_count_only_while_it_is_measured() {
        let meters = Meters::new(2);
        meters.pair(0).answered(Instant::now());
        meters.set_measuring(true);
        meters.pair(1).answered(Instant::now());
        assert_eq!((meters.count(), meters.take_round_trips().count()), (2, 1));
        assert_eq!(meters.take_round_trips().count(), 0);
    }
}
