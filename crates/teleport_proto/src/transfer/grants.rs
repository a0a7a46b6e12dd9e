//! How much of this side's memory the peer may fill, and how that follows what it makes of it.
//!
//! What is granted is a running total: the peer may have sent as much since the session began, and it is granted more as
//! messages are delivered. So a grant holds, and a window becomes smaller by not being renewed.
//!
//! A session begins with what is guaranteed to each, and with a little more if there is enough for all. A session that needs more says
//! so; then its window doubles, as far as the node's [`Granter`] has room for it.

use super::Violation;
use super::window::{MESSAGE_COST, Unlimited, cost, part_of};
use crate::wire::control::{Need, TransferFrame};
use crate::wire::envelope::Lane;
use crate::wire::pool::{Class, EXPRESS_LIMIT};

/// What every session has of each class whatever the others do, of a window's part of that size: the largest express
/// message, and nothing of bulk.
pub(crate) fn guaranteed(class: Class, part: u64) -> u64 {
    match class {
        Class::Express => part.min(EXPRESS_LIMIT as u64 + MESSAGE_COST),
        Class::Bulk => 0,
    }
}

/// What a session should have of each class while it is at rest, of a window's part of that size. More than that is given up
/// by a sender that has no use for it.
///
/// A thirty-second: of 32 MiB that is 256 KiB of small messages, and 768 KiB of large ones.
pub(crate) fn at_rest(class: Class, part: u64) -> u64 {
    guaranteed(class, part).max(part / 32)
}

/// Where a session's grants come from: what all sessions of a node share.
pub trait Granter: Send + Sync {
    /// What is granted to a session that is at rest, in bytes, where it is more than others are: for those who know no others.
    fn at_rest(&self) -> u64 {
        0
    }
    /// Changes what a session has granted beyond what is guaranteed. Gives how much more that is: all that is needed or
    /// nothing, and then as much of what is wanted as there is.
    ///
    /// A session that does not get what it needs is told, by [`Transfer::grants_freed`](super::Transfer::grants_freed), when it
    /// may have it, and then renews, though it may be that it needs nothing any more.
    fn renew(&self, lane: Lane, class: Class, renewal: Renewal) -> u64;
}

impl Granter for Unlimited {
    fn at_rest(&self) -> u64 {
        u64::MAX
    }

    fn renew(&self, _: Lane, _: Class, renewal: Renewal) -> u64 {
        renewal.wanted
    }
}

/// A change of what a session has granted, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Renewal {
    /// What it has no more.
    pub returned: u64,
    /// What it costs besides, whether or not there is room.
    pub charged: u64,
    /// What it cannot do without.
    pub needed: u64,
    /// What it would make use of; at least what is needed.
    pub wanted: u64,
    /// It is not in want of it: others, who are, come first.
    pub spare: bool,
}

/// What holds a part of a window for small messages besides those that are not delivered, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Besides {
    /// Answers that the peer has not taken, and what lies in a queue of the host's.
    pub(crate) untaken: u64,
    /// What delivered messages have left behind.
    pub(crate) left: u64,
}

/// The grants of one lane.
#[derive(Debug)]
pub(crate) struct Grants {
    lane: Lane,
    express: Part,
    bulk: Part,
    /// Small messages that were delivered to a queue of the host's, and those of them that it has taken: bytes since the session began.
    queued: u64,
    taken: u64,
    say: bool,
    /// They have to be renewed, though nothing has been delivered.
    due: bool,
}

/// Of one class, in bytes; totals are since the session began.
#[derive(Debug)]
struct Part {
    class: Class,
    guaranteed: u64,
    standing: u64,
    most: u64,
    /// What the peer is to have granted and not delivered.
    window: u64,
    granted: u64,
    received: u64,
    delivered: u64,
    waived: u64,
    needed: u64,
    wanted: u64,
    /// What the granter knows of.
    booked: u64,
    /// What was needed last was not to be had: the granter waits to hear of it again.
    refused: bool,
    /// What was needed last has to wait until the peer takes something.
    held_back: bool,
    /// Delivered since the peer was last told.
    unsaid: u64,
}

impl Part {
    fn new(class: Class, window: u64, granter: &dyn Granter) -> Self {
        let most = part_of(window, class);
        let guaranteed = guaranteed(class, most);
        let standing = at_rest(class, most).max(granter.at_rest().min(most));
        Self {
            class,
            guaranteed,
            standing,
            most,
            window: standing,
            granted: guaranteed,
            received: 0,
            delivered: 0,
            waived: 0,
            needed: 0,
            wanted: 0,
            booked: 0,
            refused: false,
            held_back: false,
            unsaid: 0,
        }
    }

    /// Granted and not delivered.
    fn outstanding(&self) -> u64 {
        self.granted - self.delivered - self.waived
    }

    /// Granted, and has not come.
    fn left(&self) -> u64 {
        self.granted - self.received - self.waived
    }

