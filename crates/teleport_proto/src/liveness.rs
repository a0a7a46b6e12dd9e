//! Whether a peer lives: ticks on a fixed cadence, their round trips, and the deadline for silence.
//!
//! Any byte from the peer counts as life, on whichever connection. What the observer itself misses, because its
//! machine was stopped or its thread did not run, it does not hold against the peer: it measures how late it is
//! called and adds that to the deadline.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Time;

/// The intervals of [`Liveness`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// From one tick to the next. Default: 15 s, a quarter of the deadline.
    pub tick_interval: Duration,
    /// How long a peer may be silent, and how long a session outlives its control connection: Erlang's
    /// `net_ticktime`. Default: 60 s.
    pub deadline: Duration,
    /// How long the control connection may be silent before it is opened anew: the network may be well again, while TCP waits for
    /// up to a minute until it tries again on the connections that it was lost on. Default: 30 s, two tick intervals.
    pub reconnect_after: Duration,
}

impl Config {
    /// The intervals for a `net_ticktime`: a tick every quarter of it, a new control connection after half.
    pub fn with_ticktime(ticktime: Duration) -> Self {
        Config { tick_interval: ticktime / 4, deadline: ticktime, reconnect_after: ticktime / 2 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config::with_ticktime(Duration::from_secs(60))
    }
}

/// What [`Liveness::poll`] wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send a tick over the control connection. The peer answers with `seq`, which
    /// [`Liveness::tick_answered`] takes.
    SendTick {
        /// The tick's number.
        seq: u64,
        /// When it was due; its round trip counts from here.
        due: Time,
    },
    /// The control connection is silent, or a probe over it is not answered though the peer is heard: close it and open a new one.
    /// Said once per outage.
    ReconnectControl,
    /// The tick asked for by [`Liveness::probe`] was not answered in time, and the peer is not heard either.
    ProbeUnanswered,
    /// The peer is silent for too long: the session is over. Said once, and nothing after it.
    NodeDown,
}

/// A tick that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundTrip {
    /// When the tick was due.
    pub due: Time,
    /// From then until its answer.
    pub round_trip: Duration,
    /// Whether it answers [`Liveness::probe`].
    pub probe: bool,
}

/// What [`Liveness`] has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ticks sent, probes included.
    pub sent: u64,
    /// Ticks answered, sooner or later.
    pub answered: u64,
    /// Ticks not answered within an interval (and our own lateness).
    pub missed: u64,
    /// Ticks not sent, because there was no control connection or we were late by several.
    pub skipped: u64,
    /// The most that [`Liveness::poll`] was ever called too late.
    pub latest: Duration,
}

/// Watches one peer for the life of a session.
///
/// Call [`poll`](Liveness::poll) at [`next_deadline`](Liveness::next_deadline), or earlier.
///
/// ```
/// use std::time::Duration;
/// use teleport_proto::liveness::{Action, Config, Liveness};
///
/// let second = Duration::from_secs(1);
/// let mut liveness = Liveness::new(Config::default(), 0 * second);
/// assert_eq!(liveness.next_deadline(), 15 * second);
/// let due = 15 * second;
/// assert_eq!(liveness.poll(due, 14 * second, 14 * second), [Action::SendTick { seq: 1, due }]);
/// assert_eq!(liveness.tick_answered(1, 16 * second).unwrap().round_trip, second);
/// ```
#[derive(Debug)]
pub struct Liveness {
    config: Config,
    /// Where the cadence counts from: see [`together`].
    start: Time,
    /// The next tick is due at `start + next_tick * tick_interval`.
    next_tick: u64,
    next_seq: u64,
    /// Sent and not answered, oldest first.
    outstanding: VecDeque<Tick>,
    /// Silence on all connections.
    any: Silence,
    /// Silence on control; while that is down, how long.
    control: Silence,
    control_is_up: bool,
    reconnect_asked: bool,
    /// After a long absence of our own, what was unread must be read before anybody is judged.
    judge_from: Time,
    probe: Option<Probe>,
    /// When we should be called next.
    wake: Time,
    down: bool,
    counts: Counts,
    #[cfg(feature = "planted-faults")]
    faults: crate::Faults,
}

