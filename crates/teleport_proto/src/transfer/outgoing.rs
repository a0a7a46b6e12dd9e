//! Accepted messages on their way out: numbers, predecessors, and who waits for what.

use super::allowance::Allowance;
use super::batches::{Batches, Position};
use super::charge::{Charge, Returned};
use super::frame::Frame;
use super::gate::{Gate, Gated};
use super::large::LargeMessages;
use super::numbers::NumberSet;
use super::pairs::Pairs;
use super::tray::Fetched;
use super::window::{class_of, cost};
use super::{AckToken, Outgoing, Violation};
use crate::wire::envelope::{AccountId, Destination, Envelope, Head, Kind, Lane, ProcessId, Seq};
use crate::wire::pool::Class;
use rustc_hash::FxHashMap;
use teleport_etf::Segments;

/// What a connection's log keeps of a frame until the peer has it.
#[derive(Debug)]
pub(crate) enum Record {
    /// The batch that begins there.
    Batch(Position),
    Fragment {
        seq: Seq,
        index: u32,
    },
    /// Nothing that would have to go out again.
    Probe,
}

/// A message or some that stand in a row.
enum Out {
    /// Small ones, of one run, up to this number.
    Small(Seq),
    Large,
}

pub(crate) struct Outbox {
    /// The number of the next message to be accepted.
    next: Seq,
    delivered: NumberSet,
    pairs: Pairs,
    /// The last carried message that goes behind all others, while it is in flight.
    barrier: Option<Seq>,
    acknowledgements: FxHashMap<Seq, AckToken>,
    ordinary: Gate,
    exempt: Gate,
    small: Batches,
    large: LargeMessages,
    unconfirmed_bytes: u64,
    unconfirmed: u64,
    /// Those of them that are carried.
    carried: u64,
    /// What this side has answered by itself, and the peer has not taken yet.
    answers: u64,
}

impl Outbox {
    pub(crate) fn new(fragment_size: u32, window: u64) -> Self {
        Self {
            next: 1,
            delivered: NumberSet::default(),
            pairs: Pairs::default(),
            barrier: None,
            acknowledgements: FxHashMap::default(),
            ordinary: Gate::new(Lane::Ordinary, window),
            exempt: Gate::new(Lane::Exempt, window),
            small: Batches::default(),
            large: LargeMessages::new(fragment_size),
            unconfirmed_bytes: 0,
            unconfirmed: 0,
            carried: 0,
            answers: 0,
        }
    }

    /// Whether a small ordinary message with a body of this length may be [posted](Self::post).
    pub(crate) fn passes(&self, len: u64) -> bool {
        self.ordinary.is_open(Class::Express, cost(len))
    }

    /// Numbers a plain message that [passes](Self::passes), and writes it into the open batch.
    pub(crate) fn post(
        &mut self,
        kind: Kind,
        from: ProcessId,
        to: &Destination,
        body: &[u8],
        account: AccountId,
    ) {
        let seq = self.next;
        self.next += 1;
        let len = body.len() as u64;
        let charge = Charge::of_plain(kind, account, len);
        let passes = self.ordinary.passes(Class::Express, charge.bytes);
        debug_assert!(passes, "it has been asked before");
        self.unconfirmed_bytes += charge.bytes;
        self.unconfirmed += 1;
        self.carried += u64::from(kind == Kind::Carried);
        let pair = self.pairs.entry(from, to, &self.delivered);
        let before = pair.accept(seq, &self.delivered);
        let before = if kind == Kind::Carried { before.max(self.barrier) } else { before };
        let predecessor = pair.write(seq, before, false, &self.delivered);
        let (behind_all, acknowledge) = (false, false);
        let head = Head { seq, predecessor, behind_all, account, kind, acknowledge, from, to };
        self.small.add_copied(&head, charge, body);
    }

    /// Numbers the messages of a tray, and writes them into the open batch. `false`: there is no room at the peer for all of them, or
    /// they would have to name what they follow, and nothing has changed.
    pub(crate) fn post_laid(&mut self, fetched: &Fetched) -> bool {
        let Fetched { pair, account, laid } = fetched;
        let (first, messages, bytes) = (self.next, laid.messages, laid.cost());
        if !self.ordinary.is_open(Class::Express, bytes)
            || !self.pairs.entry(pair.from, &pair.to, &self.delivered).accept_run(
                first,
                messages,
                &self.delivered,
            )
        {
            return false;
        }
        let passes = self.ordinary.passes(Class::Express, bytes);
        debug_assert!(passes, "it has been asked before");
        self.next += messages;
        self.unconfirmed_bytes += bytes;
        self.unconfirmed += messages;
        let head = Head {
            seq: first,
            predecessor: None,
            behind_all: false,
            account: *account,
            kind: Kind::Data,
            acknowledge: false,
            from: pair.from,
            to: &pair.to,
        };
        self.small.add_run(&head, messages, bytes, &laid.block);
        true
    }