    fn heard(&mut self, Need { needed, wanted, waived }: Need) -> Result<(), Violation> {
        if waived > self.granted - self.received {
            return Err(Violation::Waived { bytes: waived });
        }
        let given_up = waived.saturating_sub(self.waived);
        self.waived += given_up;
        self.window = self.window.saturating_sub(given_up).max(self.guaranteed);
        if wanted > self.granted {
            let wants = wanted - self.delivered - self.waived;
            self.window =
                if wanted == self.wanted { wants } else { self.window.saturating_mul(2).max(wants) };
            self.window = self.window.min(self.most);
        } else if wanted > 0 && wanted != self.wanted {
            // It has been granted meanwhile, and yet had to wait: the window is too small for the way there and back.
            self.window = self.window.saturating_mul(2).min(self.most);
        }
        (self.needed, self.wanted) = (needed, wanted);
        Ok(())
    }

    /// Grants what there is. `largest`: of bodies.
    fn renew(
        &mut self,
        lane: Lane,
        Besides { untaken, left }: Besides,
        largest: u64,
        granter: &dyn Granter,
    ) -> bool {
        let held = self.outstanding() + untaken + left;
        let beyond = held.saturating_sub(self.guaranteed);
        let (returned, charged) = (self.booked.saturating_sub(beyond), beyond.saturating_sub(self.booked));
        // Nobody needs more than one message.
        let mut needed = self.needed.saturating_sub(self.granted).min(cost(largest));
        self.held_back = needed > 0 && untaken > self.guaranteed;
        if self.held_back {
            needed = 0; // not before it takes something
        }
        let wanted = self.window.saturating_sub(held).max(needed);
        let free = self.guaranteed.saturating_sub(held).min(wanted);
        let spare = needed == 0 && self.window <= self.standing;
        let (needed, wanted) = (needed.saturating_sub(free), wanted - free);
        let mut got = 0;
        if returned + charged + wanted > 0 || std::mem::take(&mut self.refused) {
            got = granter.renew(lane, self.class, Renewal { returned, charged, needed, wanted, spare });
        }
        self.refused = got < needed;
        self.booked = beyond + got;
        self.granted += free + got;
        if got < wanted && !spare {
            // Others are in want, too: what is not renewed goes to them.
            self.window = (held + free + got).max(self.guaranteed).min(self.most);
        }
        free + got > 0
    }

    /// Whether so much has been delivered that the peer may be waiting to hear of it.
    fn is_much_unsaid(&self) -> bool {
        self.unsaid > 0 && self.unsaid >= (self.window / 8).max(self.guaranteed / 2)
    }
}

impl Grants {
    /// Those of a session that has just begun.
    pub(crate) fn new(lane: Lane, window: u64, granter: &dyn Granter) -> Self {
        let part = |class| Part::new(class, window, granter);
        let (express, bulk) = (part(Class::Express), part(Class::Bulk));
        Self { lane, express, bulk, queued: 0, taken: 0, say: false, due: true }
    }

    /// A message comes, or begins to.
    pub(crate) fn receive(&mut self, class: Class, bytes: u64) -> Result<(), Violation> {
        let undelivered = self.undelivered();
        let part = self.part_mut(class);
        if bytes > part.left() {
            return Err(Violation::Credit { used: undelivered, bytes });
        }
        part.received += bytes;
        Ok(())
    }

    /// It has been delivered.
    pub(crate) fn delivered(&mut self, class: Class, bytes: u64) {
        let part = self.part_mut(class);
        debug_assert!(bytes <= part.received - part.delivered, "more is delivered than came");
        part.delivered = (part.delivered + bytes).min(part.received);
        part.unsaid += bytes;
    }

    /// What the peer says of its needs, and what it has given up.
    pub(crate) fn heard(&mut self, express: Need, bulk: Need) -> Result<(), Violation> {
        self.due = true;
        self.express.heard(express)?;
        self.bulk.heard(bulk)
    }

    /// Small messages have been delivered to a queue of the host's: there is room for others when it has taken them.
    pub(crate) fn queued(&mut self, bytes: u64) {
        self.queued += bytes;
        self.express.unsaid = self.express.unsaid.saturating_sub(bytes);
    }

    /// The host has taken some out of its queue: there is room for others.
    pub(crate) fn taken_out(&mut self, bytes: u64) {
        self.taken += bytes;
        self.express.unsaid += bytes;
        self.taken();
    }

    /// Bytes in the host's queue.
    pub(crate) fn kept(&self) -> u64 {
        self.queued.saturating_sub(self.taken)
    }

    /// There is room again for what was needed.
    pub(crate) fn freed(&mut self) {
        self.due = true;
        (self.express.refused, self.bulk.refused) = (true, true); // whatever it needs by now
    }

    /// The peer has taken something, or the host.
    pub(crate) fn taken(&mut self) {
        self.due |= self.express.held_back || self.bulk.held_back;
    }

    /// Less is left behind.
    pub(crate) fn cleared(&mut self) {
        self.due |= self.express.refused;
    }

