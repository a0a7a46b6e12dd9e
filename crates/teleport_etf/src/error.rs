//! Why a value cannot be encoded, and why bytes are refused.

use std::fmt;

/// Why a value could not be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The format counts in 32 bits, and this is longer.
    #[error("{what} of {len} exceeds the format's 32-bit length; send it in parts")]
    TooLong {
        /// What is too long: a binary, a list, a tuple, a map, an integer.
        what: &'static str,
        /// Its length.
        len: usize,
    },
    /// An atom name of more than 255 characters.
    #[error(transparent)]
    Atom(#[from] AtomError),
    /// Erlang has neither NaN nor infinity.
    #[error("{0} is not an Erlang float; send an atom instead")]
    NotFinite(String),
    /// A [`Term::Local`](crate::Term::Local) inside another term: its end could not be found again.
    #[error("a term in local format can only be a whole document, not a part of one")]
    NestedLocal,
    /// A map serialized a key without a value or a value without a key.
    #[error("map entry without {0}")]
    MapEntry(&'static str),
    /// A type wrote another number of elements than it announced.
    #[error("{what} announced {announced} elements and wrote {written}")]
    Count {
        /// What it was.
        what: &'static str,
        /// The number it announced.
        announced: usize,
        /// The number it wrote.
        written: usize,
    },
    /// The value's own `Serialize` failed.
    #[error("{0}")]
    Custom(String),
}

impl serde::ser::Error for EncodeError {
    fn custom<T: fmt::Display>(message: T) -> EncodeError {
        EncodeError::Custom(message.to_string())
    }
}

/// Why bytes were refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The first byte is not 131.
    #[error("not an external term: it begins with {found:?}, not 131")]
    Version {
        /// The byte found, if there was one.
        found: Option<u8>,
    },
    /// The input ends inside a term.
    #[error("input ends inside a term: at byte {offset} {needed} more are needed, {left} are left")]
    Truncated {
        /// Position in the (inflated) document.
        offset: usize,
        /// Bytes needed there.
        needed: usize,
        /// Bytes left there.
        left: usize,
    },
    /// A tuple, list or map announces more elements than there are bytes left.
    #[error("arity {arity} at byte {offset} is more than the remaining {left} bytes can hold")]
    Arity {
        /// Position in the (inflated) document.
        offset: usize,
        /// The number of elements announced.
        arity: usize,
        /// Bytes left there.
        left: usize,
    },
    /// A tag that does not exist, or not in a document.
    #[error("unknown tag {tag} at byte {offset}")]
    UnknownTag {
        /// The tag byte.
        tag: u8,
        /// Its position in the (inflated) document.
        offset: usize,
    },
    /// A term whose content contradicts the format.
    #[error("malformed {what} at byte {offset}")]
    Malformed {
        /// What is malformed.
        what: &'static str,
        /// Position in the (inflated) document.
        offset: usize,
    },
    /// A key occurs twice in a map.
    #[error("duplicate key in the map that ends at byte {offset}")]
    DuplicateKey {
        /// Position in the (inflated) document.
        offset: usize,
    },
    /// Bytes follow the term.
    #[error("{left} bytes follow the term that ends at byte {offset}")]
    Trailing {
        /// Where the term ends.
        offset: usize,
        /// Bytes after it.
        left: usize,
    },
    /// Nested deeper than [`Limits::max_depth`](crate::Limits::max_depth).
    #[error("nested deeper than {limit} levels; raise Limits::max_depth if this is meant")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// A serde type nested deeper than [`Limits::max_recursion`](crate::Limits::max_recursion).
    #[error(
        "value nested deeper than {limit} levels; decode that part as a Term, or raise Limits::max_recursion"
    )]
    TooRecursive {
        /// The limit.
        limit: usize,
    },
    /// More terms than [`Limits::max_elements`](crate::Limits::max_elements).
    #[error("more than {limit} terms in one document; raise Limits::max_elements if this is meant")]
    TooManyElements {
        /// The limit.
        limit: usize,
    },
    /// The value takes more memory than [`Limits::max_memory`](crate::Limits::max_memory).
    #[error("the value takes more than {limit} bytes of memory; raise Limits::max_memory if this is meant")]
    TooMuchMemory {
        /// The limit.
        limit: usize,
    },
    /// In an Erlang virtual machine the term takes more memory than [`Limits::max_heap`](crate::Limits::max_heap).
    #[error(
        "the term takes more than {limit} bytes on a heap of Erlang's; raise Limits::max_heap if this is meant"
    )]
    TooMuchHeap {
        /// The limit.
        limit: usize,
    },
    /// Compressed, and larger than [`Limits::max_inflated`](crate::Limits::max_inflated), which by default is 0.
    #[error(
        "compressed term of {size} bytes is over the limit of {limit}; raise Limits::max_inflated if this is meant"
    )]
    TooLarge {
        /// The size it declares.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// Compressed data that is damaged, or not of the size that it declares.
    #[error("compressed term does not inflate to the {declared} bytes that it declares")]
    Inflate {
        /// The declared size.
        declared: usize,
    },
    /// An atom that the caller's check of atoms turned down, see [`validate_with`](crate::validate_with).
    #[error("atom at byte {offset} refused by the budget of atoms")]
    AtomRefused {
        /// Position in the (inflated) document.
        offset: usize,
    },
    /// The term is well formed and of another type than the value to be read.
    #[error("expected {expected}, found {found} at byte {offset}")]
    Unexpected {
        /// What the value needs.
        expected: &'static str,
        /// What the document has.
        found: &'static str,
        /// Position in the (inflated) document.
        offset: usize,
    },
    /// A tuple or list of another length than the value to be read.
    #[error("expected {expected} elements, found {found} at byte {offset}")]
    Length {
        /// What the value needs.
        expected: usize,
        /// What the document has.
        found: usize,
        /// Position in the (inflated) document.
        offset: usize,
    },
    /// The value's own `Deserialize` refused.
    #[error("{0}")]
    Custom(String),
}

impl serde::de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> DecodeError {
        DecodeError::Custom(message.to_string())
    }
}

/// A name that cannot be an atom: more than 255 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("atom of {chars} characters; Erlang allows 255")]
pub struct AtomError {
    pub(crate) chars: usize,
}
