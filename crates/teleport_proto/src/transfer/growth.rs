//! How many bulk connections are worth having: more are tried while messages queue up, and kept if they bring something.
//!
//! Networks limit single connections: clouds to a part of the link, long ways by their round trip. Where nothing limits
//! them, more connections only cost time. Which it is cannot be known, so it is measured: how much goes out in an
//! *epoch*, over the connections in use. Now and then an epoch is spent with twice or half of them. That stays if it is worth it;
//! otherwise it is undone, and the next trial waits longer.
//!
//! An epoch counts only if something waited for a connection all the time. What limits the peer, its window for example,
//! leaves connections idle, and is no reason for more of them.

use crate::Time;
use std::time::Duration;

/// An epoch takes this long at least: in a shorter one chance decides, where sessions compete for processors,
const EPOCH: Duration = Duration::from_millis(500);

/// and until each connection has written this many fragments, for the figure to mean something.
const FRAGMENTS: u64 = 8;

/// Twice as many connections have to carry this many times as much. Where each is limited on its own they carry twice as much.
const WORTH: f64 = 1.6;

/// What other connections carry at first does not count.
const SETTLES: Duration = Duration::from_millis(100);

/// Half as many may carry this part, to be taken for as good.
const AS_GOOD: f64 = 0.85;

/// From a trial that was undone to the next one: twice as long every time.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long a trial waits for its connections, which the peer may be unable to open, or not want.
const PATIENCE: Duration = Duration::from_secs(10);

/// Watches how much goes out, and says over how many connections it should.
#[derive(Debug)]
pub(super) struct Growth {
    most: u32,
    fragment_size: u64,
    /// How many connections are wanted besides what a queue of messages asks for.
    width: u32,
    epoch: Option<Epoch>,
    trial: Option<Trial>,
    /// The next trial is one with fewer.
    shrink: bool,
    pause: Duration,
    rests_until: Time,
}

#[derive(Debug)]
struct Epoch {
    since: Time,
    bytes: u64,
    /// Begun with another number of connections: it passes without being counted.
    settles: bool,
}

/// What there was before the number was changed.
#[derive(Debug, Clone, Copy)]
struct Trial {
    width: u32,
    rate: f64,
    since: Time,
}

impl Growth {
    pub(super) fn new(most: u32, fragment_size: u32) -> Self {
        Self {
            most,
            fragment_size: fragment_size.into(),
            width: 1,
            epoch: None,
            trial: None,
            shrink: false,
            pause: PAUSE,
            rests_until: Time::ZERO,
        }
    }

    /// The connections that are wanted.
    pub(super) fn width(&self) -> u32 {
        self.width
    }

    /// A connection had nothing to write: what has been counted says nothing about connections.
    pub(super) fn idle(&mut self) {
        self.epoch = None;
    }

    /// There are fewer connections than wanted: more may still come. A trial waits for them only for a while. Says whether another number
    /// is wanted now.
    pub(super) fn lacks_some(&mut self, now: Time) -> bool {
        self.epoch = None;
        let Some(trial) = self.trial.take_if(|trial| now.saturating_sub(trial.since) >= PATIENCE) else {
            return false;
        };
        self.width = trial.width;
        self.pause_from(now);
        true
    }

    /// Nothing has gone out for long: begins anew.
    pub(super) fn rest(&mut self) {
        *self = Self::new(self.most, self.fragment_size as u32);
    }

    /// A frame of that length is about to be written, over one of `used` connections. Says whether another number is wanted now.
    pub(super) fn wrote(&mut self, bytes: u64, used: u32, now: Time) -> bool {
        let settles = self.epoch.is_none() && self.trial.is_some();
        let epoch = self.epoch.get_or_insert(Epoch { since: now, bytes: 0, settles });
        epoch.bytes += bytes;
        let elapsed = now.saturating_sub(epoch.since);
        let (least, fragments) = if epoch.settles { (SETTLES, 1) } else { (EPOCH, FRAGMENTS) };
        if elapsed < least || epoch.bytes < self.fragment_size * fragments * u64::from(used) {
            return false;
        }
        if epoch.settles {
            *epoch = Epoch { since: now, bytes: 0, settles: false };
            return false;
        }
        let rate = epoch.bytes as f64 / elapsed.as_secs_f64();
        self.epoch = None;
        let before = self.width;
        match self.trial.take() {
            Some(trial) => self.judge(trial, rate, now),
            None if now >= self.rests_until => self.attempt(used, rate, now),
            None => {}
        }
        self.width != before
    }

