//! A node's monotonic clock: it never goes back, may run at another rate than others, and may jump forwards.

use super::Micros;
use std::time::Duration;
use teleport_proto::Time;

/// Virtual time as a node's machines are given it.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    /// What it showed then, in microseconds.
    base: (Micros, u64),
    permille: u64,
    /// When the node was absent (its clock jumped, or it was stopped), and for how long by its clock.
    absences: Vec<(Micros, Duration)>,
    /// From when until when it was stopped last.
    stop: Option<(Micros, Micros)>,
}

/// A moment, in virtual time and as a node's clock showed it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moment {
    pub(super) at: Micros,
    pub(super) shown: Time,
    /// How many absences were before it: one may have been at the same time.
    absences: usize,
}

impl Clock {
    pub(super) fn new(now: Micros, shows: u64, permille: u64) -> Self {
        Self { base: (now, shows), permille, absences: Vec::new(), stop: None }
    }

    pub(super) fn shows(&self, now: Micros) -> Time {
        Duration::from_micros(self.micros(now))
    }

    pub(super) fn moment(&self, at: Micros) -> Moment {
        Moment { at, shown: self.shows(at), absences: self.absences.len() }
    }

    /// The first moment, from now on, at which the clock shows that; `None` if it is too far off.
    pub(super) fn when(&self, shows: Time, now: Micros) -> Option<Micros> {
        let micros = u64::try_from(shows.as_nanos().div_ceil(1000)).ok()?;
        let since = micros.saturating_sub(self.base.1).checked_mul(1000)?.div_ceil(self.permille);
        Some(self.base.0.checked_add(since)?.max(now))
    }

    pub(super) fn jump(&mut self, now: Micros, by: Micros) {
        self.base = (now, self.micros(now) + by);
        self.absences.push((now, Duration::from_micros(by)));
    }

    /// The node does nothing for so long.
    pub(super) fn stopped(&mut self, now: Micros, until: Micros) {
        self.absences.push((now, Duration::from_micros((until - now) * self.permille / 1000)));
        self.stop = Some((now, until));
    }

    /// When the node was last at work before it got to this: now, unless it has just been stopped.
    pub(super) fn at_work(&self, now: Micros) -> Micros {
        self.stop.filter(|(_, until)| *until == now).map_or(now, |(since, _)| since)
    }

    /// How much of the time since then the node has seen for itself. Of each absence so much counts at most.
    pub(super) fn witnessed(&self, since: Moment, now: Micros, of_absence: Duration) -> Duration {
        let later = self.absences.get(since.absences..).unwrap_or_default();
        let missed: Duration = later.iter().map(|(_, by)| by.saturating_sub(of_absence)).sum();
        self.shows(now).saturating_sub(since.shown).saturating_sub(missed)
    }

    /// How much time has passed since then, to which each jump adds so much at most.
    pub(super) fn passed(&self, since: Micros, now: Micros, by_jump: Duration) -> Duration {
        let later = self.absences.iter().filter(|(at, _)| *at >= since);
        let jumped: Duration = later.map(|(_, by)| (*by).min(by_jump)).sum();
        jumped + Duration::from_micros((now - since) * self.permille / 1000)
    }

    fn micros(&self, now: Micros) -> u64 {
        self.base.1 + (now - self.base.0) * self.permille / 1000
    }
}
