//! Medians, spreads and percentiles.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The middle of some figures, and how far they reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The median.
    pub(crate) median: f64,
    /// The least.
    pub(crate) min: f64,
    /// The greatest.
    pub(crate) max: f64,
}

impl Spread {
    /// None if there are no figures.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let (&min, &max) = (figures.first()?, figures.last()?);
        let half = figures.len() / 2;
        let median = if figures.len() % 2 == 1 {
            figures[half]
        } else {
            f64::midpoint(figures[half - 1], figures[half])
        };
        Some(Self { median, min, max })
    }
}

/// Round-trip times in milliseconds; all zero if `count` is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Latency {
    /// Half of them were no longer than this.
    pub(crate) p50: f64,
    /// 99 of 100 were no longer than this.
    pub(crate) p99: f64,
    /// The longest.
    pub(crate) max: f64,
    /// How many were measured.
    pub(crate) count: usize,
}

impl Latency {
    /// Of samples in microseconds.
    pub(crate) fn of(mut microseconds: Vec<u64>) -> Self {
        microseconds.sort_unstable();
        let at = |percent| nearest_rank(&microseconds, percent) as f64 / 1e3;
        Self { p50: at(50), p99: at(99), max: at(100), count: microseconds.len() }
    }
}

/// Many short round trips, counted in steps of 100 ns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<(u64, u64)>", from = "Vec<(u64, u64)>")]
pub(crate) struct RoundTrips {
    /// How often a round trip took this many steps.
    steps: BTreeMap<u64, u64>,
}

/// Round trips in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Microseconds {
    /// Half of them were no longer than this.
    pub(crate) p50: f64,
    /// 99 of 100 were no longer than this.
    pub(crate) p99: f64,
    /// The longest.
    pub(crate) max: f64,
}

impl From<RoundTrips> for Vec<(u64, u64)> {
    fn from(round_trips: RoundTrips) -> Self {
        round_trips.steps.into_iter().collect()
    }
}

impl From<Vec<(u64, u64)>> for RoundTrips {
    fn from(steps: Vec<(u64, u64)>) -> Self {
        Self { steps: steps.into_iter().collect() }
    }
}

impl RoundTrips {
    const STEP_NS: u128 = 100;

    /// Another one.
    pub(crate) fn record(&mut self, time: Duration) {
        let steps = u64::try_from(time.as_nanos() / Self::STEP_NS).unwrap_or(u64::MAX);
        *self.steps.entry(steps).or_default() += 1;
    }

    /// Those of another set, too.
    pub(crate) fn extend(&mut self, others: &Self) {
        for (steps, count) in &others.steps {
            *self.steps.entry(*steps).or_default() += count;
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.steps.values().sum()
    }

    /// None if there are none.
    pub(crate) fn microseconds(&self) -> Option<Microseconds> {
        let count = self.count();
        let at = |percent: u64| {
            let (rank, mut seen) = ((count * percent).div_ceil(100), 0);
            let reaches = |(_, here): &(&u64, &u64)| {
                seen += **here;
                seen >= rank
            };
            self.steps.iter().find(reaches).map(|(&steps, _)| steps as f64 / 10.0)
        };
        Some(Microseconds { p50: at(50)?, p99: at(99)?, max: at(100)? })
    }
}

/// The least sample that at least `percent` of all samples do not exceed; 0 if there are none.
fn nearest_rank(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
    }

    #[test]
    fn percentiles_are_samples() {
        let latency = Latency::of((1..=1000).rev().map(|i| i * 1000).collect());
        assert_eq!(latency, Latency { p50: 500.0, p99: 990.0, max: 1000.0, count: 1000 });
        assert_eq!(Latency::of(vec![7000]), Latency { p50: 7.0, p99: 7.0, max: 7.0, count: 1 });
        assert_eq!(Latency::of(Vec::new()), Latency::default());
    }

    #[test]
    fn round_trips_of_both_nodes() {
        let mut all = RoundTrips::default();
        assert_eq!(all.microseconds(), None);
        for part in [1..=600u64, 601..=1000] {
            let mut round_trips = RoundTrips::default();
            part.for_each(|i| round_trips.record(Duration::from_nanos(i * 1000 + 99)));
            all.extend(&round_trips);
        }
        assert_eq!(all.microseconds(), Some(Microseconds { p50: 500.0, p99: 990.0, max: 1000.0 }));
        let json = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<RoundTrips>(&json).unwrap(), all);
    }
}
