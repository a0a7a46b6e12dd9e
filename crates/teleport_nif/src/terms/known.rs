//! Atoms that this thread has met, by how they are encoded: to look one up in the virtual machine's table takes ten times as
//! long, since many threads share that.

use rustler::types::atom::Atom;
use std::cell::Cell;

/// Bytes of a longer one do not fit in; it is looked up each time.
const LONGEST: usize = 43;

/// An atom has its place in one of so many sets, and takes it from the one that came first. Peers that choose theirs for that only
/// slow down themselves.
const SETS: usize = 512;
const PLACES_OF_A_SET: usize = 4;

#[derive(Clone, Copy)]
struct Place {
    atom: Option<Atom>,
    hash: u32,
    len: u8,
    encoded: [u8; LONGEST],
}

const EMPTY: Place = Place { atom: None, hash: 0, len: 0, encoded: [0; LONGEST] };

type Set = [Place; PLACES_OF_A_SET];

thread_local! {
    static OF_THREAD: Cell<Vec<Set>> = const { Cell::new(Vec::new()) };
}

/// Those of this thread, which gets them back when this is dropped.
pub(crate) struct Known {
    sets: Vec<Set>,
}

impl Known {
    pub(crate) fn of_thread() -> Self {
        Self { sets: OF_THREAD.take() }
    }

    /// The atom that these bytes encode, found like that if it is not among the known ones. Atoms are never freed, so one that
    /// is known stays what it is.
    #[inline]
    pub(crate) fn atom(&mut self, encoded: &[u8], find: impl FnOnce() -> Option<Atom>) -> Option<Atom> {
        if encoded.len() > LONGEST {
            return find();
        }
        if self.sets.is_empty() {
            self.sets.resize(SETS, [EMPTY; PLACES_OF_A_SET]);
        }
        let hash = hash(encoded);
        let set = &mut self.sets[hash as usize % SETS];
        let is_it = |place: &&Place| {
            place.hash == hash && place.encoded.get(..usize::from(place.len)) == Some(encoded)
        };
        if let Some(known) = set.iter().find(is_it) {
            return known.atom;
        }
        let atom = find()?;
        set.rotate_right(1);
        let mut place = Place { atom: Some(atom), hash, len: encoded.len() as u8, ..EMPTY }; // at most LONGEST
        place.encoded[..encoded.len()].copy_from_slice(encoded);
        set[0] = place;
        Some(atom)
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        // A thread that ends has no use for them.
        let _ = OF_THREAD.try_with(|sets| sets.set(std::mem::take(&mut self.sets)));
    }
}

fn hash(bytes: &[u8]) -> u32 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(0, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let hash = rest.iter().fold(hash, |hash, &byte| mix(hash, byte.into()));
    // The last bytes of the last word are in the upper bits alone so far.
    (mix(0, hash ^ hash >> 32) >> 32) as u32
}
