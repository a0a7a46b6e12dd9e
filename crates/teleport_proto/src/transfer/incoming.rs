//! Messages on their way in: fragments put together, order kept, deliveries counted.

use super::assembly::{Assembly, Buffers, Region};
use super::bodies::{Blocks, body_at};
use super::deferring::{Deferring, PairId, pair_of};
use super::grants::{Besides, Granter, Grants};
use super::numbers::NumberSet;
use super::window::{class_of, cost};
use super::{Credit, Deliveries, Delivery, Disposition, ReceiveError, Sink, Violation};
use crate::wire::WireError;
use crate::wire::batch::{self, Run};
use crate::wire::control::TransferFrame;
use crate::wire::envelope::{AccountId, Envelope, Kind, Lane, ProcessId, RefId, Seq};
use crate::wire::pool::{Class, EXPRESS_LIMIT, FragmentHeader, MAX_FRAGMENT_SIZE};
use bytes::Bytes;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// The most large messages that may be partial at the same time.
const MAX_PARTIAL: usize = 4096;

/// The most fragments of one message: bounds what a header can make us allocate besides the message itself.
pub(super) const MAX_FRAGMENTS: u64 = 1 << 18;

/// The largest message that can be carried: so much goes in that many fragments. Over TCP distributed Erlang has no limit either.
pub(super) const MAX_CARRIED: u64 = MAX_FRAGMENTS * MAX_FRAGMENT_SIZE as u64;

/// The outcome of a message whose sender asked for it.
pub(crate) struct DueOutcome {
    pub(crate) seq: Seq,
    pub(crate) from: ProcessId,
    pub(crate) disposition: Disposition,
}

/// A message handed to the mailbox, or its delivery begun.
struct Handed {
    seq: Seq,
    from: ProcessId,
    pair: PairId,
    acknowledge: bool,
    exempt: bool,
    credit: Credit,
    /// It is in its place in a mailbox: what waits for it may follow.
    placed: bool,
}

impl Handed {
    /// Whether, while it is deferred, the sink keeps small messages of its pair behind it.
    fn holds_small_ones(&self) -> bool {
        !self.placed && self.credit.class == Class::Express
    }
}

pub(crate) struct Incoming {
    buffers: Arc<dyn Buffers + Send + Sync>,
    max_message: u64,
    ordinary: Grants,
    /// For what comes without credit: the sender has a window of the same size for it.
    exempt: Grants,
    delivered: NumberSet,
    /// Those above the watermark that the peer has not been told of.
    unsaid: NumberSet,
    /// Messages that wait for their predecessor, by its number and their own. The peer chooses the numbers, so they are not
    /// hashed.
    held: BTreeMap<(Seq, Seq), (Envelope, Bytes)>,
    /// Complete, and waiting for everything before them.
    barriers: BTreeMap<Seq, (Envelope, Bytes)>,
    assemblies: FxHashMap<Seq, Assembly>,
    /// Messages whose delivery has begun and not ended.
    deferred: BTreeMap<Seq, Handed>,
    /// By pair: the small ones of them, but for those that are placed.
    deferring: BTreeMap<PairId, Deferring>,
    /// The position of the next small message in their stream.
    position: u64,
    /// Batches that have come before others that belong before them, by position, and their bytes.
    early: BTreeMap<u64, Bytes>,
    early_bytes: u64,
    /// Of one batch.
    runs: Vec<Run>,
    /// What the session has to answer or handle itself, filled by the calls below.
    pub(crate) due_outcomes: Vec<DueOutcome>,
    pub(crate) system: Vec<Bytes>,
    /// The peer does not take its answers: its requests are not handed over.
    pub(crate) rejects_requests: bool,
    pub(crate) rejected: Vec<(RefId, ProcessId)>,
    /// Credit that no mailbox keeps: of messages without a taker, or in a mailbox without bounds.
    pub(crate) unclaimed: Vec<Credit>,
    pub(crate) messages: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    pub(crate) no_process: u64,
    #[cfg(feature = "planted-faults")]
    pub(crate) faults: crate::Faults,
    /// The last: what has been granted comes back when the memory has.
    granter: Arc<dyn Granter>,
}

