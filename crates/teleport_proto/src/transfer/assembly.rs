//! Large messages on their way in.
//!
//! A message's buffer is cut into one piece per fragment before the first byte arrives, and a reader *owns* the piece
//! it reads into. So there can never be two writers into one buffer, whatever connections its fragments come by.

use crate::wire::envelope::{Envelope, Seq};
use crate::wire::pool::FragmentHeader;
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

/// Memory of a host's, for one message.
pub trait Foreign: fmt::Debug + Send + Sync {
    /// The memory in pieces of this many bytes, in order; the last one is what is left.
    fn pieces(&self, size: usize) -> Vec<Box<dyn Piece>>;
    /// The complete message, when all pieces have been filled, and dropped.
    fn freeze(self: Box<Self>) -> Bytes;
}

/// A piece of a host's memory. It takes as many bytes as it has room for.
pub trait Piece: BufMut + fmt::Debug + Send + Sync {
    /// Bytes that have been put.
    fn filled(&self) -> usize;
    /// Begins again.
    fn clear(&mut self);
}

/// Where the bytes of large messages come to lie: the engine's pool of buffers, or the memory of a face.
pub trait Buffers {
    /// Whether a host may give memory. Default: no.
    fn has_foreign(&self) -> bool {
        false
    }

    /// Memory for a message that is distributed Erlang's own, if the host gives some. Default: none.
    fn foreign(&self, _len: usize) -> Option<Box<dyn Foreign>> {
        None
    }

    /// An empty buffer with room for at least `len` bytes.
    fn allocate(&self, len: usize) -> BytesMut;
    /// The complete message, in the memory that [`Buffers::allocate`] gave.
    fn freeze(&self, message: BytesMut) -> Bytes;
}

/// Buffers straight from the allocator.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainBuffers;

impl Buffers for PlainBuffers {
    fn allocate(&self, len: usize) -> BytesMut {
        BytesMut::with_capacity(len)
    }

    fn freeze(&self, message: BytesMut) -> Bytes {
        message.freeze()
    }
}

/// The place in a message's buffer that one fragment is read into. Given to a connection's reader, and back.
#[derive(Debug)]
pub struct Region {
    pub(crate) seq: Seq,
    pub(crate) index: u32,
    len: usize,
    memory: Memory,
}

/// What is filled.
#[derive(Debug)]
enum Memory {
    Own(BytesMut),
    Foreign(Box<dyn Piece>),
}

impl Memory {
    fn filled(&self) -> usize {
        match self {
            Self::Own(bytes) => bytes.len(),
            Self::Foreign(piece) => piece.filled(),
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Own(bytes) => bytes.clear(),
            Self::Foreign(piece) => piece.clear(),
        }
    }
}

impl Region {
    /// Where the bytes go, until [`Region::missing`] is 0.
    pub fn buffer(&mut self) -> &mut (dyn BufMut + Send + Sync) {
        match &mut self.memory {
            Memory::Own(bytes) => bytes,
            Memory::Foreign(piece) => piece,
        }
    }

    /// Forgets what has been read.
    pub fn clear(&mut self) {
        self.memory.clear();
    }

    /// Whether nothing has been read so far.
    pub fn is_empty(&self) -> bool {
        self.memory.filled() == 0
    }

    /// Bytes still to be read.
    pub fn missing(&self) -> usize {
        self.len.saturating_sub(self.memory.filled())
    }
}

#[derive(Debug)]
enum Part {
    Free(Memory),
    Lent,
    Full(Memory),
}

/// One partial message.
#[derive(Debug)]
pub(crate) struct Assembly {
    seq: Seq,
    total: u64,
    fragment_size: u32,
    pub(crate) exempt: bool,
    carried: bool,
    pub(crate) envelope: Option<Envelope>,
    parts: Vec<Part>,
    /// What the parts belong to, if it is a host's.
    foreign: Option<Box<dyn Foreign>>,
    full: usize,
}

impl Assembly {
    /// `None` for more than `most` bytes, unless a host has memory for them.
    pub(crate) fn new(header: &FragmentHeader, buffers: &dyn Buffers, most: u64) -> Option<Self> {
        let foreign = if header.carried { buffers.foreign(header.total as usize) } else { None };
        if foreign.is_none() && header.total > most {
            return None;
        }
        let parts = match &foreign {
            Some(foreign) => {
                let pieces = foreign.pieces(header.fragment_size as usize);
                pieces.into_iter().map(|piece| Part::Free(Memory::Foreign(piece))).collect()
            }
            None => cut(buffers.allocate(header.total as usize), header),
        };
        let FragmentHeader { seq, total, fragment_size, exempt, carried, .. } = *header;
        Some(Self { seq, total, fragment_size, exempt, carried, envelope: None, parts, foreign, full: 0 })
    }