    /// Tries another number.
    fn attempt(&mut self, used: u32, rate: f64, now: Time) {
        let shrinks = self.shrink && self.width > 1;
        self.shrink = !self.shrink;
        let width = if shrinks { self.width / 2 } else { used.saturating_mul(2).min(self.most) };
        if !shrinks && width <= used {
            self.pause_from(now);
            return;
        }
        self.trial = Some(Trial { width: self.width, rate, since: now });
        self.width = width;
    }

    /// Keeps what was tried, and goes on from there; or undoes it.
    fn judge(&mut self, trial: Trial, rate: f64, now: Time) {
        let shrank = self.width < trial.width;
        let enough = if shrank { AS_GOOD } else { WORTH };
        if rate >= trial.rate * enough {
            (self.shrink, self.pause) = (shrank, PAUSE);
            self.attempt(self.width, rate, now);
        } else {
            self.width = trial.width;
            self.pause_from(now);
        }
    }

    fn pause_from(&mut self, now: Time) {
        self.rests_until = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAGMENT: u32 = 1 << 20;

    /// Writes for that long over a network in which a connection carries `each` bytes a second and all together `all`;
    /// returns the widths that there were, each as often as it took turns with another.
    fn widths(growth: &mut Growth, now: &mut Time, seconds: u64, each: f64, all: f64) -> Vec<u32> {
        let end = *now + Duration::from_secs(seconds);
        let mut widths = vec![growth.width()];
        while *now < end {
            let used = growth.width();
            let rate = (each * f64::from(used)).min(all);
            *now += Duration::from_secs_f64(f64::from(FRAGMENT) / rate);
            growth.wrote(FRAGMENT.into(), used, *now);
            if growth.width() != used {
                widths.push(growth.width());
            }
        }
        widths
    }

    #[test]
    fn where_each_connection_is_limited_all_are_used_within_two_seconds() {
        let (mut growth, mut now) = (Growth::new(8, FRAGMENT), Time::ZERO);
        let widths = widths(&mut growth, &mut now, 2, 1e8, 1e10);
        assert_eq!(widths, [1, 2, 4, 8]);
    }

    #[test]
    fn where_nothing_is_gained_trials_are_undone_and_become_rare() {
        let (mut growth, mut now) = (Growth::new(8, FRAGMENT), Time::ZERO);
        let widths = widths(&mut growth, &mut now, 300, 3e9, 3e9);
        assert!(widths.iter().all(|&width| width <= 2), "{widths:?}");
        assert_eq!(growth.width(), 1);
        // Pauses of 1, 2, 4, 8, 16, 32 and 60 seconds; between two that try more, there is one for fewer.
        assert!((5..30).contains(&widths.len()), "{widths:?}");
    }

    #[test]
    fn connections_that_bring_nothing_any_more_are_given_up() {
        let (mut growth, mut now) = (Growth::new(8, FRAGMENT), Time::ZERO);
        let before = widths(&mut growth, &mut now, 10, 1e8, 1e10);
        assert_eq!(before.iter().max(), Some(&8), "{before:?}");
        let after = widths(&mut growth, &mut now, 200, 3e9, 3e9);
        assert_eq!(growth.width(), 1, "{after:?}");
    }

    #[test]
    fn a_trial_whose_connections_do_not_come_is_undone() {
        let (mut growth, mut now) = (Growth::new(8, FRAGMENT), Time::ZERO);
        while growth.width() == 1 {
            now += Duration::from_millis(10);
            growth.wrote(FRAGMENT.into(), 1, now);
        }
        assert!(!growth.lacks_some(now));
        assert!(growth.lacks_some(now + PATIENCE));
        assert_eq!(growth.width(), 1);
    }

    #[test]
    fn a_peer_that_takes_little_is_no_reason_for_connections() {
        let (mut growth, mut now) = (Growth::new(8, FRAGMENT), Time::ZERO);
        for _ in 0..10_000 {
            now += Duration::from_millis(10);
            growth.wrote(FRAGMENT.into(), 1, now);
            growth.idle();
        }
        assert_eq!(growth.width(), 1);
    }
}
