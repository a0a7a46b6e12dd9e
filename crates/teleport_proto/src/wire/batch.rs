//! Batches of small messages: the frames of express connections.
//!
//! A batch has a header and messages one behind the other: an envelope, the body's length, the body. A message that differs from
//! the one before it in its number, which is the next, and in its body alone, is *like the last*: a single byte stands for its
//! envelope. So a run of messages of one pair costs two or three bytes each besides the bodies.

use super::envelope::{Envelope, Head, Seq};
use super::{WireError, put_varint, take_varint};
use bytes::{BufMut, Bytes, BytesMut};
use std::ops::Range;

/// Bytes before the messages of a batch: length (u32, of what follows it), type, zero, number of messages (u16), and the position
/// of the first of them in the stream of small messages (u64).
pub const BATCH_HEADER_LEN: usize = 16;

/// The longest batch frame, in bytes. A batch is closed before it would pass this.
pub const MAX_BATCH_LEN: usize = 1024 * 1024;

/// The most messages in a batch.
pub const MAX_BATCH_MESSAGES: usize = 8 * 1024;

const BATCH: u8 = 1;

/// That a message is like the last: in place of an envelope's flags, none of which has this bit. Its body's length follows.
const LIKE_THE_LAST: u8 = 0x80;

/// What asks whether an express connection passes anything on: a batch without messages. The receiver counts it like any frame,
/// and says so.
pub(crate) const EXPRESS_PROBE: [u8; BATCH_HEADER_LEN] = {
    let mut probe = [0; BATCH_HEADER_LEN];
    (probe[3], probe[4]) = (BATCH_HEADER_LEN as u8 - 4, BATCH);
    probe
};

/// What is at the front of the bytes that an express connection has received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Front {
    /// A whole frame.
    Whole(Bytes),
    /// The beginning of a frame that will have this many bytes; at least those of a header.
    Begun(usize),
}

impl Front {
    /// The frame, if it is whole.
    pub fn whole(self) -> Option<Bytes> {
        match self {
            Self::Whole(frame) => Some(frame),
            Self::Begun(_) => None,
        }
    }
}

/// Takes one whole batch frame off the front of what an express connection has received.
///
/// # Errors
///
/// Bytes that do not begin as a batch does, or say that it is too long.
pub fn split_batch(received: &mut BytesMut) -> Result<Front, WireError> {
    if received.len() < BATCH_HEADER_LEN {
        return Ok(Front::Begun(BATCH_HEADER_LEN));
    }
    let len = 4 + u32::from_be_bytes([received[0], received[1], received[2], received[3]]) as usize;
    if received[4] != BATCH || received[5] != 0 {
        let value = u16::from_be_bytes([received[4], received[5]]).into();
        return Err(WireError::Unknown { field: "frame type on an express connection", value });
    }
    if !(BATCH_HEADER_LEN..=MAX_BATCH_LEN).contains(&len) {
        let (value, allowed) = (len as u64, MAX_BATCH_LEN as u64);
        return Err(WireError::OutOfRange { field: "batch length", value, allowed });
    }
    if received.len() < len {
        return Ok(Front::Begun(len));
    }
    Ok(Front::Whole(received.split_to(len).freeze()))
}

/// Writes a batch's header over the first [`BATCH_HEADER_LEN`] bytes of `frame`.
pub(crate) fn put_header(header: &mut [u8], frame_len: usize, messages: u16, position: u64) {
    header[..4].copy_from_slice(&((frame_len - 4) as u32).to_be_bytes());
    header[4..6].copy_from_slice(&[BATCH, 0]);
    header[6..8].copy_from_slice(&messages.to_be_bytes());
    header[8..16].copy_from_slice(&position.to_be_bytes());
}

/// Writes that a message is like the last. Its body's length and the body have to follow.
pub(crate) fn put_like_the_last(out: &mut BytesMut) {
    out.put_u8(LIKE_THE_LAST);
}

/// Writes a body of a run. The first stands behind the envelope of them all.
pub(crate) fn put_body_of_run(out: &mut BytesMut, is_first: bool, body: &[u8]) {
    if !is_first {
        put_like_the_last(out);
    }
    put_varint(out, body.len() as u64);
    out.extend_from_slice(body);
}

/// Whether messages like this one may follow it.
pub(crate) fn can_be_repeated(head: &Head<'_>) -> bool {
    head.kind.is_plain() && head.predecessor.is_none() && !head.behind_all && !head.acknowledge
}

/// The position of a batch's first message, and how many it has. Nothing of probes means anything but their length.
pub(crate) fn header(frame: &[u8]) -> Result<(u64, usize), WireError> {
    let (header, _) = frame.split_first_chunk::<BATCH_HEADER_LEN>().ok_or(WireError::Truncated("batch"))?;
    let [.., a, b, c, d, e, f, g, h] = *header;
    Ok((
        u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        usize::from(u16::from_be_bytes([header[6], header[7]])),
    ))
}

/// A message and those behind it that are like it.
#[derive(Debug)]
pub(crate) struct Run {
    /// Of the first.
    pub(crate) envelope: Envelope,
    pub(crate) count: u64,
    /// From the length of the first body to the end of the last.
    bytes: Range<usize>,
    /// Of all bodies, and of the longest of them.
    pub(crate) body_bytes: u64,
    pub(crate) longest: u64,
}

