//! The sessions by peer, for those who send; and who waits for one.

use crate::ConnectError;
use crate::base::lock::{Lock, SharedLock, assert_may_call_out};
use crate::session::Session;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use teleport_proto::NodeName;
use tokio::sync::oneshot;

/// Waits for a session, or the reason why there is none.
pub(crate) type SessionWait = oneshot::Receiver<Result<Arc<Session>, ConnectError>>;

#[derive(Default)]
pub(crate) struct Peers {
    table: SharedLock<FxHashMap<NodeName, Peer>>,
    /// Peers that a session is wanted with, for the directory to look at; and whether no back-off is to be waited for.
    wanted: Lock<FxHashMap<NodeName, bool>>,
}

enum Peer {
    Up(Arc<Session>),
    Awaited(Awaited),
}

struct Awaited {
    since: Instant,
    waiting: Waiting,
}

/// Those who waited for a session. There may be very many, so they are told when no lock is held.
#[derive(Default)]
#[must_use = "they wait to be told"]
pub(crate) struct Waiting(Vec<oneshot::Sender<Result<Arc<Session>, ConnectError>>>);

impl Waiting {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn tell(self, outcome: &Result<Arc<Session>, ConnectError>) {
        assert_may_call_out();
        self.0.into_iter().for_each(|waiting| drop(waiting.send(outcome.clone()))); // it may have given up
    }
}

impl Peers {
    /// The session with a peer, if there is one.
    pub(crate) fn session(&self, peer: &NodeName) -> Option<Arc<Session>> {
        match self.table.read().get(peer)? {
            Peer::Up(session) => Some(session.clone()),
            Peer::Awaited(_) => None,
        }
    }

    /// All of them.
    pub(crate) fn sessions(&self) -> Vec<Arc<Session>> {
        let table = self.table.read();
        let up = |peer: &Peer| match peer {
            Peer::Up(session) => Some(session.clone()),
            Peer::Awaited(_) => None,
        };
        table.values().filter_map(up).collect()
    }

    /// Notes that a session is wanted. `false` if the directory has yet to look at what was wanted before.
    pub(crate) fn want(&self, peer: &NodeName, at_once: bool) -> bool {
        let mut wanted = self.wanted.lock();
        let first = wanted.is_empty();
        match wanted.get_mut(peer) {
            Some(before) => *before |= at_once,
            None => drop(wanted.insert(peer.clone(), at_once)),
        }
        first
    }

    /// Those that were wanted since the last call.
    pub(crate) fn take_wanted(&self) -> FxHashMap<NodeName, bool> {
        std::mem::take(&mut *self.wanted.lock())
    }

    /// The session if there is one by now, or a place in the queue for it.
    pub(crate) fn wait_for(&self, peer: &NodeName) -> Result<Arc<Session>, SessionWait> {
        let mut table = self.table.write();
        let entry = table
            .entry(peer.clone())
            .or_insert_with(|| Peer::Awaited(Awaited { since: Instant::now(), waiting: Waiting::default() }));
        match entry {
            Peer::Up(session) => Ok(session.clone()),
            Peer::Awaited(Awaited { waiting: Waiting(waiting), .. }) => {
                let (sender, receiver) = oneshot::channel();
                make_room(waiting, |other| !other.is_closed());
                waiting.push(sender);
                Err(receiver)
            }
        }
    }

    /// There is a session. Returns who waited for it.
    pub(crate) fn up(&self, session: &Arc<Session>) -> Waiting {
        let before = self.table.write().insert(session.peer.clone(), Peer::Up(session.clone()));
        match before {
            Some(Peer::Awaited(Awaited { waiting, .. })) => waiting,
            _ => Waiting::default(),
        }
    }

    /// The session has ended. A newer one stays.
    pub(crate) fn down(&self, session: &Arc<Session>) {
        let mut table = self.table.write();
        if matches!(table.get(&session.peer), Some(Peer::Up(other)) if Arc::ptr_eq(other, session)) {
            table.remove(&session.peer);
        }
    }

    /// How long a session has been waited for, if it is.
    pub(crate) fn waited(&self, peer: &NodeName) -> Option<Duration> {
        match self.table.read().get(peer)? {
            Peer::Up(_) => None,
            Peer::Awaited(awaited) => Some(awaited.since.elapsed()),
        }
    }

    /// An attempt has failed. Returns who waited for it.
    pub(crate) fn fail(&self, peer: &NodeName) -> Waiting {
        let mut table = self.table.write();
        if !matches!(table.get(peer), Some(Peer::Awaited(_))) {
            return Waiting::default();
        }
        match table.remove(peer) {
            Some(Peer::Awaited(Awaited { waiting, .. })) => waiting,
            _ => Waiting::default(),
        }
    }

    /// No attempt goes on. Returns all who waited for one.
    pub(crate) fn fail_all(&self) -> Waiting {
        let mut table = self.table.write();
        let awaited = table.extract_if(|_, peer| matches!(peer, Peer::Awaited(_)));
        let waiting = awaited.flat_map(|(_, peer)| match peer {
            Peer::Awaited(Awaited { waiting, .. }) => waiting.0,
            Peer::Up(_) => Vec::new(),
        });
        Waiting(waiting.collect())
    }
}

/// Drops what is of no use any more, but only when a list would grow: so that an entry costs the same in lists of any
/// length.
pub(crate) fn make_room<T>(list: &mut Vec<T>, of_use: impl FnMut(&T) -> bool) {
    if list.len() == list.capacity() {
        list.retain(of_use);
        list.reserve(list.len().max(4));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in a test it is a failure with a place")]
mod tests {
    use super::*;

    #[test]
    fn those_who_wait_are_told_when_who_tells_has_let_go_of_its_locks() {
        let peers = Peers::default();
        let [one, other] = ["one@here", "other@here"].map(|name| name.parse::<NodeName>().unwrap());
        let wait = |peer: &NodeName| match peers.wait_for(peer) {
            Ok(_) => panic!("there is no session"),
            Err(waiting) => waiting,
        };
        let mut waits: Vec<_> = [&one, &one, &other, &other].map(wait).into();
        let failed = peers.fail(&one);
        assert!(waits.iter_mut().all(|wait| wait.try_recv().is_err()), "nobody is told by that");
        assert!(peers.waited(&one).is_none() && peers.waited(&other).is_some());
        failed.tell(&Err(ConnectError::NotRunning));
        let mut is_told =
            || waits.iter_mut().map(|wait| matches!(wait.try_recv(), Ok(Err(_)))).collect::<Vec<_>>();
        assert_eq!(is_told(), [true, true, false, false]);
        assert!(peers.fail(&one).is_empty());
        peers.fail_all().tell(&Err(ConnectError::NotRunning));
        assert_eq!(is_told(), [false, false, true, true]);
    }

    #[cfg(debug_assertions)]
    #[test]
    #[should_panic = "is called under"]
    fn nobody_is_told_under_a_lock() {
        let lock = Lock::leaf(());
        let _held = lock.lock();
        Waiting::default().tell(&Err(ConnectError::NotRunning));
    }

    #[test]
    fn a_long_list_is_not_searched_for_every_entry() {
        let (mut list, mut looked_at) = (Vec::new(), 0);
        for i in 0..100_000 {
            make_room(&mut list, |_| {
                looked_at += 1;
                true
            });
            list.push(i);
        }
        assert!(looked_at < 300_000, "{looked_at}");
    }
}
