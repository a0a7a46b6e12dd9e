//! The caps over everything that a node has under way, and that its peers have, shared by its sessions.

use super::source::Source;
use crate::base::lock::{Held, Lock};
use rustc_hash::FxHashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use teleport_proto::transfer::{Budget, FairWindow, GrantCap, Granter, MESSAGE_COST, Renewal, Sharing};
use teleport_proto::wire::envelope::Lane;
use teleport_proto::wire::pool::{Class, EXPRESS_LIMIT};
use tokio::sync::Notify;

/// The node's window.
#[derive(Debug)]
pub(crate) struct NodeBudget {
    state: Lock<State>,
}

#[derive(Debug)]
struct State {
    window: FairWindow<u64>,
    /// What the sessions of each source hold together. `None` if that does not count, and nobody is let in though there is no room.
    sources: Option<FxHashMap<(Source, Class), u64>>,
    /// What sessions have taken [ahead](SessionBudget::ahead).
    ahead: FxHashMap<u64, Arc<AtomicU64>>,
    /// How to tell each session that there is room for it.
    sessions: FxHashMap<u64, Arc<Notify>>,
}

/// All sessions of one source may hold this many times what they leave free: three quarters, if no others want anything.
const SOURCE_TO_FREE: u64 = 3;

/// Of small answers each session may have this much, whatever the others do: one.
const SMALL_ANSWER: u64 = EXPRESS_LIMIT as u64 + MESSAGE_COST;

impl State {
    fn try_take(&mut self, source: Source, session: u64, class: Class, bytes: u64) -> bool {
        let taken = self.source_has_room(source, session, class, bytes)
            && self.window.try_take(&session, class, bytes);
        if taken {
            self.note_taken(source, class, bytes);
        }
        taken
    }

    fn take(&mut self, source: Source, session: u64, class: Class, bytes: u64) {
        self.window.take(&session, class, bytes);
        self.note_taken(source, class, bytes);
    }

    fn note_taken(&mut self, source: Source, class: Class, bytes: u64) {
        if let Some(held) = &mut self.sources {
            *held.entry((source, class)).or_default() += bytes;
        }
    }

    /// Whether a session may have more of what its source may: no more than it then leaves to the source.
    fn source_has_room(&self, source: Source, session: u64, class: Class, bytes: u64) -> bool {
        let Some(held) = &self.sources else { return true };
        let Some(&of_source) = held.get(&(source, class)) else { return true };
        let own = self.window.held_by(&session, class);
        let in_share = class == Class::Express && own.saturating_add(bytes) <= SMALL_ANSWER;
        let most = self.window.free(class).saturating_mul(SOURCE_TO_FREE);
        // Each byte makes the source's room smaller by one, and what is free besides.
        in_share || bytes <= most.saturating_sub(of_source + own) / (SOURCE_TO_FREE + 2)
    }

    /// Whether a source is let in though there is no room: it holds nothing.
    fn let_in(&self, source: Source, class: Class) -> bool {
        self.sources.as_ref().is_some_and(|held| !held.contains_key(&(source, class)))
    }

    /// A session of that source has given bytes back.
    fn note_returned(&mut self, source: Source, class: Class, bytes: u64) {
        let Some(held) = &mut self.sources else { return };
        if let Entry::Occupied(mut held) = held.entry((source, class)) {
            *held.get_mut() = held.get().saturating_sub(bytes);
            if *held.get() == 0 {
                held.remove();
            }
        }
    }

    fn tell(sessions: &FxHashMap<u64, Arc<Notify>>, session: &u64) {
        if let Some(freed) = sessions.get(session) {
            freed.notify_one();
        }
    }
}

impl NodeBudget {
    /// What this node sends of itself: a window of `size` bytes, of which each session may have `share`, or one message,
    /// whatever the others do.
    pub(crate) fn for_sends(size: u64, share: u64) -> Arc<Self> {
        let sharing = Sharing { size, share, alone: true, most: u64::MAX };
        Self::new(FairWindow::new(sharing), None)
    }

    /// What peers are answered: a window of `size` bytes, of which the sessions of one source leave a quarter to others. Each
    /// session may have one small answer whatever the others do, and one session from each source a large one.
    pub(crate) fn for_answers(size: u64) -> Arc<Self> {
        let sharing = Sharing { size, share: 0, alone: false, most: u64::MAX };
        let window = FairWindow::new(sharing).with_share(Class::Express, SMALL_ANSWER);
        Self::new(window, Some(FxHashMap::default()))
    }