impl Incoming {
    pub(crate) fn new(
        buffers: Arc<dyn Buffers + Send + Sync>,
        max_message: u64,
        window: u64,
        granter: Arc<dyn Granter>,
    ) -> Self {
        let grants = |lane| Grants::new(lane, window, &*granter);
        Self {
            ordinary: grants(Lane::Ordinary),
            exempt: grants(Lane::Exempt),
            buffers,
            max_message,
            delivered: NumberSet::default(),
            unsaid: NumberSet::default(),
            held: BTreeMap::new(),
            barriers: BTreeMap::new(),
            assemblies: FxHashMap::default(),
            deferred: BTreeMap::new(),
            deferring: BTreeMap::new(),
            position: 0,
            early: BTreeMap::new(),
            early_bytes: 0,
            runs: Vec::new(),
            due_outcomes: Vec::new(),
            system: Vec::new(),
            rejects_requests: false,
            rejected: Vec::new(),
            unclaimed: Vec::new(),
            messages: 0,
            bytes: 0,
            no_process: 0,
            #[cfg(feature = "planted-faults")]
            faults: crate::Faults::default(),
            granter,
        }
    }

    /// The largest carried message: a node that has memory of a host's for them takes them of any size, and so does its peer.
    pub(crate) fn largest_carried(&self) -> u64 {
        if self.buffers.has_foreign() { MAX_CARRIED } else { self.max_message }
    }

    /// The grants of a lane.
    pub(crate) fn grants(&mut self, lane: Lane) -> &mut Grants {
        match lane {
            Lane::Ordinary => &mut self.ordinary,
            Lane::Exempt => &mut self.exempt,
        }
    }

    /// The peer has taken some of what this side has answered by itself.
    pub(crate) fn answers_taken(&mut self) {
        self.ordinary.taken();
        self.exempt.taken();
    }

    /// The host has taken so much out of its queue.
    pub(crate) fn taken_out(&mut self, bytes: u64) {
        self.ordinary.taken_out(bytes);
    }

    /// Delivered messages have less left behind.
    pub(crate) fn cleared(&mut self) {
        self.ordinary.cleared();
        self.exempt.cleared();
    }

    /// Whether the peer waits for grants.
    pub(crate) fn grants_due(&self) -> bool {
        self.ordinary.is_due() || self.exempt.is_due()
    }

    /// Renews what is granted; what the peer has to be told.
    pub(crate) fn renew_grants(&mut self, besides: Besides) -> impl Iterator<Item = TransferFrame> {
        let granter = &*self.granter;
        #[cfg(feature = "planted-faults")]
        let granter = if self.faults.grant_unasked { &super::Unlimited } else { granter };
        let largest = self.max_message.max(self.largest_carried());
        let ordinary = self.ordinary.take_unsaid(besides, largest, granter);
        let exempt = self.exempt.take_unsaid(Besides { untaken: 0, ..besides }, self.max_message, granter);
        ordinary.into_iter().chain(exempt)
    }

    /// Bytes that the peer may still send, or has sent and are not delivered, or not taken by the host.
    pub(crate) fn granted_bytes(&self) -> u64 {
        self.ordinary.outstanding() + self.exempt.outstanding() + self.ordinary.kept()
    }

    /// Bytes of express messages granted and not delivered, in both lanes: whatever the peer says that it wants.
    pub(crate) fn express_outstanding(&self) -> u64 {
        self.ordinary.express_outstanding() + self.exempt.express_outstanding()
    }

    /// Bytes of express messages that may still come.
    pub(crate) fn expected(&self) -> u64 {
        self.ordinary.expected() + self.exempt.expected()
    }

    pub(crate) fn delivered(&self) -> &NumberSet {
        &self.delivered
    }

