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
        const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
        self.start + time.min(FAR)
    }
}

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