    /// Whether the peer waits for it.
    pub(crate) fn is_due(&self) -> bool {
        self.due || self.say || self.express.is_much_unsaid() || self.bulk.is_much_unsaid()
    }

    /// The peer may not have heard anything.
    pub(crate) fn say_again(&mut self) {
        self.say = true;
    }

    /// Renews what there is to renew. What the peer has to be told. `largest`: the largest body.
    pub(crate) fn take_unsaid(
        &mut self,
        besides: Besides,
        largest: u64,
        granter: &dyn Granter,
    ) -> Option<TransferFrame> {
        self.due = false;
        self.express.unsaid = 0;
        self.bulk.unsaid = 0;
        let kept = self.kept();
        let besides = Besides { untaken: besides.untaken + kept, ..besides };
        self.say |= self.express.renew(self.lane, besides, EXPRESS_LIMIT as u64, granter);
        self.say |= self.bulk.renew(self.lane, Besides::default(), largest, granter);
        std::mem::take(&mut self.say).then(|| TransferFrame::Granted {
            lane: self.lane,
            express: self.express.granted,
            bulk: self.bulk.granted,
        })
    }

    /// Bytes received, or being received, and not delivered.
    pub(crate) fn undelivered(&self) -> u64 {
        let undelivered = |part: &Part| part.received - part.delivered;
        undelivered(&self.express) + undelivered(&self.bulk)
    }

    /// Bytes granted and not delivered.
    pub(crate) fn outstanding(&self) -> u64 {
        self.express.outstanding() + self.bulk.outstanding()
    }

    /// Those of express messages.
    pub(crate) fn express_outstanding(&self) -> u64 {
        self.express.outstanding()
    }

    /// Bytes of express messages that may come.
    pub(crate) fn expected(&self) -> u64 {
        self.express.left()
    }

    fn part_mut(&mut self, class: Class) -> &mut Part {
        match class {
            Class::Express => &mut self.express,
            Class::Bulk => &mut self.bulk,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in a test it is a failure with a place")]
mod tests {
    use super::*;

    /// Has room for whatever is wanted, and gives nobody more at rest than others.
    struct Roomy;

    impl Granter for Roomy {
        fn renew(&self, _: Lane, _: Class, renewal: Renewal) -> u64 {
            renewal.wanted
        }
    }

    /// A sender runs out of its window, and what it says of that crosses the next grant.
    #[test]
    fn a_window_grows_though_the_grant_is_on_its_way() {
        const WINDOW: u64 = 32 << 20;
        let at_rest = at_rest(Class::Bulk, part_of(WINDOW, Class::Bulk));
        let mut grants = Grants::new(Lane::Ordinary, WINDOW, &Roomy);
        let mut waits = |before: u64| {
            let _ = grants.take_unsaid(Besides::default(), 1 << 20, &Roomy); // nothing once the window is as large as can be
            let bytes = grants.bulk.granted - grants.bulk.received;
            assert_eq!(grants.bulk.outstanding(), before);
            grants.receive(Class::Bulk, bytes).unwrap();
            grants.delivered(Class::Bulk, bytes);
            let needed = grants.bulk.granted + 1;
            grants.take_unsaid(Besides::default(), 1 << 20, &Roomy).unwrap();
            grants.heard(Need::default(), Need { needed, wanted: needed, waived: 0 }).unwrap();
            // It is said again when the control connection was lost.
            grants.heard(Need::default(), Need { needed, wanted: needed, waived: 0 }).unwrap();
        };
        for times in 0..5 {
            waits(at_rest << times);
        }
        waits(part_of(WINDOW, Class::Bulk));
        waits(part_of(WINDOW, Class::Bulk));
    }

    /// What lies in the host's queue is a part of the window, and is granted anew when the host has taken it.
    #[test]
    fn what_the_host_has_not_taken_is_not_granted_again() {
        const WINDOW: u64 = 32 << 20;
        let window = at_rest(Class::Express, part_of(WINDOW, Class::Express));
        let mut grants = Grants::new(Lane::Ordinary, WINDOW, &Roomy);
        let renew = |grants: &mut Grants| {
            let _ = grants.take_unsaid(Besides::default(), 1 << 20, &Roomy);
            grants.expected()
        };
        assert_eq!(renew(&mut grants), window);
        grants.receive(Class::Express, window).unwrap();
        grants.delivered(Class::Express, window);
        grants.queued(window);
        assert!(!grants.is_due(), "there is nothing to say");
        assert_eq!(renew(&mut grants), 0);
        // The peer waits for room for one more.
        let needed = window + 1000;
        grants.heard(Need { needed, wanted: needed, waived: 0 }, Need::default()).unwrap();
        let more = renew(&mut grants);
        assert!(more <= window, "the window may have doubled, and no more: {more}");
        grants.receive(Class::Express, more).unwrap();
        grants.delivered(Class::Express, more);
        grants.queued(more);
        assert_eq!(renew(&mut grants), 0);
        grants.taken_out(window);
        assert!(grants.is_due());
        assert_eq!(renew(&mut grants), window);
    }
}
