//! From bytes to values.

mod apart;
mod de;
mod glance;
mod heap;
mod inflate;
mod leaf;
mod leaves;
mod peek;
pub(crate) mod reader;
mod term;
mod token;
mod validate;
mod values;

pub use apart::{Apart, Parts, take_apart};
pub(crate) use de::from_term_with;
pub use de::{from_bytes, from_bytes_with};
pub use glance::{has_few_terms, has_many_atoms, is_plain};
pub use leaves::{Leaves, take_all_apart};
pub use peek::{Peek, Seen};
pub(crate) use reader::Reader;
pub use validate::{Summary, validate, validate_with};
pub(crate) use values::BinaryVisitor;

use bytes::Bytes;

use crate::error::DecodeError;
use crate::limits::Limits;
use inflate::{Body, body};

/// A binary of at most this many bytes is always copied out of the receive buffer: the copy is not larger than what a
/// reference costs.
const ALWAYS_COPIED: usize = 64;

/// A binary of at least this many bytes always stays a slice of the receive buffer: above it copying costs more than
/// pinning the rest of the buffer may.
const ALWAYS_SLICED: usize = 64 << 10;

/// Memory of a document, from which binaries are taken.
pub(crate) struct Source<'a> {
    owner: &'a Bytes,
    /// Shorter binaries are copied.
    sliced_from: usize,
}

impl<'a> Source<'a> {
    fn new(owner: &'a Bytes, backing_len: usize) -> Source<'a> {
        let quarter = owner.len().max(backing_len) / 4;
        Source { owner, sliced_from: quarter.clamp(ALWAYS_COPIED + 1, ALWAYS_SLICED) }
    }

    /// True if these bytes of the document stay where they are.
    pub(crate) fn is_sliced(&self, bytes: &[u8]) -> bool {
        bytes.len() >= self.sliced_from
    }

    /// How much memory a part of the document takes beyond it.
    pub(crate) fn copied(&self, bytes: &[u8]) -> usize {
        if self.is_sliced(bytes) { 0 } else { bytes.len() }
    }

    /// A part of the document, as a slice of it or as a copy if it is small.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Bytes {
        if self.is_sliced(bytes) { self.owner.slice_ref(bytes) } else { Bytes::copy_from_slice(bytes) }
    }

    /// A part of the document as a slice of it, however small.
    pub(crate) fn slice(&self, bytes: &[u8]) -> Bytes {
        self.owner.slice_ref(bytes)
    }
}

/// Calls `read` with a reader of the document, inflated if need be, and the memory that it reads.
pub(crate) fn opened<R>(
    document: &Bytes,
    limits: &Limits,
    read: impl for<'r> FnOnce(Reader<'r>, Source<'r>) -> Result<R, DecodeError>,
) -> Result<R, DecodeError> {
    match body(document, limits)? {
        Body::Plain(data) => read(Reader::new(data, 1, limits), Source::new(document, limits.backing_len)),
        Body::Inflated(data) => {
            let inflated = Bytes::from(data);
            read(Reader::new(&inflated, 0, limits), Source::new(&inflated, 0))
        }
    }
}
