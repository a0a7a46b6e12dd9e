//! Small messages on their way out: bytes in batches, in one order.
//!
//! A message is written once, behind the last one of the open batch. A batch is closed when a connection takes it. What is
//! remembered of it is its bytes, and the sums of what comes back when it has been delivered. Only of a batch of which a
//! part has been delivered the messages are looked at again, one by one.
//!
//! The messages of all batches are one stream, and each batch says at which position of it it begins. The receiver takes
//! them in that order, whatever connections they come by. So nothing has to be said of the order of small messages, and a
//! batch can go out again in smaller ones.

use super::charge::{Charge, Returned};
use super::frame::Frame;
use super::numbers::NumberSet;
use crate::wire::batch::{
    BATCH_HEADER_LEN, MAX_BATCH_MESSAGES, can_be_repeated, put_header, put_like_the_last, read,
};
use crate::wire::envelope::{Envelope, Head, Seq};
use crate::wire::put_varint;
use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use std::collections::{BTreeMap, VecDeque};
use std::{iter, mem};

/// Bytes of a batch, as long as connections last: large enough to spread a system call over thousands of messages, small
/// enough that what is queued next does not wait for long.
const BATCH_TARGET: usize = 256 * 1024;

/// Smaller ones are not tried, however short connections live.
const LEAST_BATCH: usize = 4 * 1024;

/// Segments up to this are copied into the batch, larger ones go by reference: below it an iovec costs more.
pub(crate) const COPY_LIMIT: usize = 4 * 1024;

/// The most segments by reference in one frame; `writev` takes 1,024.
const MAX_REFERENCES: usize = 400;

/// A batch of this many bytes has its block to itself, which is used again: fresh memory costs more than the copy into it.
const OWN_BLOCK: usize = 16 * 1024;

/// The most bytes of blocks that wait to be used again.
const MOST_SPARE: usize = 1024 * 1024;

/// A message's place in the stream of small messages.
pub(crate) type Position = u64;

/// Small messages accepted and not delivered.
#[derive(Default)]
pub(crate) struct Batches {
    /// The batches that are closed, by position.
    closed: BTreeMap<Position, Batch>,
    /// Their messages: the first number of each run, how many there are, and the batch.
    runs: BTreeMap<Seq, (u64, Position)>,
    open: Writer,
    /// Where the open batch begins.
    position: Position,
    /// Closed batches that are to go out, in order.
    queued: VecDeque<Position>,
    /// A batch is closed once it has this many bytes; 0 stands for the usual.
    target: usize,
    /// Batches of which a part has just been delivered.
    touched: SmallVec<[Position; 4]>,
    /// Batches that the peer has received since it last said what has been delivered.
    arrived: SmallVec<[Position; 4]>,
}

struct Batch {
    messages: u64,
    /// How many of them have not been delivered.
    left: u64,
    numbers: SmallVec<[(Seq, u64); 2]>,
    /// Gone once they are of no more use.
    chunks: SmallVec<[Bytes; 2]>,
    len: usize,
    state: State,
    owed: Owed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Queued,
    Sent,
    /// The peer has it.
    Received,
}

/// What comes back with the delivery of a batch.
enum Owed {
    AtOnce(Returned),
    Singly(Vec<(Seq, Charge)>),
}

/// A batch that is being written.
#[derive(Default)]
struct Writer {
    block: BytesMut,
    spare: Vec<BytesMut>,
    spare_bytes: usize,
    /// Segments that go by reference, and their places in the block.
    references: SmallVec<[(usize, Bytes); 4]>,
    referenced: usize,
    messages: u64,
    numbers: SmallVec<[(Seq, u64); 2]>,
    owed: Returned,
    /// The last message, if the next one may be like it.
    last: Option<Envelope>,
}

impl Writer {
    fn is_full(&self, target: usize) -> bool {
        self.block.len() + self.referenced >= target
            || self.messages as usize == MAX_BATCH_MESSAGES
            || self.references.len() >= MAX_REFERENCES
    }