impl Liveness {
    /// Begins with a session whose control connection is up. A tick interval below a millisecond is taken as one.
    ///
    /// The cadence counts from `now`, or from up to a quarter of an interval before it, so that the ticks of all sessions of a node
    /// are due at four moments of each interval: a node with many peers wakes up for all that are due together. No tick is later
    /// for that. It needs times of one clock for all sessions.
    pub fn new(mut config: Config, now: Time) -> Self {
        config.tick_interval = config.tick_interval.max(Duration::from_millis(1));
        let mut liveness = Liveness {
            config,
            start: together(now, config.tick_interval),
            next_tick: 1,
            next_seq: 1,
            outstanding: VecDeque::new(),
            any: Silence::since(now),
            control: Silence::since(now),
            control_is_up: true,
            reconnect_asked: false,
            judge_from: now,
            probe: None,
            wake: now,
            down: false,
            counts: Counts::default(),
            #[cfg(feature = "planted-faults")]
            faults: crate::Faults::default(),
        };
        liveness.wake = liveness.next_wake(now);
        liveness
    }

    /// Plants faults.
    #[cfg(feature = "planted-faults")]
    pub fn plant(&mut self, faults: crate::Faults) {
        self.faults = faults;
    }

    /// Says what is to be done by now. `last_heard` is when the last byte came from the peer on any connection,
    /// `control_last_heard` on the control connection.
    pub fn poll(&mut self, now: Time, last_heard: Time, control_last_heard: Time) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.down {
            return actions;
        }
        let late = now.saturating_sub(self.wake);
        #[cfg(feature = "planted-faults")]
        let late = if self.faults.absence_counts { Duration::ZERO } else { late };
        self.note_lateness(now, late);
        self.any.heard(last_heard.max(control_last_heard), now, late);
        if self.control_is_up && self.control.heard(control_last_heard, now, late) {
            self.reconnect_asked = false;
        } else if !self.control_is_up {
            self.control.excused = self.control.excused.saturating_add(late);
        }
        if self.is_down(now) {
            self.down = true;
            self.wake = Time::MAX;
            return vec![Action::NodeDown];
        }
        self.count_missed(now);
        self.due_ticks(now, &mut actions);
        if let Some(probe) = &mut self.probe {
            probe.until = probe.until.saturating_add(late).max(self.judge_from);
            if now >= probe.until {
                // What was in buffers when the peer's machine ended has been read in the first half.
                let is_heard = self.any.last > probe.until.saturating_sub(probe.patience / 2);
                #[cfg(feature = "planted-faults")]
                let is_heard = is_heard && !self.faults.deaf_probe;
                self.probe = None;
                self.reconnect_asked |= is_heard;
                actions.push(if is_heard { Action::ReconnectControl } else { Action::ProbeUnanswered });
            }
        }
        if self.control_is_silent(now) {
            self.reconnect_asked = true;
            actions.push(Action::ReconnectControl);
        }
        self.wake = self.next_wake(now);
        actions
    }

    /// When [`poll`](Liveness::poll) is due; after [`Action::NodeDown`] never.
    pub fn next_deadline(&self) -> Time {
        self.wake
    }

    /// The peer has answered a tick. `None` if no such tick is outstanding.
    pub fn tick_answered(&mut self, seq: u64, now: Time) -> Option<RoundTrip> {
        let at = self.outstanding.iter().position(|tick| tick.seq == seq)?;
        let tick = self.outstanding.remove(at)?;
        self.counts.answered += 1;
        let probe = self.probe.take_if(|probe| probe.seq == seq).is_some();
        Some(RoundTrip { due: tick.due, round_trip: now.saturating_sub(tick.due), probe })
    }

    /// Sends a tick out of turn, to find out whether the session lives: it is answered within `patience`, or
    /// [`poll`](Liveness::poll) says [`Action::ProbeUnanswered`]; or [`Action::ReconnectControl`] if any byte has come from the
    /// peer in the later half of `patience`, so that it is control alone that is in trouble. `None` if a probe is under way
    /// already, or without a control connection. A control connection that takes the place of this one ends the probe.
    pub fn probe(&mut self, now: Time, patience: Duration) -> Option<Action> {
        if self.down || !self.control_is_up || self.probe.is_some() {
            return None;
        }
        let tick = self.send(now);
        let until = now.saturating_add(patience);
        self.probe = Some(Probe { seq: self.next_seq - 1, until, patience });
        self.wake = self.wake.min(until);
        Some(tick)
    }

    /// Sends a tick out of turn, so that the control connection is heard soon; nothing follows if it is not answered.
    /// `None` if an answer is awaited already, or without a control connection.
    pub fn ask(&mut self, now: Time) -> Option<Action> {
        let idle = !self.down && self.control_is_up && self.outstanding.is_empty();
        idle.then(|| self.send(now))
    }

    /// Ticks come at another cadence, counted from `now` as if the session began. The deadline stays.
    pub fn set_tick_interval(&mut self, interval: Duration, now: Time) {
        self.config.tick_interval = interval.max(Duration::from_millis(1));
        (self.start, self.next_tick) = (together(now, self.config.tick_interval), 1);
        if !self.down {
            self.wake = self.next_wake(now);
        }
    }

    /// From now on it is judged by these intervals, ticks counted from `now`. What the peer did by the ones of before is not held
    /// against it: it has a whole new deadline.
    pub fn set_intervals(&mut self, config: Config, now: Time) {
        self.config = config;
        self.judge_from = self.judge_from.max(now.saturating_add(config.deadline));
        self.set_tick_interval(config.tick_interval, now);
    }

    /// The control connection was opened anew.
    pub fn control_up(&mut self, now: Time) {
        if self.control_is_up {
            self.forget_outstanding(); // it takes the place of one whose end has not been seen
        } else {
            self.counts.skipped += self.pass_due(now);
        }
        self.control_is_up = true;
        self.reconnect_asked = false;
        self.control = Silence::since(now);
        self.any.heard(now, now, Duration::ZERO);
    }

    /// The control connection is gone. It has the deadline to come back, even if the pool is heard meanwhile:
    /// without control nothing is acknowledged.
    pub fn control_down(&mut self, now: Time) {
        if !self.control_is_up {
            return;
        }
        self.control_is_up = false;
        self.control = Silence::since(now);
        self.forget_outstanding();
        self.wake = self.wake.min(self.next_wake(now));
    }

    /// The answers went with the connection.
    fn forget_outstanding(&mut self) {
        self.counts.missed += self.outstanding.iter().filter(|tick| !tick.missed).count() as u64;
        self.outstanding.clear();
        self.probe = None;
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn note_lateness(&mut self, now: Time, late: Duration) {
        self.counts.latest = self.counts.latest.max(late);
        // An ordinary late timer must not put the judgement off again and again.
        if late >= self.config.tick_interval / 16 && !late.is_zero() {
            self.judge_from = now.saturating_add(late.min(self.config.tick_interval));
        }
    }

    fn is_down(&self, now: Time) -> bool {
        now >= self.down_at()
    }

    fn down_at(&self) -> Time {
        let silence = self.any.ends(self.config.deadline);
        let without_control = self.control.ends(self.config.deadline);
        let at = if self.control_is_up { silence } else { silence.min(without_control) };
        at.max(self.judge_from)
    }

    fn control_is_silent(&self, now: Time) -> bool {
        #[cfg(feature = "planted-faults")]
        if self.faults.keep_silent_control {
            return false;
        }
        self.control_is_up && !self.reconnect_asked && now >= self.reconnect_at()
    }

    fn reconnect_at(&self) -> Time {
        self.control.ends(self.config.reconnect_after).max(self.judge_from)
    }

    fn tick_due(&self, number: u64) -> Time {
        // `Duration * u32` would overflow after 49 days of ticks every millisecond.
        let nanos = self.config.tick_interval.as_nanos().saturating_mul(u128::from(number));
        let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
        self.start.saturating_add(Duration::new(seconds, (nanos % 1_000_000_000) as u32))
    }

    fn due_ticks(&mut self, now: Time, actions: &mut Vec<Action>) {
        let due = self.pass_due(now);
        let sent = if self.control_is_up { due.min(MAX_LATE_TICKS) } else { 0 };
        self.counts.skipped += due - sent;
        for number in self.next_tick - sent..self.next_tick {
            actions.push(self.send(self.tick_due(number)));
        }
    }

    /// Passes the ticks that are due by now; says how many.
    fn pass_due(&mut self, now: Time) -> u64 {
        let interval = self.config.tick_interval.as_nanos();
        let last = u64::try_from(now.saturating_sub(self.start).as_nanos() / interval).unwrap_or(u64::MAX);
        let due = last.saturating_add(1).saturating_sub(self.next_tick);
        self.next_tick += due;
        due
    }

    fn send(&mut self, due: Time) -> Action {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.counts.sent += 1;
        self.outstanding.push_back(Tick { seq, due, missed: false });
        Action::SendTick { seq, due }
    }

    fn count_missed(&mut self, now: Time) {
        let excused = self.control.excused;
        let patience = self.config.tick_interval.saturating_add(excused);
        let missed = |tick: &&mut Tick| !tick.missed && now >= tick.due.saturating_add(patience);
        for tick in self.outstanding.iter_mut().filter(missed) {
            tick.missed = true;
            self.counts.missed += 1;
        }
        // An answer that comes after the deadline finds nobody.
        let patience = self.config.deadline.saturating_add(excused);
        let forgotten = |tick: &Tick| tick.missed && now >= tick.due.saturating_add(patience);
        while self.outstanding.front().is_some_and(forgotten) {
            self.outstanding.pop_front();
        }
    }

    fn next_wake(&self, now: Time) -> Time {
        let mut wake = self.tick_due(self.next_tick).min(self.down_at());
        if let Some(probe) = &self.probe {
            wake = wake.min(probe.until);
        }
        let reconnect = self.reconnect_at();
        if self.control_is_up && !self.reconnect_asked && reconnect > now {
            wake = wake.min(reconnect);
        }
        wake
    }
}

