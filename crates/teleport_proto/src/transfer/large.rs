//! Large messages on their way out: fragments, what is queued and what is in flight.

use super::charge::{Charge, Returned};
use super::frame::Frame;
use super::incoming::MAX_FRAGMENTS;
use crate::wire::envelope::{Envelope, Kind, MAX_ENVELOPE_LEN, Seq};
use crate::wire::pool::{FRAGMENT_HEADER_LEN, FragmentHeader, MAX_FRAGMENT_SIZE};
use bytes::BytesMut;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::iter;
use teleport_etf::Segments;

/// Every this many fragments the oldest message is served instead of the one with the fewest bytes left.
const OLDEST_EVERY: u32 = 8;

/// Large messages accepted and not delivered.
pub(crate) struct LargeMessages {
    fragment_size: u32,
    messages: BTreeMap<Seq, Large>,
    /// Those with fragments to send: by bytes left, and by age.
    queued: BTreeSet<(u64, Seq)>,
    by_age: BTreeSet<Seq>,
    since_oldest: u32,
    /// Bodies that need not be kept any more.
    pub(crate) spent: Vec<Segments>,
}

struct Large {
    envelope: Envelope,
    charge: Charge,
    /// Gone once the peer has received every byte.
    body: Option<Segments>,
    len: u64,
    size: u32,
    count: u32,
    /// The first fragment that has never been sent.
    next: u32,
    /// Those to be sent again, lowest first.
    again: BinaryHeap<Reverse<u32>>,
    acknowledged: u32,
}

impl Large {
    fn left(&self) -> u64 {
        u64::from(self.count - self.next) + self.again.len() as u64
    }

    fn bytes_left(&self) -> u64 {
        self.left() * u64::from(self.size)
    }
}

impl LargeMessages {
    pub(crate) fn new(fragment_size: u32) -> Self {
        let (messages, queued, by_age, since_oldest, spent) = Default::default();
        Self { fragment_size, messages, queued, by_age, since_oldest, spent }
    }

    /// Takes a message in, which is to be [queued](Self::queue) when there is room for it.
    pub(crate) fn add(&mut self, envelope: Envelope, charge: Charge, body: Segments) {
        let len = body.len() as u64;
        // A message of many gigabytes goes in larger fragments: the receiver takes this many and no more.
        let least = len.div_ceil(MAX_FRAGMENTS).min(MAX_FRAGMENT_SIZE.into()) as u32;
        let size = self.fragment_size.max(least);
        let count = len.div_ceil(size.into()) as u32;
        let (body, again) = (Some(body), BinaryHeap::new());
        let seq = envelope.seq;
        let large = Large { envelope, charge, body, len, size, count, next: 0, again, acknowledged: 0 };
        self.messages.insert(seq, large);
    }

    /// There is room for a message: it may go out.
    pub(crate) fn queue(&mut self, seq: Seq) {
        if let Some(message) = self.messages.get(&seq) {
            self.queued.insert((message.bytes_left(), seq));
            self.by_age.insert(seq);
        }
    }

    /// Messages with fragments that wait for a connection.
    pub(crate) fn queued(&self) -> usize {
        self.queued.len()
    }

    /// Things remembered; 0 when nothing is under way.
    pub(crate) fn entries(&self) -> usize {
        self.messages.len() + self.queued.len()
    }

    /// The next fragment to write, with its message and its place in that. `is_delivered` tells of predecessors.
    pub(crate) fn next(&mut self, is_delivered: impl Fn(Seq) -> bool) -> Option<(Frame, Seq, u32)> {
        self.since_oldest += 1;
        let seq = if self.since_oldest >= OLDEST_EVERY {
            self.since_oldest = 0;
            *self.by_age.first()?
        } else {
            self.queued.first()?.1
        };
        let message = self.messages.get_mut(&seq)?;
        let before = message.bytes_left();
        let index = message.again.pop().map(|Reverse(index)| index).unwrap_or_else(|| {
            message.next += 1;
            message.next - 1
        });
        let mut head = BytesMut::with_capacity(FRAGMENT_HEADER_LEN + MAX_ENVELOPE_LEN);
        let mut envelope = BytesMut::new();
        if index == 0 {
            message.envelope.predecessor.take_if(|predecessor| is_delivered(*predecessor));
            message.envelope.encode(&mut envelope);
        }
        let kind = message.envelope.kind;
        let header = FragmentHeader {
            seq,
            total: message.len,
            fragment_size: message.size,
            index,
            envelope_len: envelope.len() as u16,
            exempt: kind.is_exempt(),
            carried: kind == Kind::Carried,
        };
        header.encode(&mut head);
        head.extend_from_slice(&envelope);
        let offset = u64::from(index) * u64::from(message.size);
        let range = offset as usize..(offset + header.data_len()) as usize;
        // Queued means not received, so the body is still here.
        let data = message.body.as_ref()?.slice(range);
        let after = message.bytes_left();
        self.queued.remove(&(before, seq));
        if after > 0 {
            self.queued.insert((after, seq));
        } else {
            self.by_age.remove(&seq);
        }
        Some((Frame::new(iter::once(head.freeze()).chain(data.iter().cloned()), 1), seq, index))
    }

    /// The peer has a fragment.
    pub(crate) fn received(&mut self, seq: Seq) {
        let Some(message) = self.messages.get_mut(&seq) else { return };
        message.acknowledged += 1;
        if message.acknowledged == message.count {
            let body = message.body.take();
            self.spent.extend(body);
        }
    }

    /// The peer will never have a fragment: it goes out again.
    pub(crate) fn requeue(&mut self, seq: Seq, index: u32) {
        let Some(message) = self.messages.get_mut(&seq) else { return };
        let before = message.bytes_left();
        message.again.push(Reverse(index));
        let after = message.bytes_left();
        self.queued.remove(&(before, seq));
        self.queued.insert((after, seq));
        self.by_age.insert(seq);
    }

    /// Whether every byte of a message has gone out, and nothing is to go out again.
    pub(crate) fn is_out(&self, seq: Seq) -> bool {
        self.messages.get(&seq).is_some_and(|message| message.left() == 0)
    }

    /// A message has been delivered; what comes back with it is added to `returned`.
    pub(crate) fn delivered(&mut self, seq: Seq, returned: &mut Returned) {
        if let Some(message) = self.messages.remove(&seq) {
            self.spent.extend(message.body);
            returned.add(message.charge);
        }
    }
}