    fn add<'a>(&mut self, head: &Head<'_>, charge: Charge, len: u64, body: impl Iterator<Item = &'a Bytes>) {
        self.begin(head, charge, len);
        for segment in body {
            if segment.len() <= COPY_LIMIT {
                self.block.extend_from_slice(segment);
            } else {
                self.referenced += segment.len();
                self.references.push((self.block.len(), segment.clone()));
            }
        }
    }

    /// Writes all that comes before a body of this length.
    fn begin(&mut self, head: &Head<'_>, charge: Charge, len: u64) {
        self.envelope(head, 1);
        put_varint(&mut self.block, len);
        self.owed.add(charge);
    }

    /// Writes messages of which the first has that head, and the others are like it.
    fn add_run(&mut self, head: &Head<'_>, messages: u64, cost: u64, block: &[u8]) {
        self.envelope(head, messages);
        self.block.extend_from_slice(block);
        self.owed.add_plain(head.account, messages, cost);
    }

    /// Writes the envelope of the first of some messages that are like it, or that it is like the last.
    fn envelope(&mut self, head: &Head<'_>, messages: u64) {
        if self.messages == 0 {
            self.block.resize(BATCH_HEADER_LEN, 0);
        }
        let next = head.seq + messages;
        match &mut self.last {
            Some(last) if is_like(head, last) => {
                put_like_the_last(&mut self.block);
                last.seq = next - 1;
            }
            last => {
                head.encode(&mut self.block);
                *last = can_be_repeated(head).then(|| Envelope { seq: next - 1, ..head.to_envelope() });
            }
        }
        self.messages += messages;
        match self.numbers.last_mut() {
            Some((first, run)) if *first + *run == head.seq => *run += messages,
            _ => self.numbers.push((head.seq, messages)),
        }
    }

    fn take_block(&mut self) -> BytesMut {
        if self.block.len() < OWN_BLOCK {
            return self.block.split();
        }
        let next = self.spare.pop().unwrap_or_default();
        self.spare_bytes -= next.capacity();
        mem::replace(&mut self.block, next)
    }

    /// Takes back the block of a batch that has been delivered, if nothing else refers to it.
    fn reuse(&mut self, chunks: SmallVec<[Bytes; 2]>) {
        if chunks.len() == 1
            && chunks[0].len() >= OWN_BLOCK
            && let Some(Ok(mut block)) = chunks.into_iter().next().map(Bytes::try_into_mut)
            && self.spare_bytes + block.capacity() <= MOST_SPARE
        {
            block.clear();
            self.spare_bytes += block.capacity();
            self.spare.push(block);
        }
    }

    /// Closes the batch.
    fn close(&mut self, position: Position) -> Batch {
        let len = self.block.len() + self.referenced;
        let messages = mem::take(&mut self.messages);
        put_header(&mut self.block[..BATCH_HEADER_LEN], len, messages as u16, position);
        let bytes = self.take_block().freeze();
        let (mut chunks, mut done) = (SmallVec::new(), 0);
        for (at, segment) in self.references.drain(..) {
            if at > done {
                chunks.push(bytes.slice(done..at));
            }
            chunks.push(segment);
            done = at;
        }
        if done < bytes.len() {
            chunks.push(bytes.slice(done..));
        }
        (self.referenced, self.last) = (0, None);
        Batch {
            messages,
            left: messages,
            numbers: mem::take(&mut self.numbers),
            chunks,
            len,
            state: State::Queued,
            owed: Owed::AtOnce(mem::take(&mut self.owed)),
        }
    }
}

fn is_like(head: &Head<'_>, last: &Envelope) -> bool {
    head.seq == last.seq + 1
        && head.from == last.from
        && head.account == last.account
        && head.kind == last.kind
        && *head.to == last.to
        && can_be_repeated(head)
}

