//! The node's clock: protocol time is counted from its start.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use teleport_proto::Time;

/// Counts from the node's start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Time {
        self.start.elapsed()
    }

    /// The instant at which it will be `time`; far away for [`Time::MAX`].
    pub(crate) fn instant(&self, time: Time) -> Instant {
        // Far from now: from the start, it would be over once the node is as old.
        self.start + time.min(self.now() + FAR)
    }
}

/// A timer that is set so far ahead may as well go off then.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A moment that one thread notes and another reads, without a lock.
#[derive(Debug, Default)]
pub(crate) struct Moment(AtomicU64);

impl Moment {
    pub(crate) fn note(&self, time: Time) {
        self.0.fetch_max(time.as_nanos() as u64, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Time {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "in a test it is a failure with a place")]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_come_is_to_come_however_old_the_node_is() {
        for years in [0, 1, 2, 50] {
            let start = Instant::now().checked_sub(FAR * years).expect("an instant may be long ago");
            let clock = Clock { start };
            let (due, soon) =
                (clock.now() + Duration::from_secs(60), Instant::now() + Duration::from_secs(50));
            assert!(clock.instant(due) > soon, "{years} years old");
            assert!(clock.instant(Time::MAX) > soon, "{years} years old");
            assert!(clock.instant(due) < clock.instant(Time::MAX));
        }
    }
}