    /// What the peer has to be told of what has been delivered, in parts of at most `most` ranges above the watermark; and
    /// whether there is more.
    pub(crate) fn take_unsaid(&mut self, most: usize) -> (Seq, SmallVec<[(Seq, Seq); 4]>, bool) {
        let watermark = self.delivered.watermark();
        let above = self.unsaid.take_above(watermark, most).collect();
        (watermark, above, self.unsaid.scattered() > 0)
    }

    /// The peer may not have heard anything.
    pub(crate) fn say_all_again(&mut self) {
        self.delivered.runs().for_each(|(first, last)| self.unsaid.insert_run(first, last, |_| {}));
    }

    /// Bytes received, or being received, and not delivered, or not taken by the host.
    pub(crate) fn undelivered_bytes(&self) -> u64 {
        self.ordinary.undelivered() + self.exempt.undelivered() + self.ordinary.kept()
    }

    /// Messages that are partial, wait for their predecessor or are being delivered.
    pub(crate) fn entries(&self) -> usize {
        self.held.len() + self.barriers.len() + self.assemblies.len() + self.deferred.len() + self.early.len()
    }

    /// Bytes of the batches that have come too early.
    pub(crate) fn early_bytes(&self) -> u64 {
        self.early_bytes
    }

    /// Takes a batch, and those that have waited for it; or keeps it for its turn. Nothing is delivered of a frame that does not
    /// parse as a whole.
    pub(crate) fn batch(&mut self, frame: Bytes, sink: &mut dyn Sink) -> Result<(), ReceiveError> {
        let (position, _) = batch::header(&frame).map_err(ReceiveError::Connection)?;
        let mut runs = std::mem::take(&mut self.runs);
        let result = batch::read(&frame, &mut runs)
            .map_err(ReceiveError::Connection)
            .and_then(|()| self.in_turn(position, frame, &mut runs, sink));
        runs.clear();
        self.runs = runs;
        result
    }

    fn in_turn(
        &mut self,
        position: u64,
        frame: Bytes,
        runs: &mut Vec<Run>,
        sink: &mut dyn Sink,
    ) -> Result<(), ReceiveError> {
        let Some(first) = runs.first() else { return Ok(()) }; // a probe
        let seq = first.envelope.seq;
        #[cfg(feature = "planted-faults")]
        if self.faults.ignore_position {
            self.position = position;
        }
        if position > self.position {
            self.early_bytes += frame.len() as u64;
            // It would keep the whole buffer that it was read into.
            return match self.early.insert(position, Bytes::copy_from_slice(&frame)) {
                None => Ok(()),
                Some(_) => Err(Violation::Duplicate { seq }.into()),
            };
        }
        if position < self.position {
            return Err(Violation::Duplicate { seq }.into());
        }
        self.take_in(&frame, runs, sink)?;
        while let Some(entry) = self.early.first_entry() {
            let position = *entry.key();
            if position > self.position {
                break;
            }
            let frame = entry.remove();
            self.early_bytes -= frame.len() as u64;
            batch::read(&frame, runs).map_err(ReceiveError::Connection)?; // it was read when it came
            let seq = runs.first().map_or(0, |run| run.envelope.seq);
            if position < self.position {
                return Err(Violation::Duplicate { seq }.into());
            }
            self.take_in(&frame, runs, sink)?;
        }
        Ok(())
    }

    /// All messages of a batch whose turn it is.
    fn take_in(
        &mut self,
        frame: &Bytes,
        runs: &mut Vec<Run>,
        sink: &mut dyn Sink,
    ) -> Result<(), ReceiveError> {
        self.position += runs.iter().map(|run| run.count).sum::<u64>();
        for run in runs.drain(..) {
            let size = run.longest;
            let limit = match run.envelope.kind {
                Kind::Carried => self.largest_carried(),
                _ => self.max_message,
            };
            if size > limit && run.envelope.kind != Kind::Outcome {
                return Err(Violation::TooLarge { size, limit }.into());
            }
            if run.count > 1 && size <= EXPRESS_LIMIT as u64 {
                self.complete_run(frame, run, sink)?;
                continue;
            }
            let mut envelope = run.envelope.clone();
            for place in run.bodies(frame) {
                self.reserve(envelope.kind.is_exempt(), place.len() as u64)?;
                let in_place = !self.has_to_wait(&envelope) && sink.copies(envelope.kind);
                let body = body_at(frame, place, in_place);
                self.complete(envelope.clone(), body, sink)?;
                envelope.seq += 1;
            }
        }
        Ok(())
    }

