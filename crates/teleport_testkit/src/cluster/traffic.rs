//! Senders, mailboxes and their readers.

use super::event::Event;
use super::ledger::{Id, body};
use super::node::{MAILBOXES, destination, mailbox_of};
use super::session::{Deferred, Who};
use super::world::{World, class_of, place, trace};
use super::{Broken, Micros};
use teleport_proto::transfer::{
    Credit, Disposition, MESSAGE_COST, Outcome, Outgoing, Posted, Refused, Sent, Ticket,
};
use teleport_proto::wire::envelope::{Destination, Kind, ProcessId, RefId, Seq};
use teleport_proto::wire::pool::EXPRESS_LIMIT;

/// Bodies from this size on say which message they are.
const NAMED: u64 = 24;

/// Messages of a flood.
const FLOOD: usize = 24;

/// The most trays of a session.
const MOST_TRAYS: usize = 3;

/// Whether all that a process sends is carried.
fn is_carrier(process: ProcessId) -> bool {
    process.id % 2 == 1
}

impl World {
    /// A process offers the next few of its messages.
    pub(super) fn send_some(&mut self, node: usize, process: usize) -> Result<(), Broken> {
        let from = ProcessId { id: process as u32, serial: node as u32 };
        let floods = self.climate.floods && !is_carrier(from) && self.rng.chance(600);
        let burst = if floods { FLOOD } else { self.rng.pick(&[1, 1, 2, 8]) };
        let (mut peer, mailbox) = (node, floods.then(|| self.rng.below(MAILBOXES as u64)));
        for _ in 0..burst.min(self.nodes[node].to_send[process]) {
            if peer == node || !floods {
                peer = (node + 1 + self.rng.below(self.nodes.len() as u64 - 1) as usize) % self.nodes.len();
            }
            let Some(&session) = self.nodes[node].up.get(&peer) else {
                self.want(node, peer)?; // it waits until the nodes have a session again
                self.plan_within(20_000, Event::Send { node, process });
                return Ok(());
            };
            let who = Who { session, side: self.side_of(session, node) };
            self.nodes[node].to_send[process] -= 1;
            self.offer(who, from, mailbox)?;
        }
        if self.nodes[node].to_send[process] > 0 {
            self.plan_within(self.climate.pause + 1, Event::Send { node, process });
        }
        Ok(())
    }

