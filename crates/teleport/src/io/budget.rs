//! The caps over everything that a node has under way, and that its peers have, shared by its sessions.

use super::source::Source;
use crate::base::lock::{Held, Lock};
use rustc_hash::FxHashMap;
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
    /// Sessions that have been let in though there was no room: one of each source, until they hold nothing any more. `None` if
    /// nobody has to be.
    guests: Option<FxHashMap<(Source, Class), u64>>,
    /// What sessions have taken [ahead](SessionBudget::ahead).
    ahead: FxHashMap<u64, Arc<AtomicU64>>,
    /// How to tell each session that there is room for it.
    sessions: FxHashMap<u64, Arc<Notify>>,
}

impl State {
    /// Whether a session that holds nothing is let in though there is no room.
    fn let_in(&mut self, source: Source, session: u64, class: Class) -> bool {
        let holds = self.window.held_by(&session, class) > 0;
        let Some(guests) = &mut self.guests else { return false };
        !holds && *guests.entry((source, class)).or_insert(session) == session
    }

    /// A session has given something back.
    fn see_out(&mut self, source: Source, session: u64, class: Class) {
        if let Some(guests) = &mut self.guests
            && guests.get(&(source, class)) == Some(&session)
            && self.window.held_by(&session, class) == 0
        {
            guests.remove(&(source, class));
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

    /// What peers are answered: a window of `size` bytes, of which each session may have one small answer whatever the others do,
    /// and one session from each source a large one.
    pub(crate) fn for_answers(size: u64) -> Arc<Self> {
        let sharing = Sharing { size, share: 0, alone: false, most: u64::MAX };
        let window = FairWindow::new(sharing).with_share(Class::Express, EXPRESS_LIMIT as u64 + MESSAGE_COST);
        Self::new(window, Some(FxHashMap::default()))
    }

    fn new(window: FairWindow<u64>, guests: Option<FxHashMap<(Source, Class), u64>>) -> Arc<Self> {
        let (ahead, sessions) = Default::default();
        let state = State { window, guests, ahead, sessions };
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
        if state.window.try_take(&self.session, class, bytes) {
            if class == Class::Express && state.guests.is_none() {
                let more = state.window.take_up_to(&self.session, class, AHEAD, true);
                self.ahead.store(ahead + more, Ordering::Relaxed);
            }
            return true;
        }
        let guest = state.let_in(self.source, self.session, class);
        if guest {
            state.window.take(&self.session, class, bytes);
        }
        guest
    }

    fn take(&self, class: Class, bytes: u64) {
        self.node.lock().window.take(&self.session, class, bytes);
    }

    fn give_back(&self, class: Class, bytes: u64) {
        let bytes =
            if class == Class::Express { bytes + self.ahead.swap(0, Ordering::Relaxed) } else { bytes };
        let state = &mut *self.node.lock();
        let State { window, sessions, .. } = state;
        window.give_back(&self.session, class, bytes, |session| State::tell(sessions, session));
        state.see_out(self.source, self.session, class);
    }
}

impl Drop for SessionBudget {
    fn drop(&mut self) {
        let state = &mut *self.node.lock();
        let State { window, sessions, ahead, .. } = state;
        ahead.remove(&self.session);
        sessions.remove(&self.session);
        window.leave(&self.session, |session| State::tell(sessions, session));
        [Class::Express, Class::Bulk]
            .into_iter()
            .for_each(|class| state.see_out(self.source, self.session, class));
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
}
