//! Processes of a kind, each at a place of its own: what starts relays, and builders. They are there before a node listens, and outlive it.

use crate::lock::Lock;

pub(crate) struct Places<T>(Lock<Vec<Option<T>>>);

impl<T: Clone> Places<T> {
    pub(crate) const fn new() -> Self {
        Self(Lock::new(Vec::new()))
    }

    /// One has started at that place, of this many.
    pub(crate) fn set(&self, place: usize, count: usize, value: T) {
        let mut places = self.0.lock();
        places.resize(count, None);
        if let Some(entry) = places.get_mut(place) {
            *entry = Some(value);
        }
    }

    /// The one at the place that `pick` makes of their number, if there is one.
    pub(crate) fn get(&self, pick: impl FnOnce(usize) -> Option<usize>) -> Option<T> {
        let places = self.0.lock();
        places.get(pick(places.len())?).cloned().flatten()
    }

    /// Whether it is still at a place, be it ended.
    pub(crate) fn has(&self, value: &T) -> bool
    where
        T: PartialEq,
    {
        self.0.lock().iter().flatten().any(|entry| entry == value)
    }

    /// Whether there are places, and each has one, be it one that has ended.
    pub(crate) fn are_taken(&self) -> bool {
        let places = self.0.lock();
        !places.is_empty() && places.iter().all(Option::is_some)
    }

    /// How many places there are.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }
}