    fn new(window: FairWindow<u64>, sources: Option<FxHashMap<(Source, Class), u64>>) -> Arc<Self> {
        let (ahead, sessions) = Default::default();
        let state = State { window, sources, ahead, sessions };
        Arc::new(Self { state: Lock::leaf(state) })
    }

    /// Bytes under way.
    pub(crate) fn used(&self) -> u64 {
        let state = self.lock();
        let ahead: u64 = state.ahead.values().map(|ahead| ahead.load(Ordering::Relaxed)).sum();
        state.window.used().saturating_sub(ahead)
    }

    fn lock(&self) -> Held<'_, State> {
        self.state.lock()
    }
}

/// A session takes this many bytes ahead for small messages while the window is less than half full, so that not every message
/// takes the lock that all sessions share. It gives them back with the next message that is delivered.
const AHEAD: u64 = 64 * 1024;

/// One session's access to the node's window.
pub(crate) struct SessionBudget {
    node: Arc<NodeBudget>,
    session: u64,
    source: Source,
    /// Bytes taken ahead. Only the session's machine comes here, under its lock.
    ahead: Arc<AtomicU64>,
}

impl SessionBudget {
    /// For the session of that number, with a peer at `source`. `freed` is notified when there is room again after a refusal.
    pub(crate) fn new(node: Arc<NodeBudget>, session: u64, source: Source, freed: Arc<Notify>) -> Self {
        let ahead: Arc<AtomicU64> = Arc::default();
        {
            let state = &mut *node.lock();
            state.sessions.insert(session, freed);
            state.ahead.insert(session, ahead.clone());
        }
        Self { node, session, source, ahead }
    }
}

impl Budget for SessionBudget {
    fn try_take(&self, class: Class, bytes: u64) -> bool {
        let ahead = if class == Class::Express { self.ahead.load(Ordering::Relaxed) } else { 0 };
        if bytes <= ahead {
            self.ahead.store(ahead - bytes, Ordering::Relaxed);
            return true;
        }
        let state = &mut *self.node.lock();
        if state.try_take(self.source, self.session, class, bytes) {
            if class == Class::Express && state.sources.is_none() {
                let more = state.window.take_up_to(&self.session, class, AHEAD, true);
                self.ahead.store(ahead + more, Ordering::Relaxed);
            }
            return true;
        }
        let guest = state.let_in(self.source, class);
        if guest {
            state.take(self.source, self.session, class, bytes);
        }
        guest
    }

    fn take(&self, class: Class, bytes: u64) {
        self.node.lock().take(self.source, self.session, class, bytes);
    }

    fn give_back(&self, class: Class, bytes: u64) {
        let bytes =
            if class == Class::Express { bytes + self.ahead.swap(0, Ordering::Relaxed) } else { bytes };
        let state = &mut *self.node.lock();
        let State { window, sessions, .. } = state;
        window.give_back(&self.session, class, bytes, |session| State::tell(sessions, session));
        state.note_returned(self.source, class, bytes);
    }
}

impl Drop for SessionBudget {
    fn drop(&mut self) {
        let state = &mut *self.node.lock();
        let State { window, sessions, ahead, .. } = state;
        ahead.remove(&self.session);
        sessions.remove(&self.session);
        let left = [Class::Express, Class::Bulk].map(|class| (class, window.held_by(&self.session, class)));
        window.leave(&self.session, |session| State::tell(sessions, session));
        for (class, bytes) in left {
            state.note_returned(self.source, class, bytes);
        }
    }
}

/// What the node's peers may have under way to it.
#[derive(Debug)]
pub(crate) struct NodeGrants {
    state: Lock<Grants>,
}

#[derive(Debug)]
struct Grants {
    cap: GrantCap<Source>,
    /// How to tell each session that there is more for it.
    sessions: FxHashMap<u64, Arc<Notify>>,
}

impl NodeGrants {
    /// A cap of `size` bytes.
    pub(crate) fn new(size: u64) -> Arc<Self> {
        let (cap, sessions) = (GrantCap::new(size), FxHashMap::default());
        Arc::new(Self { state: Lock::leaf(Grants { cap, sessions }) })
    }

    fn lock(&self) -> Held<'_, Grants> {
        self.state.lock()
    }
}

/// One session's grants out of the node's.
pub(crate) struct SessionGrants {
    node: Arc<NodeGrants>,
    session: u64,
    source: Source,
}

impl SessionGrants {
    /// For the session of that number, with a peer at `source`. `freed` is notified when there is more for it after it was refused some.
    pub(crate) fn new(node: Arc<NodeGrants>, session: u64, source: Source, freed: Arc<Notify>) -> Self {
        node.lock().sessions.insert(session, freed);
        Self { node, session, source }
    }
}

