//! Accepted messages on their way out: numbers, predecessors, what is queued and what is in flight.

use super::allowance::Allowance;
use super::incoming::MAX_FRAGMENTS;
use super::numbers::NumberSet;
use super::pairs::{PairId, Pairs};
use super::window::{Totals, class_of, cost};
use super::{AckToken, Outgoing, Pair, Violation};
use crate::ConnectionId;
use crate::wire::envelope::{AccountId, Head, Kind, Lane, MAX_ENVELOPE_LEN, ProcessId, Seq};
use crate::wire::pool::{
    BATCH_HEADER_LEN, BULK_PROBE, Class, EXPRESS_PROBE, FRAGMENT_HEADER_LEN, FragmentHeader,
    MAX_BATCH_MESSAGES, MAX_FRAGMENT_SIZE, put_batch_header,
};
use crate::wire::put_varint;
use bytes::{Bytes, BytesMut};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use teleport_etf::Segments;

/// Bytes of a batch, as long as connections last: large enough to spread a system call over thousands of messages, small
/// enough that what is queued next does not wait for long.
const BATCH_TARGET: usize = 256 * 1024;

/// Smaller ones are not tried, however short connections live.
const LEAST_BATCH: usize = 4 * 1024;

/// Segments up to this are copied into the batch, larger ones go by reference: below it an iovec costs more.
const COPY_LIMIT: usize = 4 * 1024;

/// The most segments by reference in one frame; `writev` takes 1,024.
const MAX_REFERENCES: usize = 400;

/// The message list may have so many places more than four times its messages before the oldest of them move out of it.
const MOST_SPARE: usize = 256;

/// Every so many fragments the oldest message is served instead of the one with the fewest bytes left.
const OLDEST_EVERY: u32 = 8;

/// The bytes of one frame, ready to be written.
#[derive(Debug, Default)]
pub struct Frame {
    chunks: SmallVec<[Bytes; 8]>,
    len: usize,
    messages: usize,
}

impl Frame {
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

    pub(crate) fn probe(class: Class) -> Self {
        let mut frame = Self::default();
        frame.push(match class {
            Class::Express => Bytes::from_static(&EXPRESS_PROBE),
            Class::Bulk => Bytes::from_static(&BULK_PROBE),
        });
        frame
    }

    fn push(&mut self, chunk: Bytes) {
        self.len += chunk.len();
        self.chunks.push(chunk);
    }
}

/// What a connection's log keeps of a frame until the peer has it.
#[derive(Debug)]
pub(crate) enum Record {
    /// Runs of message numbers: first and how many.
    Batch(SmallVec<[(Seq, u32); 2]>),
    Fragment {
        seq: Seq,
        index: u32,
    },
    /// Nothing that would have to go out again.
    Probe,
}

/// An accepted message that is not yet known to be delivered.
struct Outbound {
    pair: PairId,
    kind: Kind,
    acknowledge: bool,
    /// See [`is_answer`].
    answer: bool,
    account: AccountId,
    /// The message of the same pair before it, if that one was in flight at acceptance.
    predecessor: Option<Seq>,
    behind_all: bool,
    len: u64,
    /// Gone once the peer has received every byte.
    body: Option<Segments>,
    /// For an express message: the connection it went by, and whether it named its predecessor there.
    sent: Option<(ConnectionId, bool)>,
    fragments: Option<Box<Fragments>>,
}

/// How far a bulk message has got.
struct Fragments {
    size: u32,
    count: u32,
    /// The first that has never been sent.
    next: u32,
    /// Those to be sent again, lowest first.
    again: BinaryHeap<Reverse<u32>>,
    acknowledged: u32,
}

impl Fragments {
    fn left(&self) -> u64 {
        u64::from(self.count - self.next) + self.again.len() as u64
    }

    fn bytes_left(&self) -> u64 {
        self.left() * u64::from(self.size)
    }
}

/// Credit that has come back with messages that the peer says it has delivered, in bytes, for accounts and classes in turn.
#[derive(Default)]
pub(crate) struct Returned {
    pub(crate) credit: SmallVec<[(AccountId, Class, u64); 4]>,
    /// Room of messages without credit.
    pub(crate) exempt: Totals,
}

