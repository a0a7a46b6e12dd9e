//! Reads the peer's control frames, and says this side's counts.

use super::charge::Returned;
use super::error::{Violation, allow};
use super::grants::Besides;
use super::pool::{MOST_CONNECTIONS, PoolSize};
use super::{Transfer, Urgency};
use crate::ConnectionId;
use crate::wire::control::{ControlFrame, MAX_RANGES, TransferFrame};
use crate::wire::envelope::Lane;
use crate::wire::pool::Class;
use bytes::BytesMut;
use teleport_etf::Segments;

/// The most retired connections, not known here, that the peer may wait to be answered for.
const MOST_UNKNOWN: usize = 64 * 1024;

/// The most frames that the peer may not have acknowledged on all connections when it says what is delivered: more than small
/// messages fill the largest windows with, since a writer takes all that there are.
const MOST_UNACKNOWLEDGED: usize = 64 * 1024;

/// The most frames at a time that say what has been delivered. What is left out is said the next time.
const MOST_DELIVERED: usize = 16;

impl Transfer {
    /// Takes a frame that the control connection has received.
    ///
    /// # Errors
    ///
    /// [`Violation`] if the frame contradicts what was sent: the session has to end.
    pub fn control(&mut self, frame: TransferFrame) -> Result<(), Violation> {
        match frame {
            TransferFrame::Received { connection, frames } => self.peer_received(connection, frames)?,
            TransferFrame::Delivered { watermark, above } => {
                let runs = || [(1, watermark)].into_iter().chain(above.iter().copied());
                runs().try_for_each(|(first, last)| self.outbox.check_delivered(first, last))?;
                let mut returned = Returned::default();
                runs().for_each(|(first, last)| self.outbox.delivered(first, last, &mut returned));
                self.outbox.settle(&mut returned);
                self.admission.delivered(returned.credit);
                self.answers.delivered(returned.exempt);
                self.incoming.answers_taken();
                self.incoming.rejects_requests = self.answers.is_full();
                self.admission.set_reach(self.outbox.reach());
                self.admission.pump(&mut self.admitted);
                [Class::Express, Class::Bulk].into_iter().for_each(|class| self.serve(class)); // what had to wait
                // A peer that has delivered a message has received its frame, and has to say so.
                let logged = self.connections.iter().map(|connection| connection.log.len()).sum();
                allow("frames without acknowledgement", logged, MOST_UNACKNOWLEDGED)?;
            }
            TransferFrame::Consumed { account, express, bulk } => {
                if !self.admission.consumed(account, express, bulk, &mut self.admitted) {
                    return Err(Violation::Consumed { account });
                }
            }
            TransferFrame::AccountClosed { account } => {
                self.consumed.remove(&account);
                self.say_consumed.remove(&account);
                self.look_at_left();
            }
            TransferFrame::Retired { connection, frames } => self.peer_retired(connection, frames)?,
            TransferFrame::RetireNoted { connection } => {
                if let Some(connection) = self.connection_mut(connection) {
                    (connection.noted, connection.say_retired) = (true, false);
                }
            }
            TransferFrame::RetireUnknown { connection } => {
                if self.connection(connection).is_some_and(|known| known.peer_final.is_none()) {
                    self.peer_final(connection, 0)?;
                }
                if let Some(known) = self.connection_mut(connection) {
                    (known.noted, known.say_retired) = (true, false);
                }
            }
            TransferFrame::Granted { lane, express, bulk } => {
                self.outbox.allowance(lane).granted(express, bulk);
                for class in [Class::Express, Class::Bulk] {
                    self.outbox.admit(lane, class);
                    self.serve(class);
                }
                self.admission.set_reach(self.outbox.reach());
                self.admission.pump(&mut self.admitted);
            }
            TransferFrame::Needed { lane, express, bulk } => {
                self.incoming.grants(lane).heard(express, bulk)?
            }
            TransferFrame::Wanted { express, bulk } => {
                let (most_express, most_bulk) = (self.config.express_connections, self.config.most_bulk());
                self.peer_target = PoolSize { express: express.min(most_express), bulk: bulk.min(most_bulk) };
            }
        }
        self.accept_admitted();
        self.forget_done();
        Ok(())
    }

    /// The large bodies that nobody needs any more, since they were delivered, refused or taken back, for the caller to drop where
    /// that holds nobody up: giving megabytes back takes a while. They are kept until then.
    pub fn take_spent(&mut self) -> Vec<Segments> {
        self.outbox.take_spent()
    }

    /// Whether the control connection has something to say, and how soon.
    pub fn control_due(&self) -> Option<Urgency> {
        let needs = self.outbox.needs_due();
        let consumed_much =
            self.config.own_mailbox_window.is_some_and(|window| self.consumed_since_said.is_much_of(window));
        if self.urgent || self.say_wanted || needs || self.incoming.grants_due() || consumed_much {
            return Some(Urgency::Now);
        }
        let soon = self.say_delivered
            || !self.say_consumed.is_empty()
            || self.admission.has_closed()
            || self.connections.iter().any(|c| c.say_received);
        soon.then_some(Urgency::Soon)
    }