    /// Whether a fragment belongs to the message as its first fragment announced it.
    pub(crate) fn agrees_with(&self, header: &FragmentHeader) -> bool {
        (self.total, self.fragment_size, self.exempt, self.carried)
            == (header.total, header.fragment_size, header.exempt, header.carried)
    }

    /// Lends the fragment's part, unless it is lent or full.
    pub(crate) fn lend(&mut self, header: &FragmentHeader) -> Option<Region> {
        let part = self.parts.get_mut(header.index as usize)?;
        if !matches!(part, Part::Free(_)) {
            return None;
        }
        let Part::Free(memory) = std::mem::replace(part, Part::Lent) else { return None };
        Some(Region { seq: self.seq, index: header.index, len: header.data_len() as usize, memory })
    }

    /// Takes a part back. What was read of an incomplete one is dropped.
    pub(crate) fn take_back(&mut self, mut region: Region) {
        let complete = region.missing() == 0;
        if !complete {
            region.clear();
        }
        self.full += usize::from(complete);
        if let Some(part) = self.parts.get_mut(region.index as usize) {
            *part = if complete { Part::Full(region.memory) } else { Part::Free(region.memory) };
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.full == self.parts.len() && self.envelope.is_some()
    }

    /// The message's envelope and bytes, once it is complete.
    pub(crate) fn finish(self, buffers: &dyn Buffers) -> Option<(Envelope, Bytes)> {
        let envelope = self.envelope?;
        if let Some(foreign) = self.foreign {
            drop(self.parts);
            return Some((envelope, foreign.freeze()));
        }
        let mut parts = self.parts.into_iter().map(|part| match part {
            Part::Full(Memory::Own(bytes)) => Some(bytes),
            _ => None,
        });
        let mut message = parts.next()??;
        for part in parts {
            message.unsplit(part?); // neighbours in one allocation: no copy
        }
        Some((envelope, buffers.freeze(message)))
    }
}

/// A buffer in parts, one for each fragment.
fn cut(mut rest: BytesMut, header: &FragmentHeader) -> Vec<Part> {
    let count = header.fragments() as usize;
    let mut parts = Vec::with_capacity(count);
    for _ in 1..count {
        let next = rest.split_off(header.fragment_size as usize);
        parts.push(Part::Free(Memory::Own(std::mem::replace(&mut rest, next))));
    }
    parts.push(Part::Free(Memory::Own(rest)));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::envelope::{Destination, Kind, ProcessId};

    fn header(total: u64, index: u32) -> FragmentHeader {
        FragmentHeader {
            seq: 1,
            total,
            fragment_size: 16_384,
            index,
            envelope_len: 0,
            exempt: false,
            carried: false,
        }
    }

    fn envelope() -> Envelope {
        let process = ProcessId { id: 1, serial: 0 };
        let to = Destination::Process(process);
        let (seq, predecessor, account, kind) = (1, None, 0, Kind::Data);
        Envelope { seq, predecessor, behind_all: false, account, kind, acknowledge: false, from: process, to }
    }

    #[test]
    fn pieces_read_in_any_order_stay_one_allocation() {
        let total = 3 * 16_384 + 5;
        let expected: Vec<u8> = (0..total).map(|i| (i % 251) as u8).collect();
        let mut assembly = Assembly::new(&header(total, 0), &PlainBuffers, u64::MAX).unwrap();
        let mut first = None;
        for index in [2, 0, 3, 1] {
            let mut region = assembly.lend(&header(total, index)).unwrap();
            assert!(assembly.lend(&header(total, index)).is_none(), "a piece has one writer");
            let start = index as usize * 16_384;
            let len = region.missing();
            if index == 0 {
                first = Some(region.buffer().chunk_mut().as_mut_ptr().cast_const());
            }
            region.buffer().put_slice(&expected[start..start + len]);
            assembly.take_back(region);
        }
        assert!(!assembly.is_complete(), "no envelope yet");
        assembly.envelope = Some(envelope());
        let (_, message) = assembly.finish(&PlainBuffers).unwrap();
        assert_eq!(message, expected);
        assert_eq!(Some(message.as_ptr()), first);
    }

    #[test]
    fn a_piece_given_back_half_read_is_read_again_from_its_start() {
        let mut assembly = Assembly::new(&header(20_000, 0), &PlainBuffers, 20_000).unwrap();
        assert!(Assembly::new(&header(20_000, 0), &PlainBuffers, 19_999).is_none());
        let mut region = assembly.lend(&header(20_000, 0)).unwrap();
        region.buffer().put_bytes(7, 100);
        assembly.take_back(region);
        assert_eq!(assembly.lend(&header(20_000, 0)).unwrap().missing(), 16_384);
    }
}
