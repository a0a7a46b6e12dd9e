//! Writes the format's tags and lengths; large binaries are kept as references.

use bytes::Bytes;
use num_bigint::{BigInt, Sign};
use smallvec::SmallVec;

use crate::atom::Atom;
use crate::error::EncodeError;
use crate::ident::{Pid, Port, Reference};
use crate::segments::Segments;
use crate::tags;

/// From this length in bytes a binary becomes a segment of its own; a shorter one is copied into the block of small
/// parts. A segment costs about as much as copying this many bytes: a reference, two entries in the vectored write.
pub const BY_REFERENCE: usize = 1024;

/// A document in the making: one block of everything small, and the large binaries with their places in it.
///
/// The block is one piece until the end, so that lengths that are known late can be filled in.
#[derive(Default)]
pub(crate) struct Writer {
    block: Vec<u8>,
    cuts: Cuts,
}

/// Large binaries with their places in the block.
pub(crate) type Cuts = SmallVec<[(usize, Bytes); 2]>;

impl Writer {
    /// A writer that has written the version byte.
    pub(crate) fn document() -> Writer {
        let mut block = Vec::with_capacity(128);
        block.push(tags::VERSION);
        Writer { block, cuts: SmallVec::new() }
    }

    /// Begins anew, in the same memory.
    pub(crate) fn begin(&mut self) {
        self.block.clear();
        self.cuts.clear();
        self.block.push(tags::VERSION);
    }

    /// Drops what was written, and of the memory for it what is more than so many bytes.
    pub(crate) fn forget(&mut self, most: usize) {
        self.cuts = Cuts::new();
        self.block.clear();
        self.block.shrink_to(most);
    }

    /// The document, cut into segments.
    pub(crate) fn finish(self) -> Segments {
        join(self.block.into(), self.cuts)
    }

    /// All of the document, if it has no large binary.
    pub(crate) fn as_whole(&self) -> Option<&[u8]> {
        self.cuts.is_empty().then_some(&self.block)
    }

    /// The block.
    pub(crate) fn block(&self) -> &[u8] {
        &self.block
    }

    /// The large binaries with their places in the block; for [`join`].
    pub(crate) fn take_cuts(&mut self) -> Cuts {
        std::mem::take(&mut self.cuts)
    }

    /// What has been written, for documents without large binaries.
    pub(crate) fn as_small(&self) -> &[u8] {
        debug_assert!(self.cuts.is_empty(), "only for documents without binaries");
        &self.block
    }

    /// Position in the block, to come back to.
    pub(crate) fn position(&self) -> usize {
        self.block.len()
    }

    /// Takes back what was written from a position on; it must not hold a large binary.
    pub(crate) fn truncate(&mut self, position: usize) {
        debug_assert!(self.cuts.last().is_none_or(|&(at, _)| at <= position), "no binary may be taken back");
        self.block.truncate(position);
    }

    pub(crate) fn put_u8(&mut self, byte: u8) {
        self.block.push(byte);
    }

    pub(crate) fn put_u32(&mut self, word: u32) {
        self.block.extend_from_slice(&word.to_be_bytes());
    }

    pub(crate) fn put_slice(&mut self, bytes: &[u8]) {
        self.block.extend_from_slice(bytes);
    }

    /// Overwrites four bytes at a position that [`Writer::position`] gave.
    pub(crate) fn patch_u32(&mut self, at: usize, word: u32) {
        self.block[at..at + 4].copy_from_slice(&word.to_be_bytes());
    }

    /// Bytes as they are, by reference if they are long enough.
    pub(crate) fn put_shared(&mut self, bytes: Bytes) {
        if bytes.len() < BY_REFERENCE {
            return self.put_slice(&bytes);
        }
        self.cuts.push((self.block.len(), bytes));
    }

    pub(crate) fn put_tag_u32(&mut self, tag: u8, value: u32) {
        let [a, b, c, d] = value.to_be_bytes();
        self.block.extend_from_slice(&[tag, a, b, c, d]);
    }

    pub(crate) fn put_u64_integer(&mut self, value: u64) {
        match i32::try_from(value) {
            Ok(small) => self.put_i32(small),
            Err(_) => self.put_small_big(false, u128::from(value)),
        }
    }

    pub(crate) fn put_i64_integer(&mut self, value: i64) {
        match i32::try_from(value) {
            Ok(small) => self.put_i32(small),
            Err(_) => self.put_small_big(value < 0, u128::from(value.unsigned_abs())),
        }
    }

    pub(crate) fn put_i128_integer(&mut self, value: i128) {
        match i32::try_from(value) {
            Ok(small) => self.put_i32(small),
            Err(_) => self.put_small_big(value < 0, value.unsigned_abs()),
        }
    }

    pub(crate) fn put_u128_integer(&mut self, value: u128) {
        match i32::try_from(value) {
            Ok(small) => self.put_i32(small),
            Err(_) => self.put_small_big(false, value),
        }
    }

