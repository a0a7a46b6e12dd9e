//! Received messages to where they belong: a mailbox of this node, or the host.

use super::Session;
use crate::base::allow::{APPLIES, Judge, Refusal};
use crate::base::seldom::{NotSaid, OfPeer, warn_seldom};
use crate::host::{Arriving, Hosting, Inbound, Origin, Receipt, Watch, next_watch};
use crate::local::Peer;
use crate::local::inbox::{Inbox, Put};
use crate::local::watch::{End, Ending, Over, Purpose, Subject, Via, WatchRefused};
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use teleport_proto::membership::EndReason;
use teleport_proto::transfer::{Deliveries, Delivery, Disposition, Outgoing, Sink};
use teleport_proto::wire::envelope::{Destination, Kind, ProcessId, RefId, Seq};
use teleport_proto::wire::pool::Class;

/// Bytes of the text that says what is not allowed. A peer chooses how often it hears that, so it may not be longer than what is
/// reckoned with for an answer of a node's own (`most_untaken` in `teleport_proto`).
const LONGEST_WHY: usize = 110;

/// Delivers what one read has brought. What that sets off happens at the end, when no lock is held: waking the mailboxes'
/// owners, ending calls, telling the host, and telling the peer of processes that do not exist.
pub(super) struct Deliver<'a> {
    session: &'a Arc<Session>,
    peer: Arc<dyn Peer>,
    /// Judges what comes, if the peer may not reach everything.
    judge: Option<Arc<Judge>>,
    /// Where the last message went: the next one often has the same destination.
    last: Option<(Destination, Taker)>,
    woken: SmallVec<[Arc<Inbox>; 4]>,
    endings: SmallVec<[Ending; 4]>,
    over: SmallVec<[Over; 1]>,
    refused: SmallVec<[Refused; 4]>,
    not_allowed: SmallVec<[NotAllowed; 1]>,
}

/// A watch that does not begin.
struct Refused {
    watcher: ProcessId,
    reference: RefId,
    why: WatchRefused,
    /// Who tells the watcher.
    from: ProcessId,
}

impl Refused {
    /// A process that has ended may have sent something to the watcher's pid, which has to come before: so it is from that.
    fn new(watcher: ProcessId, reference: RefId, why: WatchRefused, watched: &Destination) -> Self {
        let from = match (&why, watched) {
            (WatchRefused::NoProcess, Destination::Process(process)) => *process,
            _ => ProcessId::NOBODY,
        };
        Self { watcher, reference, why, from }
    }
}

/// Something that the peer may not do, to be said: `thing`, which is refused or only noted.
struct NotAllowed {
    thing: String,
    refused: bool,
    noted: Option<NotSaid>,
}

/// A watch that has begun, and of whom.
enum Begun {
    Inbox(Arc<Inbox>),
    Hosted(ProcessId, Watch),
}

/// Who takes a message.
#[derive(Clone)]
enum Taker {
    Inbox(Arc<Inbox>),
    Hosted(ProcessId),
}

impl<'a> Deliver<'a> {
    pub(crate) fn new(session: &'a Arc<Session>) -> Self {
        let (woken, endings, over, refused, not_allowed) = Default::default();
        let judge = session.permitted.judge(&session.core.allowed, &session.peer);
        Self { session, peer: session.clone(), judge, last: None, woken, endings, over, refused, not_allowed }
    }

    /// Does what is left to do; after the session's lock has been released.
    pub(crate) fn finish(self) {
        let session = self.session;
        self.woken.iter().for_each(|inbox| inbox.wake());
        self.endings.into_iter().for_each(|ending| ending.give(&session.core.watches.watching));
        self.over.into_iter().for_each(Over::end);
        for NotAllowed { thing, refused, noted } in self.not_allowed {
            warn_seldom!(noted, parent: &session.span, refused, "the peer may not {thing}: it is not on its allow-list");
        }
        for Refused { watcher, reference, why, from } in self.refused {
            let (kind, to) = (why.kind(reference), Destination::Process(watcher));
            let message = Outgoing::of_kind(kind, from, to, why.reason());
            let _ = session.send_exempt(message); // if the session has ended, its watches have too
        }
    }

    fn find(&self, to: &Destination) -> Option<Taker> {
        match &self.session.core.hosting {
            None => self.session.core.registry.find(to).map(Taker::Inbox),
            Some(hosting) => hosting.host.find(to).map(Taker::Hosted),
        }
    }

    /// Who takes what goes there: the last one, if it is the same destination.
    fn taker(&mut self, to: &Destination) -> Option<(Destination, Taker)> {
        let last = self.last.take().filter(|(last, _)| last == to);
        last.or_else(|| Some((to.clone(), self.find(to)?)))
    }

