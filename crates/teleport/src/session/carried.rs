//! What is carried for the host: messages of distributed Erlang, sent and taken in, and how many there were.

use super::Session;
use super::state::Grant;
use crate::SendError;
use crate::base::info::Carried;
use crate::host::{Bodies, CarriedMessages, Carry, Origin, Receipt};
use crate::local::{Accepted, Backlog, Peer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use teleport_proto::transfer::{Deliveries, Delivery, Disposition, Outgoing, Sent};
use teleport_proto::wire::envelope::{Destination, Kind};
use teleport_proto::wire::pool::Class;

/// What a message that waits for room takes besides its body, about.
const WAITING_COST: usize = 512;

/// What was carried so far.
#[derive(Debug, Default)]
pub(crate) struct CarriedCounts {
    messages_sent: AtomicU64,
    bytes_sent: AtomicU64,
    messages_received: AtomicU64,
    bytes_received: AtomicU64,
}

impl CarriedCounts {
    /// A message of this many bytes goes to the peer.
    pub(super) fn sent(&self, len: usize) {
        self.messages_sent.fetch_add(1, Ordering::Relaxed);
        self.bytes_sent.fetch_add(len as u64, Ordering::Relaxed);
    }

    /// Messages of this many bytes in all have come.
    pub(super) fn received(&self, messages: usize, bytes: usize) {
        self.messages_received.fetch_add(messages as u64, Ordering::Relaxed);
        self.bytes_received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// All of it.
    pub(crate) fn so_far(&self) -> Carried {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Carried {
            messages_sent: read(&self.messages_sent),
            bytes_sent: read(&self.bytes_sent),
            messages_received: read(&self.messages_received),
            bytes_received: read(&self.bytes_received),
        }
    }
}

impl Session {
    /// Sends messages of the host's; see [`Peer::carry`].
    pub(super) fn carry_all(
        &self,
        messages: &mut dyn Iterator<Item = Carry<'_>>,
        accepted: &Accepted,
    ) -> Result<Backlog, SendError> {
        let mut waiting = Backlog::default();
        self.offering(|state, after| {
            for Carry { from, to, body, behind_all } in messages {
                let (to, len) = (Destination::Process(to), body.len());
                self.carried.sent(len);
                let is_posted = |small: &[u8]| state.post(after, Kind::Carried, from, &to, small);
                if !behind_all && body.as_contiguous().is_some_and(is_posted) {
                    continue;
                }
                let message = Outgoing::of_kind(Kind::Carried, from, to, body.into_segments());
                let message = Outgoing { behind_all, ..message };
                let sent = self.offer(state, after, message).map_err(|denied| denied.of_send(&self.peer))?;
                if let Sent::Waiting(ticket) = sent {
                    let is_small =
                        state.transfer.as_ref().is_some_and(|transfer| transfer.waits_among_small(ticket));
                    let waits = Backlog { bytes: len + WAITING_COST, small: usize::from(is_small) };
                    state.grants.insert(ticket, Grant::Carried(accepted.clone(), waits));
                    self.show_soon();
                    waiting += waits;
                }
            }
            Ok(waiting)
        })
    }

    /// Hands small ones that have come to the host, which takes them out of a queue. While they are in there they keep their room in
    /// the peer's window.
    pub(super) fn take_carried(&self, peer: &Arc<dyn Peer>, deliveries: &mut Deliveries<'_>) -> Disposition {
        let Destination::Process(to) = *deliveries.to else { return Disposition::NoProcess };
        let bodies = std::mem::take(&mut deliveries.bodies);
        self.carried.received(bodies.len(), bodies.bytes());
        let receipt = Receipt::of_room(peer.clone(), deliveries.credit.bytes);
        self.arrivals.push_carried(|| Origin(peer.clone()), CarriedMessages { to, bodies, receipt });
        Disposition::Queued
    }

    /// Hands one that has come to the host.
    pub(super) fn take_one_carried(&self, peer: &Arc<dyn Peer>, delivery: Delivery) -> Disposition {
        let Delivery { seq, to, body, credit, .. } = delivery;
        let Destination::Process(to) = to else { return Disposition::NoProcess };
        if self.core.hosting.is_none() {
            return Disposition::NoProcess;
        }
        self.carried.received(1, body.len());
        let (receipt, disposition) = match credit.class {
            Class::Bulk => (Receipt::of_delivery(peer.clone(), seq, Class::Bulk), Disposition::Placed),
            Class::Express => (Receipt::of_room(peer.clone(), credit.bytes), Disposition::Queued),
        };
        let message = CarriedMessages { to, bodies: Bodies::one(body), receipt };
        self.arrivals.push_carried(|| Origin(peer.clone()), message);
        disposition
    }
}