    pub(crate) fn put_bigint(&mut self, value: &BigInt) -> Result<(), EncodeError> {
        if let Ok(small) = i64::try_from(value) {
            self.put_i64_integer(small);
            return Ok(());
        }
        let (sign, magnitude) = value.to_bytes_le();
        match u8::try_from(magnitude.len()) {
            Ok(len) => self.put_slice(&[tags::SMALL_BIG_EXT, len]),
            Err(_) => self.put_tag_u32(tags::LARGE_BIG_EXT, count("integer", magnitude.len())?),
        }
        self.put_u8(u8::from(sign == Sign::Minus));
        self.put_slice(&magnitude);
        Ok(())
    }

    pub(crate) fn put_float(&mut self, value: f64) -> Result<(), EncodeError> {
        if !value.is_finite() {
            return Err(EncodeError::NotFinite(value.to_string()));
        }
        self.put_u8(tags::NEW_FLOAT_EXT);
        self.put_slice(&value.to_be_bytes());
        Ok(())
    }

    pub(crate) fn put_atom(&mut self, atom: &Atom) {
        self.put_atom_text(atom);
    }

    /// An atom by its text, which has at most 255 characters.
    pub(crate) fn put_atom_text(&mut self, name: &str) {
        match u8::try_from(name.len()) {
            Ok(len) => self.put_slice(&[tags::SMALL_ATOM_UTF8_EXT, len]),
            Err(_) => {
                // At most 255 characters of 4 bytes: fits 16 bits.
                let [high, low] = (name.len() as u16).to_be_bytes();
                self.put_slice(&[tags::ATOM_UTF8_EXT, high, low]);
            }
        }
        self.put_slice(name.as_bytes());
    }

    pub(crate) fn put_tuple_header(&mut self, arity: usize) -> Result<(), EncodeError> {
        match u8::try_from(arity) {
            Ok(arity) => self.put_slice(&[tags::SMALL_TUPLE_EXT, arity]),
            Err(_) => self.put_tag_u32(tags::LARGE_TUPLE_EXT, count("tuple", arity)?),
        }
        Ok(())
    }

    pub(crate) fn put_list_header(&mut self, len: usize) -> Result<(), EncodeError> {
        self.put_tag_u32(tags::LIST_EXT, count("list", len)?);
        Ok(())
    }

    pub(crate) fn put_map_header(&mut self, len: usize) -> Result<(), EncodeError> {
        self.put_tag_u32(tags::MAP_EXT, count("map", len)?);
        Ok(())
    }

    /// A binary by copy.
    pub(crate) fn put_binary_copied(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.put_tag_u32(tags::BINARY_EXT, count("binary", bytes.len())?);
        self.put_slice(bytes);
        Ok(())
    }

    /// A binary, by reference if it is long enough.
    pub(crate) fn put_binary(&mut self, bytes: Bytes) -> Result<(), EncodeError> {
        self.put_tag_u32(tags::BINARY_EXT, count("binary", bytes.len())?);
        self.put_shared(bytes);
        Ok(())
    }

    pub(crate) fn put_pid(&mut self, pid: &Pid) {
        self.put_u8(tags::NEW_PID_EXT);
        self.put_atom(&pid.node);
        self.put_u32(pid.id);
        self.put_u32(pid.serial);
        self.put_u32(pid.creation);
    }

    pub(crate) fn put_port(&mut self, port: &Port) {
        // The older tag as long as the number has 28 bits, as OTP does: releases before 24 know no other.
        if port.id < 1 << 28 {
            self.put_u8(tags::NEW_PORT_EXT);
            self.put_atom(&port.node);
            self.put_u32(port.id as u32);
        } else {
            self.put_u8(tags::V4_PORT_EXT);
            self.put_atom(&port.node);
            self.put_slice(&port.id.to_be_bytes());
        }
        self.put_u32(port.creation);
    }

    pub(crate) fn put_reference(&mut self, reference: &Reference) {
        self.put_u8(tags::NEWER_REFERENCE_EXT);
        self.put_slice(&[0, reference.words().len() as u8]);
        self.put_atom(reference.node());
        self.put_u32(reference.creation());
        reference.words().iter().for_each(|&word| self.put_u32(word));
    }

    fn put_i32(&mut self, value: i32) {
        match u8::try_from(value) {
            Ok(byte) => self.put_slice(&[tags::SMALL_INTEGER_EXT, byte]),
            Err(_) => self.put_tag_u32(tags::INTEGER_EXT, value.cast_unsigned()),
        }
    }

    fn put_small_big(&mut self, negative: bool, magnitude: u128) {
        let len = (128 - magnitude.leading_zeros()).div_ceil(8) as usize;
        self.put_slice(&[tags::SMALL_BIG_EXT, len as u8, u8::from(negative)]);
        self.put_slice(&magnitude.to_le_bytes()[..len]);
    }
}

/// A document from its block and its large binaries.
pub(crate) fn join(block: Bytes, cuts: Cuts) -> Segments {
    let mut segments = Segments::new();
    let mut from = 0;
    for (at, bytes) in cuts {
        segments.push(block.slice(from..at));
        segments.push(bytes);
        from = at;
    }
    segments.push(if from == 0 { block } else { block.slice(from..) });
    segments
}

/// A length as the format's 32 bits.
pub(crate) fn count(what: &'static str, len: usize) -> Result<u32, EncodeError> {
    u32::try_from(len).map_err(|_| EncodeError::TooLong { what, len })
}
