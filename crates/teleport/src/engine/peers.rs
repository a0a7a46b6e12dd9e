//! The sessions by peer, for those who send; and who waits for one.

use crate::ConnectError;
use crate::base::lock::{Lock, SharedLock};
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
    waiting: Vec<oneshot::Sender<Result<Arc<Session>, ConnectError>>>,
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
            .or_insert_with(|| Peer::Awaited(Awaited { since: Instant::now(), waiting: Vec::new() }));
        match entry {
            Peer::Up(session) => Ok(session.clone()),
            Peer::Awaited(Awaited { waiting, .. }) => {
                let (sender, receiver) = oneshot::channel();
                make_room(waiting, |other| !other.is_closed());
                waiting.push(sender);
                Err(receiver)
            }
        }
    }

    pub(crate) fn up(&self, session: &Arc<Session>) {
        let before = self.table.write().insert(session.peer.clone(), Peer::Up(session.clone()));
        if let Some(Peer::Awaited(Awaited { waiting, .. })) = before {
            waiting.into_iter().for_each(|waiting| drop(waiting.send(Ok(session.clone()))));
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

    /// An attempt has failed: tells those who wait why.
    pub(crate) fn fail(&self, peer: &NodeName, error: &ConnectError) {
        let mut table = self.table.write();
        if !matches!(table.get(peer), Some(Peer::Awaited(_))) {
            return;
        }
        let Some(Peer::Awaited(Awaited { waiting, .. })) = table.remove(peer) else { return };
        drop(table);
        waiting.into_iter().for_each(|waiting| drop(waiting.send(Err(error.clone())))); // it may have given up
    }

    pub(crate) fn fail_all(&self, error: &ConnectError) {
        let awaited: Vec<_> = {
            let table = self.table.write();
            table
                .iter()
                .filter(|(_, peer)| matches!(peer, Peer::Awaited(_)))
                .map(|(name, _)| name.clone())
                .collect()
        };
        for peer in awaited {
            self.fail(&peer, error);
        }
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
mod tests {
    use super::*;

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
