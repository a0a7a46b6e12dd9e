//! A window that many share, and that none of them can take from the others.

#[cfg(feature = "planted-faults")]
use crate::Faults;
use crate::wire::pool::Class;
use std::collections::BTreeMap;

/// How a [`FairWindow`] is shared, in bytes. Of each a quarter is for express messages and the rest for bulk, as in a
/// [`Window`](super::Window).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharing {
    /// What all members together may hold, but for what `share` lets them hold beyond.
    pub size: u64,
    /// What each may hold whatever the others do.
    pub share: u64,
    /// Whatever the others do, a member that holds nothing may take one message of any size.
    pub alone: bool,
    /// What each may hold at most. A message that is larger is let in when its member holds nothing.
    pub most: u64,
}

/// A window that many share: sessions a node's, or peers a mailbox's.
///
/// A member may take bytes if it then holds no more than what is left free. So a member that is alone gets half of the
/// window, and however much the others hold, they leave some for the next; a small member never waits for large ones, and
/// there is no table of who may have how much. Members that never give back halve the rest again and again: against those,
/// each has a share that does not depend on the others.
///
/// A member is known while it holds something or was refused something.
#[derive(Debug)]
pub struct FairWindow<K> {
    express: Part<K>,
    bulk: Part<K>,
}

#[derive(Debug)]
struct Part<K> {
    level: Level,
    held: BTreeMap<K, u64>,
    /// What was refused to members: the smallest of it.
    refused: BTreeMap<K, u64>,
    /// Nothing smaller was refused.
    least_refused: u64,
}

/// How full a part is, and how full it may be.
#[derive(Debug)]
struct Level {
    sharing: Sharing,
    used: u64,
    #[cfg(feature = "planted-faults")]
    faults: Faults,
}

impl<K: Ord + Clone> FairWindow<K> {
    /// An empty window.
    pub fn new(sharing: Sharing) -> Self {
        let Sharing { size, share, alone, most } = sharing;
        let express = Sharing { size: size / 4, share: share.div_ceil(4), alone, most: most / 4 };
        let bulk =
            Sharing { size: size - express.size, share: share - share / 4, alone, most: most - express.most };
        Self { express: Part::new(express), bulk: Part::new(bulk) }
    }

    /// An empty window in which each may hold so much of one class whatever the others do.
    pub fn with_share(mut self, class: Class, share: u64) -> Self {
        self.part_mut(class).level.sharing.share = share;
        self
    }

    /// Plants a fault.
    #[cfg(feature = "planted-faults")]
    pub fn plant(&mut self, faults: Faults) {
        (self.express.level.faults, self.bulk.level.faults) = (faults, faults);
    }

    /// Whether a member may have the bytes.
    pub fn has_room(&self, member: &K, class: Class, bytes: u64) -> bool {
        let part = self.part(class);
        part.level.fits(part.held(member), bytes)
    }

    /// How much more a member may have; if it is `spare`, only out of the half of the window that is filled first.
    pub fn room(&self, member: &K, class: Class, spare: bool) -> u64 {
        let part = self.part(class);
        part.level.left_for(part.held(member), spare)
    }

    /// Bytes of one class that nobody holds.
    pub fn free(&self, class: Class) -> u64 {
        let level = &self.part(class).level;
        level.sharing.size.saturating_sub(level.used)
    }

    /// Takes the bytes for a member if it may have them. If not, that is remembered: see [`FairWindow::give_back`].
    pub fn try_take(&mut self, member: &K, class: Class, bytes: u64) -> bool {
        let part = self.part_mut(class);
        let held = part.held.get_mut(member);
        let fits = part.level.fits(held.as_deref().copied().unwrap_or(0), bytes);
        match held {
            Some(held) if fits => {
                *held += bytes;
                part.level.used += bytes;
            }
            None if fits => part.take(member, bytes),
            _ => {
                let refused = part.refused.entry(member.clone()).or_insert(bytes);
                *refused = bytes.min(*refused);
                part.least_refused = bytes.min(part.least_refused);
            }
        }
        fits
    }

