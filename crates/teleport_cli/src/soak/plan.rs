//! What goes wrong, and when: drawn from the seed before anything has happened.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::time::Instant;

use super::node::TICKTIME;
use crate::args::FaultKind;
use crate::bench::payload::random;

/// When nobody was there to be hit.
const RETRY: Duration = Duration::from_millis(50);

/// A fault that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    /// Of which kind.
    pub(super) kind: FaultKind,
    /// Which node, peer or connection, counted around.
    pub(super) pick: u32,
    /// How long a node is stopped, or away.
    pub(super) pause: Duration,
}

/// The faults of a run.
pub(super) struct Plan {
    random: SmallRng,
    length: Duration,
    due: Vec<(Instant, FaultKind)>,
}

impl Plan {
    /// Each kind comes at least once, if there are nodes to be hit.
    pub(super) fn new(kinds: &[FaultKind], seed: u64, start: Instant, length: Duration) -> Self {
        let mut plan = Self { random: random(seed, "faults"), length, due: Vec::new() };
        for &kind in kinds {
            let first = plan.every(kind).mul_f64(plan.random.random_range(0.1..1.0));
            plan.due.push((start + first, kind));
        }
        plan
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.iter().map(|(due, _)| *due).min()
    }

    /// What is due by now, and planned anew.
    pub(super) fn take(&mut self, now: Instant) -> Option<Fault> {
        let place = (0..self.due.len()).min_by_key(|place| self.due[*place].0)?;
        let (due, kind) = self.due[place];
        if due > now {
            return None;
        }
        // From when it was due: a late fault does not make the next one late.
        self.due[place].0 = due + self.every(kind).mul_f64(self.random.random_range(0.5..1.5));
        let milliseconds = match kind {
            FaultKind::Stop => self.random.random_range(20..1500),
            FaultKind::Silence => {
                let ticktime = u64::try_from(TICKTIME.as_millis()).unwrap_or(u64::MAX / 2);
                ticktime + self.random.random_range(1000..3000)
            }
            FaultKind::Kill | FaultKind::Restart => self.random.random_range(0..2500),
            FaultKind::Cut | FaultKind::Control | FaultKind::Disconnect | FaultKind::Exit => 0,
        };
        Some(Fault { kind, pick: self.random.random(), pause: Duration::from_millis(milliseconds) })
    }

    /// There was nobody to be hit by that.
    pub(super) fn again(&mut self, kind: FaultKind, now: Instant) {
        if let Some((due, _)) = self.due.iter_mut().find(|(_, other)| *other == kind) {
            *due = now + RETRY;
        }
    }

    /// From one of these in the cluster to the next, on average.
    fn every(&self, kind: FaultKind) -> Duration {
        let usual = Duration::from_millis(match kind {
            FaultKind::Cut => 150,
            FaultKind::Exit => 700,
            FaultKind::Control => 1500,
            FaultKind::Stop => 4000,
            FaultKind::Disconnect => 6000,
            FaultKind::Kill => 10_000,
            FaultKind::Restart => 12_000,
            FaultKind::Silence => 30_000,
        });
        usual.min(self.length / 2)
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    fn faults(kinds: &[FaultKind], seed: u64, seconds: u64) -> Vec<Fault> {
        let start = Instant::now();
        let mut plan = Plan::new(kinds, seed, start, Duration::from_secs(seconds));
        let mut faults = Vec::new();
        while let Some(fault) = plan.take(start + Duration::from_secs(seconds)) {
            faults.push(fault);
        }
        faults
    }

    #[test]
    fn the_same_seed_plans_the_same() {
        let kinds = FaultKind::value_variants();
        assert_eq!(faults(kinds, 7, 60), faults(kinds, 7, 60));
        assert_ne!(faults(kinds, 7, 60), faults(kinds, 8, 60));
        assert!(faults(&[], 7, 60).is_empty());
    }

    #[test]
    fn a_short_run_has_every_kind_too() {
        for seed in 0..20 {
            let planned = faults(FaultKind::value_variants(), seed, 3);
            for kind in FaultKind::value_variants() {
                assert!(planned.iter().any(|fault| fault.kind == *kind), "{kind:?} with seed {seed}");
            }
        }
    }

    #[test]
    fn stops_end_in_time_and_silences_do_not() {
        for fault in faults(FaultKind::value_variants(), 7, 600) {
            match fault.kind {
                FaultKind::Stop => assert!(fault.pause < TICKTIME / 2),
                FaultKind::Silence => assert!(fault.pause > TICKTIME),
                _ => {}
            }
        }
    }
}
