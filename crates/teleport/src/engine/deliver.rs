//! Received messages to where they belong.

use super::Engine;
use crate::mailbox::{Inbox, Put};
use crate::session::Session;
use crate::watch::{Answer, Purpose, Refused, Via};
use smallvec::SmallVec;
use std::sync::Arc;
use teleport_proto::membership::EndReason;
use teleport_proto::transfer::{Delivery, Disposition, Sink};
use teleport_proto::wire::envelope::{Destination, Kind, ProcessId, RefId};

/// Delivers what one read has brought. What that sets off happens at the end, when no lock is held: waking the mailboxes'
/// owners, ending calls, and telling the peer of processes that do not exist.
pub(crate) struct Deliver<'a> {
    engine: &'a Engine,
    session: &'a Arc<Session>,
    /// Where the last message went: the next one often has the same destination.
    last: Option<(Destination, Arc<Inbox>)>,
    woken: SmallVec<[Arc<Inbox>; 4]>,
    answers: SmallVec<[Answer; 4]>,
    refused: SmallVec<[(ProcessId, RefId, Refused); 4]>,
}

impl<'a> Deliver<'a> {
    pub(crate) fn new(engine: &'a Engine, session: &'a Arc<Session>) -> Self {
        let (woken, answers, refused) = Default::default();
        Self { engine, session, last: None, woken, answers, refused }
    }

    /// Does what is left to do; after the session's lock has been released.
    pub(crate) fn finish(self) {
        self.woken.iter().for_each(|inbox| inbox.wake());
        self.answers.into_iter().for_each(|answer| answer.give(&self.engine.watching));
        for (watcher, reference, refused) in self.refused {
            let to = Destination::Process(watcher);
            let _ = self.session.send_exempt(ProcessId::NOBODY, to, Kind::Down(reference), refused.reason());
        }
    }

    /// Begins a watch on behalf of the peer's process, which is told if that is not possible.
    fn watch(
        &mut self,
        purpose: Purpose,
        reference: RefId,
        watcher: ProcessId,
        to: &Destination,
    ) -> Option<Arc<Inbox>> {
        let found = self.engine.registry.find(to).ok_or(Refused::NoProcess);
        let via = Via::There(self.session.clone());
        let begun = found.and_then(|inbox| via.begin(purpose, reference, watcher, &inbox).map(|()| inbox));
        begun.map_err(|refused| self.refused.push((watcher, reference, refused))).ok()
    }

    fn put(&mut self, inbox: &Arc<Inbox>, delivery: Delivery) -> Disposition {
        match inbox.put_remote(delivery, self.session) {
            Put::Waiting { first, bounded } => {
                if first {
                    self.woken.push(inbox.clone());
                }
                if bounded { Disposition::Delivered } else { Disposition::Consumed }
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

impl Sink for Deliver<'_> {
    fn deliver(&mut self, delivery: Delivery) -> Disposition {
        match delivery.kind {
            Kind::Data => {
                let last = self.last.take().filter(|(to, _)| *to == delivery.to);
                let found = last.or_else(|| {
                    let inbox = self.engine.registry.find(&delivery.to)?;
                    Some((delivery.to.clone(), inbox))
                });
                let Some((to, inbox)) = found else { return Disposition::NoProcess };
                let end = self.put(&inbox, delivery);
                if end != Disposition::NoProcess {
                    self.last = Some((to, inbox)); // else its name may belong to another one by now
                }
                end
            }
            // If the process ends before it has the message, it tells its watchers.
            Kind::Request(reference) => {
                match self.watch(Purpose::Call, reference, delivery.from, &delivery.to) {
                    Some(inbox) => self.put(&inbox, delivery),
                    None => Disposition::NoProcess,
                }
            }
            Kind::Monitor(reference) => {
                self.watch(Purpose::Monitor, reference, delivery.from, &delivery.to);
                Disposition::Delivered
            }
            Kind::Demonitor(reference) => {
                Via::There(self.session.clone()).end(reference);
                Disposition::Delivered
            }
            Kind::Reply(reference) => {
                let via = Via::There(self.session.clone());
                self.answers.extend(self.engine.watching.reply(reference, delivery.body, &via));
                Disposition::Delivered
            }
            Kind::Reject(reference) => {
                let via = Via::There(self.session.clone());
                self.answers.extend(self.engine.watching.reject(reference, delivery.body, &via));
                Disposition::Delivered
            }
            Kind::Down(reference) => {
                let via = Via::There(self.session.clone());
                self.answers.extend(self.engine.watching.down(reference, delivery.body, &via));
                Disposition::Delivered
            }
            // The session's own.
            Kind::Outcome => Disposition::Delivered,
        }
    }
}
