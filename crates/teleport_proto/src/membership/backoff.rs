//! How long a node waits before it tries again.

use std::time::Duration;

/// How long to wait between two attempts. Doubles from `first` to `most`; half of it is left to chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure. Default: 50 ms.
    pub first: Duration,
    /// At most. Default: 5 s.
    pub most: Duration,
}

/// Even where less is configured, attempts do not follow one another without a pause.
const LEAST: Duration = Duration::from_millis(1);

impl Default for Backoff {
    fn default() -> Self {
        Backoff { first: Duration::from_millis(50), most: Duration::from_secs(5) }
    }
}

impl Backoff {
    pub(super) fn delay(&self, failures: u32, random: u64) -> Duration {
        let full =
            self.first.saturating_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        let full = full.min(self.most);
        let chance = (random >> 32) as u32;
        let delay = full / 2 + (full / 2).mul_f64(f64::from(chance) / f64::from(u32::MAX));
        delay.max(LEAST)
    }
}
