//! What is carried for the host: messages of distributed Erlang, sent and taken in, and how many there were.

use super::Session;
use super::state::Grant;
use crate::SendError;
use crate::base::info::Carried;
use crate::host::{CarriedMessage, Carry, Origin, Receipt, Untaken};
use crate::local::{Accepted, Peer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use teleport_proto::transfer::{Delivery, Disposition, Outgoing, Sent};
use teleport_proto::wire::envelope::{Destination, Kind};
use teleport_proto::wire::pool::Class;

/// The host may be slow to take this many bytes of small carried messages before they keep their room in the peer's window.
const MOST_UNTAKEN: usize = 1024 * 1024;

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

    /// A message of this many bytes has come.
    pub(super) fn received(&self, len: usize) {
        self.messages_received.fetch_add(1, Ordering::Relaxed);
        self.bytes_received.fetch_add(len as u64, Ordering::Relaxed);
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
    ) -> Result<usize, SendError> {
        let mut waiting = 0;
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
                    state.grants.insert(ticket, Grant::Carried(accepted.clone(), len));
                    self.show_soon();
                    waiting += len;
                }
            }
            Ok(waiting)
        })
    }

    /// Hands one that has come to the host, which takes it out of a queue. What the host is slow to take keeps its room in
    /// the peer's window.
    pub(super) fn take_carried(&self, peer: &Arc<dyn Peer>, delivery: Delivery) -> Disposition {
        let Delivery { seq, to, body, credit, .. } = delivery;
        let Destination::Process(to) = to else { return Disposition::NoProcess };
        if self.core.hosting.is_none() {
            return Disposition::NoProcess;
        }
        self.carried.received(body.len());
        let untaken = Untaken::new(&self.untaken, body.len());
        let placed = credit.class == Class::Bulk || self.untaken.load(Ordering::Relaxed) > MOST_UNTAKEN;
        let (receipt, disposition) = match placed {
            true => (Receipt(Some((peer.clone(), seq, credit.class))), Disposition::Placed),
            false => (Receipt::none(), Disposition::Consumed),
        };
        let message = CarriedMessage { to, body, receipt, untaken };
        self.arrivals.push_carried(|| Origin(peer.clone()), message);
        disposition
    }
}
