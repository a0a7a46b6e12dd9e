//! Bodies of small messages, copied out of the batch that they came in.
//!
//! So a message that stays in a mailbox does not keep a whole read buffer alive. The bodies of a run share blocks: a mailbox takes
//! them in together and gives them out one after the other, so only what an application keeps, or what is next in a mailbox, keeps
//! more than itself alive. A body that has a block to itself is left where it is for a sink that copies it anyway.

use bytes::Bytes;
use smallvec::SmallVec;
use std::ops::Range;

/// Bodies share blocks of up to this many bytes, and of up to this many bodies.
const BLOCK: usize = 4 * 1024;
const MOST: usize = 128;

/// Some bodies, one behind the other. An iterator over them.
#[derive(Debug, Clone, Default)]
pub struct Bodies {
    bytes: Bytes,
    lens: SmallVec<[u32; 4]>,
    next: usize,
}

impl Bodies {
    /// A single one.
    pub fn one(body: Bytes) -> Self {
        // No body has 4 GiB or more that comes with others; the length of one alone is never looked at.
        Self {
            lens: SmallVec::from_slice(&[u32::try_from(body.len()).unwrap_or(u32::MAX)]),
            bytes: body,
            next: 0,
        }
    }

    /// Calls that with each that is left: for who copies them anyway.
    pub fn each(self, mut take: impl FnMut(&[u8])) {
        let mut rest = &self.bytes[..];
        let Some((_, lens)) = self.lens[self.next..].split_last() else { return };
        for &len in lens {
            let (body, others) = rest.split_at(len as usize);
            take(body);
            rest = others;
        }
        take(rest); // the last one has what is left, however long it is
    }

    /// Bytes of all that are left.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl Iterator for Bodies {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let len = *self.lens.get(self.next)? as usize;
        self.next += 1;
        // The last one has the block to itself.
        let is_last = self.next == self.lens.len();
        Some(if is_last { std::mem::take(&mut self.bytes) } else { self.bytes.split_to(len) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.lens.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Bodies {}

/// The body at a place of a frame; `in_place` if its taker keeps nothing of the frame.
pub(super) fn body_at(frame: &Bytes, place: Range<usize>, in_place: bool) -> Bytes {
    if in_place && place.len() >= BLOCK { frame.slice(place) } else { Bytes::copy_from_slice(&frame[place]) }
}

/// Makes blocks of the bodies at some places of a frame, which have `bytes` bytes in all.
pub(super) struct Blocks<'a, P> {
    frame: &'a Bytes,
    /// As in [`body_at`].
    in_place: bool,
    places: P,
    /// The place behind the last block.
    next: Option<Range<usize>>,
    left: usize,
}

impl<'a, P: Iterator<Item = Range<usize>>> Blocks<'a, P> {
    pub(super) fn new(frame: &'a Bytes, mut places: P, bytes: usize, in_place: bool) -> Self {
        let next = places.next();
        Self { frame, in_place, places, next, left: bytes }
    }
}

impl<P: Iterator<Item = Range<usize>>> Iterator for Blocks<'_, P> {
    type Item = Bodies;

    fn next(&mut self) -> Option<Bodies> {
        let first = self.next.take()?;
        if self.in_place && first.len() >= BLOCK {
            self.next = self.places.next();
            self.left -= first.len();
            return Some(Bodies::one(self.frame.slice(first)));
        }
        let most = BLOCK.max(first.len());
        let mut block = Vec::with_capacity(self.left.min(most));
        let mut lens = SmallVec::from_slice(&[first.len() as u32]); // of a batch, which has no 4 GiB
        block.extend_from_slice(&self.frame[first]);
        self.next = self.places.by_ref().find(|place| {
            let is_full = block.len() + place.len() > most || lens.len() == MOST;
            if !is_full {
                block.extend_from_slice(&self.frame[place.clone()]);
                lens.push(place.len() as u32);
            }
            is_full
        });
        self.left -= block.len();
        Some(Bodies { bytes: block.into(), lens, next: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_a_run_share_blocks() {
        let lens = [100, 200, BLOCK - 300, 1, 0, 50_000, 7, 8];
        let frame: Bytes = (0..lens.iter().sum::<usize>()).map(|i| (i % 251) as u8).collect();
        let mut start = 0;
        let places = lens.map(|len| {
            start += len;
            start - len..start
        });
        let blocks: Vec<_> = Blocks::new(&frame, places.clone().into_iter(), frame.len(), false).collect();
        assert_eq!(blocks.iter().map(ExactSizeIterator::len).collect::<Vec<_>>(), [3, 2, 1, 2]);
        let bodies: Vec<_> = blocks.into_iter().flatten().collect();
        assert_eq!(bodies.len(), lens.len());
        bodies.iter().zip(places.clone()).for_each(|(body, place)| assert_eq!(body, &frame[place]));
        // A body that has its memory to itself can be taken as a vector.
        let next_to = |i: usize| bodies[i].as_ptr().wrapping_add(lens[i]) == bodies[i + 1].as_ptr();
        assert!(next_to(0) && next_to(1) && next_to(6));
        assert!(bodies[5].is_unique() && !bodies[0].is_unique());
        let blocks: Vec<_> = Blocks::new(&frame, places.clone().into_iter(), frame.len(), true).collect();
        assert_eq!(blocks.iter().map(ExactSizeIterator::len).collect::<Vec<_>>(), [3, 2, 1, 2]);
        let bodies: Vec<_> = blocks.into_iter().flatten().collect();
        bodies.iter().zip(places.clone()).for_each(|(body, place)| assert_eq!(body, &frame[place]));
        let is_in_place = |i: usize| bodies[i].as_ptr() == frame[places[i].start..].as_ptr();
        assert!(is_in_place(5) && !is_in_place(0) && !is_in_place(6));
    }

    #[test]
    fn empty_bodies_are_bodies() {
        let places = vec![0..0; MOST + 1];
        let blocks: Vec<_> = Blocks::new(&Bytes::new(), places.into_iter(), 0, true).collect();
        assert_eq!(blocks.iter().map(ExactSizeIterator::len).collect::<Vec<_>>(), [MOST, 1]);
        assert!(blocks.into_iter().flatten().all(|body| body.is_empty()));
        assert_eq!(Bodies::one(Bytes::from_static(b"a")).collect::<Vec<_>>(), ["a"]);
    }
}