    /// Offers a message; in a flood, a small one to that mailbox.
    fn offer(&mut self, who: Who, from: ProcessId, flood: Option<u64>) -> Result<(), Broken> {
        self.last_id += 1;
        let id = self.last_id;
        let floods = flood.is_some() && self.rng.chance(950);
        let size = if floods { self.rng.below(60) } else { self.climate.size(&mut self.rng) };
        let missing = u64::from(self.rng.chance(300));
        let drawn = self.rng.below(MAILBOXES as u64 + missing);
        let mailbox = flood.unwrap_or(drawn);
        let pieces = if floods { 1 } else { self.rng.between(1, 3) as usize };
        let token = (!floods && self.rng.chance(300)).then_some(id);
        let unordered = !floods && size >= NAMED && self.rng.chance(100);
        let nosuspend = !floods && self.rng.chance(100);
        let exempt = !floods && self.rng.chance(80) && !is_carrier(from);
        let behind_all = self.rng.chance(20);
        let cancel = self.rng.chance(self.climate.cancel_permille);
        let calls = !floods && self.rng.chance(150) && !exempt && !is_carrier(from);
        let refusals = self.node_budget_refusals(who);
        let limit = self.climate.max_message;
        let node = self.node_of(who);
        let part = {
            let window = self.climate.receive_windows[self.sessions[who.session].nodes[1 - who.side]];
            if size <= EXPRESS_LIMIT as u64 { window / 4 } else { window - window / 4 }
        };
        if self.transfer(who).is_none() {
            return Ok(());
        }
        let called = calls.then(|| self.nodes[node].calls.begin(who.session, id)).flatten();
        let Some(side) = self.side(who) else { return Ok(()) };
        let (Some(transfer), Some(ledger)) = (&mut side.transfer, &mut side.ledger) else { return Ok(()) };
        let mut message =
            Outgoing::new(from, destination(mailbox as usize), body(ledger.tag(), id, size as usize, pieces));
        (message.unordered, message.nosuspend) = (unordered, nosuspend);
        message.acknowledge = token;
        if is_carrier(from) {
            (message.kind, message.behind_all) = (Kind::Carried, behind_all && !unordered);
        } else if exempt {
            // To a call that nobody has made.
            message.kind = RefId::new(&[id as u32, u32::MAX]).map_or(Kind::Data, Kind::Reply);
        } else if let Some(reference) = called {
            (message.kind, message.unordered, message.acknowledge) = (Kind::Request(reference), false, None);
        }
        ledger.offer(id, &message);
        let to = message.to.clone();
        // Then it can only be the mailbox that it waits for.
        let room_left = transfer.in_window() + size + MESSAGE_COST <= part;
        let exempt_waiting = transfer.stats().exempt_waiting;
        // As the engine does, but not always.
        let plain = message.body.as_contiguous().filter(|_| !id.is_multiple_of(4) && message.is_plain());
        let tray = side.trays.iter().position(|tray| tray.is_of(from, &to));
        let may_lay = message.kind == Kind::Data;
        let laid = tray.zip(plain).is_some_and(|(at, body)| may_lay && side.trays[at].lay(body));
        if !laid {
            tray.into_iter().for_each(|at| transfer.put_away(side.trays.swap_remove(at)));
        }
        let posted = !laid
            && plain.is_some_and(|body| {
                let waiting = transfer.stats().waiting;
                let posted = transfer.post(message.kind, from, &to, body) != Posted::No;
                debug_assert_eq!(waiting, transfer.stats().waiting, "posting never waits");
                posted
            });
        if posted && may_lay && side.trays.len() < MOST_TRAYS {
            side.trays.extend(transfer.open_tray(from, &to));
        }
        if !laid && !posted && (message.nosuspend || message.behind_all) {
            side.trays.drain(..).for_each(|tray| transfer.put_away(tray));
        }
        let sent = if laid || posted { Ok(Sent::Accepted) } else { transfer.send(message) };
        let mut waited = None;
        match &sent {
            Ok(Sent::Accepted) => {
                ledger.accept(id);
                let class = place(class_of(size as usize));
                let largest = &mut side.largest[usize::from(exempt)][class];
                *largest = (*largest).max(size + MESSAGE_COST);
                self.coverage.exempt_waited +=
                    u64::from(exempt && transfer.stats().exempt_waiting > exempt_waiting);
                self.coverage.accepted += 1;
                self.coverage.posted += u64::from(posted);
                self.coverage.laid += u64::from(laid);
                self.coverage.oversize += u64::from(size + MESSAGE_COST > part && !exempt);
            }
            Ok(Sent::Waiting(ticket)) => {
                if exempt || nosuspend {
                    return Err(Broken::new(format!("message {id} waits, but must not")));
                }
                ledger.wait(id, *ticket)?;
                let class = place(class_of(size as usize));
                side.largest[0][class] = side.largest[0][class].max(size + MESSAGE_COST);
                waited = Some(*ticket);
            }
            Err(refused) => {
                ledger.refused(id);
                if let Some(reference) = called {
                    self.nodes[node].calls.give_up(reference)?;
                }
                match refused {
                    Refused::TooLarge { .. } if size > limit => self.coverage.too_large += 1,
                    Refused::Busy if nosuspend && !exempt => self.coverage.busy += 1,
                    Refused::AnswersFull { waiting: 1.. } if exempt => self.coverage.answers_full += 1,
                    other => return Err(Broken::by("refused without a reason", other)),
                }
            }
        }
        trace!(self, "{who:?}: message {id} of {size} bytes, {from:?} -> {to:?}: {sent:?}");
        if let Some(ticket) = waited {
            if self.node_budget_refusals(who) > refusals {
                self.coverage.waited_for_budget += 1;
            } else if room_left {
                self.coverage.waited_for_mailbox += 1;
            } else {
                self.coverage.waited_for_window += 1;
            }
            if cancel {
                self.plan_within(5_000, Event::Cancel(who, ticket));
            }
        }
        if let Some(reference) = called
            && sent.is_ok()
        {
            self.coverage.calls += 1;
            if self.rng.chance(200) {
                let life = self.nodes[node].incarnation;
                self.plan_within(2 * self.climate.longest_delay, Event::CallLate(node, life, reference));
            }
        }
        self.settle(who)
    }

    fn node_budget_refusals(&self, who: Who) -> u64 {
        self.nodes[self.sessions[who.session].nodes[who.side]].budget.refusals()
    }

    pub(super) fn cancel(&mut self, who: Who, ticket: Ticket) -> Result<(), Broken> {
        let Some(side) = self.side(who) else { return Ok(()) };
        let (Some(transfer), Some(ledger)) = (&mut side.transfer, &mut side.ledger) else { return Ok(()) };
        let waits = ledger.is_waiting(ticket);
        if transfer.cancel(ticket) != waits {
            return Err(Broken::new(format!(
                "cancelling ticket {ticket}, which waits ({waits}), went wrong"
            )));
        }
        if waits {
            let called = ledger.cancelled(ticket)?;
            self.coverage.cancelled += 1;
            if let Some(reference) = called {
                let node = self.node_of(who);
                self.nodes[node].calls.give_up(reference)?;
            }
        }
        self.settle(who)
    }