    /// Whether a pair's messages come faster than they are delivered.
    pub(crate) fn flows(&mut self, from: ProcessId, to: &Destination) -> bool {
        self.pairs.entry(from, to, &self.delivered).flows()
    }

    /// Numbers a message with a body of this length, and queues it.
    pub(crate) fn accept(&mut self, message: Outgoing, len: u64, account: AccountId) -> Class {
        let seq = self.next;
        self.next += 1;
        let Outgoing { from, ref to, kind, unordered, behind_all, .. } = message;
        if let Some(token) = message.acknowledge {
            self.acknowledgements.insert(seq, token);
        }
        let acknowledge = message.acknowledge.is_some();
        let mut head = Head { seq, predecessor: None, behind_all, account, kind, acknowledge, from, to };
        let charge = Charge::of(&head, len, message.body.iter());
        let Charge { class, lane, bytes, .. } = charge;
        self.unconfirmed_bytes += bytes;
        self.unconfirmed += u64::from(kind.is_message());
        self.carried += u64::from(kind == Kind::Carried);
        self.answers += charge.answers();
        let passes = self.gate(lane).passes(class, bytes);
        let written = passes && class == Class::Express;
        if !unordered {
            let pair = self.pairs.entry(from, to, &self.delivered);
            let before = pair.accept(seq, &self.delivered);
            head.predecessor = match kind {
                Kind::Carried => before.max(self.barrier).filter(|_| !behind_all),
                _ => before,
            };
            if written {
                head.predecessor = pair.write(seq, head.predecessor, behind_all, &self.delivered);
            }
        }
        if behind_all {
            self.barrier = Some(seq);
        }
        if written {
            self.small.add(&head, charge, len, message.body.iter());
            return class;
        }
        let envelope = head.to_envelope();
        match class {
            Class::Express => {
                self.gate(lane).hold_small(Gated { envelope, unordered, body: message.body, charge });
            }
            Class::Bulk => {
                self.large.add(envelope, charge, message.body);
                if passes { self.large.queue(seq) } else { self.gate(lane).hold_large(bytes, seq) }
            }
        }
        class
    }

    /// Queues those of a lane's messages that there is room for.
    pub(crate) fn admit(&mut self, lane: Lane, class: Class) {
        match class {
            Class::Express => {
                while let Some(Gated { mut envelope, unordered, body, charge }) = self.gate(lane).next_small()
                {
                    let Envelope { seq, from, predecessor, behind_all, .. } = envelope;
                    if !unordered {
                        let pair = self.pairs.entry(from, &envelope.to, &self.delivered);
                        envelope.predecessor = pair.write(seq, predecessor, behind_all, &self.delivered);
                    }
                    self.small.add(&envelope.head(), charge, body.len() as u64, body.iter());
                }
            }
            Class::Bulk => {
                while let Some(seq) = self.gate(lane).next_large() {
                    self.large.queue(seq);
                }
            }
        }
    }

    /// What the peer grants of a lane.
    pub(crate) fn allowance(&mut self, lane: Lane) -> &mut Allowance {
        &mut self.gate(lane).allowance
    }

