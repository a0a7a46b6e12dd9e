//! Encoded documents: lists of byte strings for a vectored write.

use std::fmt;
use std::ops::{Bound, RangeBounds};

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

/// An encoded document as a list of byte strings, in order: what a vectored write takes.
///
/// Small parts share one block; every large binary is a segment of its own, the same memory that the application handed
/// in. Cloning and slicing copy references, never bytes.
///
/// ```
/// use bytes::Bytes;
/// use teleport_etf::Segments;
///
/// let mut doc = Segments::from(Bytes::from_static(b"head"));
/// doc.push(Bytes::from_static(b"body"));
/// assert_eq!(doc.len(), 8);
/// assert_eq!(doc.slice(2..6).into_contiguous(), "adbo");
/// ```
#[derive(Clone, Default)]
pub struct Segments {
    parts: SmallVec<[Part; 2]>,
}

/// A segment with the position of its end in the document, so that an offset is found by binary search.
#[derive(Clone)]
struct Part {
    end: usize,
    bytes: Bytes,
}

impl Segments {
    /// An empty document.
    pub fn new() -> Segments {
        Segments::default()
    }

    /// Length in bytes, over all segments.
    pub fn len(&self) -> usize {
        self.parts.last().map_or(0, |part| part.end)
    }

    /// True if there is not a single byte in it.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Number of segments. None of them is empty.
    pub fn count(&self) -> usize {
        self.parts.len()
    }

    /// The segments in order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { parts: self.parts.iter() }
    }

    /// Appends a segment by reference. An empty one is left out.
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        let end = self.len() + bytes.len();
        self.parts.push(Part { end, bytes });
    }

    /// Appends all segments of another document by reference.
    pub fn append(&mut self, other: Segments) {
        self.parts.reserve(other.parts.len());
        other.into_iter().for_each(|bytes| self.push(bytes));
    }

    /// A part of the document by reference, found in time logarithmic in the number of segments.
    ///
    /// # Panics
    ///
    /// If the range is reversed or ends beyond the document, as slices do.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Segments {
        let (start, end) = self.resolve(range);
        let mut sliced = Segments::new();
        let first = self.parts.partition_point(|part| part.end <= start);
        for part in &self.parts[first..] {
            let part_start = part.end - part.bytes.len();
            if part_start >= end {
                break;
            }
            let from = start.max(part_start) - part_start;
            let to = end.min(part.end) - part_start;
            sliced.push(part.bytes.slice(from..to));
        }
        sliced
    }

    /// The document, if it is a single segment.
    pub fn as_contiguous(&self) -> Option<&[u8]> {
        match &self.parts[..] {
            [part] => Some(&part.bytes),
            _ => None,
        }
    }

    /// The document as one byte string: no copy if there is one segment, one copy otherwise.
    pub fn into_contiguous(mut self) -> Bytes {
        if self.parts.len() <= 1 {
            return self.parts.pop().map_or_else(Bytes::new, |part| part.bytes);
        }
        let mut joined = BytesMut::with_capacity(self.len());
        self.iter().for_each(|bytes| joined.extend_from_slice(bytes));
        joined.freeze()
    }

    /// A copy of the document in a vector.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut joined = Vec::with_capacity(self.len());
        self.iter().for_each(|bytes| joined.extend_from_slice(bytes));
        joined
    }

    fn resolve(&self, range: impl RangeBounds<usize>) -> (usize, usize) {
        let len = self.len();
        let start = match range.start_bound() {
            Bound::Included(&at) => at,
            Bound::Excluded(&at) => at + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&at) => at + 1,
            Bound::Excluded(&at) => at,
            Bound::Unbounded => len,
        };
        assert!(start <= end && end <= len, "slice {start}..{end} of a document of {len} bytes");
        (start, end)
    }
}

impl From<Bytes> for Segments {
    fn from(bytes: Bytes) -> Segments {
        let mut segments = Segments::new();
        segments.push(bytes);
        segments
    }
}

impl From<Vec<u8>> for Segments {
    fn from(bytes: Vec<u8>) -> Segments {
        Segments::from(Bytes::from(bytes))
    }
}

impl FromIterator<Bytes> for Segments {
    fn from_iter<I: IntoIterator<Item = Bytes>>(iter: I) -> Segments {
        let mut segments = Segments::new();
        segments.extend(iter);
        segments
    }
}

impl Extend<Bytes> for Segments {
    fn extend<I: IntoIterator<Item = Bytes>>(&mut self, iter: I) {
        iter.into_iter().for_each(|bytes| self.push(bytes));
    }
}