impl Run {
    /// The places of the bodies in the frame that the run was found in.
    pub(crate) fn bodies<'a>(&self, frame: &'a [u8]) -> impl Iterator<Item = Range<usize>> + Clone + use<'a> {
        bodies(frame, self.bytes.clone())
    }

    /// The number of the last.
    pub(crate) fn last(&self) -> Seq {
        self.envelope.seq + (self.count - 1)
    }
}

/// The places of the bodies of messages that are like one another, from the length of the first to the end of the last.
pub(crate) fn bodies(frame: &[u8], run: Range<usize>) -> impl Iterator<Item = Range<usize>> + Clone {
    let (mut at, end) = (run.start, run.end);
    std::iter::from_fn(move || {
        let mut rest = frame.get(at..end).filter(|rest| !rest.is_empty())?;
        let len = take_varint(&mut rest, "body length").ok()? as usize; // what was read or written before
        let start = end - rest.len();
        at = start + len + 1; // behind the byte that stands for the next one's envelope
        Some(start..start + len)
    })
}

/// Reads all messages of a batch.
pub(crate) fn read(frame: &[u8], out: &mut Vec<Run>) -> Result<(), WireError> {
    let (_, count) = header(frame)?;
    let mut rest = &frame[BATCH_HEADER_LEN..];
    for _ in 0..count {
        if let [LIKE_THE_LAST, lengths @ ..] = rest
            && let Some(run) = out.last_mut()
            && can_be_repeated(&run.envelope.head())
        {
            rest = lengths;
            let len = take_body(&mut rest)?;
            if run.last() == Seq::MAX {
                let (value, allowed) = (Seq::MAX, Seq::MAX - 1);
                return Err(WireError::OutOfRange { field: "message number", value, allowed });
            }
            run.count += 1;
            run.bytes.end = frame.len() - rest.len();
            run.body_bytes += len;
            run.longest = run.longest.max(len);
            continue;
        }
        let envelope = Envelope::decode_next(&mut rest, out.last().map(|last| &last.envelope.to))?;
        let start = frame.len() - rest.len();
        let len = take_body(&mut rest)?;
        let bytes = start..frame.len() - rest.len();
        out.push(Run { envelope, count: 1, bytes, body_bytes: len, longest: len });
    }
    if rest.is_empty() {
        return Ok(());
    }
    let value = rest.len() as u64;
    Err(WireError::OutOfRange { field: "bytes behind the last message", value, allowed: 0 })
}

fn take_body(rest: &mut &[u8]) -> Result<u64, WireError> {
    let len = take_varint(rest, "body length")?;
    if len > rest.len() as u64 {
        return Err(WireError::Truncated("message"));
    }
    *rest = &rest[len as usize..];
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::envelope::{Destination, Kind, ProcessId};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_streams_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = split_batch(&mut BytesMut::from(&bytes[..]));
        }

        #[test]
        fn arbitrary_batches_never_panic(count in 0u16..20, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut frame = vec![0; BATCH_HEADER_LEN];
            frame.extend(bytes);
            let len = frame.len();
            put_header(&mut frame, len, count, 1);
            let _ = read(&frame, &mut Vec::new());
        }
    }

    #[test]
    fn a_probe_is_a_batch_without_messages() {
        let mut received = BytesMut::from(&EXPRESS_PROBE[..]);
        let frame = split_batch(&mut received).unwrap().whole().unwrap();
        assert_eq!(header(&frame), Ok((0, 0)));
        assert!(received.is_empty());
    }

    #[test]
    fn what_is_like_the_last_shares_its_envelope() {
        let from = ProcessId { id: 1, serial: 2 };
        let envelope = Envelope {
            seq: 7,
            predecessor: None,
            behind_all: false,
            account: 3,
            kind: Kind::Data,
            acknowledge: false,
            from,
            to: Destination::Process(from),
        };
        let mut frame = BytesMut::zeroed(BATCH_HEADER_LEN);
        envelope.encode(&mut frame);
        put_varint(&mut frame, 2);
        frame.extend_from_slice(b"ab");
        put_like_the_last(&mut frame);
        put_varint(&mut frame, 0);
        put_like_the_last(&mut frame);
        put_varint(&mut frame, 3);
        frame.extend_from_slice(b"cde");
        let len = frame.len();
        put_header(&mut frame, len, 3, 9);
        let mut runs = Vec::new();
        read(&frame, &mut runs).unwrap();
        let [run] = &runs[..] else { panic!("{runs:?}") };
        assert_eq!((run.envelope.seq, run.last(), run.body_bytes, run.longest), (7, 9, 5, 3));
        let bodies: Vec<_> = run.bodies(&frame).map(|body| &frame[body]).collect();
        assert_eq!(bodies, [&b"ab"[..], b"", b"cde"]);
        // Nothing comes before the first, and some cannot be repeated.
        let mut frame = BytesMut::zeroed(BATCH_HEADER_LEN);
        put_like_the_last(&mut frame);
        put_varint(&mut frame, 0);
        let len = frame.len();
        put_header(&mut frame, len, 1, 1);
        assert!(read(&frame, &mut Vec::new()).is_err());
        let mut frame = BytesMut::zeroed(BATCH_HEADER_LEN);
        Envelope { acknowledge: true, ..envelope }.encode(&mut frame);
        put_varint(&mut frame, 0);
        put_like_the_last(&mut frame);
        put_varint(&mut frame, 0);
        let len = frame.len();
        put_header(&mut frame, len, 2, 1);
        assert!(read(&frame, &mut Vec::new()).is_err());
    }
}