    /// Takes up to this many bytes for a member, as many as it [may](Self::room) have. What it does not get is not remembered.
    pub fn take_up_to(&mut self, member: &K, class: Class, bytes: u64, spare: bool) -> u64 {
        let taken = bytes.min(self.room(member, class, spare));
        if taken > 0 {
            self.part_mut(class).take(member, taken);
        }
        taken
    }

    /// Takes the bytes for a member whether or not it may have them.
    pub fn take(&mut self, member: &K, class: Class, bytes: u64) {
        self.part_mut(class).take(member, bytes);
    }

    /// A member gives bytes back. Calls `ready` for each *other* one that was refused something and may have it now; this
    /// one tries again by itself.
    pub fn give_back(&mut self, member: &K, class: Class, bytes: u64, ready: impl FnMut(&K)) {
        let part = self.part_mut(class);
        part.refused.remove(member);
        part.give_back(member, bytes);
        part.tell(ready);
    }

    /// A member goes, and gives back whatever it holds. Calls `ready` as [`FairWindow::give_back`] does.
    pub fn leave(&mut self, member: &K, mut ready: impl FnMut(&K)) {
        for part in [&mut self.express, &mut self.bulk] {
            part.refused.remove(member);
            part.give_back(member, u64::MAX);
            part.tell(&mut ready);
        }
    }

    /// Bytes that all members hold.
    pub fn used(&self) -> u64 {
        self.express.level.used + self.bulk.level.used
    }

    /// Bytes that a member holds.
    pub fn used_by(&self, member: &K) -> u64 {
        self.express.held(member) + self.bulk.held(member)
    }

    /// Bytes of one class that a member holds.
    pub fn held_by(&self, member: &K, class: Class) -> u64 {
        self.part(class).held(member)
    }

    /// Members that are known.
    pub fn members(&self) -> usize {
        let part = |part: &Part<K>| part.held.len() + part.refused.len();
        part(&self.express) + part(&self.bulk)
    }

    fn part(&self, class: Class) -> &Part<K> {
        match class {
            Class::Express => &self.express,
            Class::Bulk => &self.bulk,
        }
    }

    fn part_mut(&mut self, class: Class) -> &mut Part<K> {
        match class {
            Class::Express => &mut self.express,
            Class::Bulk => &mut self.bulk,
        }
    }
}

impl Level {
    /// Whether a member with this much may take this much more.
    fn fits(&self, held: u64, bytes: u64) -> bool {
        let Sharing { size, share, alone, most } = self.sharing;
        let free = size.saturating_sub(self.used);
        #[cfg(feature = "planted-faults")]
        if self.faults.unfair_budget {
            return self.used == 0 || bytes <= free;
        }
        let then = held.saturating_add(bytes);
        let in_share = then <= share || (alone && held == 0);
        let in_free = (held == 0 || then <= most) && then.saturating_add(bytes) <= free;
        self.used == 0 || in_share || in_free
    }
}

impl Level {
    /// Whether no member may take this much, whatever it holds.
    fn is_too_full_for(&self, bytes: u64) -> bool {
        let Sharing { size, share, alone, .. } = self.sharing;
        let shared = alone || bytes <= share || self.used == 0;
        !shared && bytes.saturating_mul(2) > size.saturating_sub(self.used)
    }

    /// How much more a member with this much may take.
    fn left_for(&self, held: u64, spare: bool) -> u64 {
        let Sharing { size, share, most, .. } = self.sharing;
        let free = size.saturating_sub(self.used).saturating_sub(if spare { size / 2 } else { 0 });
        let in_free = (free.saturating_sub(held) / 2).min(most.saturating_sub(held));
        in_free.max(share.saturating_sub(held))
    }
}

