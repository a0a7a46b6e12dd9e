//! How many sessions others may open.

use std::hash::Hash;

use rustc_hash::FxHashMap;

use crate::SessionId;

/// One source has one of this many parts. What a holder of the cookie can take of a node's memory grows with its sessions.
const PARTS: usize = 16;

/// Counts the sessions that others have opened, by where they came from. `S` is a source.
#[derive(Debug)]
pub struct SessionLimit<S> {
    most: usize,
    sessions: FxHashMap<SessionId, S>,
    by_source: FxHashMap<S, usize>,
}

impl<S: Copy + Eq + Hash> SessionLimit<S> {
    /// Allows `most` in all, and a sixteenth of them from one source.
    pub fn new(most: usize) -> Self {
        Self { most, sessions: FxHashMap::default(), by_source: FxHashMap::default() }
    }

    /// Whether there is room for one more from a source.
    pub fn has_room(&self, source: S) -> bool {
        let of_source = self.by_source.get(&source).copied().unwrap_or(0);
        self.sessions.len() < self.most && of_source < self.most.div_ceil(PARTS)
    }

    /// A session has begun that was opened from there.
    pub fn begun(&mut self, session: SessionId, source: S) {
        if self.sessions.insert(session, source).is_none() {
            *self.by_source.entry(source).or_default() += 1;
        }
    }

    /// A session has ended, opened by either side.
    pub fn ended(&mut self, session: SessionId) {
        let Some(source) = self.sessions.remove(&session) else { return };
        if let Some(count) = self.by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> SessionId {
        SessionId::new(u128::from(number + 1).to_be_bytes()).expect("not zero")
    }

    #[test]
    fn one_source_has_a_sixteenth_and_all_have_the_whole() {
        let mut limit = SessionLimit::new(65);
        for number in 0..5 {
            assert!(limit.has_room(0));
            limit.begun(id(number), 0);
        }
        assert!(!limit.has_room(0), "a sixteenth of it, and one for good measure");
        for number in 5..65 {
            assert!(limit.has_room(number));
            limit.begun(id(number), number);
        }
        assert!(!limit.has_room(5) && !limit.has_room(65));
        limit.ended(id(0));
        assert!(limit.has_room(0) && limit.has_room(65));
        for number in 0..65 {
            limit.ended(id(number));
        }
        assert!(limit.by_source.is_empty(), "nothing is left of those that have ended");
    }
}
