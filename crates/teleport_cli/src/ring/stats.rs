//! Medians, spreads and percentiles.

use serde::Serialize;

/// The middle of some figures, and how far they reach.
#[derive(Debug, Clone, Copy, PartialEq)]
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

/// The least sample that at least `percent` of all samples do not exceed; 0 if there are none.
fn nearest_rank(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
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
}