impl Granter for SessionGrants {
    fn renew(&self, lane: Lane, class: Class, renewal: Renewal) -> u64 {
        let Grants { cap, sessions, .. } = &mut *self.node.lock();
        let ready = |session| State::tell(sessions, &session);
        cap.renew(self.session, &self.source, (lane, class), renewal, ready)
    }
}

impl Drop for SessionGrants {
    fn drop(&mut self) {
        let Grants { cap, sessions, .. } = &mut *self.node.lock();
        sessions.remove(&self.session);
        cap.leave(self.session, &self.source, |session| State::tell(sessions, &session));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    const SIZE: u64 = 64 * AHEAD;

    fn sessions(node: &Arc<NodeBudget>) -> [SessionBudget; 2] {
        let source = Source::of(IpAddr::V4(Ipv4Addr::LOCALHOST));
        [1, 2].map(|session| SessionBudget::new(node.clone(), session, source, Arc::default()))
    }

    /// A session with a peer at that address.
    fn at(node: &Arc<NodeBudget>, address: u8, session: u64) -> SessionBudget {
        let source = Source::of(IpAddr::V4(Ipv4Addr::new(10, 0, 0, address)));
        SessionBudget::new(node.clone(), session, source, Arc::default())
    }

    fn taken(node: &NodeBudget) -> u64 {
        node.lock().window.used()
    }

    #[test]
    fn what_is_taken_ahead_comes_back_with_what_is_delivered() {
        let node = NodeBudget::for_sends(SIZE, 0);
        let [one, other] = sessions(&node);
        assert!(one.try_take(Class::Express, 200));
        assert_eq!((node.used(), taken(&node)), (200, 200 + AHEAD));
        (0..AHEAD / 256).for_each(|_| assert!(one.try_take(Class::Express, 256)));
        assert_eq!((node.used(), taken(&node)), (200 + AHEAD, 200 + AHEAD));
        assert!(one.try_take(Class::Express, 1) && one.try_take(Class::Bulk, 7));
        assert_eq!((node.used(), taken(&node)), (208 + AHEAD, 208 + 2 * AHEAD));
        one.give_back(Class::Bulk, 7);
        one.give_back(Class::Express, 200 + AHEAD);
        assert_eq!((node.used(), taken(&node)), (1, 1));
        assert!(other.try_take(Class::Express, 1));
        drop((one, other));
        assert_eq!((node.used(), taken(&node)), (0, 0));
    }

    #[test]
    fn nothing_is_taken_ahead_where_others_may_be_in_want_of_it() {
        let node = NodeBudget::for_sends(SIZE, 0);
        let [one, other] = sessions(&node);
        other.take(Class::Express, SIZE / 8);
        assert!(one.try_take(Class::Express, 200));
        assert_eq!(taken(&node), SIZE / 8 + 200);
        let answers = NodeBudget::for_answers(SIZE);
        let [one, _other] = sessions(&answers);
        assert!(one.try_take(Class::Express, 200));
        assert_eq!(taken(&answers), 200);
    }

    #[test]
    fn however_many_sessions_one_address_has_it_leaves_a_quarter_of_the_answers_to_others() {
        for (class, bytes) in [(Class::Bulk, 1 << 20), (Class::Express, EXPRESS_LIMIT as u64)] {
            let node = NodeBudget::for_answers(64 << 20);
            let part = if class == Class::Bulk { 48 << 20 } else { 16 << 20 };
            let fill = |session: &SessionBudget| {
                std::iter::repeat_with(|| session.try_take(class, bytes)).take_while(|&taken| taken).count()
                    as u64
                    * bytes
            };
            let hostile: Vec<_> = (0..8).map(|session| at(&node, 1, session)).collect();
            let held: u64 = hostile.iter().map(fill).sum();
            // Each has a small answer besides, and one of them a large one.
            assert!((part / 2..=part / 4 * 3 + 8 * bytes).contains(&held), "{held} bytes");
            assert!(
                !at(&node, 1, 99).try_take(Class::Bulk, 40 << 20) || class == Class::Express,
                "a larger one"
            );
            let honest = at(&node, 2, 100);
            let got = fill(&honest);
            assert!(got >= part / 16, "{got} bytes");
            assert!(at(&node, 1, 101).try_take(Class::Express, 1000), "a small one");
            // What is given back is there again.
            hostile[0].give_back(class, 4 * bytes);
            assert!(honest.try_take(class, bytes));
            drop((hostile, honest));
            let sources = node.lock().sources.take().expect("answers have sources");
            assert!(taken(&node) == 0 && sources.is_empty());
        }
    }
}
