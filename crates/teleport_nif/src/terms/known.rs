//! Atoms that this thread has met, by how they are encoded: to look one up in the virtual machine's table takes ten times as
//! long, since many threads share that.

use rustler::types::atom::Atom;
use std::cell::Cell;

/// A longer one is looked up each time.
const LONGEST: usize = 46;

/// Places; an atom has one, and takes it from the one before. Peers that choose theirs for that only slow down themselves.
const PLACES: usize = 1024;

struct Place {
    atom: Atom,
    len: u8,
    encoded: [u8; LONGEST],
}

thread_local! {
    static OF_THREAD: Cell<Vec<Option<Place>>> = const { Cell::new(Vec::new()) };
}

/// Those of this thread, which gets them back when this is dropped.
pub(crate) struct Known {
    places: Vec<Option<Place>>,
}

impl Known {
    pub(crate) fn of_thread() -> Self {
        Self { places: OF_THREAD.take() }
    }

    /// The atom that these bytes encode, found like that if it is not among the known ones. Atoms are never freed, so one that
    /// is known stays what it is.
    pub(crate) fn atom(&mut self, encoded: &[u8], find: impl FnOnce() -> Option<Atom>) -> Option<Atom> {
        if encoded.len() > LONGEST {
            return find();
        }
        if self.places.is_empty() {
            self.places.resize_with(PLACES, || None);
        }
        let place = &mut self.places[hash(encoded) % PLACES];
        if let Some(known) = place
            && known.encoded.get(..usize::from(known.len)) == Some(encoded)
        {
            return Some(known.atom);
        }
        let atom = find()?;
        let mut copy = [0; LONGEST];
        copy[..encoded.len()].copy_from_slice(encoded);
        *place = Some(Place { atom, len: encoded.len() as u8, encoded: copy }); // at most LONGEST
        Some(atom)
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        // A thread that ends has no use for them.
        let _ = OF_THREAD.try_with(|places| places.set(std::mem::take(&mut self.places)));
    }
}

fn hash(bytes: &[u8]) -> usize {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(0, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let hash = rest.iter().fold(hash, |hash, &byte| mix(hash, byte.into()));
    (hash >> 32) as usize
}