    /// Messages of one pair that wait for nothing.
    fn complete_run(&mut self, frame: &Bytes, run: Run, sink: &mut dyn Sink) -> Result<(), ReceiveError> {
        let (first, last) = (run.envelope.seq, run.last());
        let bytes = run.body_bytes + cost(0) * run.count;
        let is_new = self.delivered.gaps(first, last).next() == Some((first, last))
            && (self.deferred.is_empty() || !(first..=last).any(|seq| self.deferred.contains_key(&seq)));
        if !is_new {
            return Err(Violation::Duplicate { seq: first }.into());
        }
        let Envelope { from, to, kind, account, .. } = run.envelope.clone();
        self.ordinary.receive(Class::Express, bytes)?;
        self.messages += run.count;
        self.bytes += run.body_bytes;
        let mut settled = Settled { first, ..Settled::default() };
        let mut seq = first;
        let in_place = sink.copies(kind);
        for bodies in Blocks::new(frame, run.bodies(frame), run.body_bytes as usize, in_place) {
            let count = bodies.len() as u64;
            let bytes = bodies.bytes() as u64 + cost(0) * count;
            let credit = Credit { account, class: Class::Express, bytes };
            let mut block = Deliveries { first: seq, from, to: &to, kind, bodies, credit };
            match sink.deliver_all(&mut block) {
                Some(end) => self.add_settled(&mut settled, (seq, count), credit, end),
                None => {
                    let pair = pair_of(from, &to);
                    for (seq, body) in (seq..).zip(block.bodies) {
                        let credit = Credit { bytes: cost(body.len() as u64), ..credit };
                        let handed = Handed {
                            seq,
                            from,
                            pair,
                            acknowledge: false,
                            exempt: false,
                            credit,
                            placed: false,
                        };
                        let (to, acknowledge) = (to.clone(), false);
                        match sink.deliver(Delivery { seq, from, to, kind, acknowledge, body, credit }) {
                            Disposition::Placed => self.begin(Handed { placed: true, ..handed })?,
                            Disposition::Deferred => self.begin(handed)?,
                            end if self.deferring.contains_key(&pair) => drop(self.done(handed, end)?),
                            end => self.add_settled(&mut settled, (seq, 1), credit, end),
                        }
                    }
                }
            }
            seq += count;
        }
        self.settle_run(&mut settled, account);
        if !self.held.is_empty() || !self.barriers.is_empty() {
            (first..=last)
                .filter(|&seq| self.may_be_followed(seq))
                .collect::<Vec<_>>()
                .into_iter()
                .try_for_each(|seq| self.release(seq, sink))?;
        }
        Ok(())
    }

    /// `count` messages from `first` on have been delivered.
    fn add_settled(
        &mut self,
        settled: &mut Settled,
        (first, count): (Seq, u64),
        credit: Credit,
        end: Disposition,
    ) {
        if settled.first + settled.count != first {
            self.settle_run(settled, credit.account);
            settled.first = first;
        }
        settled.count += count;
        settled.bytes += credit.bytes;
        settled.unclaimed += if end == Disposition::Delivered { 0 } else { credit.bytes };
        settled.no_process += if end == Disposition::NoProcess { count } else { 0 };
        settled.queued += if end == Disposition::Queued { credit.bytes } else { 0 };
    }