impl Returned {
    fn add(&mut self, account: AccountId, class: Class, bytes: u64) {
        match self.credit.last_mut() {
            Some((last, of, sum)) if (*last, *of) == (account, class) => *sum += bytes,
            _ => self.credit.push((account, class, bytes)),
        }
    }
}

/// Accepted messages of a lane that the peer has not granted room for yet. They take turns, in the order of their numbers. Those
/// without credit have a window of their own: so the receiver needs no more memory for them, and the first of them always has
/// room.
struct Gate {
    allowance: Allowance,
    express: VecDeque<Seq>,
    bulk: VecDeque<Seq>,
    /// What they cost.
    waiting: Totals,
}

impl Gate {
    fn new(lane: Lane, window: u64) -> Self {
        let (express, bulk, waiting) = Default::default();
        Self { allowance: Allowance::new(lane, window), express, bulk, waiting }
    }

    fn queue(&mut self, class: Class) -> &mut VecDeque<Seq> {
        match class {
            Class::Express => &mut self.express,
            Class::Bulk => &mut self.bulk,
        }
    }

    fn len(&self) -> usize {
        self.express.len() + self.bulk.len()
    }
}

pub(crate) struct Outbox {
    fragment_size: u32,
    /// Accepted and not delivered, by number from `base` on, and how many of them there are.
    messages: VecDeque<Option<Outbound>>,
    base: Seq,
    listed: usize,
    /// Messages below `base`: a large one, say, that many small ones have overtaken. It must not keep their places.
    stragglers: BTreeMap<Seq, Outbound>,
    delivered: NumberSet,
    pairs: Pairs,
    /// The last carried message that goes behind all others, while it is in flight.
    barrier: Option<Seq>,
    acknowledgements: FxHashMap<Seq, AckToken>,
    ordinary: Gate,
    exempt: Gate,
    express: VecDeque<Seq>,
    /// A batch is closed once it has so many bytes.
    batch_target: usize,
    /// Bulk messages with fragments to send: by bytes left, and by age.
    bulk: BTreeSet<(u64, Seq)>,
    bulk_by_age: BTreeSet<Seq>,
    since_oldest: u32,
    unconfirmed_bytes: u64,
    unconfirmed: u64,
    /// Those of them that are carried.
    carried: u64,
    /// What this side has answered by itself, and the peer has not taken yet.
    answers: u64,
    scratch: BytesMut,
    /// Bodies of bulk messages that need not be kept any more, since the last control frame.
    pub(crate) spent: Vec<Segments>,
}

impl Outbox {
    pub(crate) fn new(fragment_size: u32, window: u64) -> Self {
        Self {
            fragment_size,
            ordinary: Gate::new(Lane::Ordinary, window),
            exempt: Gate::new(Lane::Exempt, window),
            messages: VecDeque::new(),
            base: 1,
            listed: 0,
            stragglers: BTreeMap::new(),
            delivered: NumberSet::default(),
            pairs: Pairs::default(),
            barrier: None,
            acknowledgements: FxHashMap::default(),
            express: VecDeque::new(),
            batch_target: BATCH_TARGET,
            bulk: BTreeSet::new(),
            bulk_by_age: BTreeSet::new(),
            since_oldest: 0,
            unconfirmed_bytes: 0,
            unconfirmed: 0,
            carried: 0,
            answers: 0,
            scratch: BytesMut::new(),
            spent: Vec::new(),
        }
    }