    /// A message is in its mailbox.
    pub(super) fn delivered(
        &mut self,
        who: Who,
        id: Id,
        to: Destination,
        credit: Credit,
    ) -> Result<(), Broken> {
        let session = &mut self.sessions[who.session];
        if let Some(ledger) = &mut session.sides[1 - who.side].ledger {
            ledger.settled(id, Outcome::Delivered);
        }
        self.coverage.delivered += 1;
        let node = session.nodes[who.side];
        let Some(mailbox) = mailbox_of(&to) else {
            return Err(Broken::new("a message was delivered to nobody"));
        };
        if credit.account != 0 {
            let held = &mut session.sides[who.side].held.entry(to).or_default()[place(credit.class)];
            *held = (held.0 + 1, held.1 + credit.bytes);
            let window = self.climate.mailbox_windows[node].unwrap_or(0);
            let part = [window / 4, window - window / 4][place(credit.class)];
            if held.0 > 1 && held.1 > part {
                let (count, bytes) = *held;
                return Err(Broken::new(format!(
                    "a mailbox holds {count} messages with {bytes} bytes, its window is {part}"
                )));
            }
        }
        self.nodes[node].mailboxes[mailbox].queue.push_back((who, credit));
        self.plan_consume(node, mailbox);
        Ok(())
    }

    fn plan_consume(&mut self, node: usize, mailbox: usize) {
        let it = &mut self.nodes[node].mailboxes[mailbox];
        if it.consume_due || it.queue.is_empty() {
            return;
        }
        it.consume_due = true;
        let pause: Micros = it.paused_until.saturating_sub(self.now);
        let delay = pause + self.rng.below(self.climate.consume + 1);
        self.plan(delay, Event::Consume { node, mailbox });
    }

    pub(super) fn consume(&mut self, node: usize, mailbox: usize) -> Result<(), Broken> {
        let now = self.now;
        let it = &mut self.nodes[node].mailboxes[mailbox];
        it.consume_due = false;
        if it.paused_until > now {
            self.plan_consume(node, mailbox);
            return Ok(());
        }
        let Some((who, credit)) = it.queue.pop_front() else { return Ok(()) };
        self.plan_consume(node, mailbox);
        let Some(side) = self.side(who) else { return Ok(()) };
        let Some(transfer) = &mut side.transfer else { return Ok(()) };
        transfer.consumed(credit);
        if credit.account != 0
            && let Some(held) = side.held.get_mut(&destination(mailbox))
        {
            let held = &mut held[place(credit.class)];
            *held = (held.0 - 1, held.1 - credit.bytes);
        }
        self.settle(who)
    }

    /// A host takes something out of its queue.
    pub(super) fn take(&mut self, who: Who, bytes: u64) -> Result<(), Broken> {
        let Some(side) = self.side(who) else { return Ok(()) };
        side.queued -= bytes;
        let Some(transfer) = &mut side.transfer else { return Ok(()) };
        transfer.taken(bytes);
        self.settle(who)
    }

    /// A deferred delivery ends.
    pub(super) fn finish(&mut self, who: Who, seq: Seq, end: Disposition) -> Result<(), Broken> {
        let Some(side) = self.side(who) else { return Ok(()) };
        if side.transfer.is_none() {
            return Ok(());
        }
        let Some(this) = side.deferred.get(&seq) else { return Ok(()) };
        let ahead = |(&before, that): (&Seq, &Deferred)| {
            before < seq && that.is_small() && (that.from, &that.to) == (this.from, &this.to)
        };
        if this.is_small() && side.deferred.iter().any(ahead) {
            self.plan_within(1_000, Event::Finish(who, seq, end));
            return Ok(());
        }
        let Some(Deferred { id, to, credit, .. }) = side.deferred.remove(&seq) else { return Ok(()) };
        match end {
            Disposition::Delivered => self.delivered(who, id, to, credit)?,
            _ => {
                if let Some(ledger) = self.side(who.other()).and_then(|sender| sender.ledger.as_mut()) {
                    ledger.settled(id, Outcome::NoProcess);
                }
                self.coverage.delivered += 1;
                self.coverage.no_process += 1;
            }
        }
        let result = self.deliver(who, None, |transfer, sink| transfer.finish_delivery(seq, end, sink))?;
        if let Some(Err(error)) = result {
            return Err(Broken::by("finish_delivery", error));
        }
        self.settle(who)
    }
}
