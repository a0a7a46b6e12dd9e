//! What the engine asks when it needs to know: where a peer is, and which cookie is shared with it.
//!
//! The process that answers has one message at a time, and fetches what is asked then: so a stranger who says hello under many names
//! fills no mailbox.

use crate::atoms;
use rustler::types::atom::Atom;
use rustler::{LocalPid, OwnedEnv};
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use teleport::{Asking, Cookies, NodeName, Resolver, Resolving};
use tokio::sync::oneshot;

/// So many are looked at in one fetch, which runs on a scheduler.
const FETCHED_AT_ONCE: usize = 64;

/// What is asked about a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Addresses,
    Cookie,
}

/// Those that have not been answered. A clone is the same.
#[derive(Clone, Default)]
pub(crate) struct Questions {
    asked: Arc<Mutex<Asked>>,
}

#[derive(Default)]
struct Asked {
    addresses: Open<Vec<SocketAddr>>,
    cookies: Open<Vec<u8>>,
    /// Not fetched yet, each once.
    new: VecDeque<(What, NodeName)>,
    /// The same.
    queued: HashSet<(What, NodeName)>,
    /// The process that answers has been told that there are some.
    told: bool,
}

/// Who waits for an answer about a peer.
struct Open<T>(HashMap<NodeName, Vec<oneshot::Sender<T>>>);

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
    /// The answer: to all who have asked.
    pub(crate) fn located(&self, peer: &NodeName, addresses: &Vec<SocketAddr>) {
        self.lock().addresses.answer(peer, addresses);
    }

    /// The same, of a cookie.
    pub(crate) fn cookie_is(&self, peer: &NodeName, cookie: &Vec<u8>) {
        self.lock().cookies.answer(peer, cookie);
    }

    /// Some that are new, and whether there are more.
    pub(crate) fn fetch(&self) -> (Vec<(Atom, NodeName)>, bool) {
        let mut asked = self.lock();
        let mut fetched = Vec::new();
        for _ in 0..FETCHED_AT_ONCE {
            let Some(question) = asked.new.pop_front() else { break };
            asked.queued.remove(&question);
            let (what, peer) = question;
            if asked.is_wanted(what, &peer) {
                let what = if what == What::Cookie { atoms::cookie() } else { atoms::addresses() };
                fetched.push((what, peer));
            }
        }
        asked.told = !asked.new.is_empty();
        (fetched, asked.told)
    }

    /// Notes a question. `true` if the process that answers has to be told.
    fn ask<T: Clone>(
        &self,
        what: What,
        peer: &NodeName,
        open: impl FnOnce(&mut Asked) -> &mut Open<T>,
    ) -> (oneshot::Receiver<T>, bool) {
        let mut asked = self.lock();
        let (answer, is_new) = open(&mut asked).ask(peer);
        if is_new {
            asked.queue((what, peer.clone()));
        }
        let tell = !asked.new.is_empty() && !std::mem::replace(&mut asked.told, true);
        (answer, tell)
    }

    fn not_told(&self) {
        self.lock().told = false;
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    fn is_wanted(&mut self, what: What, peer: &NodeName) -> bool {
        match what {
            What::Addresses => self.addresses.is_wanted(peer),
            What::Cookie => self.cookies.is_wanted(peer),
        }
    }

    /// Adds a question that is not there yet. What nobody waits for any more is forgotten when the queue would grow: so it is at
    /// most twice as long as there are names that somebody waits for.
    fn queue(&mut self, question: (What, NodeName)) {
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

/// Asks, anew each time: a peer that was restarted listens elsewhere, and a cookie may have been changed.
#[derive(Clone)]
pub(crate) struct Ask {
    /// The process that answers.
    pub(crate) answers: LocalPid,
    pub(crate) questions: Questions,
}

impl Ask {
    /// `None` if there is nobody to answer.
    async fn ask<T: Clone>(
        &self,
        what: What,
        peer: &NodeName,
        open: impl FnOnce(&mut Asked) -> &mut Open<T>,
    ) -> Option<T> {
        let (answer, tell) = self.questions.ask(what, peer, open);
        if tell && OwnedEnv::new().send_and_clear(&self.answers, |_| atoms::teleport_questions()).is_err() {
            self.questions.not_told();
            return None;
        }
        answer.await.ok()
    }
}

impl Resolver for Ask {
    fn resolve<'a>(&'a self, peer: &'a NodeName) -> Resolving<'a> {
        Box::pin(async {
            let asked = self.ask(What::Addresses, peer, |asked| &mut asked.addresses);
            asked.await.unwrap_or_default()
        })
    }
}

impl Cookies for Ask {
    fn cookie<'a>(&'a self, peer: &'a NodeName) -> Asking<'a> {
        Box::pin(self.ask(What::Cookie, peer, |asked| &mut asked.cookies))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> NodeName {
        NodeName::new(&format!("peer{number}@127.0.0.1")).expect("a name")
    }

    #[test]
    fn who_answers_is_told_once_and_asked_once_for_all_who_wait() {
        let questions = Questions::default();
        let ask = |number| questions.ask(What::Cookie, &name(number), |asked| &mut asked.cookies);
        let ((mut first, tell), (mut second, again)) = (ask(1), ask(1));
        assert!(tell && !again);
        let (fetched, more) = (questions.lock().new.len(), questions.lock().told);
        assert_eq!((fetched, more), (1, true));
        questions.cookie_is(&name(1), &b"cookie".to_vec());
        assert_eq!(first.try_recv().as_deref(), Ok(&b"cookie"[..]));
        assert_eq!(second.try_recv().as_deref(), Ok(&b"cookie"[..]));
    }

    #[test]
    fn what_is_asked_again_and_again_is_queued_once() {
        let questions = Questions::default();
        let ask = || questions.ask(What::Cookie, &name(1), |asked| &mut asked.cookies);
        (0..1000).for_each(|_| drop(ask()));
        let _waiting = ask();
        assert_eq!(questions.lock().new.len(), 1);
        assert_eq!(questions.fetch().0.len(), 1);
        (0..1000).for_each(|_| drop(ask()));
        assert_eq!(questions.lock().new.len(), 0, "it has been fetched, and is waited for");
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_forgotten() {
        let questions = Questions::default();
        for number in 0..100_000 {
            drop(questions.ask(What::Cookie, &name(number), |asked| &mut asked.cookies));
        }
        let asked = questions.lock();
        assert!(asked.new.len() < 100 && asked.cookies.0.len() < 100, "{}", asked.new.len());
    }
}