/// Equal if the bytes are, however they are cut into segments.
impl PartialEq for Segments {
    fn eq(&self, other: &Segments) -> bool {
        if self.len() != other.len() {
            return false;
        }
        let (mut left, mut right) = (self.iter(), other.iter());
        let (mut a, mut b): (&[u8], &[u8]) = (&[], &[]);
        loop {
            if a.is_empty() {
                a = left.next().map_or(&[][..], |bytes| bytes);
            }
            if b.is_empty() {
                b = right.next().map_or(&[][..], |bytes| bytes);
            }
            // Both documents are of the same length and no segment is empty: they end together.
            if a.is_empty() || b.is_empty() {
                return true;
            }
            let common = a.len().min(b.len());
            if a[..common] != b[..common] {
                return false;
            }
            (a, b) = (&a[common..], &b[common..]);
        }
    }
}

impl Eq for Segments {}

/// Lengths only: payloads do not belong in logs.
impl fmt::Debug for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths: SmallVec<[usize; 8]> = self.iter().map(Bytes::len).collect();
        f.debug_struct("Segments").field("len", &self.len()).field("segments", &lengths).finish()
    }
}

/// Iterator over the segments of a document, by [`Segments::iter`].
#[derive(Clone)]
pub struct Iter<'a> {
    parts: std::slice::Iter<'a, Part>,
}

impl fmt::Debug for Iter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("segments", &self.parts.len()).finish()
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Bytes;

    fn next(&mut self) -> Option<&'a Bytes> {
        self.parts.next().map(|part| &part.bytes)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.parts.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.parts.next_back().map(|part| &part.bytes)
    }
}

impl<'a> IntoIterator for &'a Segments {
    type Item = &'a Bytes;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl IntoIterator for Segments {
    type Item = Bytes;
    type IntoIter = IntoIter;

    fn into_iter(self) -> IntoIter {
        IntoIter { parts: self.parts.into_iter() }
    }
}

/// Owning iterator over the segments of a document.
pub struct IntoIter {
    parts: smallvec::IntoIter<[Part; 2]>,
}

impl fmt::Debug for IntoIter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntoIter").field("segments", &self.parts.len()).finish()
    }
}

impl Iterator for IntoIter {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        self.parts.next().map(|part| part.bytes)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.parts.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Segments {
        ["abc", "", "d", "efgh", "ij"].into_iter().map(Bytes::from_static_str).collect()
    }

    trait FromStaticStr {
        fn from_static_str(s: &'static str) -> Bytes;
    }

    impl FromStaticStr for Bytes {
        fn from_static_str(s: &'static str) -> Bytes {
            Bytes::from_static(s.as_bytes())
        }
    }

    #[test]
    fn every_slice_equals_the_slice_of_the_whole() {
        let doc = sample();
        let whole = doc.clone().into_contiguous();
        assert_eq!((doc.len(), doc.count(), &whole[..]), (10, 4, &b"abcdefghij"[..]));
        for start in 0..=10 {
            for end in start..=10 {
                let part = doc.slice(start..end);
                assert_eq!(part.len(), end - start);
                assert_eq!(part.to_vec(), &whole[start..end]);
                assert_eq!(part, Segments::from(whole.slice(start..end)));
            }
        }
        assert_eq!(doc.slice(..), doc);
        assert_eq!(doc.slice(2..=4).to_vec(), b"cde");
    }

    #[test]
    fn slices_and_a_single_segment_stay_the_same_memory() {
        let large = Bytes::from(vec![7; 4096]);
        let doc: Segments = [Bytes::from_static(b"x"), large.clone()].into_iter().collect();
        let part = doc.slice(101..201);
        assert_eq!(part.iter().next().unwrap().as_ptr(), large[100..].as_ptr());
        assert_eq!(part.into_contiguous().as_ptr(), large[100..].as_ptr());
    }

    #[test]
    #[should_panic(expected = "slice 3..11 of a document of 10 bytes")]
    fn a_slice_beyond_the_end_panics_like_a_slice() {
        let _ = sample().slice(3..11);
    }

    #[test]
    fn equality_sees_bytes_not_cuts() {
        assert_eq!(sample(), Segments::from(Bytes::from_static(b"abcdefghij")));
        assert_ne!(sample(), Segments::from(Bytes::from_static(b"abcdefghiJ")));
        assert_ne!(sample(), Segments::new());
        assert_eq!(Segments::new(), Segments::from(Bytes::new()));
    }
}