    /// Numbers a message and queues it.
    pub(crate) fn accept(&mut self, message: Outgoing, account: AccountId) -> (Seq, Class) {
        let seq = self.next_seq();
        let len = message.body_len();
        let class = class_of(len);
        let Outgoing { from, to, kind, body, unordered, behind_all, acknowledge, .. } = message;
        let pair = self.pairs.enter(from, to);
        let predecessor = match unordered {
            true => None,
            false if kind == Kind::Carried => {
                self.pairs.follow(pair, seq).max(self.barrier).filter(|_| !behind_all)
            }
            false => self.pairs.follow(pair, seq),
        };
        if behind_all {
            self.barrier = Some(seq);
        }
        let fragments = match class {
            Class::Express => None,
            Class::Bulk => {
                // A message of many gigabytes goes in larger fragments: the receiver takes so many and no more.
                let least = len.div_ceil(MAX_FRAGMENTS).min(MAX_FRAGMENT_SIZE.into()) as u32;
                let size = self.fragment_size.max(least);
                let count = len.div_ceil(size.into()) as u32;
                Some(Box::new(Fragments { size, count, next: 0, again: BinaryHeap::new(), acknowledged: 0 }))
            }
        };
        if let Some(token) = acknowledge {
            self.acknowledgements.insert(seq, token);
        }
        self.unconfirmed_bytes += cost(len);
        self.unconfirmed += u64::from(kind.is_message());
        self.carried += u64::from(kind == Kind::Carried);
        let answer = is_answer(kind, from, &body);
        self.answers += if answer { cost(len) } else { 0 };
        self.listed += 1;
        self.messages.push_back(Some(Outbound {
            pair,
            kind,
            acknowledge: acknowledge.is_some(),
            answer,
            account,
            predecessor,
            behind_all,
            len,
            body: Some(body),
            sent: None,
            fragments,
        }));
        let lane = Lane::of(kind.is_exempt());
        let gate = self.gate(lane);
        gate.queue(class).push_back(seq);
        gate.waiting.add(class, cost(len));
        self.admit(lane, class);
        (seq, class)
    }

    /// Queues those of a lane's messages that there is room for.
    pub(crate) fn admit(&mut self, lane: Lane, class: Class) {
        while let Some(&seq) = self.gate(lane).queue(class).front() {
            let bytes = self.peek(seq).map_or(0, |message| cost(message.len));
            let gate = self.gate(lane);
            if !gate.allowance.try_take(class, bytes, gate.waiting.of(class)) {
                return;
            }
            *gate.waiting.of_mut(class) -= bytes;
            gate.queue(class).pop_front();
            self.queue(seq);
        }
    }

    /// What the peer grants of a lane.
    pub(crate) fn allowance(&mut self, lane: Lane) -> &mut Allowance {
        &mut self.gate(lane).allowance
    }

    /// Whether the peer has to be told what is needed, or given up.
    pub(crate) fn needs_due(&self) -> bool {
        self.ordinary.allowance.is_due() || self.exempt.allowance.is_due()
    }

    fn gate(&mut self, lane: Lane) -> &mut Gate {
        match lane {
            Lane::Ordinary => &mut self.ordinary,
            Lane::Exempt => &mut self.exempt,
        }
    }

    /// An accepted message may go out.
    fn queue(&mut self, seq: Seq) {
        let Some(message) = self.peek(seq) else { return };
        match &message.fragments {
            None => self.express.push_back(seq),
            Some(fragments) => {
                self.bulk.insert((fragments.bytes_left(), seq));
                self.bulk_by_age.insert(seq);
            }
        }
    }

    /// Whether a connection of that class has something to write.
    pub(crate) fn has_work(&self, class: Class) -> bool {
        match class {
            Class::Express => !self.express.is_empty(),
            Class::Bulk => !self.bulk.is_empty(),
        }
    }

    /// Bulk messages with fragments waiting for a connection.
    pub(crate) fn queued_bulk(&self) -> usize {
        self.bulk.len()
    }

    pub(crate) fn queued_express(&self) -> usize {
        self.express.len()
    }

    /// Messages without credit that wait for their turn.
    pub(crate) fn exempt_waiting(&self) -> usize {
        self.exempt.len()
    }

    /// Bytes accepted and not delivered, messages' own cost included.
    pub(crate) fn unconfirmed_bytes(&self) -> u64 {
        self.unconfirmed_bytes
    }

    /// Messages (of applications) accepted and not delivered.
    pub(crate) fn unconfirmed(&self) -> u64 {
        self.unconfirmed
    }

    /// Those of them that are carried.
    pub(crate) fn unconfirmed_carried(&self) -> u64 {
        self.carried
    }

    /// What this side has answered by itself, accepted and not delivered, in bytes.
    pub(crate) fn answers(&self) -> u64 {
        self.answers
    }

    /// Pairs, acknowledgements and messages remembered; all 0 when nothing is in flight.
    pub(crate) fn entries(&self) -> usize {
        self.pairs.len()
            + self.acknowledgements.len()
            + self.messages.len()
            + self.stragglers.len()
            + self.bulk.len()
            + self.express.len()
            + self.exempt_waiting()
            + self.ordinary.len()
    }

