//! Leaves as they stand in a document.

use std::borrow::Cow;

use num_bigint::{BigInt, Sign};

use crate::atom::Atom;

/// Sign and magnitude, little-endian, the last byte not 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Big<'a> {
    pub(crate) negative: bool,
    pub(crate) magnitude: &'a [u8],
}

/// An atom as it stands in the document; it has at most 255 characters.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Name<'a> {
    Utf8(&'a str),
    Latin1(&'a [u8]),
}

impl<'a> Name<'a> {
    pub(crate) fn text(self) -> Cow<'a, str> {
        match self {
            Name::Utf8(text) => Cow::Borrowed(text),
            Name::Latin1(bytes) => Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()),
        }
    }

    pub(crate) fn to_atom(self) -> Atom {
        Atom::from_checked(&self.text())
    }

    /// What an atom of this name takes apart from itself.
    pub(crate) fn beyond_place(self) -> usize {
        match self {
            Name::Utf8(text) if text.len() <= Atom::IN_PLACE => 0,
            Name::Utf8(text) => text.len(),
            Name::Latin1(bytes) => 2 * bytes.len(), // at most
        }
    }

    pub(crate) fn is(self, text: &str) -> bool {
        matches!(self, Name::Utf8(name) if name == text)
    }
}

impl Big<'_> {
    pub(crate) fn to_bigint(self) -> BigInt {
        BigInt::from_bytes_le(if self.negative { Sign::Minus } else { Sign::Plus }, self.magnitude)
    }

    /// The magnitude, if it fits.
    pub(crate) fn to_u128(self) -> Option<u128> {
        little_endian_u128(self.magnitude)
    }
}

/// The number, if it fits.
pub(super) fn little_endian(bytes: &[u8]) -> Option<u64> {
    let mut word = [0; 8];
    word.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(u64::from_le_bytes(word))
}

fn little_endian_u128(bytes: &[u8]) -> Option<u128> {
    let mut word = [0; 16];
    word.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(u128::from_le_bytes(word))
}