impl Batches {
    /// Writes a message, whose body has this many bytes, behind the last one.
    pub(crate) fn add<'a>(
        &mut self,
        head: &Head<'_>,
        charge: Charge,
        len: u64,
        body: impl Iterator<Item = &'a Bytes>,
    ) {
        if self.open.is_full(self.target()) {
            self.close();
        }
        self.open.add(head, charge, len, body);
    }

    /// Writes a message behind the last one; its body is copied.
    pub(crate) fn add_copied(&mut self, head: &Head<'_>, charge: Charge, body: &[u8]) {
        if self.open.is_full(self.target()) {
            self.close();
        }
        self.open.begin(head, charge, body.len() as u64);
        self.open.block.extend_from_slice(body);
    }

    /// Writes messages behind the last one, of which the first has that head, and the others are like it. `block` is what stands
    /// behind the first one's envelope.
    pub(crate) fn add_run(&mut self, head: &Head<'_>, messages: u64, cost: u64, block: &[u8]) {
        if self.open.is_full(self.target()) || self.open.messages + messages > MAX_BATCH_MESSAGES as u64 {
            self.close();
        }
        self.open.add_run(head, messages, cost, block);
    }

    /// Whether there is something to write.
    pub(crate) fn has_work(&self) -> bool {
        self.open.messages > 0 || !self.queued.is_empty()
    }

    /// Messages that wait for a connection.
    pub(crate) fn queued(&self) -> u64 {
        let closed = self.queued.iter().filter_map(|position| self.closed.get(position));
        self.open.messages + closed.map(|batch| batch.messages).sum::<u64>()
    }

    /// Things remembered; 0 when nothing is under way.
    pub(crate) fn entries(&self) -> usize {
        self.closed.len() + self.runs.len() + self.open.messages as usize
    }

    /// The next batch to write, and where it begins.
    pub(crate) fn next(&mut self) -> Option<(Frame, Position)> {
        if self.queued.is_empty() && self.open.messages > 0 {
            self.close();
        }
        let position = self.queued.pop_front()?;
        if self.closed.get(&position).is_some_and(|batch| batch.len >= 2 * self.target()) {
            self.split(position);
        }
        let batch = self.closed.get_mut(&position)?;
        batch.state = State::Sent;
        Some((Frame::new(batch.chunks.iter().cloned(), batch.messages as usize), position))
    }

    /// The peer has a batch.
    pub(crate) fn received(&mut self, position: Position) {
        self.target = (2 * self.target()).min(BATCH_TARGET);
        let Some(batch) = self.closed.get_mut(&position) else { return };
        batch.state = State::Received;
        self.arrived.push(position);
        if matches!(batch.owed, Owed::Singly(_)) {
            batch.chunks.clear();
        }
    }

    /// The peer will never have these batches: they go out again.
    pub(crate) fn requeue(&mut self, lost: impl Iterator<Item = Position>) {
        let mut queued = Vec::new();
        for position in lost {
            if let Some(batch) = self.closed.get_mut(&position) {
                batch.state = State::Queued;
                queued.push(position);
            }
        }
        if !queued.is_empty() {
            // Where connections die before a whole batch has got through, a smaller one may.
            self.target = (self.target() / 2).max(LEAST_BATCH);
            queued.extend(self.queued.drain(..));
            queued.sort_unstable();
            self.queued = queued.into();
        }
    }

    /// The last number of the run that has this one, if it is out.
    pub(crate) fn out_until(&self, number: Seq) -> Option<Seq> {
        let (&first, &(count, position)) = self.runs.range(..=number).next_back()?;
        let last = first + (count - 1);
        let is_out = || self.closed.get(&position).is_some_and(|batch| batch.state != State::Queued);
        (number <= last && is_out()).then_some(last)
    }

    /// The messages from `first` to `last`, which are [out](Self::out_until), have been delivered: all of one run.
    /// [`settle`](Self::settle) makes something of it.
    pub(crate) fn delivered(&mut self, first: Seq, last: Seq) {
        let Some((_, &(_, position))) = self.runs.range(..=first).next_back() else { return };
        let Some(batch) = self.closed.get_mut(&position) else { return };
        batch.left -= last - first + 1;
        if self.touched.last() != Some(&position) {
            self.touched.push(position);
        }
    }

    /// Adds to `returned` what comes back with the messages that have just been delivered.
    pub(crate) fn settle(&mut self, delivered: &NumberSet, returned: &mut Returned) {
        for position in mem::take(&mut self.touched) {
            let Some(batch) = self.closed.get_mut(&position) else { continue };
            if batch.left > 0 {
                let singly = batch.singly();
                singly.retain(|&(seq, charge)| {
                    let is_delivered = delivered.contains(seq);
                    if is_delivered {
                        returned.add(charge);
                    }
                    !is_delivered
                });
                continue;
            }
            let Some(batch) = self.closed.remove(&position) else { continue };
            for (first, _) in &batch.numbers {
                self.runs.remove(first);
            }
            self.open.reuse(batch.chunks);
            match batch.owed {
                Owed::AtOnce(sums) => returned.append(sums),
                Owed::Singly(rest) => rest.into_iter().for_each(|(_, charge)| returned.add(charge)),
            }
        }
        // What is delivered late keeps no bytes: a small batch would keep the whole block that it shares with others.
        for position in mem::take(&mut self.arrived) {
            if let Some(batch) = self.closed.get_mut(&position) {
                batch.singly();
            }
        }
    }

    /// Nothing is under way: no memory is kept.
    pub(crate) fn rest(&mut self) {
        if self.open.block.capacity() >= OWN_BLOCK || !self.open.spare.is_empty() {
            self.open = Writer::default();
        }
    }

    fn target(&self) -> usize {
        if self.target == 0 { BATCH_TARGET } else { self.target }
    }

    fn close(&mut self) {
        let (batch, position) = (self.open.close(self.position), self.position);
        self.position += batch.messages;
        self.queued.push_back(position);
        self.list(position, batch);
    }

    fn list(&mut self, position: Position, batch: Batch) {
        self.runs.extend(batch.numbers.iter().map(|&(first, count)| (first, (count, position))));
        self.closed.insert(position, batch);
    }

    /// Writes a batch that has not arrived anew, in several. They go out in its place.
    fn split(&mut self, mut position: Position) {
        let target = self.target();
        let Some(batch) = self.closed.remove(&position) else { return };
        for (first, _) in &batch.numbers {
            self.runs.remove(first);
        }
        let (mut writer, mut parts) = (Writer::default(), Vec::new());
        batch.each(|envelope, body| {
            if writer.is_full(target) {
                let part = writer.close(position);
                let next = position + part.messages;
                parts.push((mem::replace(&mut position, next), part));
            }
            let (len, body) = (body.len() as u64, || iter::once(body));
            let head = envelope.head();
            writer.add(&head, Charge::of(&head, len, body()), len, body());
        });
        parts.push((position, writer.close(position)));
        for (position, part) in parts.into_iter().rev() {
            self.queued.push_front(position);
            self.list(position, part);
        }
        self.queued.pop_front(); // the first of them is what goes out now
    }
}