    /// The next frame for a connection of that class.
    pub(crate) fn next_frame(&mut self, connection: ConnectionId, class: Class) -> Option<(Frame, Record)> {
        match class {
            Class::Express => self.next_batch(connection),
            Class::Bulk => self.next_fragment(connection),
        }
    }

    /// The peer has the whole frame: its bytes need not be kept.
    pub(crate) fn received(&mut self, record: Record) {
        match record {
            Record::Batch(runs) => {
                self.batch_target = (2 * self.batch_target).min(BATCH_TARGET);
                for seq in numbers(&runs) {
                    if let Some(message) = self.message(seq) {
                        message.body = None;
                    }
                }
            }
            Record::Fragment { seq, .. } => {
                let Some(message) = self.message(seq) else { return };
                let Some(fragments) = &mut message.fragments else { return };
                fragments.acknowledged += 1;
                if fragments.acknowledged == fragments.count {
                    let body = message.body.take();
                    self.spent.extend(body);
                }
            }
            Record::Probe => {}
        }
    }

    /// The peer will never have the frame: what was in it is queued again.
    pub(crate) fn requeue(&mut self, records: impl Iterator<Item = Record>) {
        let mut batched = Vec::new();
        for record in records {
            match record {
                Record::Batch(runs) => batched.extend(numbers(&runs)),
                Record::Fragment { seq, index } => self.requeue_fragment(seq, index),
                Record::Probe => {}
            }
        }
        batched.retain(|&seq| self.message(seq).map(|message| message.sent = None).is_some());
        if !batched.is_empty() {
            // Where connections die before a whole batch has got through, a smaller one may.
            self.batch_target = (self.batch_target / 2).max(LEAST_BATCH);
            batched.extend(self.express.drain(..));
            batched.sort_unstable();
            self.express = batched.into();
        }
    }

    /// Refuses that the peer says to have delivered the messages from `first` to `last`, if one of them has not gone out
    /// whole.
    pub(crate) fn check_delivered(&self, first: Seq, last: Seq) -> Result<(), Violation> {
        let never_sent = |number| Violation::NeverSent { what: "message", number };
        if last >= self.next_seq() {
            return Err(never_sent(last));
        }
        let is_out = |&seq: &Seq| self.peek(seq).is_some_and(Outbound::is_out);
        let mut new = self.delivered.gaps(first, last).flat_map(|(first, last)| first..=last);
        new.find(|seq| !is_out(seq)).map_or(Ok(()), |seq| Err(never_sent(seq)))
    }

    /// The peer has delivered the messages from `first` to `last`, which have been [checked](Self::check_delivered); the
    /// credit of those not known before is added to `returned`.
    pub(crate) fn delivered(&mut self, first: Seq, last: Seq, returned: &mut Returned) {
        let mut delivered = std::mem::take(&mut self.delivered);
        delivered.insert_run(first, last, |seq| self.confirm(seq, returned));
        self.delivered = delivered;
        self.move_on();
        for class in [Class::Express, Class::Bulk] {
            [Lane::Ordinary, Lane::Exempt].into_iter().for_each(|lane| self.admit(lane, class));
        }
    }

    /// The sender of that message wanted to know; each is answered once.
    pub(crate) fn take_acknowledgement(&mut self, seq: Seq) -> Option<AckToken> {
        self.acknowledgements.remove(&seq)
    }

    /// Everybody who still waits for an acknowledgement, for the session's end.
    pub(crate) fn take_acknowledgements(&mut self) -> impl Iterator<Item = AckToken> {
        std::mem::take(&mut self.acknowledgements).into_values()
    }

    /// Begins the list at the first message that is still out, or later if too few are left of those it has places for.
    fn move_on(&mut self) {
        while let Some(first) = self.messages.front() {
            if first.is_some() && self.messages.len() <= 4 * self.listed + MOST_SPARE {
                return;
            }
            if let Some(straggler) = self.messages.pop_front().flatten() {
                self.stragglers.insert(self.base, straggler);
                self.listed -= 1;
            }
            self.base += 1;
        }
    }

    /// The number of the next message to be accepted.
    fn next_seq(&self) -> Seq {
        self.base + self.messages.len() as u64
    }

    fn peek(&self, seq: Seq) -> Option<&Outbound> {
        match seq.checked_sub(self.base) {
            Some(index) => self.messages.get(index as usize)?.as_ref(),
            None => self.stragglers.get(&seq),
        }
    }

