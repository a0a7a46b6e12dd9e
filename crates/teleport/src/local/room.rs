//! What peers hold of a mailbox's room, and what is in it without.

use super::Peer;
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use teleport_proto::NodeName;
use teleport_proto::transfer::{Credit, Disposition, FairWindow, Sharing, Window};
use teleport_proto::wire::envelope::Seq;

/// Names a message that has been placed, in one mailbox.
pub(super) type PlacedId = u64;

/// The room of a mailbox, by the *names* of peers: a new session finds what earlier ones have left unread.
///
/// Each session has credit for a whole window, so there can be more of it than room. What comes beyond is placed in the
/// mailbox like the rest, but does not count as delivered until there is room for it, or it is read. So it fills the window
/// of its session, and goes with that. So does all that the peer sends after it, whether there is room for that or not: else
/// what a session leaves behind when it ends would have holes, with a message gone and a later one of its pair still there.
pub(super) struct Room {
    window: u64,
    shared: FairWindow<NodeName>,
    last_id: PlacedId,
    /// In the order in which it came, of each peer.
    placed: BTreeMap<NodeName, VecDeque<Placed>>,
    /// What each session has placed, for the name and for the pid. More than a window is more than it has credit for.
    by_session: FxHashMap<(u64, bool), Window>,
}

/// A message in the mailbox that there is no room for.
pub(super) struct Placed {
    id: PlacedId,
    session: Arc<dyn Peer>,
    seq: Seq,
    by_name: bool,
    credit: Credit,
}

/// What became of a message that comes in.
pub(super) enum Entry {
    /// There is room for it.
    Roomy,
    /// There is none: it is to be placed.
    Placed(PlacedId),
    /// It is more than its session has credit for.
    Overrun,
}

/// Placed messages whose delivery has ended, for their sessions to be told when the mailbox is not locked.
#[derive(Default)]
pub(super) struct Settled(SmallVec<[(Arc<dyn Peer>, Seq); 4]>);

impl Settled {
    pub(super) fn tell(self, end: Disposition) {
        self.0.into_iter().for_each(|(session, seq)| session.finish_deliveries(&[seq], end));
    }
}

impl Room {
    /// For each peer a window, and for all of them a total.
    pub(super) fn new(window: u64, total: u64) -> Self {
        Self {
            window,
            shared: FairWindow::new(Sharing { size: total, share: 0, alone: false, most: window }),
            last_id: 0,
            placed: BTreeMap::new(),
            by_session: FxHashMap::default(),
        }
    }

    /// A message comes in.
    pub(super) fn enter(
        &mut self,
        session: &Arc<dyn Peer>,
        seq: Seq,
        by_name: bool,
        credit: Credit,
    ) -> Entry {
        if self.enter_at_once(session, credit) {
            return Entry::Roomy;
        }
        let peer = session.name();
        let key = (session.number(), by_name);
        let window = self.by_session.entry(key).or_insert_with(|| Window::new(self.window));
        if !window.fits(credit.class, credit.bytes) {
            return Entry::Overrun;
        }
        window.take(credit.class, credit.bytes);
        self.last_id += 1;
        let placed = Placed { id: self.last_id, session: session.clone(), seq, by_name, credit };
        self.placed.entry(peer.clone()).or_default().push_back(placed);
        Entry::Placed(self.last_id)
    }

    /// Messages come in, if there is room for all of them.
    pub(super) fn enter_at_once(&mut self, session: &Arc<dyn Peer>, credit: Credit) -> bool {
        let peer = session.name();
        let first = self.placed.is_empty() || !self.placed.contains_key(peer);
        first && self.shared.try_take(peer, credit.class, credit.bytes)
    }

    /// What had room has been read: others may get it.
    pub(super) fn leave(&mut self, peer: &NodeName, credit: Credit, settled: &mut Settled) {
        if credit.bytes == 0 {
            return;
        }
        let mut ready = SmallVec::<[NodeName; 4]>::new();
        self.shared.give_back(peer, credit.class, credit.bytes, |peer| ready.push(peer.clone()));
        if !self.placed.is_empty() {
            ready.iter().chain([peer]).for_each(|peer| self.admit(peer, settled));
        }
    }

    /// A placed message is being read. It counts as delivered, and what it holds comes back as of any other.
    pub(super) fn read(&mut self, peer: &NodeName, id: PlacedId, settled: &mut Settled) {
        let Some(queue) = self.placed.get_mut(peer) else { return };
        // Read in the order in which it came: if it is not the first, it got its room before.
        if queue.front().is_none_or(|first| first.id != id) {
            return;
        }
        let Some(placed) = queue.pop_front() else { return };
        self.shared.take(peer, placed.credit.class, placed.credit.bytes);
        self.settle(placed, settled);
        self.admit(peer, settled);
    }

    /// No sender waits for room any more.
    pub(super) fn let_all_in(&mut self, settled: &mut Settled) {
        for (peer, placed) in std::mem::take(&mut self.placed) {
            for placed in placed {
                self.shared.take(&peer, placed.credit.class, placed.credit.bytes);
                self.settle(placed, settled);
            }
        }
    }

    /// The mailbox goes. Says what had been placed.
    pub(super) fn close(&mut self, settled: &mut Settled) -> FxHashSet<PlacedId> {
        let placed: Vec<_> = std::mem::take(&mut self.placed).into_values().flatten().collect();
        let gone = placed.iter().map(|placed| placed.id).collect();
        placed.into_iter().for_each(|placed| self.settle(placed, settled));
        gone
    }

    /// A session has ended. Says what it had placed, which goes with it.
    pub(super) fn forget(&mut self, session: &Arc<dyn Peer>, settled: &mut Settled) -> FxHashSet<PlacedId> {
        let peer = session.name();
        let mut gone = FxHashSet::default();
        let Some(queue) = self.placed.get_mut(peer) else { return gone };
        queue.retain(|placed| {
            let stays = !Arc::ptr_eq(&placed.session, session);
            if !stays {
                gone.insert(placed.id);
            }
            stays
        });
        for by_name in [false, true] {
            self.by_session.remove(&(session.number(), by_name));
        }
        self.admit(peer, settled);
        gone
    }

    /// Gives room to what a peer has placed, as far as there is some.
    fn admit(&mut self, peer: &NodeName, settled: &mut Settled) {
        while let Some(queue) = self.placed.get_mut(peer)
            && let Some(first) = queue.front()
            && self.shared.try_take(peer, first.credit.class, first.credit.bytes)
            && let Some(first) = queue.pop_front()
        {
            self.settle(first, settled);
        }
        self.forget_if_empty(peer);
    }

    fn settle(&mut self, placed: Placed, settled: &mut Settled) {
        let Placed { session, seq, by_name, credit, .. } = placed;
        let key = (session.number(), by_name);
        if let Some(window) = self.by_session.get_mut(&key) {
            window.give_back(credit.class, credit.bytes);
            if window.used() == 0 {
                self.by_session.remove(&key);
            }
        }
        settled.0.push((session, seq));
    }

    fn forget_if_empty(&mut self, peer: &NodeName) {
        if self.placed.get(peer).is_some_and(VecDeque::is_empty) {
            self.placed.remove(peer);
        }
    }
}