    /// Messages that follow one another have been delivered.
    fn settle_run(&mut self, settled: &mut Settled, account: AccountId) {
        let Settled { first, count, bytes, unclaimed, no_process, queued } = std::mem::take(settled);
        if count == 0 {
            return;
        }
        let last = first + (count - 1);
        self.delivered.insert_run(first, last, |_| {});
        if last > self.delivered.watermark() {
            self.unsaid.insert_run(first, last, |_| {});
        }
        self.ordinary.delivered(Class::Express, bytes);
        self.ordinary.queued(queued);
        self.no_process += no_process;
        self.unclaim(Credit { account, class: Class::Express, bytes: unclaimed });
    }

    fn unclaim(&mut self, credit: Credit) {
        match self.unclaimed.last_mut() {
            Some(last) if (last.account, last.class) == (credit.account, credit.class) => {
                last.bytes += credit.bytes
            }
            _ if credit.bytes > 0 => self.unclaimed.push(credit),
            _ => {}
        }
    }

    /// Lends the place that a fragment has to be read into.
    pub(crate) fn begin_fragment(
        &mut self,
        header: &FragmentHeader,
        head: &[u8],
    ) -> Result<Region, ReceiveError> {
        let envelope = parse_fragment_envelope(header, head).map_err(ReceiveError::Connection)?;
        let too_large = Violation::TooLarge { size: header.total, limit: self.max_message };
        if header.total > if header.carried { self.largest_carried() } else { self.max_message } {
            return Err(too_large.into());
        }
        if self.delivered.contains(header.seq) || self.deferred.contains_key(&header.seq) {
            return Err(Violation::Duplicate { seq: header.seq }.into());
        }
        if !self.assemblies.contains_key(&header.seq) {
            let fragments = header.fragments();
            if self.assemblies.len() >= MAX_PARTIAL || fragments > MAX_FRAGMENTS {
                return Err(Violation::TooManyPartial { messages: self.assemblies.len(), fragments }.into());
            }
            self.reserve(header.exempt, header.total)?;
            let Some(assembly) = Assembly::new(header, &*self.buffers, self.max_message) else {
                return Err(too_large.into());
            };
            self.assemblies.insert(header.seq, assembly);
        }
        let Some(assembly) = self.assemblies.get_mut(&header.seq).filter(|a| a.agrees_with(header)) else {
            return Err(Violation::Inconsistent { seq: header.seq }.into());
        };
        let region = assembly.lend(header).ok_or(Violation::Duplicate { seq: header.seq })?;
        if envelope.is_some() {
            assembly.envelope = envelope;
        }
        Ok(region)
    }

    /// Takes a region back; a message that is complete now is delivered, or waits for its predecessor.
    pub(crate) fn end_fragment(&mut self, region: Region, sink: &mut dyn Sink) -> Result<(), ReceiveError> {
        let seq = region.seq;
        self.give_back(region);
        if !self.assemblies.get(&seq).is_some_and(Assembly::is_complete) {
            return Ok(());
        }
        let Some(assembly) = self.assemblies.remove(&seq) else { return Ok(()) };
        let Some((envelope, body)) = assembly.finish(&*self.buffers) else { return Ok(()) };
        self.complete(envelope, body, sink)
    }

    /// Takes a region back from a reader that has stopped.
    pub(crate) fn give_back(&mut self, region: Region) {
        if let Some(assembly) = self.assemblies.get_mut(&region.seq) {
            assembly.take_back(region);
        }
    }

    /// A delivery that was [`Disposition::Deferred`] or [`Disposition::Placed`] has ended.
    pub(crate) fn finish(
        &mut self,
        seq: Seq,
        end: Disposition,
        sink: &mut dyn Sink,
    ) -> Result<(), ReceiveError> {
        let Some(handed) = self.deferred.remove(&seq) else { return Ok(()) };
        let behind = match self.deferring.entry(handed.pair) {
            Entry::Occupied(mut pair) if handed.holds_small_ones() => {
                let behind = pair.get_mut().delivered(seq);
                if pair.get().is_over() {
                    pair.remove();
                }
                behind
            }
            _ => SmallVec::new(),
        };
        self.settle(handed, end)?;
        self.release(seq, sink)?;
        for (seq, end) in behind {
            if let Some(handed) = self.deferred.remove(&seq) {
                self.settle(handed, end)?;
                self.release(seq, sink)?;
            }
        }
        Ok(())
    }