impl<K: Ord + Clone> Part<K> {
    fn new(sharing: Sharing) -> Self {
        let level = Level {
            sharing,
            used: 0,
            #[cfg(feature = "planted-faults")]
            faults: Faults::default(),
        };
        Self { level, held: BTreeMap::new(), refused: BTreeMap::new(), least_refused: u64::MAX }
    }

    fn held(&self, member: &K) -> u64 {
        self.held.get(member).copied().unwrap_or(0)
    }

    fn take(&mut self, member: &K, bytes: u64) {
        self.level.used += bytes;
        match self.held.get_mut(member) {
            Some(held) => *held += bytes,
            None => drop(self.held.insert(member.clone(), bytes)),
        }
    }

    /// Gives back so much, or all that the member has.
    fn give_back(&mut self, member: &K, bytes: u64) {
        let Some(held) = self.held.get_mut(member) else { return };
        let bytes = bytes.min(*held);
        self.level.used -= bytes;
        *held -= bytes;
        if *held == 0 {
            self.held.remove(member);
        }
    }

    fn tell(&mut self, mut ready: impl FnMut(&K)) {
        if self.level.is_too_full_for(self.least_refused) {
            return; // however many have been refused, they need not be asked
        }
        let mut refused = std::mem::take(&mut self.refused);
        refused.retain(|member, &mut bytes| {
            let fits = self.level.fits(self.held(member), bytes);
            if fits {
                ready(member);
            }
            !fits
        });
        if refused.is_empty() {
            self.least_refused = u64::MAX;
        }
        self.refused = refused;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const KIB: u64 = 1024;

    fn window(size: u64, share: u64) -> FairWindow<u32> {
        FairWindow::new(Sharing { size, share, alone: share > 0, most: u64::MAX })
    }

    /// Takes messages of this many bytes until it is refused.
    fn fill(window: &mut FairWindow<u32>, member: u32, class: Class, bytes: u64) -> u64 {
        std::iter::repeat_with(|| window.try_take(&member, class, bytes)).take_while(|&taken| taken).count()
            as u64
            * bytes
    }

    #[test]
    fn a_latecomer_finds_room_whatever_the_others_hold() {
        for class in [Class::Express, Class::Bulk] {
            let mut window = window(1024 * KIB, 16 * KIB);
            let stopped: Vec<_> = (0..100).map(|member| fill(&mut window, member, class, 100)).collect();
            let least = if class == Class::Express { 4 * KIB } else { 12 * KIB };
            assert!(stopped.iter().all(|&held| held > least - 100), "{stopped:?}");
            assert!(fill(&mut window, 100, class, 100) > least - 100);
            assert!(window.used() <= 1024 * KIB + 101 * least);
            // One that holds nothing may take a message of any size.
            assert!(window.try_take(&101, class, 1 << 40) && !window.try_take(&101, class, 1));
        }
    }

    #[test]
    fn those_who_give_back_share_alike() {
        let mut window = window(400 * KIB, 0);
        // Two that take whatever they can get, and give back all the time.
        fill(&mut window, 1, Class::Express, 100);
        for _ in 0..10_000 {
            window.give_back(&1, Class::Express, 100, |_| {});
            fill(&mut window, 2, Class::Express, 100);
            fill(&mut window, 1, Class::Express, 100);
        }
        let (one, two) = (window.used_by(&1), window.used_by(&2));
        assert!(one.abs_diff(two) <= 200 && one + two >= 64 * KIB, "{one} {two}");
    }

    #[test]
    fn neither_class_reaches_into_the_other() {
        let mut window = window(400, 0);
        assert!(window.try_take(&1, Class::Bulk, 150) && !window.try_take(&1, Class::Bulk, 10));
        assert!(window.try_take(&1, Class::Express, 40) && !window.try_take(&1, Class::Express, 30));
        assert_eq!((window.used(), window.used_by(&1)), (190, 190));
    }

    #[test]
    fn only_those_are_told_for_whom_there_is_room() {
        let mut window = window(4000, 0);
        let express = Class::Express;
        assert!(window.try_take(&1, express, 400) && window.try_take(&2, express, 200));
        assert!(!window.try_take(&1, express, 100) && !window.try_take(&3, express, 250));
        let told = |window: &mut FairWindow<u32>, bytes| {
            let mut told = Vec::new();
            window.give_back(&2, express, bytes, |&member| told.push(member));
            told
        };
        assert_eq!(told(&mut window, 50), [] as [u32; 0]);
        assert_eq!(told(&mut window, 100), [3]);
        assert_eq!(told(&mut window, 50), [1]);
        assert_eq!(told(&mut window, 0), [] as [u32; 0]);
        // Of what was refused twice the smaller part counts.
        assert!(!window.try_take(&1, express, 500) && !window.try_take(&1, express, 301));
        let mut told = Vec::new();
        assert!(window.try_take(&2, express, 100));
        window.leave(&2, |&member| told.push(member));
        assert_eq!((told, window.used()), (vec![], 400));
        window.leave(&1, |_| panic!("nobody else waits"));
        assert_eq!((window.used(), window.members()), (0, 0));
    }

    #[test]
    fn without_a_share_large_messages_enter_one_at_a_time() {
        let mut window = FairWindow::new(Sharing { size: 4000, share: 0, alone: false, most: 1000 });
        assert!(window.try_take(&1, Class::Bulk, 9000));
        assert!(!window.try_take(&2, Class::Bulk, 9000) && !window.try_take(&2, Class::Bulk, 1));
        window.leave(&1, |_| {});
        // More than one may hold, but there is room.
        assert!(window.try_take(&1, Class::Bulk, 1200) && !window.try_take(&1, Class::Bulk, 1));
        assert!(window.try_take(&2, Class::Bulk, 700) && !window.try_take(&2, Class::Bulk, 51));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nobody_waits_in_vain(
            steps in prop::collection::vec((0u32..6, any::<bool>(), 1u64..3000, 0u8..8), 1..200),
            share in prop_oneof![Just(0u64), Just(400u64)],
        ) {
            let mut window = FairWindow::new(Sharing { size: 8000, share, alone: share > 0, most: u64::MAX });
            let mut held = BTreeMap::<(u32, bool), Vec<u64>>::new();
            let mut waiting = BTreeMap::<(u32, bool), u64>::new();
            for (member, bulk, bytes, what) in steps {
                let class = if bulk { Class::Bulk } else { Class::Express };
                let mut told = BTreeSet::new();
                match what {
                    0 => {
                        window.leave(&member, |&m| { told.insert(m); });
                        held.retain(|key, _| key.0 != member);
                        waiting.retain(|key, _| key.0 != member);
                    }
                    1..=3 => {
                        if let Some(bytes) = held.get_mut(&(member, bulk)).and_then(Vec::pop) {
                            window.give_back(&member, class, bytes, |&m| { told.insert(m); });
                            waiting.remove(&(member, bulk));
                        }
                    }
                    _ => {
                        let none = window.part_mut(class).held(&member) == 0;
                        if window.try_take(&member, class, bytes) {
                            held.entry((member, bulk)).or_default().push(bytes);
                        } else {
                            prop_assert!(share == 0 || !none);
                            let least = waiting.entry((member, bulk)).or_insert(bytes);
                            *least = bytes.min(*least);
                        }
                    }
                }
                let sum: u64 = held.values().flatten().sum();
                prop_assert_eq!(window.used(), sum);
                prop_assert!((0..6).map(|m| window.used_by(&m)).sum::<u64>() == sum);
                waiting.retain(|&(m, _), _| !told.contains(&m) || m == member);
                // A member that could have what was refused has been told, or is the one that gave back.
                for (&(m, bulk), &bytes) in &waiting {
                    let part = window.part_mut(if bulk { Class::Bulk } else { Class::Express });
                    prop_assert!(m == member || what > 3 || !part.level.fits(part.held(&m), bytes));
                }
            }
        }
    }
}
