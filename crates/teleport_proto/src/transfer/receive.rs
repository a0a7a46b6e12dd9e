//! What comes over the pool.

use super::answers;
use super::assembly::Region;
use super::error::{ReceiveError, Violation};
use super::incoming::DueOutcome;
use super::message::{Credit, Disposition, Outcome, Outgoing, Sink};
use super::window::MESSAGE_COST;
use super::{Action, Transfer};
use crate::ConnectionId;
use crate::wire::WireError;
use crate::wire::envelope::{Destination, Kind, ProcessId, Seq};
use crate::wire::pool::{Class, FragmentHeader};
use bytes::{Bytes, BytesMut};
use teleport_etf::Segments;

/// The most connections of a session that may get out of step in a row, more than any network damages. One is forgotten at each
/// [`rest`](Transfer::rest).
const MOST_OUT_OF_STEP: u32 = 32;

/// A message costs 128 bytes more than its body, and its envelope has up to 329: three times what it costs is more than what it
/// takes in a batch, header included.
const MOST_PER_CREDIT: u64 = 3;

/// Bytes that an account or a gap takes. A message that leaves one of each has cost as much.
const LEFT_COST: u64 = MESSAGE_COST / 2;

/// So many are nothing out of the ordinary.
const LEFT_FREELY: usize = 1024;

impl Transfer {
    /// Takes a whole batch frame that an express connection has received.
    ///
    /// # Errors
    ///
    /// [`ReceiveError`]: whether the connection or the session has to end.
    pub fn receive_batch(
        &mut self,
        id: ConnectionId,
        frame: Bytes,
        sink: &mut dyn Sink,
    ) -> Result<(), ReceiveError> {
        if !self.is_live(id) {
            return Ok(());
        }
        if let Some(connection) = self.connection_mut(id) {
            connection.begun_batch = 0;
        }
        let granted = self.incoming.express_outstanding();
        self.answerable = if self.outbox.answers() == 0 { granted } else { granted.max(self.answerable) };
        let result = self.incoming.batch(frame, sink).and_then(|()| self.check_batches());
        self.after_receiving(id, result)
    }

    /// An express connection has received the beginning of a batch of this many bytes. What is in it has credit, so a peer has not
    /// more of them under way than that explains.
    ///
    /// # Errors
    ///
    /// As [`receive_batch`](Self::receive_batch).
    pub fn begin_batch(&mut self, id: ConnectionId, len: usize) -> Result<(), ReceiveError> {
        let Some(connection) = self.connection_mut(id).filter(|connection| connection.live) else {
            return Ok(());
        };
        connection.begun_batch = len as u64;
        self.check_batches().map_err(|error| self.refuse(id, error))
    }

    /// Refuses more batches that have begun to come, or wait for others, than what may come explains.
    fn check_batches(&self) -> Result<(), ReceiveError> {
        let begun: u64 = self.connections.iter().filter(|c| c.live).map(|c| c.begun_batch).sum();
        let (bytes, credit) = (begun + self.incoming.early_bytes(), self.incoming.expected());
        if bytes > credit.saturating_mul(MOST_PER_CREDIT) {
            return Err(Violation::Batches { bytes, credit }.into());
        }
        Ok(())
    }

    /// Lends the place for a fragment's data; `None` if the connection has been retired, and its reader has to stop.
    ///
    /// `head` is what stands between the header and the data.
    ///
    /// # Errors
    ///
    /// As [`receive_batch`](Self::receive_batch).
    pub fn begin_fragment(
        &mut self,
        id: ConnectionId,
        header: &FragmentHeader,
        head: &[u8],
    ) -> Result<Option<Region>, ReceiveError> {
        if !self.is_live(id) {
            return Ok(None);
        }
        match self.incoming.begin_fragment(header, head) {
            Ok(region) => {
                self.note_fragment(id, true);
                Ok(Some(region))
            }
            Err(error) => Err(self.refuse(id, error)),
        }
    }

    /// A fragment has begun to come, or has come.
    fn note_fragment(&mut self, id: ConnectionId, begun: bool) {
        if let Some(connection) = self.connection_mut(id) {
            connection.begun_fragment = begun;
        }
    }

    /// Takes a probe that a bulk connection has received. (That of an express connection is a batch.) `false` if the connection has
    /// been retired, and its reader has to stop.
    pub fn receive_bulk_probe(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connection_mut(id).filter(|c| c.live) else { return false };
        connection.received += 1;
        connection.say_received = true;
        true
    }

    /// What a connection has received is no frame. It is replaced; a peer of which that is true again and again ends
    /// the session.
    pub fn out_of_step(&mut self, id: ConnectionId, error: WireError) -> ReceiveError {
        self.refuse(id, ReceiveError::Connection(error))
    }

    /// Takes back the place for a fragment's data, filled.
    ///
    /// # Errors
    ///
    /// As [`receive_batch`](Self::receive_batch).
    pub fn end_fragment(
        &mut self,
        id: ConnectionId,
        mut region: Region,
        sink: &mut dyn Sink,
    ) -> Result<(), ReceiveError> {
        if !self.is_live(id) {
            // The count has been frozen: the fragment will come again.
            region.clear();
            self.incoming.give_back(region);
            return Ok(());
        }
        self.note_fragment(id, false);
        let result = self.incoming.end_fragment(region, sink);
        self.after_receiving(id, result)
    }

