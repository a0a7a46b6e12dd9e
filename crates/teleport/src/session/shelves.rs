//! Shelves with the trays of a session, into which senders lay small messages under a lock of each shelf.

use crate::base::lock::{Lock, Rank};
use rustc_hash::FxHasher;
use smallvec::SmallVec;
use std::hash::{Hash, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use teleport_proto::transfer::{Transfer, Tray};
use teleport_proto::wire::envelope::{Destination, ProcessId};

/// Enough that senders of many pairs seldom meet, and one word says which have trays.
const SHELVES: usize = 32;

/// The most trays on a shelf: it is searched from end to end, and each tray holds room that others might want.
const MOST_ON_A_SHELF: usize = 2;

/// A pair's tray is always on the same shelf. Trays come, are fetched from and go under the session's lock, which is taken
/// before a shelf's; messages are laid into them under the shelf's alone.
#[derive(Debug, Default)]
pub(super) struct Shelves {
    /// The shelves that have trays, by bit.
    open: AtomicU32,
    /// 4 KiB, made for the first tray, which most sessions never have. They stay until the session ends.
    shelves: OnceLock<Box<[Shelf; SHELVES]>>,
}

/// On cache lines of its own: senders on other shelves are not to be slowed down.
#[derive(Debug)]
#[repr(align(128))]
struct Shelf(Lock<Vec<Tray>>);

impl Default for Shelf {
    fn default() -> Self {
        Self(Lock::new(Rank::Tray, Vec::new()))
    }
}

impl Shelves {
    /// Accepts a message of the pair, if that has a tray with room for it.
    pub(super) fn lay(&self, from: ProcessId, to: &Destination, body: &[u8]) -> bool {
        self.with_tray(from, to, |trays, at| trays[at].lay(body)).unwrap_or(false)
    }

    /// Whether there are trays. Under the session's lock the answer stays true until it is released.
    pub(super) fn have_trays(&self) -> bool {
        self.open.load(Ordering::Relaxed) != 0
    }

    /// Gives a pair a tray, if it has use for one; under the session's lock.
    pub(super) fn open(&self, transfer: &mut Transfer, from: ProcessId, to: &Destination) {
        let place = place(from, to);
        if self.is_full(place) {
            return;
        }
        let Some(tray) = transfer.open_tray(from, to) else { return };
        self.shelves.get_or_init(Box::default)[place].0.lock().push(tray);
        self.open.fetch_or(1 << place, Ordering::Release);
    }

    /// Fetches what lies in all trays, and puts away those that were not used, or have too little room left; under the session's lock.
    pub(super) fn fetch(&self, transfer: &mut Transfer) {
        let mut finished: SmallVec<[Tray; 4]> = SmallVec::new();
        self.each_shelf(|trays| {
            let mut at = 0;
            while at < trays.len() {
                if transfer.fetch(&mut trays[at]) {
                    at += 1;
                } else {
                    finished.push(trays.swap_remove(at));
                }
            }
        });
        transfer.accept_fetched();
        finished.into_iter().for_each(|tray| transfer.put_away(tray));
    }

    /// Puts all away; under the session's lock.
    pub(super) fn put_all_away(&self, transfer: &mut Transfer) {
        let mut all: SmallVec<[Tray; 4]> = SmallVec::new();
        self.each_shelf(|trays| all.extend(trays.drain(..)));
        all.into_iter().for_each(|tray| transfer.put_away(tray));
    }

    /// Puts the pair's tray away: something else of it is going to be offered. Under the session's lock. `false` if it has none.
    pub(super) fn put_away(&self, transfer: &mut Transfer, from: ProcessId, to: &Destination) -> bool {
        let tray = self.with_tray(from, to, |trays, at| {
            let tray = trays.swap_remove(at);
            if trays.is_empty() {
                self.open.fetch_and(!(1 << place(from, to)), Ordering::Relaxed);
            }
            tray
        });
        tray.map(|tray| transfer.put_away(tray)).is_some()
    }

    fn with_tray<R>(
        &self,
        from: ProcessId,
        to: &Destination,
        act: impl FnOnce(&mut Vec<Tray>, usize) -> R,
    ) -> Option<R> {
        // A tray that another thread has just opened may be missed. Then the session's lock is taken, under which it is not.
        let open = self.open.load(Ordering::Acquire);
        if open == 0 {
            return None;
        }
        let place = place(from, to);
        if open & (1 << place) == 0 {
            return None;
        }
        let mut trays = self.shelves.get()?[place].0.lock();
        let at = trays.iter().position(|tray| tray.is_of(from, to))?;
        Some(act(&mut trays, at))
    }

    fn each_shelf(&self, mut act: impl FnMut(&mut Vec<Tray>)) {
        let Some(shelves) = self.shelves.get() else { return };
        let mut left = self.open.load(Ordering::Relaxed);
        while left != 0 {
            let place = left.trailing_zeros();
            left &= left - 1;
            let mut trays = shelves[place as usize].0.lock();
            act(&mut trays);
            if trays.is_empty() {
                self.open.fetch_and(!(1 << place), Ordering::Relaxed);
            }
        }
    }

    fn is_full(&self, place: usize) -> bool {
        self.shelves.get().is_some_and(|shelves| shelves[place].0.lock().len() == MOST_ON_A_SHELF)
    }
}

/// The shelf of a pair.
fn place(from: ProcessId, to: &Destination) -> usize {
    let mut hasher = FxHasher::default();
    (from, to).hash(&mut hasher);
    hasher.finish() as usize % SHELVES
}
