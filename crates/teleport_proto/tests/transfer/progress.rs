//! Connections that stand still, told from those that are slow, in virtual time: a sender that always has more, a link
//! of some speed, a reader, and a control connection that says what the reader has counted.

use std::time::Duration;
use teleport_proto::Time;
use teleport_proto::transfer::{Progress, Seen};

const FRAME: u64 = 1024 * 1024;
/// What the sender's system takes ahead of the link.
const SENDER_BUFFER: u64 = 128 * 1024;
const TIMEOUT: Duration = Duration::from_secs(20);

/// A connection, byte by byte counts of both ends.
struct Link {
    progress: Progress,
    now: Time,
    /// Bytes written, acknowledged by the peer's TCP, and handed to its reader.
    written: u64,
    acknowledged: u64,
    read: u64,
    /// Bytes of a second that the link and the reader take.
    speed: u64,
    reading: u64,
    /// Frames as the sender was told of last.
    counted: u64,
    /// Frames that it writes in all.
    frames: u64,
    frame: u64,
    control_heard: Option<Time>,
    control: bool,
}

impl Link {
    fn new(frame: u64, speed: u64) -> Self {
        let progress = Progress::new(TIMEOUT, Time::ZERO, Seen::default());
        Self {
            progress,
            now: Time::ZERO,
            written: 0,
            acknowledged: 0,
            read: 0,
            speed,
            reading: u64::MAX,
            counted: 0,
            frames: u64::MAX / frame,
            frame,
            control_heard: Some(Time::ZERO),
            control: true,
        }
    }

    /// A look's interval passes. `true` if the connection is given up.
    fn step(&mut self) -> bool {
        let interval = Progress::interval(TIMEOUT);
        let bytes = |per_second: u64| (u128::from(per_second) * interval.as_millis() / 1000) as u64;
        self.now += interval;
        let end = self.frames * self.frame;
        let room = self.acknowledged + SENDER_BUFFER + bytes(self.speed);
        self.written = room.min(end).max(self.written);
        self.acknowledged = (self.acknowledged.saturating_add(bytes(self.speed))).min(self.written);
        self.read = self.read.saturating_add(bytes(self.reading)).min(self.acknowledged);
        // The peer says something when it has counted something, or is asked.
        if self.control && (self.counted < self.read / self.frame || self.progress.stands_still()) {
            (self.counted, self.control_heard) = (self.read / self.frame, Some(self.now));
        }
        let seen = Seen {
            frames: self.written / self.frame,
            written: self.written,
            unacknowledged: self.written - self.acknowledged,
            counted: self.counted,
        };
        self.progress.look(self.now, seen, self.control_heard)
    }

    fn run(&mut self, time: Duration) -> Option<Time> {
        let end = self.now + time;
        while self.now < end {
            if self.step() {
                return Some(self.now);
            }
        }
        None
    }
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_connection_that_swallows_everything_is_given_up_in_time() {
    // Whatever its speed, and however much is written meanwhile.
    for speed in [100_000, 1_000_000, 100_000_000] {
        for frame in [100, 10_000, FRAME] {
            let mut link = Link::new(frame, speed);
            assert_eq!(link.run(s(100)), None, "{speed}, {frame}");
            link.reading = 0;
            let begin = link.now;
            let end = link.run(s(1_000)).unwrap();
            // What the mark covers had to get through the link first, which is looked at now and then.
            let interval = Progress::interval(TIMEOUT);
            let covered = Duration::from_millis(1000 * (2 * FRAME + SENDER_BUFFER) / speed);
            let covered = interval * (covered.as_millis() / interval.as_millis() + 1) as u32;
            assert!(end - begin <= TIMEOUT.mul_f64(1.25) + covered, "{speed}, {frame}: {:?}", end - begin);
        }
    }
}

#[test]
fn a_single_frame_that_is_swallowed_is_noticed_too() {
    let mut link = Link::new(100, 1_000_000);
    (link.frames, link.reading) = (1, 0);
    let end = link.run(s(1_000)).unwrap();
    assert!(end >= TIMEOUT && end <= TIMEOUT.mul_f64(1.25), "{end:?}");
}

#[test]
fn a_connection_whose_network_takes_nothing_is_given_up_in_time() {
    // In the middle of a frame, and behind one.
    for frame in [100, FRAME] {
        let mut link = Link::new(frame, 1_000_000);
        assert_eq!(link.run(s(10)), None);
        link.speed = 0;
        let begin = link.now;
        let end = link.run(s(1_000)).unwrap();
        assert!(end - begin <= TIMEOUT.mul_f64(1.25), "{frame}: {:?}", end - begin);
    }
}

#[test]
fn a_slow_connection_that_moves_is_kept() {
    // A frame takes 17 minutes on the slowest.
    for speed in [1_000, 10_000, 100_000] {
        assert_eq!(Link::new(FRAME, speed).run(s(10_000)), None, "{speed}");
    }
}

#[test]
fn a_connection_with_nothing_to_carry_is_kept() {
    let mut link = Link::new(FRAME, 1_000_000);
    link.frames = 3;
    assert_eq!(link.run(s(1_000)), None);
}

#[test]
fn a_peer_that_is_stopped_keeps_its_connections() {
    let mut link = Link::new(FRAME, 1_000_000);
    assert_eq!(link.run(s(10)), None);
    let speed = link.speed;
    (link.speed, link.reading, link.control) = (0, 0, false);
    assert_eq!(link.run(s(55)), None);
    (link.speed, link.reading, link.control) = (speed, u64::MAX, true);
    assert_eq!(link.run(s(100)), None);
}

#[test]
fn without_control_nothing_is_given_up() {
    let mut link = Link::new(FRAME, 1_000_000);
    assert_eq!(link.run(s(10)), None);
    link.control = false;
    for lost in [None, Some(link.now)] {
        link.control_heard = lost;
        assert_eq!(link.run(s(1_000)), None);
    }
    link.control = true;
    assert_eq!(link.run(s(100)), None);
}

#[test]
fn an_observer_that_was_stopped_gives_nothing_up() {
    let seen = Seen { frames: 1, written: 100, unacknowledged: 0, counted: 0 };
    let mut progress = Progress::new(TIMEOUT, Time::ZERO, seen);
    for hour in 1..8 {
        let now = s(3600 * hour);
        assert!(!progress.look(now, seen, Some(now)));
        assert!(progress.waited() <= TIMEOUT);
    }
}