    /// Appends everything that the control connection has to say to `out`.
    pub fn take_control(&mut self, out: &mut BytesMut) {
        let left = self.left_behind();
        let mut say = |frame| ControlFrame::Transfer(frame).encode(out);
        for connection in &mut self.connections {
            if std::mem::take(&mut connection.say_received) && connection.live {
                let frames = connection.received;
                #[cfg(feature = "planted-faults")]
                let frames = frames + u64::from(self.faults.acknowledge_one_more);
                say(TransferFrame::Received { connection: connection.id, frames });
            }
            if std::mem::take(&mut connection.say_retired) {
                say(TransferFrame::Retired { connection: connection.id, frames: connection.received });
            }
        }
        for connection in self.say_noted.drain() {
            say(TransferFrame::RetireNoted { connection });
        }
        for connection in std::mem::take(&mut self.say_unknown) {
            say(TransferFrame::RetireUnknown { connection });
        }
        if std::mem::take(&mut self.say_delivered) {
            for _ in 0..MOST_DELIVERED {
                let (watermark, above, more) = self.incoming.take_unsaid(MAX_RANGES);
                say(TransferFrame::Delivered { watermark, above });
                self.say_delivered = more;
                if !more {
                    break;
                }
            }
        }
        for account in std::mem::take(&mut self.say_consumed) {
            let (express, bulk) = self.consumed.get(&account).copied().unwrap_or_default();
            say(TransferFrame::Consumed { account, express, bulk });
        }
        for account in self.admission.take_closed() {
            say(TransferFrame::AccountClosed { account });
        }
        self.left = left;
        let besides = Besides { untaken: self.outbox.answers(), left };
        self.incoming.renew_grants(besides).for_each(&mut say);
        for lane in [Lane::Ordinary, Lane::Exempt] {
            self.outbox.allowance(lane).take_unsaid().into_iter().for_each(&mut say);
        }
        if std::mem::take(&mut self.say_wanted) {
            let PoolSize { express, bulk } = self.target;
            say(TransferFrame::Wanted { express, bulk });
        }
        self.urgent = false;
        self.consumed_since_said = Default::default();
        debug_assert_ne!(self.control_due(), Some(Urgency::Now), "it would be said again and again");
    }

    /// There is room again for what the peer needed.
    pub fn grants_freed(&mut self) {
        #[cfg(feature = "planted-faults")]
        if self.faults.forget_needs {
            return;
        }
        [Lane::Ordinary, Lane::Exempt].into_iter().for_each(|lane| self.incoming.grants(lane).freed());
    }

    /// Gives up what the peer has granted and was of no use since the last time. `true` if there will be more to give up, even
    /// if nothing is sent any more.
    pub fn rest(&mut self) -> bool {
        let more =
            [Lane::Ordinary, Lane::Exempt].map(|lane| self.outbox.allowance(lane).rest()).contains(&true);
        self.admission.set_reach(self.outbox.reach());
        self.out_of_step = self.out_of_step.saturating_sub(1);
        more
    }

    /// The control connection is up (again): everything has to be repeated that the peer may not have heard.
    pub fn control_up(&mut self) {
        #[cfg(feature = "planted-faults")]
        if self.faults.resume_silently {
            return;
        }
        for connection in &mut self.connections {
            connection.say_received = connection.live && connection.received > 0;
            connection.say_retired = connection.reader_stopped && !connection.noted;
        }
        self.say_delivered = true;
        self.incoming.say_all_again();
        self.say_consumed = self.consumed.keys().copied().collect();
        for lane in [Lane::Ordinary, Lane::Exempt] {
            self.incoming.grants(lane).say_again();
            self.outbox.allowance(lane).say_again();
        }
        self.say_wanted = !self.config.dialler;
        self.urgent = true;
    }

    pub(super) fn peer_received(&mut self, id: ConnectionId, frames: u64) -> Result<(), Violation> {
        let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) else { return Ok(()) };
        let Some(records) = connection.acknowledge(frames) else {
            return Err(Violation::NeverSent { what: "frame", number: frames });
        };
        records.for_each(|record| self.outbox.received(record));
        Ok(())
    }

    pub(super) fn peer_retired(&mut self, id: ConnectionId, frames: u64) -> Result<(), Violation> {
        self.urgent = true;
        let Some(connection) = self.connection(id) else {
            // Never used on this side, or long done with. If it is being opened, it must not come up any more.
            if self.config.dialler {
                self.joining.remove(&id);
            } else {
                self.known_connections.insert(id);
                self.known_connections.close_gaps(MOST_CONNECTIONS);
            }
            self.say_unknown.insert(id);
            return allow("connections that never were", self.say_unknown.len(), MOST_UNKNOWN);
        };
        if connection.peer_final.is_none() {
            self.peer_final(id, frames)?;
        }
        self.say_noted.insert(id);
        Ok(())
    }

    /// The peer has said what it got of a connection: the rest goes out again.
    pub(super) fn peer_final(&mut self, id: ConnectionId, frames: u64) -> Result<(), Violation> {
        if self.connection(id).is_some_and(|connection| frames < connection.acknowledged) {
            return Err(Violation::NeverSent { what: "final frame count", number: frames });
        }
        self.peer_received(id, frames)?;
        self.retire(id);
        if let Some(connection) = self.connection_mut(id) {
            connection.peer_final = Some(frames);
        }
        self.requeue(id);
        Ok(())
    }
}