impl Batch {
    /// What comes back with each message that has not been delivered.
    fn singly(&mut self) -> &mut Vec<(Seq, Charge)> {
        if let Owed::AtOnce(_) = self.owed {
            let mut singly = Vec::with_capacity(self.messages as usize);
            self.each(|envelope, body| {
                singly
                    .push((envelope.seq, Charge::of(&envelope.head(), body.len() as u64, iter::once(body))));
            });
            self.owed = Owed::Singly(singly);
            if self.state == State::Received {
                self.chunks.clear();
            }
        }
        match &mut self.owed {
            Owed::Singly(singly) => singly,
            Owed::AtOnce(_) => unreachable!("it has just been replaced"),
        }
    }

    /// Reads all messages back.
    fn each(&self, mut message: impl FnMut(&Envelope, &Bytes)) {
        let mut joined = BytesMut::with_capacity(self.len);
        self.chunks.iter().for_each(|chunk| joined.extend_from_slice(chunk));
        let (frame, mut runs) = (joined.freeze(), Vec::new());
        let readable = read(&frame, &mut runs);
        debug_assert_eq!(readable, Ok(()), "what was written here");
        for run in runs {
            let mut envelope = run.envelope.clone();
            for body in run.bodies(&frame) {
                message(&envelope, &frame.slice(body));
                envelope.seq += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::envelope::{Destination, Kind, ProcessId};

    #[test]
    fn what_the_peer_has_and_does_not_deliver_keeps_no_bytes() {
        let (mut batches, mut delivered) = (Batches::default(), NumberSet::default());
        let from = ProcessId { id: 1, serial: 0 };
        let (to, body) = (Destination::Process(from), Bytes::from_static(b"body"));
        for seq in 1..=2 {
            let (kind, account) = (Kind::Data, 1);
            let (predecessor, behind_all, acknowledge) = (None, false, false);
            let head = Head { seq, predecessor, behind_all, account, kind, acknowledge, from, to: &to };
            batches.add(&head, Charge::of(&head, 4, iter::once(&body)), 4, iter::once(&body));
            let (_, position) = batches.next().unwrap();
            batches.received(position);
        }
        let mut returned = Returned::default();
        batches.delivered(2, 2);
        delivered.insert(2);
        batches.settle(&delivered, &mut returned);
        assert_eq!((returned.messages, batches.closed.len()), (1, 1));
        assert!(batches.closed.values().all(|batch| batch.chunks.is_empty()));
        batches.delivered(1, 1);
        delivered.insert(1);
        batches.settle(&delivered, &mut returned);
        assert_eq!((returned.messages, batches.entries()), (2, 0));
    }

    #[test]
    fn the_memory_of_a_large_batch_is_used_again_until_nothing_is_under_way() {
        let (mut batches, mut delivered) = (Batches::default(), NumberSet::default());
        let from = ProcessId { id: 1, serial: 0 };
        let (to, body) = (Destination::Process(from), [7u8; 1000]);
        let mut begins = Vec::new();
        for round in 0..3 {
            let (first, last) = (100 * round + 1, 100 * round + 100);
            for seq in first..=last {
                let (kind, account) = (Kind::Data, 1);
                let (predecessor, behind_all, acknowledge) = (None, false, false);
                let head = Head { seq, predecessor, behind_all, account, kind, acknowledge, from, to: &to };
                batches.add_copied(&head, Charge::of_plain(Kind::Data, 1, 1000), &body);
            }
            let (frame, position) = batches.next().unwrap();
            begins.push(frame.chunks()[0].as_ptr());
            assert!(frame.len() > 100 * 1000);
            drop(frame);
            batches.received(position);
            batches.delivered(first, last);
            delivered.insert_run(first, last, |_| {});
            batches.settle(&delivered, &mut Returned::default());
            assert_eq!((batches.open.spare.len(), batches.entries()), (1, 0));
        }
        assert_eq!(begins[0], begins[2]);
        batches.rest();
        assert_eq!((batches.open.spare.len(), batches.open.block.capacity()), (0, 0));
    }
}