/// In how many moments of each interval the ticks of all sessions are due. One moment would wake a node least of all; with some
/// more, peers that came at different times are not written to all at once.
const MOMENTS: u32 = 4;

/// The last of these moments that is not after `now`.
fn together(now: Time, interval: Duration) -> Time {
    // An interval has at least a millisecond, so this is not 0; and the remainder is less than it.
    let apart = u64::try_from((interval / MOMENTS).as_nanos()).unwrap_or(u64::MAX);
    let since = (now.as_nanos() % u128::from(apart)) as u64;
    now.saturating_sub(Duration::from_nanos(since))
}

// After a pause, ticks that were due during it are sent together, up to this many.
const MAX_LATE_TICKS: u64 = 8;

#[derive(Debug)]
struct Tick {
    seq: u64,
    due: Time,
    missed: bool,
}

#[derive(Debug)]
struct Probe {
    seq: u64,
    until: Time,
    patience: Duration,
}

/// Since when nothing was heard, and how much of that we were absent ourselves.
#[derive(Debug)]
struct Silence {
    last: Time,
    excused: Duration,
}

impl Silence {
    fn since(now: Time) -> Self {
        Silence { last: now, excused: Duration::ZERO }
    }

    /// Whether something new was heard. `late` is how late we noticed. What we missed before it was heard is no excuse for the
    /// silence since.
    fn heard(&mut self, last: Time, now: Time, late: Duration) -> bool {
        let new = last > self.last;
        if new {
            *self = Silence::since(last);
        }
        self.excused = self.excused.saturating_add(late.min(now.saturating_sub(self.last)));
        new
    }

    fn ends(&self, patience: Duration) -> Time {
        self.last.saturating_add(patience).saturating_add(self.excused)
    }
}
