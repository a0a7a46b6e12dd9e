//! What terms have beyond the usual shapes: bits, tails, funs.

use bytes::{Bytes, BytesMut};

use super::Term;
use crate::atom::Atom;
use crate::binary::Binary;

/// Bits that do not fill whole bytes: at least one byte, of the last of which 1 to 7 bits are in use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BitString {
    bytes: Binary,
    last_bits: u8,
}

impl BitString {
    /// The bit string of these bytes, with this many bits in use in the last one, counted from its high end. A
    /// [`Term::Binary`] if there are no bytes or the last one is in use as a whole (8, or more).
    ///
    /// The unused bits are set to 0, as in Erlang; only if they were not, the bytes are copied.
    #[allow(clippy::new_ret_no_self, reason = "the whole-byte case is another kind of term")]
    pub fn new(bytes: Bytes, last_bits: u8) -> Term {
        let last_bits = last_bits.max(1);
        let Some(&last) = bytes.last() else { return Term::Binary(Binary::new(bytes)) };
        if last_bits >= 8 {
            return Term::Binary(Binary::new(bytes));
        }
        let masked = last & (0xff << (8 - last_bits));
        if masked == last {
            return Term::BitString(Box::new(BitString { bytes: Binary::new(bytes), last_bits }));
        }
        let mut bytes = BytesMut::from(bytes);
        if let Some(last) = bytes.last_mut() {
            *last = masked;
        }
        Term::BitString(Box::new(BitString { bytes: Binary::new(bytes.freeze()), last_bits }))
    }

    /// The bytes, the unused bits at the end of the last one 0.
    pub fn bytes(&self) -> &Bytes {
        self.bytes.as_bytes()
    }

    /// Number of bits in use in the last byte, 1 to 7.
    pub fn last_bits(&self) -> u8 {
        self.last_bits
    }

    /// Number of bits altogether.
    pub fn bit_len(&self) -> usize {
        (self.bytes.len() - 1) * 8 + usize::from(self.last_bits)
    }
}

/// A list with a tail: at least one element, and a tail that is not a list. Made by [`Term::improper_list`].
#[derive(Clone)]
pub struct ImproperList {
    pub(super) elements: Vec<Term>,
    pub(super) tail: Term,
}

impl ImproperList {
    /// The elements before the tail.
    pub fn elements(&self) -> &[Term] {
        &self.elements
    }

    /// What it ends in.
    pub fn tail(&self) -> &Term {
        &self.tail
    }

    /// Elements and tail.
    pub fn into_parts(self) -> (Vec<Term>, Term) {
        (self.elements, self.tail)
    }
}

/// A fun with its environment, passed on byte for byte. Equal if the bytes are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fun {
    module: Atom,
    arity: u8,
    index: i64,
    uniq: i64,
    /// What follows tag and size.
    body: Binary,
}

impl Fun {
    pub(crate) fn new(module: Atom, arity: u8, index: i64, uniq: i64, body: Bytes) -> Fun {
        Fun { module, arity, index, uniq, body: Binary::new(body) }
    }

    /// The module that its code is in.
    pub fn module(&self) -> &Atom {
        &self.module
    }

    /// Number of its arguments.
    pub fn arity(&self) -> u8 {
        self.arity
    }

    /// Its number in the module.
    pub fn index(&self) -> i64 {
        self.index
    }

    /// The hash that tells versions of the module apart.
    pub fn uniq(&self) -> i64 {
        self.uniq
    }

    pub(crate) fn body(&self) -> &Bytes {
        self.body.as_bytes()
    }
}

/// An external fun, `fun Module:Function/Arity`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Export {
    /// The module.
    pub module: Atom,
    /// The function.
    pub function: Atom,
    /// Number of arguments.
    pub arity: u8,
}
