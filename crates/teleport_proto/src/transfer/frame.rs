//! The bytes of one frame.

use crate::wire::batch::EXPRESS_PROBE;
use crate::wire::pool::{BULK_PROBE, Class};
use bytes::Bytes;
use smallvec::SmallVec;

/// The bytes of one frame, ready to be written.
#[derive(Debug, Default)]
pub struct Frame {
    chunks: SmallVec<[Bytes; 8]>,
    len: usize,
    messages: usize,
}

impl Frame {
    pub(crate) fn new(chunks: impl Iterator<Item = Bytes>, messages: usize) -> Self {
        let chunks: SmallVec<[Bytes; 8]> = chunks.collect();
        Self { len: chunks.iter().map(Bytes::len).sum(), chunks, messages }
    }

    pub(crate) fn probe(class: Class) -> Self {
        let bytes = match class {
            Class::Express => Bytes::from_static(&EXPRESS_PROBE),
            Class::Bulk => Bytes::from_static(&BULK_PROBE),
        };
        Self::new(std::iter::once(bytes), 0)
    }

    /// The frame's bytes, in order.
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// Takes the chunks.
    pub fn into_chunks(self) -> SmallVec<[Bytes; 8]> {
        self.chunks
    }

    /// How many messages are in it, wholly or in part.
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// How many bytes in all.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never true of a frame that the session made.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
