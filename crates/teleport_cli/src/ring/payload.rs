//! Whether a payload is what its sender made.

use std::hash::Hasher;

use rustc_hash::FxHasher;

/// A fast hash that is the same in every process: it is to notice mistakes, not attacks.
pub(crate) fn checksum(payload: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(payload);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_notices_a_flipped_bit_and_swapped_blocks() {
        let mut payload: Vec<u8> = (0..100_000u32).map(|i| (i * 7) as u8).collect();
        let expected = checksum(&payload);
        payload[77_777] ^= 1;
        assert_ne!(checksum(&payload), expected);
        payload[77_777] ^= 1;
        assert_eq!(checksum(&payload), expected);
        payload[1000] = 9;
        payload.swap(1000, 1064);
        assert_ne!(checksum(&payload), expected);
    }
}
