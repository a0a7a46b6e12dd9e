//! Random numbers that nobody can guess.

use std::cell::RefCell;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// What a thread asks the system for at a time: a question costs as much as some hundred numbers.
const BLOCK: usize = 512;

thread_local! {
    static LEFT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A number that is not known from any others.
pub fn number() -> u64 {
    LEFT.with(|left| {
        let mut left = left.borrow_mut();
        if left.is_empty() {
            left.resize(BLOCK, 0);
            if getrandom::fill(&mut left).is_err() {
                // As no system that a node has started on does: its secrets come from the same source.
                left.clear();
            }
        }
        match left.last_chunk().copied() {
            Some(last) => {
                let rest = left.len() - 8;
                left.truncate(rest);
                u64::from_ne_bytes(last)
            }
            None => RandomState::new().hash_one(BLOCK),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_number_comes_twice() {
        let numbers: HashSet<u64> = (0..10_000).map(|_| number()).collect();
        assert_eq!(numbers.len(), 10_000);
        assert_eq!(
            numbers.iter().fold((0, !0), |(or, and), n| (or | n, and & n)),
            (!0, 0),
            "all bits are used"
        );
    }
}
