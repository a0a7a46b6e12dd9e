//! What a host owes the node for what it was handed.

use crate::local::Peer;
use std::fmt;
use std::sync::Arc;
use teleport_proto::transfer::Disposition;
use teleport_proto::wire::envelope::Seq;
use teleport_proto::wire::pool::Class;

/// That something has been delivered, or taken: said by dropping it, on a thread that may wait for the node for a moment.
#[must_use = "dropping it says that the message has been delivered"]
pub struct Receipt(Option<(Arc<dyn Peer>, Owed)>);

/// What is said by a receipt.
#[derive(Debug, Clone, Copy)]
enum Owed {
    /// The message has been delivered.
    Delivery(Seq, Class),
    /// Small messages, which were delivered to the host's queue, have been taken out, and with them this much room in the window.
    Room(u64),
}

impl Receipt {
    /// For a message that counts as delivered already.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn of_delivery(session: Arc<dyn Peer>, seq: Seq, class: Class) -> Self {
        Self(Some((session, Owed::Delivery(seq, class))))
    }

    pub(crate) fn of_room(session: Arc<dyn Peer>, bytes: u64) -> Self {
        Self(Some((session, Owed::Room(bytes))))
    }

    /// Says it of all of them: with less effort than one by one.
    pub fn finish_all(receipts: impl IntoIterator<Item = Self>) {
        let mut finished: Option<Finished> = None;
        for (session, owed) in receipts.into_iter().filter_map(|mut receipt| receipt.0.take()) {
            match &mut finished {
                Some(last) if Arc::ptr_eq(&last.session, &session) => last.add(owed),
                other => {
                    if let Some(last) = other.replace(Finished::new(session, owed)) {
                        last.tell();
                    }
                }
            }
        }
        if let Some(last) = finished {
            last.tell();
        }
    }

    /// Whether the message is a large one, above 64 KiB. Others that have to come behind it come when this is dropped.
    pub fn is_large(&self) -> bool {
        matches!(self.0, Some((_, Owed::Delivery(_, Class::Bulk))))
    }

    /// Whether the message is a small one that the host has [deferred](super::Host::defers).
    pub fn is_deferred(&self) -> bool {
        matches!(self.0, Some((_, Owed::Delivery(_, Class::Express))))
    }
}

/// What has been finished of one session.
struct Finished {
    session: Arc<dyn Peer>,
    delivered: Vec<Seq>,
    room: u64,
}

impl Finished {
    fn new(session: Arc<dyn Peer>, owed: Owed) -> Self {
        let mut this = Self { session, delivered: Vec::new(), room: 0 };
        this.add(owed);
        this
    }

    fn add(&mut self, owed: Owed) {
        match owed {
            Owed::Delivery(seq, _) => self.delivered.push(seq),
            Owed::Room(bytes) => self.room += bytes,
        }
    }

    fn tell(self) {
        if self.room > 0 {
            self.session.taken(self.room);
        }
        if !self.delivered.is_empty() {
            self.session.finish_deliveries(&self.delivered, Disposition::Consumed);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some((session, owed)) = self.0.take() {
            Finished::new(session, owed).tell();
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receipt").field(&self.0.as_ref().map(|(_, owed)| owed)).finish()
    }
}