    fn complete(&mut self, envelope: Envelope, body: Bytes, sink: &mut dyn Sink) -> Result<(), ReceiveError> {
        if self.delivered.contains(envelope.seq) || self.deferred.contains_key(&envelope.seq) {
            return Err(Violation::Duplicate { seq: envelope.seq }.into());
        }
        let seq = envelope.seq;
        let waits = envelope.predecessor.filter(|&seq| !self.may_be_followed(seq));
        #[cfg(feature = "planted-faults")]
        let waits = waits.filter(|_| !self.faults.ignore_predecessor);
        let before = if envelope.behind_all && !self.is_next(seq) {
            self.barriers.insert(seq, (envelope, body))
        } else if let Some(predecessor) = waits {
            self.held.insert((predecessor, seq), (envelope, body))
        } else if self.hand_over(envelope, body, sink)? {
            return self.release(seq, sink);
        } else {
            None
        };
        before.map_or(Ok(()), |_| Err(Violation::Duplicate { seq }.into()))
    }

    /// Whether a message that has come will be kept until others have been delivered.
    fn has_to_wait(&self, envelope: &Envelope) -> bool {
        envelope.behind_all && !self.is_next(envelope.seq)
            || envelope.predecessor.is_some_and(|seq| !self.may_be_followed(seq))
    }

    /// Whether everything before that message has been delivered.
    fn is_next(&self, seq: Seq) -> bool {
        #[cfg(feature = "planted-faults")]
        if self.faults.ignore_barrier {
            return true;
        }
        self.delivered.watermark() + 1 >= seq
    }

    /// Whether what names that message as its predecessor may be handed over.
    fn may_be_followed(&self, seq: Seq) -> bool {
        self.delivered.contains(seq) || self.deferred.get(&seq).is_some_and(|handed| handed.placed)
    }

    /// Delivers those that have waited for `seq`, and for those in turn.
    fn release(&mut self, seq: Seq, sink: &mut dyn Sink) -> Result<(), ReceiveError> {
        let mut delivered: SmallVec<[Seq; 4]> = SmallVec::from_slice(&[seq]);
        while let Some((envelope, body)) = self.next_released(&mut delivered) {
            let seq = envelope.seq;
            if self.hand_over(envelope, body, sink)? {
                delivered.push(seq);
            }
        }
        Ok(())
    }

    /// A message that has waited for the last of those that were delivered, or for everything before it.
    fn next_released(&mut self, delivered: &mut SmallVec<[Seq; 4]>) -> Option<(Envelope, Bytes)> {
        while let Some(&seq) = delivered.last() {
            if let Some((&next, _)) = self.held.range((seq, 0)..=(seq, Seq::MAX)).next() {
                return self.held.remove(&next);
            }
            delivered.pop();
        }
        let &first = self.barriers.keys().next()?;
        if self.is_next(first) { self.barriers.remove(&first) } else { None }
    }