    /// What becomes of a message that the peer may not send. What is answered is answered at the end.
    fn refuse(&mut self, delivery: &Delivery) -> Option<Disposition> {
        let judge = self.judge.clone()?;
        let Delivery { kind, ref to, ref body, .. } = *delivery;
        let applies = matches!(kind, Kind::Data | Kind::Request(_)) && self.applies_functions(to);
        let Refusal { what, thing } = judge.refuses(kind, to, applies, body)?;
        let (session, only_logs) = (self.session, judge.only_logs);
        session.permitted.count(what);
        let noted = session.core.warnings.of_not_allowed(&session.peer, &thing);
        if noted.is_some() || tracing::enabled!(tracing::Level::DEBUG) {
            self.not_allowed.push(NotAllowed { thing: thing.clone(), refused: !only_logs, noted });
        }
        if only_logs {
            return None;
        }
        let (purpose, reference, end) = match kind {
            Kind::Request(reference) => (Purpose::Call, reference, Disposition::Consumed),
            Kind::Monitor(reference) => (Purpose::Monitor, reference, Disposition::Delivered),
            _ => return Some(Disposition::NoProcess),
        };
        let mut why = format!("not on the allow-list: {thing}, at {}", session.core.local.name);
        why.truncate(why.floor_char_boundary(LONGEST_WHY));
        self.refused.push(Refused::new(delivery.from, reference, WatchRefused::NotAllowed(purpose, why), to));
        Some(end)
    }

    /// Whether that is the server that applies functions for peers, by its name or pid.
    fn applies_functions(&self, to: &Destination) -> bool {
        let process = match to {
            Destination::Name(name) => return **name == *APPLIES,
            Destination::Process(process) => *process,
        };
        match self.find(&Destination::Name(APPLIES.into())) {
            Some(Taker::Inbox(inbox)) => inbox.process == process,
            Some(Taker::Hosted(hosted)) => hosted == process,
            None => false,
        }
    }

    /// Begins a watch on behalf of the peer's process, which is told if that is not possible.
    fn watch(
        &mut self,
        purpose: Purpose,
        reference: RefId,
        watcher: ProcessId,
        to: &Destination,
    ) -> Option<Begun> {
        let begin = |subject| Via::There(self.peer.clone()).begin(purpose, reference, watcher, subject);
        let begun = match self.find(to) {
            None => Err(WatchRefused::NoProcess),
            Some(Taker::Inbox(inbox)) => begin(Subject::Inbox(inbox.clone())).map(|()| Begun::Inbox(inbox)),
            Some(Taker::Hosted(process)) => {
                let number = next_watch();
                let peer = self.peer.clone();
                let watch = || Watch { peer, purpose, id: number, reference, watcher, watched: process };
                begin(Subject::Hosted(process, number)).map(|()| Begun::Hosted(process, watch()))
            }
        };
        if begun.as_ref().is_err_and(|refused| *refused == WatchRefused::Limit) {
            self.session.meter.watches_refused.count();
        }
        begun.map_err(|why| self.refused.push(Refused::new(watcher, reference, why, to))).ok()
    }

    fn put(&mut self, inbox: &Arc<Inbox>, delivery: Delivery) -> Disposition {
        self.was_put(inbox, inbox.put_remote(delivery, &self.peer))
    }

    fn was_put(&mut self, inbox: &Arc<Inbox>, put: Put) -> Disposition {
        match put {
            Put::Waiting { first, disposition } => {
                if first {
                    self.woken.push(inbox.clone());
                }
                if disposition == Disposition::Placed {
                    self.session.placed.store(true, Ordering::Relaxed);
                }
                disposition
            }
            Put::Gone => Disposition::NoProcess,
            Put::Overrun => {
                let span = &self.session.span;
                let noted = self.session.note(OfPeer::OutOfStep);
                warn_seldom!(noted, parent: span, mailbox = ?inbox, "more than its window came for a mailbox; the session ends");
                self.session.core.events.end(self.session.id, EndReason::ProtocolError);
                Disposition::NoProcess
            }
        }
    }

    /// What goes to the host: a large message, or a small one that the host defers, counts as delivered when the host says so.
    fn hand_over(
        &self,
        (seq, class): (Seq, Class),
        body: Bytes,
        arriving: impl for<'b> FnOnce(&'b [u8]) -> Arriving<'b>,
        inbound: impl FnOnce(Bytes, Origin, Receipt) -> Inbound,
    ) -> Disposition {
        let origin = Origin(self.peer.clone());
        let defers = |hosting: &Hosting| hosting.host.defers(&origin, &arriving(&body));
        let deferred = || (Receipt::of_delivery(self.peer.clone(), seq, class), Disposition::Deferred);
        let (body, (receipt, disposition)) = if class == Class::Bulk {
            (body, deferred())
        } else if self.session.core.hosting.as_deref().is_some_and(defers) {
            // It may wait for long, and is not to keep what it has come with.
            (Bytes::copy_from_slice(&body), deferred())
        } else {
            (body, (Receipt::none(), Disposition::Consumed))
        };
        self.session.arrivals.push(inbound(body, origin, receipt));
        disposition
    }

    /// A call or a monitor has ended.
    fn ended(&mut self, delivery: Delivery, reference: RefId, how: fn(Bytes) -> End) -> Disposition {
        let which = (delivery.seq, delivery.credit.class);
        let core = &self.session.core;
        match core.watches.watching.end(reference, how(delivery.body), self.session.number()) {
            Some(ending) if core.hosting.is_some() => {
                let (end, over) = ending.for_host();
                self.over.extend(over);
                self.hand_over(
                    which,
                    end.body(),
                    |body| Arriving::Ended(reference, body),
                    |_, origin, receipt| Inbound::Ended { reference, end, origin: Some(origin), receipt },
                )
            }
            ending => {
                self.endings.extend(ending);
                Disposition::Delivered
            }
        }
    }
}

