//! What a node's processes wait for: the answers to their calls, and the ends of processes. Each ends once.
//!
//! A *watch* goes by a reference that no other has. Whatever ends it takes it out of the table, with who waits, and that is how it
//! ends once: what comes under its reference afterwards finds nobody.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::wire::envelope::RefId;

/// What a process is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Its answer to a request, or its end.
    Call,
    /// Its end.
    Monitor,
}

/// Where a process is that is watched: on this node, in place of the number of a session.
pub const HERE: u64 = 0;

/// Everything that a node's processes wait for. `W` is who waits, and what else there is to a watch.
///
/// ```
/// use teleport_proto::watches::{Purpose, Waiting};
/// use teleport_proto::wire::envelope::RefId;
///
/// let reference = RefId::new(&[1]).unwrap();
/// let mut waiting = Waiting::default();
/// waiting.insert(reference, 7, Purpose::Call, "caller");
/// assert_eq!(waiting.answered(reference, 7), Some(("caller", false)));
/// assert_eq!(waiting.answered(reference, 7), None);
/// assert!(waiting.session_ended(7, 64).is_empty());
/// ```
#[derive(Debug)]
pub struct Waiting<W> {
    all: FxHashMap<RefId, Watch<W>>,
    /// Those that end with a session, by its number.
    sessions: FxHashMap<u64, FxHashSet<RefId>>,
    #[cfg(feature = "planted-faults")]
    faults: crate::Faults,
}

#[derive(Debug)]
struct Watch<W> {
    place: u64,
    purpose: Purpose,
    waiter: W,
}

impl<W> Default for Waiting<W> {
    fn default() -> Self {
        Waiting {
            all: FxHashMap::default(),
            sessions: FxHashMap::default(),
            #[cfg(feature = "planted-faults")]
            faults: crate::Faults::default(),
        }
    }
}

impl<W> Waiting<W> {
    /// Plants faults.
    #[cfg(feature = "planted-faults")]
    pub fn plant(&mut self, faults: crate::Faults) {
        self.faults = faults;
    }

    /// Somebody waits for a process that is at the other end of that session, or [`HERE`].
    pub fn insert(&mut self, reference: RefId, place: u64, purpose: Purpose, waiter: W) {
        if place != HERE {
            self.sessions.entry(place).or_default().insert(reference);
        }
        self.all.insert(reference, Watch { place, purpose, waiter });
    }

    /// Who waits under a reference.
    pub fn get(&self, reference: RefId) -> Option<&W> {
        self.all.get(&reference).map(|watch| &watch.waiter)
    }

    /// Who waits for a process in that place, and may be told from there that it has ended: nobody else can know.
    pub fn watched_in(&self, reference: RefId, place: u64) -> Option<&W> {
        self.all.get(&reference).filter(|watch| watch.place == place).map(|watch| &watch.waiter)
    }

    /// Ends a watch, for whatever reason. `None` if it has ended.
    pub fn remove(&mut self, reference: RefId) -> Option<W> {
        let Watch { place, waiter, .. } = self.all.remove(&reference)?;
        if let Some(references) = self.sessions.get_mut(&place) {
            references.remove(&reference);
            if references.is_empty() {
                self.sessions.remove(&place);
            }
        }
        Some(waiter)
    }

    /// A call is answered, or will not be: ends it. A process that it was handed on to may answer, from elsewhere: `true`.
    /// `None` for what nobody waits for (any more), and for what is no call.
    pub fn answered(&mut self, reference: RefId, from: u64) -> Option<(W, bool)> {
        #[cfg(feature = "planted-faults")]
        let reference = self.mistaken(reference);
        let watch = self.all.get(&reference).filter(|watch| watch.purpose == Purpose::Call)?;
        let elsewhere = watch.place != from;
        Some((self.remove(reference)?, elsewhere))
    }

    /// A session has ended, and all that is waited for over it. Ends up to `most` of that: it is to be asked until there is nothing.
    pub fn session_ended(&mut self, session: u64, most: usize) -> Vec<(RefId, W)> {
        #[cfg(feature = "planted-faults")]
        if self.faults.calls_outlive {
            return Vec::new();
        }
        let Some(references) = self.sessions.get(&session) else { return Vec::new() };
        let some: Vec<_> = references.iter().copied().take(most).collect();
        some.into_iter().filter_map(|reference| Some((reference, self.remove(reference)?))).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether nobody waits for anything.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Another call, in place of one that nobody waits for.
    #[cfg(feature = "planted-faults")]
    fn mistaken(&self, reference: RefId) -> RefId {
        let late = self.faults.any_call && !self.all.contains_key(&reference);
        self.all.keys().min().copied().filter(|_| late).unwrap_or(reference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(number: u32) -> RefId {
        RefId::new(&[number]).expect("a word")
    }

    #[test]
    fn what_has_ended_ends_no_more() {
        let mut waiting = Waiting::default();
        for (number, purpose) in [(1, Purpose::Call), (2, Purpose::Call), (3, Purpose::Monitor)] {
            waiting.insert(reference(number), 7, purpose, number);
        }
        assert_eq!(waiting.answered(reference(3), 7), None, "a monitor is not answered");
        assert_eq!(waiting.answered(reference(1), 8), Some((1, true)), "from elsewhere");
        assert_eq!((waiting.answered(reference(1), 7), waiting.remove(reference(1))), (None, None));
        assert_eq!(waiting.watched_in(reference(3), 8), None, "only its own node says that it has ended");
        assert_eq!(waiting.watched_in(reference(3), 7), Some(&3));
        let mut ended: Vec<_> = std::iter::from_fn(|| waiting.session_ended(7, 1).pop()).collect();
        ended.sort_unstable();
        assert_eq!(ended, [(reference(2), 2), (reference(3), 3)]);
        assert!(waiting.is_empty() && waiting.sessions.is_empty());
    }

    #[test]
    fn the_end_of_a_session_ends_nothing_of_another_nor_what_is_here() {
        let mut waiting = Waiting::default();
        for (number, place) in [(1, 7), (2, 8), (3, HERE)] {
            waiting.insert(reference(number), place, Purpose::Call, number);
        }
        assert_eq!(waiting.session_ended(7, 64), [(reference(1), 1)]);
        assert_eq!(waiting.session_ended(HERE, 64), []);
        assert_eq!(waiting.len(), 2);
    }
}
