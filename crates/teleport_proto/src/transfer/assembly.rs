//! Large messages on their way in.
//!
//! A message's buffer is cut into one piece per fragment before the first byte arrives, and a reader *owns* the piece
//! it reads into. So there can never be two writers into one buffer, whatever connections its fragments come by.

use crate::wire::envelope::{Envelope, Seq};
use crate::wire::pool::FragmentHeader;
use bytes::{Bytes, BytesMut};

/// Where the bytes of large messages come to lie: the engine's pool of buffers, or the memory of a face.
pub trait Buffers {
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
    bytes: BytesMut,
}

impl Region {
    /// What has been read so far; append to it until [`Region::missing`] is 0.
    pub fn bytes_mut(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Bytes still to be read.
    pub fn missing(&self) -> usize {
        self.len.saturating_sub(self.bytes.len())
    }
}

#[derive(Debug)]
enum Piece {
    Free(BytesMut),
    Lent,
    Full(BytesMut),
}

/// One partial message.
#[derive(Debug)]
pub(crate) struct Assembly {
    seq: Seq,
    total: u64,
    fragment_size: u32,
    pub(crate) exempt: bool,
    pub(crate) envelope: Option<Envelope>,
    pieces: Vec<Piece>,
    full: usize,
}

impl Assembly {
    pub(crate) fn new(header: &FragmentHeader, buffers: &dyn Buffers) -> Self {
        let mut rest = buffers.allocate(header.total as usize);
        let count = header.fragments() as usize;
        let mut pieces = Vec::with_capacity(count);
        for _ in 1..count {
            let next = rest.split_off(header.fragment_size as usize);
            pieces.push(Piece::Free(std::mem::replace(&mut rest, next)));
        }
        pieces.push(Piece::Free(rest));
        let FragmentHeader { seq, total, fragment_size, exempt, .. } = *header;
        Self { seq, total, fragment_size, exempt, envelope: None, pieces, full: 0 }
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Whether a fragment belongs to the message as its first fragment announced it.
    pub(crate) fn agrees_with(&self, header: &FragmentHeader) -> bool {
        (self.total, self.fragment_size, self.exempt) == (header.total, header.fragment_size, header.exempt)
    }

    /// Lends the fragment's piece, unless it is lent or full.
    pub(crate) fn lend(&mut self, header: &FragmentHeader) -> Option<Region> {
        let piece = self.pieces.get_mut(header.index as usize)?;
        if !matches!(piece, Piece::Free(_)) {
            return None;
        }
        let Piece::Free(bytes) = std::mem::replace(piece, Piece::Lent) else { return None };
        Some(Region { seq: self.seq, index: header.index, len: header.data_len() as usize, bytes })
    }

    /// Takes a piece back. What was read of an incomplete one is dropped.
    pub(crate) fn take_back(&mut self, mut region: Region) {
        let complete = region.missing() == 0;
        if !complete {
            region.bytes.clear();
        }
        self.full += usize::from(complete);
        if let Some(piece) = self.pieces.get_mut(region.index as usize) {
            *piece = if complete { Piece::Full(region.bytes) } else { Piece::Free(region.bytes) };
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.full == self.pieces.len() && self.envelope.is_some()
    }

    /// The message's envelope and bytes, once it is complete.
    pub(crate) fn finish(self, buffers: &dyn Buffers) -> Option<(Envelope, Bytes)> {
        let mut pieces = self.pieces.into_iter().map(|piece| match piece {
            Piece::Full(bytes) => Some(bytes),
            Piece::Free(_) | Piece::Lent => None,
        });
        let mut message = pieces.next()??;
        for piece in pieces {
            message.unsplit(piece?); // neighbours in one allocation: no copy
        }
        Some((self.envelope?, buffers.freeze(message)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::envelope::{Destination, Kind, ProcessId};
    use bytes::BufMut;

    fn header(total: u64, index: u32) -> FragmentHeader {
        FragmentHeader { seq: 1, total, fragment_size: 16_384, index, envelope_len: 0, exempt: false }
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
        let mut assembly = Assembly::new(&header(total, 0), &PlainBuffers);
        let mut first = None;
        for index in [2, 0, 3, 1] {
            let mut region = assembly.lend(&header(total, index)).unwrap();
            assert!(assembly.lend(&header(total, index)).is_none(), "a piece has one writer");
            let start = index as usize * 16_384;
            let (len, bytes) = (region.missing(), region.bytes_mut());
            bytes.put_slice(&expected[start..start + len]);
            if index == 0 {
                first = Some(bytes.as_ptr());
            }
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
        let mut assembly = Assembly::new(&header(20_000, 0), &PlainBuffers);
        let mut region = assembly.lend(&header(20_000, 0)).unwrap();
        region.bytes_mut().put_bytes(7, 100);
        assembly.take_back(region);
        assert_eq!(assembly.lend(&header(20_000, 0)).unwrap().missing(), 16_384);
    }
}
