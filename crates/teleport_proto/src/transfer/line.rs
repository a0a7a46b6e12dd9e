//! The lines of those that wait for room: who is next, and who must not pass whom.

use super::{Outgoing, Pair, Ticket, Wish};
use crate::wire::envelope::AccountId;
use crate::wire::pool::Class;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// What a message waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// Other carried messages, to be accepted before it.
    Others,
    /// Its mailbox's window, in that queue.
    Mailbox(Class),
    /// The peer's window or the budget, in that queue. It has its mailbox credit.
    Peer(Class),
}

/// A message that waits.
pub(super) struct Waiter {
    pub(super) message: Outgoing,
    /// 0 if it waits for others: its account is opened when it looks for room.
    pub(super) account: AccountId,
    pub(super) waits_for: For,
}

/// Those who wait for room in one window: a queue for each class, but a pair stays in the queue that it is in.
#[derive(Default)]
pub(super) struct Line {
    /// Cancelled tickets are skipped when they get to the front.
    pub(super) express: VecDeque<Ticket>,
    pub(super) bulk: VecDeque<Ticket>,
    /// Pairs with a message in one of the queues: which, and how many.
    pairs: FxHashMap<Pair, (Class, usize)>,
    /// The first in the bulk queue is an express message, there for its pair's sake, and lacks room. Other express
    /// messages wait until it has gone, or they could take the room for ever.
    pub(super) starving: bool,
}

/// The cancelled tickets that may always stay in a queue.
pub(super) const MOST_CANCELLED: usize = 64;

/// The order in which queues are served: bulk first, for the sake of an express message in it.
pub(super) const QUEUES: [Class; 2] = [Class::Bulk, Class::Express];

impl Line {
    /// The queue that a message has to wait in, if it must not pass yet, whatever room there is.
    pub(super) fn ahead(&mut self, message: Wish<'_>, class: Class) -> Option<Class> {
        if self.is_empty() {
            return None;
        }
        if !message.unordered
            && !self.pairs.is_empty()
            && let Some(&(queue, _)) = self.pairs.get(&message.pair())
        {
            return Some(queue);
        }
        let behind = !self.queue(class).is_empty() || (class == Class::Express && self.starving);
        behind.then_some(class)
    }

    /// There is no room for the first in a queue.
    pub(super) fn blocked(&mut self, queue: Class, class: Class) {
        self.starving |= queue == Class::Bulk && class == Class::Express;
    }

    pub(super) fn enter(&mut self, ticket: Ticket, message: &Outgoing, queue: Class) {
        self.queue(queue).push_back(ticket);
        if !message.unordered {
            self.pairs.entry(message.pair()).or_insert((queue, 0)).1 += 1;
        }
    }

    /// The message goes; its ticket is taken out of the queue, or skipped there, by the caller.
    pub(super) fn leave(&mut self, message: &Outgoing) {
        if message.unordered {
            return;
        }
        let pair = message.pair();
        if let Some((_, count)) = self.pairs.get_mut(&pair) {
            *count -= 1;
            if *count == 0 {
                self.pairs.remove(&pair);
            }
        }
    }

    /// The first in a queue who is still waiting and may be served.
    pub(super) fn front<'a>(
        &mut self,
        queue: Class,
        waiting: &'a FxHashMap<Ticket, Waiter>,
    ) -> Option<(Ticket, &'a Waiter)> {
        if queue == Class::Express && self.starving {
            return None;
        }
        let queue = self.queue(queue);
        while let Some(&ticket) = queue.front() {
            if let Some(waiter) = waiting.get(&ticket) {
                return Some((ticket, waiter));
            }
            queue.pop_front();
        }
        None
    }

    /// Drops cancelled tickets once they are the most: behind a sender that waits on, they would pile up.
    pub(super) fn compact(&mut self, waiting: &FxHashMap<Ticket, Waiter>) {
        for queue in [&mut self.express, &mut self.bulk] {
            if queue.len() > 2 * waiting.len() + MOST_CANCELLED {
                queue.retain(|ticket| waiting.contains_key(ticket));
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.express.is_empty() && self.bulk.is_empty()
    }

    pub(super) fn queue(&mut self, class: Class) -> &mut VecDeque<Ticket> {
        match class {
            Class::Express => &mut self.express,
            Class::Bulk => &mut self.bulk,
        }
    }
}
