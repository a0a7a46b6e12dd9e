//! What all sessions of a node have granted together.

use super::grants::Renewal;
use super::shares::{FairWindow, Sharing};
use crate::wire::envelope::Lane;
use crate::wire::pool::Class;
use smallvec::SmallVec;
use std::collections::{BTreeMap, VecDeque};

/// Which of a session's grants.
type Key = (u64, Lane);

/// A part of the line for what is beyond the cap: those who come from one source wait for one another.
type Place<S> = (S, Lane, Class);

/// The cap on what the sessions of a node have granted beyond what is guaranteed to each.
///
/// A session may have more as long as it then holds no more than what is left free. One that needs more than that, for one
/// large message, may have it beyond the cap: one session at a time from each source, of each lane and class. So many names of
/// one source keep nothing from the others but what is left free, and a message of any size passes.
#[derive(Debug)]
pub struct GrantCap<S> {
    size: u64,
    window: FairWindow<Key>,
    guests: BTreeMap<Place<S>, Guest>,
    /// Those who wait to be the next one.
    waiting: BTreeMap<Place<S>, VecDeque<u64>>,
}

#[derive(Debug)]
struct Guest {
    session: u64,
    bytes: u64,
}

impl<S: Ord + Clone> GrantCap<S> {
    /// A quarter of it is for express messages.
    pub fn new(size: u64) -> Self {
        let window = FairWindow::new(Sharing { size, share: 0, alone: false, most: u64::MAX });
        Self { size, window, guests: BTreeMap::new(), waiting: BTreeMap::new() }
    }

    /// The cap, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that are granted, those of guests included.
    pub fn used(&self) -> u64 {
        self.window.used() + self.guests.values().map(|guest| guest.bytes).sum::<u64>()
    }

    /// Changes what a session has; see [`Granter::renew`](super::Granter::renew). Calls `ready` for each session that needed
    /// more and may have it now.
    pub fn renew(
        &mut self,
        session: u64,
        source: &S,
        (lane, class): (Lane, Class),
        renewal: Renewal,
        mut ready: impl FnMut(u64),
    ) -> u64 {
        let Renewal { mut returned, charged, needed, wanted, spare } = renewal;
        let (key, place) = ((session, lane), (source.clone(), lane, class));
        if let Some(guest) = self.guests.get_mut(&place).filter(|guest| guest.session == session) {
            let back = guest.bytes.min(returned);
            guest.bytes -= back;
            returned -= back;
            if guest.bytes == 0 && (back > 0 || needed == 0) {
                self.next_guest(&place, &mut ready);
            }
        }
        if charged > 0 {
            self.window.take(&key, class, charged);
        }
        let mut told = SmallVec::<[u64; 4]>::new();
        if returned > 0 {
            self.window.give_back(&key, class, returned, |&(other, _)| told.push(other));
        }
        let mut got = 0;
        let fits = needed == 0 || self.window.try_take(&key, class, needed);
        if fits && needed > 0 && self.is_guest(session, &place) == Some(0) {
            self.next_guest(&place, &mut ready);
        }
        if fits || self.let_in(session, &place, needed) {
            got = needed + self.window.take_up_to(&key, class, wanted - needed, spare);
        }
        told.into_iter().for_each(ready);
        got
    }

    /// A session is over.
    pub fn leave(&mut self, session: u64, source: &S, mut ready: impl FnMut(u64)) {
        for lane in [Lane::Ordinary, Lane::Exempt] {
            for class in [Class::Express, Class::Bulk] {
                let place = (source.clone(), lane, class);
                if let Some(waiting) = self.waiting.get_mut(&place) {
                    waiting.retain(|&other| other != session);
                }
                if self.is_guest(session, &place).is_some() {
                    self.next_guest(&place, &mut ready);
                }
            }
            self.window.leave(&(session, lane), |&(other, _)| ready(other));
        }
    }

    /// What the session has as the guest of its source, if it is that.
    fn is_guest(&self, session: u64, place: &Place<S>) -> Option<u64> {
        self.guests.get(place).filter(|guest| guest.session == session).map(|guest| guest.bytes)
    }

    /// The guest goes. The next in line has its place, and says whether it still needs it.
    fn next_guest(&mut self, place: &Place<S>, mut ready: impl FnMut(u64)) {
        self.guests.remove(place);
        let Some(waiting) = self.waiting.get_mut(place) else { return };
        match waiting.pop_front() {
            Some(session) => {
                self.guests.insert(place.clone(), Guest { session, bytes: 0 });
                ready(session);
            }
            None => drop(self.waiting.remove(place)),
        }
    }

    /// Whether the session may be the guest of its source, or has to wait.
    fn let_in(&mut self, session: u64, place: &Place<S>, bytes: u64) -> bool {
        match self.guests.get_mut(place) {
            Some(guest) if guest.session == session && guest.bytes == 0 => guest.bytes = bytes,
            Some(_) => {
                let waiting = self.waiting.entry(place.clone()).or_default();
                if !waiting.contains(&session) {
                    waiting.push_back(session);
                }
                return false;
            }
            None => drop(self.guests.insert(place.clone(), Guest { session, bytes })),
        }
        true
    }
}