    fn message(&mut self, seq: Seq) -> Option<&mut Outbound> {
        match seq.checked_sub(self.base) {
            Some(index) => self.messages.get_mut(index as usize)?.as_mut(),
            None => self.stragglers.get_mut(&seq),
        }
    }

    fn take(&mut self, seq: Seq) -> Option<Outbound> {
        let Some(index) = seq.checked_sub(self.base) else { return self.stragglers.remove(&seq) };
        let message = self.messages.get_mut(index as usize)?.take();
        self.listed -= usize::from(message.is_some());
        message
    }

    fn confirm(&mut self, seq: Seq, returned: &mut Returned) {
        let Some(message) = self.take(seq) else { return };
        self.pairs.leave(message.pair, seq);
        self.barrier.take_if(|barrier| *barrier == seq);
        if message.fragments.is_some() {
            self.spent.extend(message.body);
        }
        let (class, bytes) = (class_of(message.len), cost(message.len));
        self.unconfirmed_bytes -= bytes;
        self.unconfirmed -= u64::from(message.kind.is_message());
        self.carried -= u64::from(message.kind == Kind::Carried);
        self.answers -= if message.answer { bytes } else { 0 };
        let exempt = message.kind.is_exempt();
        self.allowance(Lane::of(exempt)).give_back(class, bytes);
        if exempt {
            returned.exempt.add(class, bytes);
        } else {
            returned.add(message.account, class, bytes);
        }
    }

    fn requeue_fragment(&mut self, seq: Seq, index: u32) {
        let Some(fragments) = self.message(seq).and_then(|message| message.fragments.as_mut()) else {
            return;
        };
        let before = fragments.bytes_left();
        fragments.again.push(Reverse(index));
        let after = fragments.bytes_left();
        self.bulk.remove(&(before, seq));
        self.bulk.insert((after, seq));
        self.bulk_by_age.insert(seq);
    }

    /// The predecessor that a message has to name on that connection.
    ///
    /// None, if the predecessor is delivered, or went before it by the same connection without having to wait for
    /// anything itself: then the receiver delivers it before it looks at this message.
    fn predecessor_to_name(&self, predecessor: Option<Seq>, connection: ConnectionId) -> Option<Seq> {
        let seq = predecessor?;
        match self.peek(seq)?.sent {
            Some((by, false)) if by == connection => None,
            _ => Some(seq),
        }
    }

    fn next_batch(&mut self, connection: ConnectionId) -> Option<(Frame, Record)> {
        let mut block = std::mem::take(&mut self.scratch);
        // References into the message list, as (place in the block, segment).
        let mut references: SmallVec<[(usize, Bytes); 8]> = SmallVec::new();
        let mut runs: SmallVec<[(Seq, u32); 2]> = SmallVec::new();
        let (mut count, mut referenced) = (0u16, 0usize);
        block.resize(BATCH_HEADER_LEN, 0);
        while let Some(&seq) = self.express.front() {
            let full = block.len() + referenced >= self.batch_target
                || usize::from(count) == MAX_BATCH_MESSAGES
                || references.len() >= MAX_REFERENCES;
            if full {
                break;
            }
            self.express.pop_front();
            let named =
                self.peek(seq).and_then(|message| self.predecessor_to_name(message.predecessor, connection));
            let Some(message) = self.message(seq) else { continue };
            message.sent = Some((connection, named.is_some() || message.behind_all));
            let Some(message) = self.peek(seq) else { continue };
            // Queued means not received, so the body is still here; and in flight, so the pair is.
            let (Some(body), Some(pair)) = (&message.body, self.pairs.pair(message.pair)) else { continue };
            message.head(seq, named, pair).encode(&mut block);
            put_varint(&mut block, message.len);
            for segment in body.iter() {
                if segment.len() <= COPY_LIMIT {
                    block.extend_from_slice(segment);
                } else {
                    referenced += segment.len();
                    references.push((block.len(), segment.clone()));
                }
            }
            count += 1;
            match runs.last_mut() {
                Some((first, run)) if *first + u64::from(*run) == seq => *run += 1,
                _ => runs.push((seq, 1)),
            }
        }
        if count == 0 {
            block.clear();
            self.scratch = block;
            return None;
        }
        let len = block.len() + referenced;
        put_batch_header(&mut block[..BATCH_HEADER_LEN], len, count);
        let bytes = block.split().freeze();
        self.scratch = block;
        let mut frame = Frame { messages: count.into(), ..Frame::default() };
        let mut done = 0;
        for (at, segment) in references {
            if at > done {
                frame.push(bytes.slice(done..at));
            }
            frame.push(segment);
            done = at;
        }
        if done < bytes.len() {
            frame.push(bytes.slice(done..));
        }
        Some((frame, Record::Batch(runs)))
    }

