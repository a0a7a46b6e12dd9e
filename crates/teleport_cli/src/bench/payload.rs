//! What is sent: from a seed and a message's name alone, both ends know its size and every byte.

use std::hash::{Hash, Hasher};

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use rustc_hash::FxHasher;

/// Bytes of the smallest payload.
pub(crate) const LEAST_SIZE: usize = 64;

/// Payloads of the largest size begin at one of this many places, so that they are not all the same.
const SLACK: usize = 64 * 1024;

/// How sizes are spread between the smallest and the largest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sizes {
    /// As many are below 1 KiB as between 1 and 16 KiB, and so on.
    Even,
    /// Half as many are above four times a size: most are small, and the few large ones have most of the bytes.
    HeavyTailed,
}

/// All payloads of a run: slices of one random block, so that none has to be made or copied.
#[derive(Debug, Clone)]
pub(crate) struct Payloads {
    seed: u64,
    sizes: Sizes,
    largest: usize,
    block: Bytes,
}

impl Payloads {
    /// The same in every node of a run.
    pub(crate) fn new(seed: u64, sizes: Sizes, largest: usize) -> Self {
        let mut block = vec![0; largest + SLACK];
        SmallRng::seed_from_u64(seed).fill_bytes(&mut block);
        Self { seed, sizes, largest, block: block.into() }
    }

    /// The payload of the message that is named like this.
    pub(crate) fn of(&self, message: impl Hash) -> Bytes {
        let mut random = random(self.seed, message);
        let size = self.sizes.draw(&mut random, self.largest);
        let begin = random.random_range(0..=self.block.len() - size);
        self.block.slice(begin..begin + size)
    }
}

impl Sizes {
    fn draw(self, random: &mut SmallRng, largest: usize) -> usize {
        let (least, most) = (LEAST_SIZE as f64, largest as f64);
        let size = match self {
            Self::Even => random.random_range(least.ln()..=most.ln()).exp(),
            Self::HeavyTailed => least / random.random_range((least / most).sqrt()..=1.0).powi(2),
        };
        (size.round() as usize).clamp(LEAST_SIZE, largest)
    }
}

/// Random numbers for one purpose of a run.
pub(crate) fn random(seed: u64, purpose: impl Hash) -> SmallRng {
    let mut hasher = FxHasher::default();
    (seed, purpose).hash(&mut hasher);
    SmallRng::seed_from_u64(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGEST: usize = 1 << 20;

    fn even(seed: u64) -> Payloads {
        Payloads::new(seed, Sizes::Even, LARGEST)
    }

    #[test]
    fn both_ends_agree_and_nobody_else() {
        let (ours, theirs) = (even(7), even(7));
        assert_eq!(ours.of(("a", 1)), theirs.of(("a", 1)));
        assert_ne!(ours.of(("a", 1)), ours.of(("a", 2)));
        assert_ne!(ours.of(("a", 1)), ours.of(("b", 1)));
        assert_ne!(ours.of(("a", 1)), even(8).of(("a", 1)));
    }

    /// How many of these are in each power of two from 64 bytes on.
    fn powers(payloads: &Payloads, count: usize) -> [u32; 15] {
        let mut powers = [0; 15];
        for number in 0..count {
            let size = payloads.of(number).len();
            assert!((LEAST_SIZE..=LARGEST).contains(&size));
            powers[(size / LEAST_SIZE).ilog2() as usize] += 1;
        }
        powers
    }

    #[test]
    fn sizes_are_mixed_evenly_on_a_logarithmic_scale() {
        // 64 B to 1 MiB are 14 powers of two.
        let powers = powers(&even(7), 14_000);
        assert!(powers[..14].iter().all(|count| (850..1150).contains(count)), "{powers:?}");
    }

    #[test]
    fn of_four_times_the_size_there_are_half_as_many() {
        let powers = powers(&Payloads::new(7, Sizes::HeavyTailed, LARGEST), 100_000);
        for (count, quarter) in powers[2..].iter().zip(&powers[..9]) {
            let ratio = f64::from(*count) / f64::from(*quarter);
            assert!((0.4..0.6).contains(&ratio), "{ratio}: {powers:?}");
        }
        assert!(powers[13] > 100, "the largest are among them: {powers:?}");
    }

    #[test]
    fn the_smallest_run_has_one_size() {
        for sizes in [Sizes::Even, Sizes::HeavyTailed] {
            assert_eq!(Payloads::new(7, sizes, LEAST_SIZE).of(1).len(), LEAST_SIZE);
        }
    }
}
