//! Credit in bytes.

use crate::wire::pool::{Class, EXPRESS_LIMIT};

/// What a message costs besides its body, in bytes: its share of maps, queues and headers on either side, so that
/// windows bound the memory of empty messages too.
pub const MESSAGE_COST: u64 = 128;

/// The credit that a message with a body of this length takes.
pub(crate) fn cost(body: u64) -> u64 {
    body + MESSAGE_COST
}

/// The class of a message with a body of this length.
pub(crate) fn class_of(body: u64) -> Class {
    if body <= EXPRESS_LIMIT as u64 { Class::Express } else { Class::Bulk }
}

/// Bytes of each class.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Totals {
    pub(crate) express: u64,
    pub(crate) bulk: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, class: Class, bytes: u64) {
        *self.of_mut(class) += bytes;
    }

    pub(crate) fn of(&self, class: Class) -> u64 {
        match class {
            Class::Express => self.express,
            Class::Bulk => self.bulk,
        }
    }

    pub(crate) fn of_mut(&mut self, class: Class) -> &mut u64 {
        match class {
            Class::Express => &mut self.express,
            Class::Bulk => &mut self.bulk,
        }
    }

    /// Whether it is an eighth of either part of a window of that size: its sender may be waiting to hear of it. Nothing is never much.
    pub(crate) fn is_much_of(self, window: u64) -> bool {
        let is_much = |class| self.of(class) >= (part_of(window, class) / 8).max(1);
        is_much(Class::Express) || is_much(Class::Bulk)
    }
}

/// The part of a window of this many bytes that belongs to a class: a quarter to express messages, the rest to bulk.
pub(crate) fn part_of(window: u64, class: Class) -> u64 {
    match class {
        Class::Express => window / 4,
        Class::Bulk => window - window / 4,
    }
}

/// How much of one receiver's memory a sender may fill.
///
/// A quarter of it belongs to express messages and the rest to bulk, so that neither can shut the other out. A message
/// larger than its part enters when no other of its class is inside: it has to be possible to send it at all.
#[derive(Debug, Clone)]
pub struct Window {
    express: Part,
    bulk: Part,
}

#[derive(Debug, Clone)]
struct Part {
    size: u64,
    used: u64,
}

impl Window {
    /// An empty window of this many bytes.
    pub fn new(size: u64) -> Self {
        let part = |class| Part { size: part_of(size, class), used: 0 };
        Self { express: part(Class::Express), bulk: part(Class::Bulk) }
    }

    /// Whether a message of that class and cost fits in now.
    pub fn fits(&self, class: Class, bytes: u64) -> bool {
        let part = self.part(class);
        part.used == 0 || bytes <= part.size.saturating_sub(part.used)
    }

    /// Fills the window, whether or not it fits: ask [`Window::fits`] first.
    pub fn take(&mut self, class: Class, bytes: u64) {
        self.part_mut(class).used += bytes;
    }

    /// Empties it again.
    pub fn give_back(&mut self, class: Class, bytes: u64) {
        let used = &mut self.part_mut(class).used;
        debug_assert!(*used >= bytes, "more credit came back than was taken");
        *used = used.saturating_sub(bytes);
    }

    /// Bytes inside.
    pub fn used(&self) -> u64 {
        self.express.used + self.bulk.used
    }

    /// Bytes of one class inside.
    pub fn used_by(&self, class: Class) -> u64 {
        self.part(class).used
    }

    /// Bytes that are left for one class.
    pub fn free(&self, class: Class) -> u64 {
        let part = self.part(class);
        part.size.saturating_sub(part.used)
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

/// A session's part in what all sends of its node may have under way, or all answers. Dropped with the session, it gives back whatever is
/// left.
///
/// [`Budget::try_take`] that answers `false` puts the session on the list of those to be told (by
/// [`Transfer::budget_freed`](super::Transfer::budget_freed)) when there is room for it. A session that gives back itself
/// looks by itself.
pub trait Budget: Send + Sync {
    /// Takes the bytes if they fit.
    fn try_take(&self, class: Class, bytes: u64) -> bool;
    /// Takes the bytes whether or not they fit.
    fn take(&self, class: Class, bytes: u64);
    /// Gives bytes back.
    fn give_back(&self, class: Class, bytes: u64);
}

/// No cap.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unlimited;

impl Budget for Unlimited {
    fn try_take(&self, _: Class, _: u64) -> bool {
        true
    }

    fn take(&self, _: Class, _: u64) {}

    fn give_back(&self, _: Class, _: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_never_much() {
        for window in [0, 1, 31, 32, u64::MAX] {
            assert!(!Totals::default().is_much_of(window), "{window}");
            let part = part_of(window, Class::Bulk);
            let much = Totals { express: 0, bulk: (part / 8).max(1) };
            assert!(much.is_much_of(window), "{window}");
        }
    }

    #[test]
    fn neither_class_reaches_into_the_other() {
        let mut window = Window::new(800);
        window.take(Class::Bulk, 600);
        assert!(!window.fits(Class::Bulk, 1));
        assert!(window.fits(Class::Express, 200));
        window.take(Class::Express, 200);
        assert!(!window.fits(Class::Express, 1));
        window.give_back(Class::Bulk, 600);
        assert!(!window.fits(Class::Express, 1));
        assert_eq!(window.used(), 200);
    }

    #[test]
    fn what_is_larger_than_the_window_enters_alone() {
        let mut window = Window::new(800);
        assert!(window.fits(Class::Bulk, 5000));
        window.take(Class::Bulk, 5000);
        assert!(!window.fits(Class::Bulk, 1));
        window.give_back(Class::Bulk, 5000);
        window.take(Class::Bulk, 1);
        assert!(!window.fits(Class::Bulk, 5000));
    }
}