    fn next_fragment(&mut self, connection: ConnectionId) -> Option<(Frame, Record)> {
        self.since_oldest += 1;
        let seq = if self.since_oldest >= OLDEST_EVERY {
            self.since_oldest = 0;
            *self.bulk_by_age.first()?
        } else {
            self.bulk.first()?.1
        };
        let named =
            self.peek(seq).and_then(|message| self.predecessor_to_name(message.predecessor, connection));
        let fragments = self.message(seq)?.fragments.as_mut()?;
        let before = fragments.bytes_left();
        let index = fragments.again.pop().map(|Reverse(index)| index).unwrap_or_else(|| {
            fragments.next += 1;
            fragments.next - 1
        });
        let (left, after, fragment_size) = (fragments.left(), fragments.bytes_left(), fragments.size);
        let message = self.peek(seq)?;
        let (total, exempt) = (message.len, message.kind.is_exempt());
        let carried = message.kind == Kind::Carried;
        let mut head = BytesMut::with_capacity(FRAGMENT_HEADER_LEN + MAX_ENVELOPE_LEN);
        let mut envelope = BytesMut::new();
        if index == 0 {
            message.head(seq, named, self.pairs.pair(message.pair)?).encode(&mut envelope);
        }
        let envelope_len = envelope.len() as u16;
        let header = FragmentHeader { seq, total, fragment_size, index, envelope_len, exempt, carried };
        header.encode(&mut head);
        head.extend_from_slice(&envelope);
        let offset = u64::from(index) * u64::from(fragment_size);
        let range = offset as usize..(offset + header.data_len()) as usize;
        // Queued means not received, so the body is still here.
        let data = message.body.as_ref()?.slice(range);
        self.bulk.remove(&(before, seq));
        if left > 0 {
            self.bulk.insert((after, seq));
        } else {
            self.bulk_by_age.remove(&seq);
        }
        let mut frame = Frame { messages: 1, ..Frame::default() };
        frame.push(head.freeze());
        data.iter().for_each(|segment| frame.push(segment.clone()));
        Some((frame, Record::Fragment { seq, index }))
    }
}

impl Outbound {
    /// Whether every byte of it has gone out, and nothing is to go out again.
    fn is_out(&self) -> bool {
        self.fragments.as_ref().map_or(self.sent.is_some(), |fragments| fragments.left() == 0)
    }

    fn head<'a>(&self, seq: Seq, predecessor: Option<Seq>, pair: &'a Pair) -> Head<'a> {
        let Self { account, kind, acknowledge, behind_all, .. } = *self;
        Head { seq, predecessor, behind_all, account, kind, acknowledge, from: pair.from, to: &pair.to }
    }
}

/// Whether a node says that by itself, whatever its applications do: what became of an acknowledged message, that there is
/// nobody to be watched, and that a request is not let in. The peer alone decides how many there are. A host learns that a
/// process has ended before it was watched only from the end of that watch: the reason says so.
fn is_answer(kind: Kind, from: ProcessId, body: &Segments) -> bool {
    match kind {
        Kind::Outcome => true,
        Kind::Reject(_) => from == ProcessId::NOBODY,
        Kind::Down(_) => from == ProcessId::NOBODY || is_noproc(body),
        _ => false,
    }
}

/// The atom in either of its forms: Erlang/OTP 25 writes the first.
fn is_noproc(body: &Segments) -> bool {
    let forms: [&[u8]; 2] = [b"\x83\x64\x00\x06noproc", b"\x83\x77\x06noproc"];
    let mut parts = body.iter();
    parts.next().is_some_and(|part| forms.contains(&part.as_ref())) && parts.next().is_none()
}

fn numbers(runs: &[(Seq, u32)]) -> impl Iterator<Item = Seq> + '_ {
    runs.iter().flat_map(|&(first, count)| first..first + u64::from(count))
}