    /// A deferred delivery has ended, as delivered or without a taker.
    ///
    /// # Errors
    ///
    /// As [`receive_batch`](Self::receive_batch).
    pub fn finish_delivery(
        &mut self,
        seq: Seq,
        end: Disposition,
        sink: &mut dyn Sink,
    ) -> Result<(), ReceiveError> {
        let result = self.incoming.finish(seq, end, sink);
        self.after_delivering()?;
        result
    }

    /// A message has left its mailbox.
    pub fn consumed(&mut self, credit: Credit) {
        if credit.account == 0 {
            return;
        }
        let (express, bulk) = self.consumed.entry(credit.account).or_default();
        *match credit.class {
            Class::Express => express,
            Class::Bulk => bulk,
        } += credit.bytes;
        self.consumed_since_said.add(credit.class, credit.bytes);
        self.say_consumed.insert(credit.account);
    }

    pub(super) fn after_receiving(
        &mut self,
        id: ConnectionId,
        result: Result<(), ReceiveError>,
    ) -> Result<(), ReceiveError> {
        let result = result.map_err(|error| self.refuse(id, error));
        if result.is_ok()
            && let Some(connection) = self.connection_mut(id)
        {
            connection.received += 1;
            connection.say_received = true;
        }
        let handled = self.after_delivering();
        result.and(handled)
    }

    /// Retires the connection that something wrong came by.
    fn refuse(&mut self, id: ConnectionId, error: ReceiveError) -> ReceiveError {
        self.retire(id);
        let ReceiveError::Connection(last) = error else { return error };
        self.out_of_step += 1;
        if self.out_of_step < MOST_OUT_OF_STEP {
            return ReceiveError::Connection(last);
        }
        Violation::OutOfStep { connections: self.out_of_step, last }.into()
    }

    pub(super) fn after_delivering(&mut self) -> Result<(), ReceiveError> {
        self.say_delivered = true;
        let unclaimed = std::mem::take(&mut self.incoming.unclaimed);
        unclaimed.into_iter().for_each(|credit| self.consumed(credit));
        for DueOutcome { seq, from, disposition } in std::mem::take(&mut self.incoming.due_outcomes) {
            self.answer(seq, from, disposition);
        }
        for (reference, caller) in std::mem::take(&mut self.incoming.rejected) {
            let why = self.answers.reject();
            self.say(Kind::Reject(reference), caller, why);
        }
        for body in std::mem::take(&mut self.incoming.system) {
            self.outcome(&body)?;
        }
        self.look_at_left();
        let bytes = self.outbox.answers();
        let limit = answers::most_untaken(self.answerable);
        if bytes > limit { Err(Violation::Answers { bytes, limit }.into()) } else { Ok(()) }
    }

    /// What delivered messages have left behind, in bytes that nothing else is granted for: accounts that the peer has not closed, and
    /// numbers between which some are missing. So each session has no more of it than of messages, and all together have neither.
    pub(super) fn left_behind(&self) -> u64 {
        let things = self.consumed.len() + self.incoming.delivered().scattered();
        things.saturating_sub(LEFT_FREELY) as u64 * LEFT_COST
    }

    /// The host has taken so many bytes of small messages out of the queue to which they were [delivered](Disposition::Queued), each
    /// with its [`Credit`]'s.
    pub fn taken(&mut self, bytes: u64) {
        #[cfg(feature = "planted-faults")]
        if self.faults.keep_queued {
            return;
        }
        self.incoming.taken_out(bytes);
    }

    /// Who could be granted no more for it may have more if it has become less.
    pub(super) fn look_at_left(&mut self) {
        if self.left_behind() < self.left {
            self.incoming.cleared();
        }
    }

    /// Tells the sender of an acknowledged message what became of it.
    pub(super) fn answer(&mut self, seq: Seq, to: ProcessId, disposition: Disposition) {
        let mut body = BytesMut::with_capacity(9);
        body.extend_from_slice(&seq.to_be_bytes());
        body.extend_from_slice(&[u8::from(disposition == Disposition::NoProcess)]);
        self.say(Kind::Outcome, to, body.freeze().into());
    }

    /// Sends what this side says by itself.
    fn say(&mut self, kind: Kind, to: ProcessId, body: Segments) {
        let mut message = Outgoing::of_kind(kind, ProcessId::NOBODY, Destination::Process(to), body);
        message.unordered = true;
        // Neither kind is ever refused.
        if self.answers.admit(kind, message.body_len()).is_ok() {
            let len = message.body_len();
            self.accept(message, len, 0);
        }
    }

    pub(super) fn outcome(&mut self, body: &Bytes) -> Result<(), Violation> {
        let (seq, status) = body.split_last_chunk::<1>().ok_or(Violation::Outcome)?;
        let seq = Seq::from_be_bytes(seq.try_into().map_err(|_| Violation::Outcome)?);
        let outcome = match status {
            [0] => Outcome::Delivered,
            [1] => Outcome::NoProcess,
            _ => return Err(Violation::Outcome),
        };
        if let Some(token) = self.outbox.take_acknowledgement(seq) {
            self.actions.push_back(Action::Outcome(token, outcome));
        }
        Ok(())
    }
}
