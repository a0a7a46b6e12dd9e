//! What this side may send of one lane: what the peer has granted, and what has been made of it.
//!
//! The peer grants a running total, so a grant is never taken back: this side gives up what it has no use for. See
//! [`Grants`](super::grants::Grants) for the other side of it.

use super::grants::{at_rest, guaranteed};
use super::window::{Window, part_of};
use crate::wire::control::{Need, TransferFrame};
use crate::wire::envelope::Lane;
use crate::wire::pool::Class;

/// The room for the messages of one lane: a window of this node's own choice, and what the peer grants within it.
#[derive(Debug)]
pub(crate) struct Allowance {
    lane: Lane,
    window: Window,
    express: Part,
    bulk: Part,
    /// The peer has to be told of needs, or of what is given up.
    say: bool,
}

/// Of one class, in bytes since the session began.
#[derive(Debug)]
struct Part {
    granted: u64,
    entered: u64,
    waived: u64,
    /// What has to be granted in all for the message that waits, and for all that do; of no meaning once it is.
    needed: u64,
    wanted: u64,
    /// The most that was under way since the last rest.
    peak: u64,
    /// What is kept at rest.
    at_rest: u64,
    /// The most that has been asked for to be under way since the last rest, as [`Allowance::want`] does.
    asked_for: u64,
}

impl Part {
    fn left(&self) -> u64 {
        self.granted - self.entered - self.waived
    }

    fn need(&self) -> Need {
        let open = |total: u64| if total > self.granted { total } else { 0 };
        Need { needed: open(self.needed), wanted: open(self.wanted), waived: self.waived }
    }
}

impl Allowance {
    /// Nothing is under way, and what the peer guarantees is granted.
    pub(crate) fn new(lane: Lane, window: u64) -> Self {
        let part = |class| {
            let part = part_of(window, class);
            let (granted, at_rest) = (guaranteed(class, part), at_rest(class, part));
            Part { granted, entered: 0, waived: 0, needed: 0, wanted: 0, peak: 0, at_rest, asked_for: 0 }
        };
        let (express, bulk) = (part(Class::Express), part(Class::Bulk));
        Self { lane, window: Window::new(window), express, bulk, say: false }
    }

    /// Whether there is room for a message.
    pub(crate) fn fits(&self, class: Class, bytes: u64) -> bool {
        self.window.fits(class, bytes) && bytes <= self.part(class).left()
    }

    /// How many bytes of a class may be under way, as far as the peer has granted that.
    pub(crate) fn reach(&self, class: Class) -> u64 {
        self.window.used_by(class) + self.part(class).left()
    }

    /// It would be of use if so many might be.
    pub(crate) fn want(&mut self, class: Class, reach: u64) {
        let more = reach.saturating_sub(self.reach(class));
        let part = self.part_mut(class);
        // Where it is not to be had, to ask again helps nobody.
        if more > 0 && reach > part.asked_for {
            part.asked_for = reach;
            part.wanted = part.wanted.max(part.granted.saturating_add(more));
            self.say = true;
        }
    }

    /// Takes room for the first message that waits, of this many bytes that wait in all. If only a grant is missing, the peer will
    /// be told.
    pub(crate) fn try_take(&mut self, class: Class, bytes: u64, waiting: u64) -> bool {
        if !self.window.fits(class, bytes) {
            return false;
        }
        let used = self.window.used_by(class) + bytes;
        let part = self.part_mut(class);
        let before = part.entered + part.waived;
        if bytes > part.left() {
            let needed = before.saturating_add(bytes);
            self.say |= needed != part.needed;
            let part = self.part_mut(class);
            (part.needed, part.wanted) = (needed, before.saturating_add(waiting.max(bytes)));
            return false;
        }
        part.entered += bytes;
        part.peak = part.peak.max(used);
        self.window.take(class, bytes);
        true
    }

    /// A message has been delivered.
    pub(crate) fn give_back(&mut self, class: Class, bytes: u64) {
        self.window.give_back(class, bytes);
    }

    /// The peer has granted so much in all.
    pub(crate) fn granted(&mut self, express: u64, bulk: u64) {
        self.express.granted = express.max(self.express.granted);
        self.bulk.granted = bulk.max(self.bulk.granted);
    }

    /// Gives up what was of no use since the last time: twice what was is kept, and of small messages four times, since a mailbox makes
    /// use of half of it at the most. `true` if there is more to give up next time.
    ///
    /// What a message is waiting for is of use: without it the message would need as much more again, and never be granted enough.
    pub(crate) fn rest(&mut self) -> bool {
        let mut more = false;
        for class in [Class::Express, Class::Bulk] {
            let used = self.window.used_by(class);
            let part = self.part_mut(class);
            let times = if class == Class::Express { 4 } else { 2 };
            let keep = part.at_rest.max(part.peak.saturating_mul(times));
            part.asked_for = 0;
            part.peak = used;
            let waits = part.needed > part.granted;
            let excess = if waits { 0 } else { (used + part.left()).saturating_sub(keep).min(part.left()) };
            part.waived += excess;
            more |= used + part.left() > part.at_rest;
            self.say |= excess > 0;
        }
        more
    }

    /// Whether the peer has to be told something.
    pub(crate) fn is_due(&self) -> bool {
        self.say
    }

    /// The peer may not have heard anything.
    pub(crate) fn say_again(&mut self) {
        self.say = [&self.express, &self.bulk].into_iter().any(|part| part.need() != Need::default());
    }

    /// What the peer has to be told.
    pub(crate) fn take_unsaid(&mut self) -> Option<TransferFrame> {
        let (lane, express, bulk) = (self.lane, self.express.need(), self.bulk.need());
        std::mem::take(&mut self.say).then_some(TransferFrame::Needed { lane, express, bulk })
    }

    fn part(&self, class: Class) -> &Part {
        match class {
            Class::Express => &self.express,
            Class::Bulk => &self.bulk,
        }
    }

    fn part_mut(&mut self, class: Class) -> &mut Part {
        match class {
            Class::Express => &mut self.express,
            Class::Bulk => &mut self.bulk,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(allowance: &mut Allowance) {
        for _ in 0..3 {
            allowance.rest();
        }
    }

    #[test]
    fn what_a_message_waits_for_is_not_given_up_meanwhile() {
        let mut allowance = Allowance::new(Lane::Ordinary, 1 << 20);
        allowance.granted(0, 100_000);
        assert!(!allowance.try_take(Class::Bulk, 300_000, 300_000));
        let Some(TransferFrame::Needed { bulk, .. }) = allowance.take_unsaid() else {
            panic!("nothing is needed")
        };
        rest(&mut allowance);
        allowance.granted(0, bulk.needed);
        assert!(allowance.try_take(Class::Bulk, 300_000, 300_000));
        allowance.give_back(Class::Bulk, 300_000);
        allowance.granted(0, bulk.needed + 400_000);
        rest(&mut allowance);
        assert!(!allowance.try_take(Class::Bulk, 300_000, 300_000), "what nothing waits for is given up");
    }
}
