//! What is sent: from a message's pair and number alone, both ends know its size and every byte.

use std::hash::{Hash, Hasher};

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use rustc_hash::FxHasher;

use crate::args::LEAST_CHAOS_SIZE;
use crate::ring::figures::Pair;

/// Payloads of the largest size begin at one of this many places, so that they are not all the same.
const SLACK: usize = 64 * 1024;

/// All payloads of a run: slices of one random block, so that none has to be made or copied.
#[derive(Debug, Clone)]
pub(super) struct Payloads {
    seed: u64,
    largest: usize,
    block: Bytes,
}

impl Payloads {
    /// The same in every node of a run.
    pub(super) fn new(seed: u64, largest: usize) -> Self {
        let mut block = vec![0; largest + SLACK];
        SmallRng::seed_from_u64(seed).fill_bytes(&mut block);
        Self { seed, largest, block: block.into() }
    }

    /// The payload of a pair's message. As many are below 1 KiB as between 1 and 16 KiB, and so on.
    pub(super) fn of(&self, pair: Pair, number: u64) -> Bytes {
        let mut random = random(self.seed, (pair, number));
        let exponent = random.random_range((LEAST_CHAOS_SIZE as f64).ln()..=(self.largest as f64).ln());
        let size = (exponent.exp().round() as usize).clamp(LEAST_CHAOS_SIZE, self.largest);
        let begin = random.random_range(0..=self.block.len() - size);
        self.block.slice(begin..begin + size)
    }
}

/// Random numbers for one purpose of a run.
pub(super) fn random(seed: u64, purpose: impl Hash) -> SmallRng {
    let mut hasher = FxHasher::default();
    (seed, purpose).hash(&mut hasher);
    SmallRng::seed_from_u64(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: Pair = Pair { origin: 0, worker: 1, node: 2, inbox: 3 };
    const LARGEST: usize = 1 << 20;

    #[test]
    fn both_ends_agree_and_nobody_else() {
        let (ours, theirs) = (Payloads::new(7, LARGEST), Payloads::new(7, LARGEST));
        assert_eq!(ours.of(PAIR, 1), theirs.of(PAIR, 1));
        assert_ne!(ours.of(PAIR, 1), ours.of(PAIR, 2));
        assert_ne!(ours.of(PAIR, 1), ours.of(Pair { inbox: 4, ..PAIR }, 1));
        assert_ne!(ours.of(PAIR, 1), Payloads::new(8, LARGEST).of(PAIR, 1));
    }

    #[test]
    fn sizes_are_mixed_evenly_on_a_logarithmic_scale() {
        let payloads = Payloads::new(7, LARGEST);
        // 64 B to 1 MiB are 14 powers of two.
        let mut powers = [0; 14];
        for number in 0..14_000 {
            let size = payloads.of(PAIR, number).len();
            assert!((64..=LARGEST).contains(&size));
            powers[((size / 64).ilog2() as usize).min(13)] += 1;
        }
        assert!(powers.iter().all(|count| (850..1150).contains(count)), "{powers:?}");
    }

    #[test]
    fn the_smallest_run_has_one_size() {
        assert_eq!(Payloads::new(7, LEAST_CHAOS_SIZE).of(PAIR, 1).len(), LEAST_CHAOS_SIZE);
    }
}