impl Sink for Deliver<'_> {
    fn copies(&self, kind: Kind) -> bool {
        self.session.core.hosting.is_some() && matches!(kind, Kind::Data | Kind::Request(_))
    }

    fn deliver_all(&mut self, deliveries: &mut Deliveries<'_>) -> Option<Disposition> {
        let hosted = self.session.core.hosting.is_some();
        if self.judge.is_none() && hosted && deliveries.kind == Kind::Carried {
            return Some(self.session.take_carried(&self.peer, deliveries));
        }
        if deliveries.kind != Kind::Data || hosted || self.judge.is_some() {
            return None; // one by one
        }
        let Some((to, Taker::Inbox(inbox))) = self.taker(deliveries.to) else {
            return Some(Disposition::NoProcess);
        };
        let end = inbox.put_all_remote(deliveries, &self.peer).map(|put| self.was_put(&inbox, put));
        if end != Some(Disposition::NoProcess) {
            self.last = Some((to, Taker::Inbox(inbox))); // else its name may belong to another one by now
        }
        end
    }

    fn deliver(&mut self, delivery: Delivery) -> Disposition {
        if self.judge.is_some()
            && let Some(end) = self.refuse(&delivery)
        {
            return end;
        }
        let which = (delivery.seq, delivery.credit.class);
        match delivery.kind {
            Kind::Data => {
                let Some((to, taker)) = self.taker(&delivery.to) else { return Disposition::NoProcess };
                let end = match &taker {
                    Taker::Inbox(inbox) => self.put(inbox, delivery),
                    Taker::Hosted(process) => {
                        let (to, acknowledge) = (*process, delivery.acknowledge);
                        self.hand_over(
                            which,
                            delivery.body,
                            |body| match acknowledge {
                                true => Arriving::Acknowledged(to, body),
                                false => Arriving::Message(to, body),
                            },
                            |body, origin, receipt| Inbound::Message { to, body, origin, receipt },
                        )
                    }
                };
                if end != Disposition::NoProcess {
                    self.last = Some((to, taker)); // else its name may belong to another one by now
                }
                end
            }
            Kind::Request(reference)
                if self.session.core.hosting.is_none() && is_compressed(&delivery.body) =>
            {
                self.refused.push(Refused::new(
                    delivery.from,
                    reference,
                    WatchRefused::Compressed,
                    &delivery.to,
                ));
                Disposition::Consumed
            }
            // If the process ends before it has the message, it tells its watchers.
            Kind::Request(reference) => {
                match self.watch(Purpose::Call, reference, delivery.from, &delivery.to) {
                    Some(Begun::Inbox(inbox)) => self.put(&inbox, delivery),
                    Some(Begun::Hosted(to, watch)) => self.hand_over(
                        which,
                        delivery.body,
                        |body| Arriving::Request(to, body),
                        |body, origin, receipt| Inbound::Request { to, body, watch, origin, receipt },
                    ),
                    None => Disposition::NoProcess,
                }
            }
            Kind::Monitor(reference) => {
                match self.watch(Purpose::Monitor, reference, delivery.from, &delivery.to) {
                    Some(Begun::Hosted(process, watch)) => self.hand_over(
                        which,
                        Bytes::new(),
                        |_| Arriving::Monitor(process),
                        |_, _, receipt| Inbound::Monitor { watch, receipt },
                    ),
                    Some(Begun::Inbox(_)) | None => Disposition::Delivered,
                }
            }
            Kind::Demonitor(reference) => {
                if let Some(Subject::Hosted(process, watch)) = Via::There(self.peer.clone()).end(reference) {
                    self.session.arrivals.push(Inbound::Unwatched { process, watch });
                }
                Disposition::Delivered
            }
            Kind::Reply(reference) => self.ended(delivery, reference, End::Reply),
            Kind::Reject(reference) => self.ended(delivery, reference, End::Rejected),
            Kind::Down(reference) => self.ended(delivery, reference, End::Down),
            Kind::Carried => self.session.take_one_carried(&self.peer, delivery),
            // The session's own.
            Kind::Outcome => Disposition::Delivered,
        }
    }
}

/// Whether a document of the external term format is compressed.
fn is_compressed(document: &[u8]) -> bool {
    matches!(document, [131, 80, ..])
}
