//! Calls: requests that are answered once, in vain, or too late, and the checks that each of them ends once.

use super::Broken;
use super::callers::number;
use super::event::Event;
use super::ledger::{Id, body};
use super::node::mailbox_of;
use super::session::Who;
use super::world::{World, class_of, place, trace};
use teleport_proto::Incarnation;
use teleport_proto::transfer::{MESSAGE_COST, Outgoing, Refused};
use teleport_proto::wire::envelope::{Destination, Kind, ProcessId, RefId};

/// An answer says which one it is, and if it is a notice it is no larger than those may be.
const ANSWER: std::ops::Range<u64> = 24..200;

impl World {
    /// A request has been handed over: it will be answered, as long as there is a session.
    pub(super) fn requested(
        &mut self,
        who: Who,
        request: Id,
        reference: RefId,
        server: Destination,
        caller: ProcessId,
    ) {
        let answer = Event::Answer { who, request, reference, server, caller };
        if self.rng.chance(50) {
            self.plan_within(self.climate.longest_delay, answer.clone()); // only the first one counts
        }
        self.plan_within(self.climate.longest_delay, answer);
    }

    /// A server answers, or its node does.
    pub(super) fn answer(
        &mut self,
        who: Who,
        request: Id,
        reference: RefId,
        server: &Destination,
        caller: ProcessId,
    ) -> Result<(), Broken> {
        self.last_id += 1;
        let (id, from) =
            (self.last_id, ProcessId { id: 100 + mailbox_of(server).unwrap_or(0) as u32, serial: 1 });
        let notice = self.rng.between(ANSWER.start, ANSWER.end);
        let large = self.climate.size(&mut self.rng).clamp(ANSWER.start, self.climate.max_message);
        let (kind, size) = match self.rng.below(20) {
            _ if mailbox_of(server).is_none() => (Kind::Down(reference), notice),
            0 => (Kind::Down(reference), notice),
            1 => (Kind::Reject(reference), notice),
            _ => (Kind::Reply(reference), large),
        };
        match self.offer_answer(who, id, from, caller, kind, size)? {
            Some(Refused::AnswersFull { .. }) if matches!(kind, Kind::Reply(_)) => {
                self.coverage.answers_full += 1;
                if let Some(refused) =
                    self.offer_answer(who, id, from, caller, Kind::Reject(reference), notice)?
                {
                    return Err(Broken::by("a rejection was refused", refused));
                }
            }
            Some(refused) => return Err(Broken::by("an answer was refused", refused)),
            None => {}
        }
        self.answers.insert(id, request);
        self.settle(who)
    }

    /// Offers it, and says why it was refused, if it was.
    fn offer_answer(
        &mut self,
        who: Who,
        id: Id,
        from: ProcessId,
        caller: ProcessId,
        kind: Kind,
        size: u64,
    ) -> Result<Option<Refused>, Broken> {
        let Some(side) = self.side(who) else { return Ok(None) };
        let (Some(transfer), Some(ledger)) = (&mut side.transfer, &mut side.ledger) else {
            return Ok(None);
        };
        let body = body(ledger.tag(), id, size as usize, 1);
        let message = Outgoing::of_kind(kind, from, Destination::Process(caller), body);
        ledger.offer(id, &message);
        let sent = transfer.send(message);
        trace!(self, "{who:?}: {kind:?} {id} of {size} bytes: {sent:?}");
        let Some(side) = self.side(who) else { return Ok(None) };
        let Some(ledger) = &mut side.ledger else { return Ok(None) };
        if let Err(refused) = sent {
            ledger.refused(id);
            return Ok(Some(refused));
        }
        ledger.accept(id);
        let largest = &mut side.largest[1][place(class_of(size as usize))];
        *largest = (*largest).max(size + MESSAGE_COST);
        self.coverage.accepted += 1;
        Ok(None)
    }

    /// What may end a call has come to the node that made it, and was meant for that `request`, if for any.
    pub(super) fn answered(&mut self, who: Who, meant: Option<Id>, kind: Kind) -> Result<(), Broken> {
        let node = self.node_of(who);
        let calls = &mut self.nodes[node].calls;
        let ended = match kind {
            Kind::Reply(reference) | Kind::Reject(reference) => {
                calls.waiting.answered(reference, number(who.session))
            }
            Kind::Down(reference) if calls.waiting.watched_in(reference, number(who.session)).is_some() => {
                calls.waiting.remove(reference).map(|request| (request, false))
            }
            _ => None,
        };
        let Some((request, elsewhere)) = ended else {
            self.coverage.answers_late += 1;
            return Ok(());
        };
        calls.ended(request)?;
        if elsewhere || meant != Some(request) {
            return Err(Broken::new(format!("call {request} got the answer to {meant:?} over {who:?}")));
        }
        match kind {
            Kind::Reply(_) => self.coverage.calls_answered += 1,
            Kind::Reject(_) => self.coverage.calls_rejected += 1,
            _ => self.coverage.calls_down += 1,
        }
        Ok(())
    }

    /// A caller waits no longer, in that life of its node.
    pub(super) fn call_late(
        &mut self,
        node: usize,
        life: Incarnation,
        reference: RefId,
    ) -> Result<(), Broken> {
        let it = &mut self.nodes[node];
        if it.incarnation == life && it.calls.give_up(reference)? {
            self.coverage.calls_late += 1;
        }
        Ok(())
    }

    /// A node has no session any more: its calls have ended with it.
    pub(super) fn end_calls(&mut self, who: Who) -> Result<(), Broken> {
        let node = self.node_of(who);
        let calls = &mut self.nodes[node].calls;
        loop {
            let ended = calls.waiting.session_ended(number(who.session), 3);
            if ended.is_empty() {
                return Ok(());
            }
            self.coverage.calls_node_down += ended.len() as u64;
            ended.into_iter().try_for_each(|(_, request)| calls.ended(request))?;
        }
    }

    /// Whether any of the first nodes waits for another of them to answer.
    pub(super) fn calls_open(&self, moving: usize) -> bool {
        let mut sessions = self.nodes.iter().flat_map(|node| node.calls.open.values());
        sessions.any(|&session| self.sessions[session].nodes.iter().all(|&node| node < moving))
    }
}
