//! What has come over a session for the processes of a host, on its way to it.
//!
//! The order is made while the session is locked; the host is called when it is not. One thread at a time hands over, for
//! all: so nothing overtakes.

use super::{CarriedMessage, Hosting, Inbound, Origin};
use crate::base::lock::{Held, Lock, Rank};
use std::collections::VecDeque;

/// The most that may wait for another thread to hand them over before a reader waits too.
const MOST_WAITING: usize = 1024;

pub(crate) struct Arrivals {
    queue: Lock<VecDeque<Inbound>>,
    /// Held by the thread that hands over.
    turn: Lock<()>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { queue: Lock::new(Rank::Leaf, VecDeque::new()), turn: Lock::new(Rank::Turn, ()) }
    }
}

impl Arrivals {
    /// Called with the session locked.
    pub(crate) fn push(&self, inbound: Inbound) {
        self.queue.lock().push_back(inbound);
    }

    /// Adds a carried message to those before it. Called with the session locked.
    pub(crate) fn push_carried(&self, origin: impl FnOnce() -> Origin, message: CarriedMessage) {
        let mut queue = self.queue.lock();
        match queue.back_mut() {
            // All that is queued here is of the same session.
            Some(Inbound::Carried { messages, .. }) => messages.push(message),
            _ => queue.push_back(Inbound::Carried { origin: origin(), messages: vec![message] }),
        }
    }

    /// Whether something is on its way that no thread hands over.
    pub(crate) fn are_left(&self) -> bool {
        // A thread that is at it looks once more when its turn is over.
        !self.is_empty() && self.turn.try_lock().is_some()
    }

    fn is_empty(&self) -> bool {
        self.queue.lock().is_empty()
    }

    /// Hands everything over, or leaves it to the thread that is at it.
    pub(crate) fn hand_over(&self, hosting: &Hosting) {
        loop {
            match self.turn.try_lock() {
                Some(turn) => self.hand_over_now(hosting, turn),
                None => return,
            }
            // What came at the end of the turn was left to it.
            if self.is_empty() {
                return;
            }
        }
    }

    /// Like `hand_over`, but blocks while more than [`MOST_WAITING`] wait.
    pub(crate) fn hand_over_and_wait(&self, hosting: &Hosting) {
        self.hand_over(hosting);
        if self.queue.lock().len() > MOST_WAITING {
            self.hand_over_all(hosting);
        }
    }

    /// Returns when everything that is there now has been handed over. Never to be called by the host.
    pub(crate) fn hand_over_all(&self, hosting: &Hosting) {
        self.hand_over_now(hosting, self.turn.lock());
        self.hand_over(hosting);
    }

    fn hand_over_now(&self, hosting: &Hosting, _turn: Held<'_, ()>) {
        loop {
            let arrived = std::mem::take(&mut *self.queue.lock());
            if arrived.is_empty() {
                return;
            }
            arrived.into_iter().for_each(|inbound| hosting.take(inbound));
        }
    }
}
