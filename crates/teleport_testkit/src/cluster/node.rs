//! A node: its processes, mailboxes and budget.

use super::budget::{NodeBudget, NodeGrants};
use super::callers::Calls;
use super::clock::Clock;
use super::session::Who;
use super::{Micros, Rng};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use teleport_proto::membership::Membership;
use teleport_proto::transfer::{Credit, Deliveries, Delivery, Disposition, MESSAGE_COST, Sink};
use teleport_proto::wire::envelope::{Destination, Kind, ProcessId};
use teleport_proto::wire::pool::EXPRESS_LIMIT;
use teleport_proto::{Incarnation, NodeName};

/// Mailboxes per node; the odd ones have a name.
pub(super) const MAILBOXES: usize = 4;

#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: NodeName,
    pub(super) incarnation: Incarnation,
    pub(super) clock: Clock,
    pub(super) membership: Membership,
    /// The sessions that it has, by peer.
    pub(super) up: BTreeMap<usize, usize>,
    /// When membership is asked next.
    pub(super) due: Option<Micros>,
    /// Its process does not exist until then, and whether connections are refused meanwhile.
    pub(super) down: Option<(Micros, bool)>,
    /// It does nothing until then.
    pub(super) stopped_until: Micros,
    /// Nothing listens at its address, from when until when.
    pub(super) deaf: (Micros, Micros),
    pub(super) budget: Arc<NodeBudget>,
    pub(super) answers: Arc<NodeBudget>,
    pub(super) grants: Arc<NodeGrants>,
    /// What its processes wait for.
    pub(super) calls: Calls,
    pub(super) mailboxes: Vec<Mailbox>,
    /// How many messages each process has still to offer.
    pub(super) to_send: Vec<usize>,
}

impl Node {
    /// Whether a connection to it is refused.
    pub(super) fn refuses(&self, now: Micros) -> bool {
        self.down.is_some_and(|(_, refuses)| refuses) || (self.deaf.0..self.deaf.1).contains(&now)
    }
}

/// A bounded mailbox, and the process that reads it.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    /// The session side that has to be told, and what it gets back.
    pub(super) queue: VecDeque<(Who, Credit)>,
    pub(super) consume_due: bool,
    /// The reader does something else until then.
    pub(super) paused_until: Micros,
}

/// The destination that a mailbox has; there is none behind those from [`MAILBOXES`] on.
pub(super) fn destination(mailbox: usize) -> Destination {
    if mailbox % 2 == 1 {
        return Destination::Name(format!("mailbox_{mailbox}").into());
    }
    Destination::Process(ProcessId { id: 100 + mailbox as u32, serial: 0 })
}

/// The mailbox behind a destination, if there is one.
pub(super) fn mailbox_of(to: &Destination) -> Option<usize> {
    (0..MAILBOXES).find(|&mailbox| destination(mailbox) == *to)
}

/// Where a session hands its messages: notes them, for the world to look at afterwards.
pub(super) struct Arrivals<'a> {
    pub(super) rng: &'a mut Rng,
    pub(super) defer_permille: u64,
    /// Pairs with a small message whose delivery takes longer: so do those of others behind it.
    pub(super) deferring: Vec<(ProcessId, Destination)>,
    pub(super) handed: Vec<(Delivery, Disposition)>,
    /// How many of them came together with others.
    pub(super) together: u64,
}

impl Sink for Arrivals<'_> {
    fn deliver_all(&mut self, deliveries: &mut Deliveries<'_>) -> Option<Disposition> {
        let is_behind =
            self.deferring.iter().any(|pair| (pair.0, &pair.1) == (deliveries.from, deliveries.to));
        if is_behind || self.rng.chance(500) {
            return None;
        }
        let disposition = match mailbox_of(deliveries.to) {
            Some(_) if deliveries.kind == Kind::Carried => Disposition::Queued,
            Some(_) => Disposition::Delivered,
            None => Disposition::NoProcess,
        };
        let &mut Deliveries { first, from, to, kind, ref mut bodies, credit } = deliveries;
        self.together += bodies.len() as u64;
        for (seq, body) in (first..).zip(std::mem::take(bodies)) {
            let credit = Credit { bytes: body.len() as u64 + MESSAGE_COST, ..credit };
            let delivery = Delivery { seq, from, to: to.clone(), kind, acknowledge: false, body, credit };
            self.handed.push((delivery, disposition));
        }
        Some(disposition)
    }

    fn deliver(&mut self, delivery: Delivery) -> Disposition {
        if delivery.from == ProcessId::NOBODY && matches!(delivery.kind, Kind::Reject(_)) {
            self.handed.push((delivery, Disposition::Consumed));
            return Disposition::Consumed;
        }
        let small = delivery.body.len() <= EXPRESS_LIMIT;
        let is_behind = |(from, to): &(ProcessId, Destination)| (*from, to) == (delivery.from, &delivery.to);
        let disposition = if small && self.deferring.iter().any(is_behind) {
            Disposition::Deferred
        } else if self.rng.chance(self.defer_permille) {
            let placed = mailbox_of(&delivery.to).is_some() && self.rng.chance(500);
            if small && !placed {
                self.deferring.push((delivery.from, delivery.to.clone()));
            }
            if placed { Disposition::Placed } else { Disposition::Deferred }
        } else if small && delivery.kind == Kind::Carried && mailbox_of(&delivery.to).is_some() {
            Disposition::Queued
        } else if mailbox_of(&delivery.to).is_some() {
            if self.rng.chance(50) { Disposition::Consumed } else { Disposition::Delivered }
        } else {
            Disposition::NoProcess
        };
        self.handed.push((delivery, disposition));
        disposition
    }
}
