//! Whether what was written on a connection gets anywhere.
//!
//! The sender sets a *mark*: the frames that it has written, and the bytes up to there. Until the peer's TCP has
//! acknowledged those bytes, every byte that it acknowledges is progress; from then on only the peer's own count of
//! frames is. So a slow link is not given up, and one that takes everything and hands nothing on is noticed, however
//! much more is written to it.
//!
//! Counts come over the control connection. Time counts only while that is heard: a peer that is stopped, or whose
//! control connection is being replaced, says nothing about its other connections.

use crate::Time;
use std::time::Duration;

/// What a connection has achieved so far, as its sender can see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whole frames that the system has taken. To be read before `written`.
    pub frames: u64,
    /// Bytes that the system has taken.
    pub written: u64,
    /// Bytes that the peer's TCP has not acknowledged yet. To be read after `written`.
    pub unacknowledged: u64,
    /// Frames that the peer has counted.
    pub counted: u64,
}

/// Watches one connection for as long as frames are in flight on it.
#[derive(Debug)]
pub struct Progress {
    timeout: Duration,
    mark: Mark,
    acknowledged: u64,
    counted: u64,
    looked: Time,
    stands_still: bool,
    /// How long nothing has got anywhere.
    waited: Duration,
}

/// What has to arrive.
#[derive(Debug)]
struct Mark {
    frames: u64,
    bytes: u64,
}

impl Progress {
    /// Of a connection on which something is in flight. Without progress for `timeout` it is given up.
    pub fn new(timeout: Duration, now: Time, seen: Seen) -> Self {
        Self {
            timeout,
            mark: Mark { frames: seen.frames, bytes: seen.written },
            acknowledged: seen.written.saturating_sub(seen.unacknowledged),
            counted: seen.counted,
            looked: now,
            stands_still: false,
            waited: Duration::ZERO,
        }
    }

    /// How often to [`look`](Progress::look), for a connection to be given up within 1.25 times the timeout.
    pub fn interval(timeout: Duration) -> Duration {
        (timeout / LOOKS).max(Duration::from_millis(1))
    }

    /// Looks again. Says whether the connection stands still and has to be replaced.
    ///
    /// `control_heard` is when the control connection was last heard, if there is one. While the connection
    /// [stands still](Progress::stands_still) the caller sees to it that the peer has something to answer there.
    pub fn look(&mut self, now: Time, seen: Seen, control_heard: Option<Time>) -> bool {
        let before = std::mem::replace(&mut self.looked, now);
        let acknowledged = seen.written.saturating_sub(seen.unacknowledged).max(self.acknowledged);
        let on_its_way = self.acknowledged < self.mark.bytes && acknowledged > self.acknowledged;
        let counted = seen.counted > self.counted;
        (self.acknowledged, self.counted) = (acknowledged, seen.counted);
        // Between two frames there is nothing to wait for, and inside of one it is for the writer to go on.
        let all_is_there = seen.counted >= seen.frames && acknowledged >= seen.written;
        if seen.counted >= self.mark.frames {
            self.mark = Mark { frames: seen.frames, bytes: seen.written };
        }
        self.stands_still = !(on_its_way || counted || all_is_there);
        if !self.stands_still {
            self.waited = Duration::ZERO;
        } else if control_heard.is_some_and(|heard| heard > before) {
            // An observer that was stopped has not seen what came meanwhile.
            self.waited += now.saturating_sub(before).min(self.timeout / LOOKS + Duration::from_nanos(1));
        }
        self.waited >= self.timeout
    }

    /// Whether nothing had got anywhere at the last look.
    pub fn stands_still(&self) -> bool {
        self.stands_still
    }

    /// How long nothing has got anywhere, while the peer could have said so.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

/// Looks in a timeout: the first may see progress that was just made, and before the second nobody has asked the peer.
const LOOKS: u32 = 8;
