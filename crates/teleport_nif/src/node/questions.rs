//! Question the engine asks when it needs to know: where a peer is, and which cookie is shared with it.
//!
//! The process that answers has one message at a time, and fetches what is asked then: so a stranger who says hello under many names
//! fills no mailbox.

use crate::lock::Lock;
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use teleport::NodeName;
use tokio::sync::oneshot;

/// The most questions in one fetch, which runs on a scheduler.
const FETCHED_AT_ONCE: usize = 64;

/// Question is asked about a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Question {
    Addresses,
    Cookie,
    CallBack,
}

/// Those that have not been answered. A clone is the same.
#[derive(Clone, Default)]
pub(crate) struct Questions {
    asked: Arc<Lock<Asked>>,
}

#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) addresses: Open<Vec<SocketAddr>>,
    pub(crate) cookies: Open<Vec<u8>>,
    pub(crate) calls: Open<bool>,
    /// Not fetched yet, each once.
    new: VecDeque<(Question, NodeName)>,
    /// Question `new` holds, to find it in.
    queued: HashSet<(Question, NodeName)>,
    /// The process that answers has been told that there are some.
    told: bool,
}

/// Those that wait for an answer about a peer.
pub(crate) struct Open<T>(HashMap<NodeName, Vec<oneshot::Sender<T>>>);

impl<T> Default for Open<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Clone> Open<T> {
    /// The answer, and whether it has to be asked for.
    fn ask(&mut self, peer: &NodeName) -> (oneshot::Receiver<T>, bool) {
        let (sender, answer) = oneshot::channel();
        let waiting = self.0.entry(peer.clone()).or_default();
        waiting.retain(|other| !other.is_closed());
        waiting.push(sender);
        (answer, waiting.len() == 1)
    }

    fn answer(&mut self, peer: &NodeName, answer: &T) {
        for waiting in self.0.remove(peer).unwrap_or_default() {
            let _ = waiting.send(answer.clone()); // it may have taken too long
        }
    }

    /// Whether somebody still waits; if not it is forgotten.
    fn is_wanted(&mut self, peer: &NodeName) -> bool {
        let wanted = self.0.get(peer).is_some_and(|waiting| waiting.iter().any(|one| !one.is_closed()));
        if !wanted {
            self.0.remove(peer);
        }
        wanted
    }
}

impl Questions {
    /// Gives the addresses to all that have asked.
    pub(crate) fn located(&self, peer: &NodeName, addresses: &Vec<SocketAddr>) {
        self.asked.lock().addresses.answer(peer, addresses);
    }

    /// Gives the cookie to all that have asked.
    pub(crate) fn cookie_is(&self, peer: &NodeName, cookie: &Vec<u8>) {
        self.asked.lock().cookies.answer(peer, cookie);
    }

    /// Tells all that have asked whether the peer has connected to this node.
    pub(crate) fn called_back(&self, peer: &NodeName, has: bool) {
        self.asked.lock().calls.answer(peer, &has);
    }

    /// Some that are new, and whether there are more.
    pub(crate) fn fetch(&self) -> (Vec<(Question, NodeName)>, bool) {
        let mut asked = self.asked.lock();
        let mut fetched = Vec::new();
        for _ in 0..FETCHED_AT_ONCE {
            let Some(question) = asked.new.pop_front() else { break };
            asked.queued.remove(&question);
            if asked.is_wanted(question.0, &question.1) {
                fetched.push(question);
            }
        }
        asked.told = !asked.new.is_empty();
        (fetched, asked.told)
    }

    /// Notes a question. `true` if the process that answers has to be told.
    pub(crate) fn ask<T: Clone>(
        &self,
        what: Question,
        peer: &NodeName,
        open: impl FnOnce(&mut Asked) -> &mut Open<T>,
    ) -> (oneshot::Receiver<T>, bool) {
        let mut asked = self.asked.lock();
        let (answer, is_new) = open(&mut asked).ask(peer);
        if is_new {
            asked.queue((what, peer.clone()));
        }
        let tell = !asked.new.is_empty() && !std::mem::replace(&mut asked.told, true);
        (answer, tell)
    }

    /// The process that answers could not be told.
    pub(crate) fn not_told(&self) {
        self.asked.lock().told = false;
    }

    /// Question is kept of them, be it wanted or not.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let asked = self.asked.lock();
        asked.new.len().max(asked.addresses.0.len() + asked.cookies.0.len())
    }
}

impl Asked {
    fn is_wanted(&mut self, what: Question, peer: &NodeName) -> bool {
        match what {
            Question::Addresses => self.addresses.is_wanted(peer),
            Question::Cookie => self.cookies.is_wanted(peer),
            Question::CallBack => self.calls.is_wanted(peer),
        }
    }

    /// Adds a question that is not there yet. Question nobody waits for any more is forgotten when the queue would grow: so it is at
    /// most twice as long as there are names that somebody waits for.
    fn queue(&mut self, question: (Question, NodeName)) {
        if self.queued.contains(&question) {
            return;
        }
        if self.new.len() == self.new.capacity() {
            let mut new = std::mem::take(&mut self.new);
            new.retain(|(what, peer)| self.is_wanted(*what, peer));
            new.reserve(new.len().max(16));
            self.queued = new.iter().cloned().collect();
            self.new = new;
        }
        self.queued.insert(question.clone());
        self.new.push_back(question);
    }
}
