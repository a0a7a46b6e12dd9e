//! Pool connections that peers have opened to this node: each takes a descriptor, and some memory.

use super::source::Source;
use crate::base::lock::Lock;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Those that each session may have whatever the others have: one for small messages, and one for large ones.
const LEAST: usize = 2;

/// The most that come from one source, beyond those: it has other sessions, or a session too many connections.
const MOST_OF_ONE: usize = 1024;

/// What there is for them. Those of one source leave as many free as they are.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    taken: Lock<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_source: FxHashMap<Source, usize>,
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    source: Source,
    of_session: Arc<AtomicUsize>,
}

impl Places {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Lock::default() })
    }

    /// A place for a connection from that source, of a session that has so many.
    pub(crate) fn take(self: &Arc<Self>, source: Source, of_session: &Arc<AtomicUsize>) -> Option<Place> {
        let mut taken = self.taken.lock();
        let free = self.most.saturating_sub(taken.all);
        let held = taken.by_source.entry(source).or_default();
        if of_session.load(Ordering::Relaxed) >= LEAST && *held >= free.min(MOST_OF_ONE) {
            return None;
        }
        *held += 1;
        taken.all += 1;
        of_session.fetch_add(1, Ordering::Relaxed);
        Some(Place { places: self.clone(), source, of_session: of_session.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of_session.fetch_sub(1, Ordering::Relaxed);
        let taken = &mut *self.places.taken.lock();
        taken.all -= 1;
        if let Some(held) = taken.by_source.get_mut(&self.source) {
            *held -= 1;
            if *held == 0 {
                taken.by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn source(number: u8) -> Source {
        Source::of(IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)))
    }

    /// As many as one session gets.
    fn fill(places: &Arc<Places>, source: Source) -> Vec<Place> {
        let session = Arc::default();
        std::iter::from_fn(|| places.take(source, &session)).collect()
    }

    #[test]
    fn one_source_leaves_places_to_others_and_each_session_has_some() {
        for (most, of_one) in [(100, 50), (1_000_000, MOST_OF_ONE)] {
            let places = Places::new(most);
            let mut first = fill(&places, source(1));
            assert_eq!(first.len(), of_one);
            let more: Vec<_> = (0..200).map(|_| fill(&places, source(1))).collect();
            assert!(more.iter().all(|of_session| of_session.len() == LEAST));
            assert!(fill(&places, source(2)).len() >= LEAST);
            drop(more);
            first.truncate(of_one / 2);
            assert!(fill(&places, source(2)).len() >= of_one / 2 - 1);
            drop(first);
            assert!(places.taken.lock().by_source.is_empty() && places.taken.lock().all == 0);
        }
    }
}