    /// How many bytes of small ordinary messages the peer lets be under way.
    pub(crate) fn reach(&self) -> u64 {
        self.ordinary.allowance.reach(Class::Express)
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

    /// Whether a connection of that class has something to write.
    pub(crate) fn has_work(&self, class: Class) -> bool {
        match class {
            Class::Express => self.small.has_work(),
            Class::Bulk => self.large.queued() > 0,
        }
    }

    /// Bulk messages with fragments waiting for a connection.
    pub(crate) fn queued_bulk(&self) -> usize {
        self.large.queued()
    }

    pub(crate) fn queued_express(&self) -> usize {
        self.small.queued() as usize
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
        self.pairs.in_flight(&self.delivered)
            + self.acknowledgements.len()
            + self.small.entries()
            + self.large.entries()
            + self.exempt.len()
            + self.ordinary.len()
    }

    /// The next frame for a connection of that class.
    pub(crate) fn next_frame(&mut self, class: Class) -> Option<(Frame, Record)> {
        match class {
            Class::Express => {
                let (frame, position) = self.small.next()?;
                Some((frame, Record::Batch(position)))
            }
            Class::Bulk => {
                let (frame, seq, index) = self.large.next(|seq| self.delivered.contains(seq))?;
                Some((frame, Record::Fragment { seq, index }))
            }
        }
    }

    /// The peer has the whole frame.
    pub(crate) fn received(&mut self, record: Record) {
        match record {
            Record::Batch(position) => self.small.received(position),
            Record::Fragment { seq, .. } => self.large.received(seq),
            Record::Probe => {}
        }
    }

    /// The peer will never have the frame: what was in it is queued again.
    pub(crate) fn requeue(&mut self, records: impl Iterator<Item = Record>) {
        let large = &mut self.large;
        self.small.requeue(records.filter_map(|record| match record {
            Record::Batch(position) => Some(position),
            Record::Fragment { seq, index } => {
                large.requeue(seq, index);
                None
            }
            Record::Probe => None,
        }));
    }

    /// Refuses that the peer says to have delivered the messages from `first` to `last`, if one of them has not gone out
    /// whole.
    pub(crate) fn check_delivered(&self, first: Seq, last: Seq) -> Result<(), Violation> {
        let never_sent = |number| Violation::NeverSent { what: "message", number };
        if last >= self.next {
            return Err(never_sent(last));
        }
        for (first, last) in self.delivered.gaps(first, last) {
            let mut next = first;
            while next <= last {
                next = match self.out(next).ok_or(never_sent(next))? {
                    Out::Small(until) => until + 1,
                    Out::Large => next + 1,
                };
            }
        }
        Ok(())
    }

    /// The peer has delivered the messages from `first` to `last`, which have been [checked](Self::check_delivered).
    /// [`settle`](Self::settle) makes something of it.
    pub(crate) fn delivered(&mut self, first: Seq, last: Seq, returned: &mut Returned) {
        let mut delivered = std::mem::take(&mut self.delivered);
        for (first, last) in delivered.gaps(first, last) {
            let mut next = first;
            while next <= last {
                next = match self.out(next) {
                    Some(Out::Small(until)) => {
                        let until = until.min(last);
                        self.small.delivered(next, until);
                        until + 1
                    }
                    Some(Out::Large) | None => {
                        self.large.delivered(next, returned);
                        next + 1
                    }
                };
            }
        }
        delivered.insert_run(first, last, |_| {});
        self.delivered = delivered;
    }

    /// Adds to `returned` what comes back with all that has just been delivered.
    pub(crate) fn settle(&mut self, returned: &mut Returned) {
        self.small.settle(&self.delivered, returned);
        self.barrier.take_if(|barrier| self.delivered.contains(*barrier));
        self.unconfirmed_bytes -= returned.bytes();
        self.unconfirmed -= returned.messages;
        self.carried -= returned.carried;
        self.answers -= returned.answers;
        if self.unconfirmed_bytes == 0 {
            self.pairs.clear();
            self.small.rest();
        }
        for class in [Class::Express, Class::Bulk] {
            self.ordinary.allowance.give_back(class, returned.ordinary.of(class));
            self.exempt.allowance.give_back(class, returned.exempt.of(class));
            [Lane::Ordinary, Lane::Exempt].into_iter().for_each(|lane| self.admit(lane, class));
        }
    }

    /// The sender of that message wanted to know; each is answered once.
    pub(crate) fn take_acknowledgement(&mut self, seq: Seq) -> Option<AckToken> {
        self.acknowledgements.remove(&seq)
    }

    /// All that still wait for an acknowledgement.
    pub(crate) fn acknowledgements(&self) -> impl Iterator<Item = AckToken> {
        self.acknowledgements.values().copied()
    }

    /// A body that did not get in here, or is of no use any more. A small one is dropped at once.
    pub(crate) fn spend(&mut self, body: Segments) {
        if class_of(body.len() as u64) == Class::Bulk {
            self.large.spent.push(body);
        }
    }

    /// Bodies of large messages that need not be kept any more.
    pub(crate) fn take_spent(&mut self) -> Vec<Segments> {
        std::mem::take(&mut self.large.spent)
    }

    /// What is known of a message that is not delivered, if it has gone out whole.
    fn out(&self, seq: Seq) -> Option<Out> {
        let small = || self.small.out_until(seq).map(Out::Small);
        if self.large.is_out(seq) { Some(Out::Large) } else { small() }
    }
}
