//! Accepted messages that the peer has not granted room for yet.

use super::allowance::Allowance;
use super::charge::Charge;
use super::window::Totals;
use crate::wire::envelope::{Envelope, Lane, Seq};
use crate::wire::pool::Class;
use std::collections::VecDeque;
use teleport_etf::Segments;

/// A small message that waits.
pub(crate) struct Gated {
    pub(crate) envelope: Envelope,
    /// It is in nobody's way.
    pub(crate) unordered: bool,
    pub(crate) body: Segments,
    pub(crate) charge: Charge,
}

/// The messages of a lane that wait for room at the peer. They take turns, in the order of their numbers. Those without credit have
/// a window of their own: so the receiver needs no more memory for them, and the first of them always has room.
pub(crate) struct Gate {
    pub(crate) allowance: Allowance,
    express: VecDeque<Gated>,
    bulk: VecDeque<(u64, Seq)>,
    /// What they cost.
    waiting: Totals,
}

impl Gate {
    pub(crate) fn new(lane: Lane, window: u64) -> Self {
        let (express, bulk, waiting) = Default::default();
        Self { allowance: Allowance::new(lane, window), express, bulk, waiting }
    }

    /// Whether a message that costs so much may go at once.
    pub(crate) fn passes(&mut self, class: Class, bytes: u64) -> bool {
        let is_first = match class {
            Class::Express => self.express.is_empty(),
            Class::Bulk => self.bulk.is_empty(),
        };
        is_first && self.allowance.try_take(class, bytes, bytes)
    }

    /// Whether it would, without taking anything.
    pub(crate) fn is_open(&self, class: Class, bytes: u64) -> bool {
        let is_first = match class {
            Class::Express => self.express.is_empty(),
            Class::Bulk => self.bulk.is_empty(),
        };
        is_first && self.allowance.fits(class, bytes)
    }

    pub(crate) fn hold_small(&mut self, message: Gated) {
        self.waiting.add(Class::Express, message.charge.bytes);
        self.express.push_back(message);
    }

    pub(crate) fn hold_large(&mut self, bytes: u64, seq: Seq) {
        self.waiting.add(Class::Bulk, bytes);
        self.bulk.push_back((bytes, seq));
    }

    /// The next small message, if there is room for it.
    pub(crate) fn next_small(&mut self) -> Option<Gated> {
        let bytes = self.express.front()?.charge.bytes;
        if self.take(Class::Express, bytes) { self.express.pop_front() } else { None }
    }

    /// The next large message, if there is room for it.
    pub(crate) fn next_large(&mut self) -> Option<Seq> {
        let &(bytes, seq) = self.bulk.front()?;
        let has_room = self.take(Class::Bulk, bytes);
        has_room.then(|| {
            self.bulk.pop_front();
            seq
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.express.len() + self.bulk.len()
    }

    fn take(&mut self, class: Class, bytes: u64) -> bool {
        let has_room = self.allowance.try_take(class, bytes, self.waiting.of(class));
        if has_room {
            *self.waiting.of_mut(class) -= bytes;
        }
        has_room
    }
}
