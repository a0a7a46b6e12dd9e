//! Carried messages that are not even in a line for room yet, because one of them goes behind all others.

use super::Ticket;
use super::Wish;
use std::collections::VecDeque;

/// Keeps the order in which carried messages were offered around those that go behind all: such a one is in no line for room
/// together with any other.
#[derive(Default)]
pub(super) struct Barriers {
    /// Carried messages in a line.
    in_line: usize,
    /// The only one in a line goes behind all.
    closed: bool,
    /// Those that wait for the lines, in the order in which they were offered.
    held: VecDeque<Ticket>,
    #[cfg(feature = "planted-faults")]
    pub(super) ignored: bool,
}

impl Barriers {
    /// Whether a message on offer has to wait for others to be accepted, whatever room there is.
    pub(super) fn holds_back(&self, message: Wish<'_>) -> bool {
        #[cfg(feature = "planted-faults")]
        if self.ignored {
            return false;
        }
        message.is_in_order() && (!self.held.is_empty() || self.keeps(message))
    }

    /// Whether what is in a line keeps it.
    fn keeps(&self, message: Wish<'_>) -> bool {
        self.closed || message.behind_all && self.in_line > 0
    }

    pub(super) fn hold(&mut self, ticket: Ticket) {
        self.held.push_back(ticket);
    }

    /// A message is in a line.
    pub(super) fn enter(&mut self, message: Wish<'_>) {
        if message.is_in_order() {
            self.in_line += 1;
            self.closed |= message.behind_all;
        }
    }

    /// It is in none any more: it is accepted, or cancelled.
    pub(super) fn leave(&mut self, message: Wish<'_>) {
        if message.is_in_order() {
            self.in_line -= 1; // it has entered
            self.closed &= self.in_line > 0;
        }
    }

    /// The first of those held that may try for room now. `wish` knows those that still wait.
    pub(super) fn next<'a>(&mut self, wish: impl Fn(Ticket) -> Option<Wish<'a>>) -> Option<Ticket> {
        while let Some(&ticket) = self.held.front() {
            let Some(message) = wish(ticket) else {
                self.held.pop_front(); // cancelled
                continue;
            };
            return if self.keeps(message) { None } else { self.held.pop_front() };
        }
        None
    }
}