    /// Gives a message to its mailbox; `false` if those behind it have to wait.
    fn hand_over(
        &mut self,
        envelope: Envelope,
        body: Bytes,
        sink: &mut dyn Sink,
    ) -> Result<bool, ReceiveError> {
        let len = body.len() as u64;
        let credit = Credit { account: envelope.account, class: class_of(len), bytes: cost(len) };
        let Envelope { seq, from, to, kind, acknowledge, .. } = envelope;
        let exempt = kind.is_exempt();
        let handed =
            Handed { seq, from, pair: pair_of(from, &to), acknowledge, exempt, credit, placed: false };
        if kind == Kind::Outcome {
            self.system.push(body);
            self.settle(handed, Disposition::Delivered)?;
            return Ok(true);
        }
        self.messages += u64::from(kind.is_message());
        self.bytes += if kind.is_message() { len } else { 0 };
        if let Kind::Request(reference) = kind
            && self.rejects_requests
        {
            self.rejected.push((reference, from));
            return self.done(handed, Disposition::Consumed);
        }
        let bytes = if exempt { 0 } else { credit.bytes };
        let credit = Credit { bytes, ..credit };
        match sink.deliver(Delivery { seq, from, to, kind, acknowledge, body, credit }) {
            Disposition::Placed => {
                self.begin(Handed { placed: true, ..handed })?;
                Ok(true)
            }
            Disposition::Deferred => {
                self.begin(handed)?;
                Ok(false)
            }
            end => self.done(handed, end),
        }
    }

    /// There is nothing more to do about a message; `false` if those behind it have to wait. Behind small ones of its pair that are
    /// deferred it counts as delivered when they do: a large one that names it as its predecessor would pass them.
    fn done(&mut self, handed: Handed, end: Disposition) -> Result<bool, ReceiveError> {
        if handed.credit.class == Class::Express
            && let Some(before) = self.deferring.get_mut(&handed.pair)
        {
            before.done_with(handed.seq, end);
            self.defer(handed)?;
            return Ok(false);
        }
        self.settle(handed, end)?;
        Ok(true)
    }

    /// A message has been handed over, and its delivery will end later.
    fn begin(&mut self, handed: Handed) -> Result<(), ReceiveError> {
        if handed.holds_small_ones() {
            self.deferring.entry(handed.pair).or_default().begin(handed.seq);
        }
        self.defer(handed)
    }

    fn defer(&mut self, handed: Handed) -> Result<(), ReceiveError> {
        let seq = handed.seq;
        match self.deferred.insert(seq, handed) {
            None => Ok(()),
            Some(_) => Err(Violation::Duplicate { seq }.into()),
        }
    }

    fn settle(&mut self, handed: Handed, end: Disposition) -> Result<(), ReceiveError> {
        let Handed { seq, from, acknowledge, exempt, credit, .. } = handed;
        if !self.delivered.insert(seq) {
            return Err(Violation::Duplicate { seq }.into());
        }
        if seq > self.delivered.watermark() {
            self.unsaid.insert(seq);
        }
        self.grants(Lane::of(exempt)).delivered(credit.class, credit.bytes);
        self.no_process += u64::from(end == Disposition::NoProcess);
        if end == Disposition::Queued && credit.class == Class::Express {
            self.ordinary.queued(credit.bytes);
        }
        if end != Disposition::Delivered {
            self.unclaim(credit);
        }
        if acknowledge {
            self.due_outcomes.push(DueOutcome { seq, from, disposition: end });
        }
        Ok(())
    }

    fn reserve(&mut self, exempt: bool, len: u64) -> Result<(), ReceiveError> {
        Ok(self.grants(Lane::of(exempt)).receive(class_of(len), cost(len))?)
    }
}

/// Messages of one run that have been delivered one behind the other.
#[derive(Default)]
struct Settled {
    first: Seq,
    count: u64,
    bytes: u64,
    /// Of them, what no mailbox keeps.
    unclaimed: u64,
    no_process: u64,
    /// What lies in a queue of the host's.
    queued: u64,
}

fn parse_fragment_envelope(header: &FragmentHeader, mut head: &[u8]) -> Result<Option<Envelope>, WireError> {
    if header.index != 0 {
        return Ok(None);
    }
    let envelope = Envelope::decode(&mut head)?;
    let is_told =
        envelope.kind.is_exempt() == header.exempt && (envelope.kind == Kind::Carried) == header.carried;
    if !head.is_empty() || envelope.seq != header.seq || !is_told {
        let (value, allowed) = (envelope.seq, header.seq);
        return Err(WireError::OutOfRange { field: "message number in an envelope", value, allowed });
    }
    Ok(Some(envelope))
}
