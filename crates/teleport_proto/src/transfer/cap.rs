//! What all sessions of a node have granted together.

use super::grants::Renewal;
use super::shares::{FairWindow, Sharing};
use crate::wire::envelope::Lane;
use crate::wire::pool::Class;
use smallvec::SmallVec;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

/// Which of a session's grants.
type Key = (u64, Lane);

/// A part of the line for what is beyond the cap: those who come from one source wait for one another.
type Place<S> = (S, Lane, Class);

/// All sessions of one source may have this many times what they leave free: three quarters, if no others want anything.
const SOURCE_TO_FREE: u64 = 3;

/// The cap on what the sessions of a node have granted beyond what is guaranteed to each.
///
/// A session may have more as long as it then holds no more than what is left free, and no more than what its source may still have.
/// A source may have three times what it leaves free. So many names of one source leave a quarter to the others, and sessions of
/// one source something to the next of them.
///
/// A session that needs more, for one large message, may have it beyond the cap: one session at a time from each source, of each
/// lane and class. So a message of any size passes.
#[derive(Debug)]
pub struct GrantCap<S> {
    size: u64,
    window: FairWindow<Key>,
    /// What all sessions of a source hold of the window.
    held: BTreeMap<(S, Class), u64>,
    /// What sessions need and only their source has no room for.
    refused: BTreeMap<(S, Class), BTreeMap<Key, u64>>,
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
        let (held, refused, guests, waiting) = Default::default();
        Self { size, window, held, refused, guests, waiting }
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
        self.not_refused(key, source, class);
        if charged > 0 {
            self.take(key, source, class, charged);
        }
        let mut told = SmallVec::<[u64; 4]>::new();
        if returned > 0 {
            self.give_back(key, source, class, returned, |session| told.push(session));
        }
        let mut got = 0;
        let fits = needed == 0 || self.try_take(key, source, class, needed);
        if fits && needed > 0 && self.is_guest(session, &place) == Some(0) {
            self.next_guest(&place, &mut ready);
        }
        if fits || self.let_in(session, &place, needed) {
            let room = self.window.room(&key, class, spare).min(self.source_room(key, source, class));
            let more = room.min(wanted - needed);
            if more > 0 {
                self.take(key, source, class, more);
            }
            self.not_refused(key, source, class);
            got = needed + more;
        }
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
                self.not_refused(key, source, class);
                let held = self.window.held_by(&key, class);
                self.give_back(key, source, class, held, &mut ready);
            }
            self.window.leave(&key, |&(other, _)| ready(other));
        }
    }

    /// How much more a session may have of what its source may: no more than it then leaves to the source.
    fn source_room(&self, key: Key, source: &S, class: Class) -> u64 {
        let Some(&of_source) = self.held.get(&(source.clone(), class)) else { return u64::MAX };
        let most = self.window.free(class).saturating_mul(SOURCE_TO_FREE);
        // Each byte makes the source's room smaller by one, and what is free besides.
        most.saturating_sub(of_source + self.window.held_by(&key, class)) / (SOURCE_TO_FREE + 2)
    }

    /// Takes what a session needs, if it and its source have room. If not, that is remembered.
    fn try_take(&mut self, key: Key, source: &S, class: Class, bytes: u64) -> bool {
        if !self.window.has_room(&key, class, bytes) {
            return self.window.try_take(&key, class, bytes);
        }
        let fits = bytes <= self.source_room(key, source, class);
        if fits {
            self.take(key, source, class, bytes);
        } else {
            self.refused.entry((source.clone(), class)).or_default().insert(key, bytes);
        }
        fits
    }

    fn take(&mut self, key: Key, source: &S, class: Class, bytes: u64) {
        self.window.take(&key, class, bytes);
        *self.held.entry((source.clone(), class)).or_default() += bytes;
    }

    fn give_back(&mut self, key: Key, source: &S, class: Class, bytes: u64, mut ready: impl FnMut(u64)) {
        self.window.give_back(&key, class, bytes, |&(other, _)| ready(other));
        if let Entry::Occupied(mut held) = self.held.entry((source.clone(), class)) {
            *held.get_mut() = held.get().saturating_sub(bytes);
            if *held.get() == 0 {
                held.remove();
            }
        }
        // All for whom there is room now are told, in whatever order: one of them may be unable to renew at present.
        let mut all = std::mem::take(&mut self.refused);
        for ((source, of), refused) in all.iter_mut().filter(|((_, of), _)| *of == class) {
            refused.retain(|&key, &mut bytes| {
                let fits = bytes <= self.source_room(key, source, *of);
                if fits {
                    ready(key.0);
                }
                !fits
            });
        }
        all.retain(|_, refused| !refused.is_empty());
        self.refused = all;
    }

    /// It tries anew, or has what it needs.
    fn not_refused(&mut self, key: Key, source: &S, class: Class) {
        let place = (source.clone(), class);
        if let Some(refused) = self.refused.get_mut(&place)
            && refused.remove(&key).is_some()
            && refused.is_empty()
        {
            self.refused.remove(&place);
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
    const LANES: [Lane; 2] = [Lane::Ordinary, Lane::Exempt];
    const CLASSES: [Class; 2] = [Class::Express, Class::Bulk];

    fn wants(bytes: u64) -> Renewal {
        Renewal { wanted: bytes, ..Renewal::default() }
    }

    fn needs(bytes: u64) -> Renewal {
        Renewal { needed: bytes, ..wants(bytes) }
    }

    fn get(cap: &mut GrantCap<u32>, session: u64, source: u32, renewal: Renewal) -> u64 {
        cap.renew(session, &source, (Lane::Ordinary, Class::Express), renewal, |_| {})
    }

    #[test]
    fn however_many_sessions_one_source_has_it_leaves_a_quarter_to_others() {
        let mut cap = GrantCap::new(SIZE);
        let all: u64 = (0..1000).map(|session| get(&mut cap, session, 1, wants(EXPRESS))).sum();
        assert!((EXPRESS * 3 / 4 - 20..=EXPRESS * 3 / 4).contains(&all), "{all} bytes");
        assert!(get(&mut cap, 1000, 2, wants(EXPRESS)) >= EXPRESS / 8 - 10);
        assert!(get(&mut cap, 1001, 3, wants(EXPRESS)) >= EXPRESS / 16 - 10);
    }

    /// Some that were first, and take and give back all the time, make room for those that come later.
    #[test]
    fn sessions_of_one_source_come_to_share_alike() {
        let mut cap = GrantCap::new(SIZE);
        let mut held = [0; 8];
        for turn in 0..2000 {
            let sessions = if turn < 500 { 3 } else { 8 };
            for (session, held) in held.iter_mut().enumerate().take(sessions) {
                let returned = (*held).min(100);
                let renewal = Renewal { returned, ..wants(EXPRESS) };
                *held = *held - returned + get(&mut cap, session as u64, 1, renewal);
            }
        }
        let (least, most) = (held.iter().min().unwrap_or(&0), held.iter().max().unwrap_or(&0));
        assert!(*least + 300 >= *most && held.iter().sum::<u64>() >= EXPRESS * 2 / 3, "{held:?}");
    }

    #[test]
    fn who_needs_something_is_told_when_its_source_has_room_whatever_others_do_then() {
        let mut cap = GrantCap::new(SIZE);
        while get(&mut cap, 1, 1, wants(EXPRESS)) + get(&mut cap, 2, 1, wants(EXPRESS)) > 0 {}
        let room = cap.source_room((3, Lane::Ordinary), &1, Class::Express);
        // The first is the guest, and the others wait for room, or to be that.
        assert_eq!(get(&mut cap, 3, 1, needs(room + 10)), room + 10);
        let waits = |cap: &mut GrantCap<u32>| [4, 5].map(|session| get(cap, session, 1, needs(room + 20)));
        assert_eq!((waits(&mut cap), get(&mut cap, 6, 2, needs(100))), ([0, 0], 100));
        let mut told = BTreeSet::new();
        let back = Renewal { returned: 1000, ..Renewal::default() };
        cap.renew(1, &1, (Lane::Ordinary, Class::Express), back, |session| {
            told.insert(session);
        });
        // One of them may be unable to renew.
        assert_eq!(told, BTreeSet::from([4, 5]));
        assert_eq!(get(&mut cap, 5, 1, needs(room + 20)), room + 20);
    }

    /// What the test knows of a session in one lane and class.
    #[derive(Debug, Clone, Copy, Default)]
    struct Known {
        held: u64,
        /// What it needs, if it was not told since.
        waits: u64,
    }

    /// What sessions of a few sources do.
    #[derive(Default)]
    struct Model(BTreeMap<(u64, Lane, Class), Known>);

    impl Model {
        /// The last session never renews when it is told.
        const DEAF: u64 = 8;

        fn source(session: u64) -> u32 {
            (session % 3) as u32
        }

        fn renew(
            &mut self,
            cap: &mut GrantCap<u32>,
            (session, lane, class): (u64, Lane, Class),
            renewal: Renewal,
            told: &mut BTreeSet<u64>,
        ) {
            let known = self.0.entry((session, lane, class)).or_default();
            let ready = |other| {
                told.insert(other);
            };
            let got = cap.renew(session, &Self::source(session), (lane, class), renewal, ready);
            known.held = known.held + renewal.charged - renewal.returned + got;
            known.waits = if got < renewal.needed { renewal.needed } else { 0 };
            assert!(got == 0 || got >= renewal.needed);
        }

        /// Those that are told ask again, until nobody is told any more.
        fn answer(&mut self, cap: &mut GrantCap<u32>, mut told: BTreeSet<u64>) {
            for round in 0.. {
                assert!(round < 100, "it does not end");
                if told.remove(&Self::DEAF) {
                    let of_deaf = self.0.iter_mut().filter(|((session, ..), _)| *session == Self::DEAF);
                    of_deaf.for_each(|(_, known)| known.waits = 0);
                }
                let Some(session) = told.pop_first() else { return };
                for (lane, class) in LANES.into_iter().flat_map(|lane| CLASSES.map(|class| (lane, class))) {
                    let key = (session, lane, class);
                    let again = needs(self.0.get(&key).map_or(0, |known| known.waits));
                    self.renew(cap, key, again, &mut told);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn nobody_waits_though_there_is_room(
            steps in prop::collection::vec((0u64..=Model::DEAF, any::<(bool, bool, bool)>(), 0u64..8000, 0u64..8000, 0u8..20), 1..150),
        ) {
            let (mut cap, mut model) = (GrantCap::new(SIZE), Model::default());
            for (session, (exempt, bulk, spare), returned, needed, what) in steps {
                let key = (session, LANES[usize::from(exempt)], CLASSES[usize::from(bulk)]);
                let mut told = BTreeSet::new();
                match what {
                    0 => {
                        cap.leave(session, &Model::source(session), |other| {
                            told.insert(other);
                        });
                        model.0.retain(|&(other, ..), _| other != session);
                    }
                    1 => model.renew(&mut cap, key, Renewal { charged: needed / 8, ..Renewal::default() }, &mut told),
                    _ => {
                        let known = model.0.get(&key).copied().unwrap_or_default();
                        let (returned, needed) = (returned.min(known.held), needed.max(known.waits));
                        let spare = spare && needed == 0;
                        let renewal = Renewal { returned, needed, wanted: 2 * needed + 10, spare, charged: 0 };
                        model.renew(&mut cap, key, renewal, &mut told);
                    }
                }
                model.answer(&mut cap, told);
                prop_assert_eq!(cap.used(), model.0.values().map(|known| known.held).sum::<u64>());
                prop_assert_eq!(cap.window.used(), cap.held.values().sum::<u64>());
                for (&(session, lane, class), known) in model.0.iter().filter(|(_, known)| known.waits > 0) {
                    let key = (session, lane);
                    let room = cap.source_room(key, &Model::source(session), class);
                    let fits = cap.window.has_room(&key, class, known.waits) && known.waits <= room;
                    prop_assert!(!fits, "{key:?} waits for {} bytes that it may have", known.waits);
                }
            }
            for session in 0..=Model::DEAF {
                cap.leave(session, &Model::source(session), |_| {});
            }
            prop_assert_eq!((cap.used(), cap.held.len(), cap.refused.len(), cap.waiting.values().flatten().count()), (0, 0, 0, 0));
        }
    }
}
