//! Received messages into mailboxes.

use super::Engine;
use crate::mailbox::{Inbox, Put};
use crate::session::Session;
use smallvec::SmallVec;
use std::sync::Arc;
use teleport_proto::membership::EndReason;
use teleport_proto::transfer::{Delivery, Disposition, Sink};

/// Delivers what one read has brought. The mailboxes' owners are woken once, at the end.
pub(crate) struct Deliver<'a> {
    engine: &'a Engine,
    session: &'a Arc<Session>,
    woken: SmallVec<[Arc<Inbox>; 4]>,
}

impl<'a> Deliver<'a> {
    pub(crate) fn new(engine: &'a Engine, session: &'a Arc<Session>) -> Self {
        Self { engine, session, woken: SmallVec::new() }
    }

    /// Wakes those who got something; after the session's lock has been released.
    pub(crate) fn wake(self) {
        self.woken.iter().for_each(|inbox| inbox.wake());
    }
}

impl Sink for Deliver<'_> {
    fn deliver(&mut self, delivery: Delivery) -> Disposition {
        let Some(inbox) = self.engine.registry.find(&delivery.to) else { return Disposition::NoProcess };
        match inbox.put_remote(delivery, self.session) {
            Put::Waiting { first } => {
                if first {
                    self.woken.push(inbox);
                }
                Disposition::Delivered
            }
            Put::Gone => Disposition::NoProcess,
            Put::Overrun => {
                let span = self.session.span();
                tracing::warn!(parent: span, mailbox = ?inbox, "more than its window came for a mailbox; the session ends");
                self.engine.events.end(self.session.id(), EndReason::ProtocolError);
                Disposition::NoProcess
            }
        }
    }
}
