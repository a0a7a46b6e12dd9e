//! Unsigned integers in seven-bit groups, least significant first (LEB128).

use super::WireError;
use bytes::{BufMut, BytesMut};

pub(crate) fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Takes one number off the front of `input`.
#[inline]
pub(crate) fn take_varint(input: &mut &[u8], what: &'static str) -> Result<u64, WireError> {
    match **input {
        [byte @ 0..0x80, ref rest @ ..] => {
            *input = rest;
            Ok(byte.into())
        }
        _ => take_long_varint(input, what),
    }
}

fn take_long_varint(input: &mut &[u8], what: &'static str) -> Result<u64, WireError> {
    let mut value = 0u64;
    for (i, &byte) in input.iter().enumerate().take(10) {
        let group = u64::from(byte & 0x7f);
        if i == 9 && group > 1 {
            return Err(WireError::OutOfRange { field: what, value: u64::MAX, allowed: u64::MAX });
        }
        value |= group << (7 * i);
        if byte < 0x80 {
            *input = &input[i + 1..];
            return Ok(value);
        }
    }
    Err(WireError::Truncated(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_survives() {
        let values = (0..64).flat_map(|bit| [1u64 << bit, (1u64 << bit) - 1, (1u64 << bit) + 1]);
        for value in values.chain([0, u64::MAX]) {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            let mut input = &out[..];
            assert_eq!(take_varint(&mut input, "test"), Ok(value));
            assert!(input.is_empty());
        }
    }

    #[test]
    fn an_endless_or_oversized_number_is_refused() {
        assert!(take_varint(&mut &[0x80u8; 9][..], "test").is_err());
        assert!(take_varint(&mut &[0xffu8; 12][..], "test").is_err());
        let mut too_wide = [0x80u8; 10];
        too_wide[9] = 2;
        assert!(take_varint(&mut &too_wide[..], "test").is_err());
    }
}
