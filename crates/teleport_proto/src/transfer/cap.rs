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

/// All sessions of one source may have this many times what they leave free: three quarters, if no others want anything.
const SOURCE_TO_FREE: u64 = 3;

/// The cap on what the sessions of a node have granted beyond what is guaranteed to each.
///
/// A session may have more as long as it then holds no more than what is left free, and all of its source no more than three times
/// that. One that needs more, for one large message, may have it beyond the cap: one session at a time from each source, of each
/// lane and class. So many names of one source leave a quarter to the others, and a message of any size passes.
#[derive(Debug)]
pub struct GrantCap<S> {
    size: u64,
    window: FairWindow<Key>,
    sources: FairWindow<S>,
    /// Sessions that need something for which only their source has no room.
    lines: BTreeMap<(S, Class), Line>,
    guests: BTreeMap<Place<S>, Guest>,
    /// Those who wait to be the next one.
    waiting: BTreeMap<Place<S>, VecDeque<u64>>,
}

/// Which of a source's sessions have been refused something, and how many bytes, first come first.
type Line = VecDeque<(Key, u64)>;

#[derive(Debug)]
struct Guest {
    session: u64,
    bytes: u64,
}

impl<S: Ord + Clone> GrantCap<S> {
    /// A quarter of it is for express messages.
    pub fn new(size: u64) -> Self {
        let sharing = Sharing { size, share: 0, alone: false, most: u64::MAX, to_free: 1 };
        let sources = FairWindow::new(Sharing { to_free: SOURCE_TO_FREE, ..sharing });
        let (lines, guests, waiting) = Default::default();
        Self { size, window: FairWindow::new(sharing), sources, lines, guests, waiting }
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
            self.take(key, source, class, charged);
        }
        let mut told = SmallVec::<[u64; 4]>::new();
        if returned > 0 {
            self.give_back(key, source, class, returned, |session| told.push(session));
        }
        self.leave_line(key, source, class);
        let mut got = 0;
        let fits = needed == 0 || self.try_take(key, source, class, needed);
        if fits && needed > 0 && self.is_guest(session, &place) == Some(0) {
            self.next_guest(&place, &mut ready);
        }
        let beyond = !fits && self.let_in(session, &place, needed);
        if beyond {
            self.leave_line(key, source, class);
        }
        if fits || beyond {
            let room = self.sources.room(source, class, spare).min(self.window.room(&key, class, spare));
            let more = room.min(wanted - needed);
            if more > 0 {
                self.take(key, source, class, more);
            }
            got = needed + more;
        }
        // This one may have been told, and have left room for the next.
        self.tell_line(source, class, |session| {
            if session != key.0 {
                told.push(session)
            }
        });
        told.into_iter().for_each(ready);
        got
    }

    /// A session is over.
    pub fn leave(&mut self, session: u64, source: &S, mut ready: impl FnMut(u64)) {
        for lane in [Lane::Ordinary, Lane::Exempt] {
            let key = (session, lane);
            for class in [Class::Express, Class::Bulk] {
                let place = (source.clone(), lane, class);
                if let Some(waiting) = self.waiting.get_mut(&place) {
                    waiting.retain(|&other| other != session);
                }
                if self.is_guest(session, &place).is_some() {
                    self.next_guest(&place, &mut ready);
                }
                self.leave_line(key, source, class);
                let held = self.window.held_by(&key, class);
                self.give_back(key, source, class, held, &mut ready);
            }
            self.window.leave(&key, |&(other, _)| ready(other));
        }
    }

    /// Takes what a session needs, if it and its source have room. If not, that is remembered.
    fn try_take(&mut self, key: Key, source: &S, class: Class, bytes: u64) -> bool {
        if !self.window.has_room(&key, class, bytes) {
            return self.window.try_take(&key, class, bytes);
        }
        if self.sources.try_take(source, class, bytes) {
            self.window.take(&key, class, bytes);
            return true;
        }
        self.lines.entry((source.clone(), class)).or_default().push_back((key, bytes));
        false
    }

    fn take(&mut self, key: Key, source: &S, class: Class, bytes: u64) {
        self.window.take(&key, class, bytes);
        self.sources.take(source, class, bytes);
    }

    fn give_back(&mut self, key: Key, source: &S, class: Class, bytes: u64, mut ready: impl FnMut(u64)) {
        self.window.give_back(&key, class, bytes, |&(other, _)| ready(other));
        let mut sources = SmallVec::<[S; 2]>::from_elem(source.clone(), 1);
        self.sources.give_back(source, class, bytes, |other| sources.push(other.clone()));
        sources.iter().for_each(|source| self.tell_line(source, class, &mut ready));
    }

    /// The first in a source's line for whom there is room by now is told. The next is when that has renewed.
    fn tell_line(&mut self, source: &S, class: Class, mut ready: impl FnMut(u64)) {
        let Some(line) = self.lines.get(&(source.clone(), class)) else { return };
        let Some(least) = line.iter().map(|&(_, bytes)| bytes).min() else { return };
        if !self.sources.has_room(source, class, least) {
            let _refused = self.sources.try_take(source, class, least); // so that others who give back tell it
        } else if let Some(((session, _), _)) =
            line.iter().find(|&&(_, bytes)| self.sources.has_room(source, class, bytes))
        {
            ready(*session);
        }
    }

    fn leave_line(&mut self, key: Key, source: &S, class: Class) {
        let place = (source.clone(), class);
        if let Some(line) = self.lines.get_mut(&place) {
            line.retain(|&(other, _)| other != key);
            if line.is_empty() {
                self.lines.remove(&place);
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const SIZE: u64 = 64_000;
    const EXPRESS: u64 = SIZE / 4;

    fn wants(bytes: u64) -> Renewal {
        Renewal { wanted: bytes, ..Renewal::default() }
    }

    fn get(cap: &mut GrantCap<u32>, session: u64, source: u32, renewal: Renewal) -> u64 {
        cap.renew(session, &source, (Lane::Ordinary, Class::Express), renewal, |_| {})
    }

    #[test]
    fn however_many_sessions_one_source_has_it_leaves_a_quarter_to_others() {
        let mut cap = GrantCap::new(SIZE);
        let all: u64 = (0..1000).map(|session| get(&mut cap, session, 1, wants(EXPRESS))).sum();
        assert!((EXPRESS * 3 / 4 - 10..=EXPRESS * 3 / 4).contains(&all), "{all} bytes");
        assert!(get(&mut cap, 1000, 2, wants(EXPRESS)) >= EXPRESS / 8 - 10);
        assert!(get(&mut cap, 1001, 3, wants(EXPRESS)) >= EXPRESS / 16 - 10);
    }

    #[test]
    fn who_needs_something_gets_it_when_its_source_has_room_again() {
        let mut cap = GrantCap::new(SIZE);
        assert_eq!(get(&mut cap, 1, 1, wants(EXPRESS / 2)), EXPRESS / 2);
        assert_eq!(get(&mut cap, 2, 1, wants(EXPRESS)), EXPRESS / 4);
        let needs = |bytes| Renewal { needed: bytes, ..wants(bytes) };
        // The first is the guest, and the second waits for room, or to be that.
        assert_eq!(get(&mut cap, 3, 1, needs(200)), 200);
        assert_eq!((get(&mut cap, 4, 1, needs(300)), get(&mut cap, 5, 2, needs(100))), (0, 100));
        let mut told = Vec::new();
        let back = Renewal { returned: 1000, ..Renewal::default() };
        cap.renew(1, &1, (Lane::Ordinary, Class::Express), back, |session| told.push(session));
        assert!(told.contains(&4) && told.iter().all(|&session| session == 4), "{told:?}");
        assert_eq!(get(&mut cap, 4, 1, needs(300)), 300);
    }

    proptest! {
        #[test]
        fn nobody_waits_though_there_is_room(
            steps in prop::collection::vec((0u64..6, any::<(bool, bool)>(), 0u64..8000, 0u64..8000, 0u8..10), 1..150),
        ) {
            let mut cap = GrantCap::new(SIZE);
            let mut held = BTreeMap::<(Key, Class), u64>::new();
            let mut waiting = BTreeMap::<(Key, Class), u64>::new();
            for (session, (exempt, bulk), returned, needed, what) in steps {
                let lane = if exempt { Lane::Exempt } else { Lane::Ordinary };
                let class = if bulk { Class::Bulk } else { Class::Express };
                let mut told = BTreeSet::new();
                if what == 0 {
                    cap.leave(session, &(session % 3), |other| _ = told.insert(other));
                    held.retain(|&((other, _), _), _| other != session);
                    waiting.retain(|&((other, _), _), _| other != session);
                } else {
                    let booked = held.get(&((session, lane), class)).copied().unwrap_or(0);
                    let again = waiting.get(&((session, lane), class)).copied().unwrap_or(0);
                    let (returned, needed) = (returned.min(booked), needed.max(again));
                    let renewal = Renewal { returned, needed, wanted: 2 * needed, ..Renewal::default() };
                    let got = cap.renew(session, &(session % 3), (lane, class), renewal, |other| _ = told.insert(other));
                    held.insert(((session, lane), class), booked - returned + got);
                    waiting.remove(&((session, lane), class));
                    if got < needed {
                        prop_assert_eq!(got, 0);
                        waiting.insert(((session, lane), class), needed);
                    }
                }
                // Those that are told ask again, until nobody is told any more.
                for round in 0.. {
                    prop_assert!(round < 100, "it does not end");
                    for session in std::mem::take(&mut told) {
                        for lane in [Lane::Ordinary, Lane::Exempt] {
                            for class in [Class::Express, Class::Bulk] {
                                let key = (session, lane);
                                let needed = waiting.get(&(key, class)).copied().unwrap_or(0);
                                let renewal = Renewal { needed, wanted: needed, ..Renewal::default() };
                                let ready = |other| _ = told.insert(other);
                                let got = cap.renew(session, &(session % 3), (lane, class), renewal, ready);
                                *held.entry((key, class)).or_default() += got;
                                if got > 0 {
                                    waiting.remove(&(key, class));
                                }
                            }
                        }
                    }
                    if told.is_empty() {
                        break;
                    }
                }
                prop_assert_eq!(cap.used(), held.values().sum::<u64>());
                for (&(key, class), &needed) in &waiting {
                    let source = key.0 % 3;
                    let room = cap.window.has_room(&key, class, needed) && cap.sources.has_room(&source, class, needed);
                    prop_assert!(!room, "{key:?} waits for {needed} bytes that it may have");
                }
            }
            for session in 0..6 {
                cap.leave(session, &(session % 3), |_| {});
            }
            prop_assert_eq!((cap.used(), cap.sources.used(), cap.lines.len()), (0, 0, 0));
        }
    }
}
