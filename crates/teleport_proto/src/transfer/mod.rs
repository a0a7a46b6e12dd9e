//! The messages of one session: accepted, framed, resent, put in order, delivered.
//!
//! [`Transfer`] is one side of it, a pure state machine. The engine owns sockets and time; it calls in when something
//! happened and does what [`Transfer::poll_action`] then tells it to. Three properties hold by construction:
//!
//! * **Once.** A frame is queued again only after the peer has said, with its reader stopped for good, that it did not
//!   get it. So nothing is ever received twice, and a large message's buffer never has two writers.
//! * **In order.** A message names the one before it of the same pair unless that one is sure to be delivered first;
//!   the receiver holds it until then.
//! * **Bounded.** Credit is taken for a whole message when it is accepted, so whatever arrives has room.
//!
//! Nothing that the control connection carries is a queue: it is made from the state when there is room to write it, and
//! every count is absolute. A control connection that was replaced just says all of it again.

mod assembly;
mod connection;
mod credit;
mod incoming;
mod numbers;
mod outgoing;
mod window;

pub use assembly::{Buffers, PlainBuffers, Region};
pub use outgoing::Frame;
pub use window::{Budget, MESSAGE_COST, Unlimited, Window};

use crate::ConnectionId;
use crate::wire::WireError;
use crate::wire::control::{ControlFrame, MAX_RANGES, TransferFrame};
use crate::wire::envelope::{AccountId, Destination, Kind, MAX_NAME_LEN, ProcessId, Seq};
use crate::wire::pool::{Class, FragmentHeader};
use bytes::{Bytes, BytesMut};
use connection::Connection;
use credit::{Admission, Admitted, Offer};
use incoming::{Answer, Inbox};
use numbers::NumberSet;
use outgoing::{Confirmed, Outbox};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;
use std::sync::Arc;
use teleport_etf::Segments;

/// Names a message that waits for credit.
pub type Ticket = u64;

/// Names an acknowledged send; chosen by the engine.
pub type AckToken = u64;

/// Who sends to whom: the unit of order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Pair {
    pub(crate) from: ProcessId,
    pub(crate) to: Destination,
}

/// A message on offer.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The sending process.
    pub from: ProcessId,
    /// Where it goes.
    pub to: Destination,
    /// The encoded term.
    pub body: Segments,
    /// Neither wait for earlier messages of the pair nor be waited for by later ones.
    pub unordered: bool,
    /// Refuse rather than wait for credit.
    pub nosuspend: bool,
    /// Report what became of it.
    pub acknowledge: Option<AckToken>,
    /// Never wait for credit. For replies, DOWN and errors, which somebody else's progress depends on.
    pub exempt: bool,
    kind: Kind,
}

impl Outgoing {
    /// An ordinary message: ordered, willing to wait, without acknowledgement.
    pub fn new(from: ProcessId, to: Destination, body: Segments) -> Self {
        let (unordered, nosuspend, acknowledge, exempt) = (false, false, None, false);
        Self { from, to, body, unordered, nosuspend, acknowledge, exempt, kind: Kind::Data }
    }

    fn body_len(&self) -> u64 {
        self.body.len() as u64
    }

    fn pair(&self) -> Pair {
        Pair { from: self.from, to: self.to.clone() }
    }
}

/// What became of an offered message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The session answers for it now.
    Accepted,
    /// It waits for credit; [`Action::Granted`] or the session's end will say more.
    Waiting(Ticket),
}

/// A message that was not taken. Nothing of it is left behind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Larger than both sides agreed to in the handshake.
    #[error(
        "the message has {size} bytes, the peer takes {limit} at most; send it in parts or raise max_message on both nodes"
    )]
    TooLarge {
        /// Bytes of the encoded message.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// It would have had to wait, and was not allowed to.
    #[error("the destination's or the peer's window is full; try again later or send without nosuspend")]
    Busy,
    /// A registered name that no node can have.
    #[error("the registered name has {0} bytes, {MAX_NAME_LEN} are allowed")]
    NameTooLong(usize),
}

/// What the engine has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// There is something for that connection's writer: it calls [`Transfer::next_frame`].
    Wake(ConnectionId),
    /// That connection is retired: close it, and call [`Transfer::reader_stopped`] once its reader has ended.
    Close(ConnectionId),
    /// A message that has been waiting is accepted.
    Granted(Ticket),
    /// What became of an acknowledged send.
    Outcome(AckToken, Outcome),
}

/// What became of an acknowledged send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the mailbox.
    Delivered,
    /// There was no such process.
    NoProcess,
}

/// How soon [`Transfer::take_control`] should be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Within some milliseconds: so that one control frame speaks for many messages.
    Soon,
    /// The peer is waiting for it.
    Now,
}

/// A received message on its way into a mailbox.
#[derive(Debug)]
pub struct Delivery {
    /// Its number, for [`Transfer::finish_delivery`].
    pub seq: Seq,
    /// The sending process on the peer.
    pub from: ProcessId,
    /// The process or name it is for.
    pub to: Destination,
    /// The encoded term.
    pub body: Bytes,
    /// To be given back by [`Transfer::consumed`] when the message leaves its mailbox.
    pub credit: Credit,
}

/// What a message holds of its destination mailbox's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    /// The account it belongs to, 0 for none.
    pub account: AccountId,
    /// The part of the window.
    pub class: Class,
    /// How much.
    pub bytes: u64,
}

/// What a [`Sink`] did with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It is in the mailbox.
    Delivered,
    /// There is no such process. The session returns the message's credit itself.
    NoProcess,
    /// [`Transfer::finish_delivery`] will tell. Allowed for bulk messages only: small ones count as delivered, for the
    /// order of their pair, when their batch has been received.
    Deferred,
}

/// Where received messages go.
pub trait Sink {
    /// Hands a message to its mailbox. Called in the order of each pair.
    fn deliver(&mut self, delivery: Delivery) -> Disposition;
}

/// Why received bytes could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// The connection is out of step. It has been retired; the session goes on.
    #[error(transparent)]
    Connection(WireError),
    /// The peer broke a promise of the session, which has to end.
    #[error(transparent)]
    Session(#[from] Violation),
}

/// A promise that the peer broke. The session ends, since nothing that it says can be relied on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A message or fragment that was there already.
    #[error("the peer sent message {seq} or a part of it twice; the session ends")]
    Duplicate {
        /// The message's number.
        seq: Seq,
    },
    /// More than the window allows.
    #[error("the peer sent {bytes} bytes more than its credit (undelivered: {used}); the session ends")]
    Credit {
        /// Bytes in the window.
        used: u64,
        /// Bytes that came on top.
        bytes: u64,
    },
    /// Larger than agreed.
    #[error("the peer sent a message of {size} bytes, agreed were {limit} at most; the session ends")]
    TooLarge {
        /// Bytes of the message.
        size: u64,
        /// Bytes agreed.
        limit: u64,
    },
    /// Too many messages in parts, or one in too many parts.
    #[error(
        "the peer has {messages} messages in parts and began one of {fragments} fragments; the session ends"
    )]
    TooManyPartial {
        /// Partial messages.
        messages: usize,
        /// Fragments of the next.
        fragments: u64,
    },
    /// Fragments of one message that contradict each other.
    #[error("fragments of message {seq} contradict each other; the session ends")]
    Inconsistent {
        /// The message's number.
        seq: Seq,
    },
    /// An acknowledgement of something that was never sent.
    #[error("the peer acknowledged {what} {number}, which was never sent; the session ends")]
    NeverSent {
        /// What.
        what: &'static str,
        /// Its number.
        number: u64,
    },
    /// A mailbox's credit that was never taken came back.
    #[error("the peer reported more bytes consumed on account {account} than it was sent; the session ends")]
    Consumed {
        /// The account.
        account: AccountId,
    },
    /// An answer from the session's own machinery that does not parse.
    #[error("the peer sent an outcome that does not parse; the session ends")]
    Outcome,
}

/// Faults planted on purpose, to show that the tests would find them.
#[cfg(feature = "planted-faults")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// A lost connection's frames are queued again at once, not when the peer has answered.
    pub requeue_early: bool,
    /// Received counts are said one too high.
    pub acknowledge_one_more: bool,
    /// Messages do not wait for their predecessor.
    pub ignore_predecessor: bool,
    /// What a retirement requeues never gives its credit back.
    pub lose_credit: bool,
    /// A resumed control connection repeats nothing.
    pub resume_silently: bool,
    /// The acceptor takes a connection that it has given up already.
    pub readmit_connections: bool,
    /// A pool keeps the size that it once had.
    pub reopen_idle: bool,
    /// The final count is said while the reader is still running.
    pub count_before_stopped: bool,
}

/// What both sides agreed on, and how this side sets itself up.
#[derive(Debug, Clone)]
pub struct TransferConfig {
    /// This side opens the session's connections.
    pub dialler: bool,
    /// The largest message either way, in bytes.
    pub max_message: u64,
    /// How much of the peer's memory this side may fill, in bytes.
    pub send_window: u64,
    /// How much of this side's memory the peer may fill, in bytes.
    pub receive_window: u64,
    /// The window of each of the peer's mailboxes, in bytes; `None` if they are unbounded.
    pub mailbox_window: Option<u64>,
    /// Bytes of a fragment.
    pub fragment_size: u32,
    /// The most express connections.
    pub express_connections: u32,
    /// The most bulk connections.
    pub bulk_connections: u32,
}

/// Counters and gauges of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransferStats {
    /// Live express connections.
    pub express_connections: usize,
    /// Live bulk connections.
    pub bulk_connections: usize,
    /// Connections that are being retired.
    pub retiring_connections: usize,
    /// Express messages waiting for a connection.
    pub queued_express: usize,
    /// Bulk messages with fragments waiting for a connection.
    pub queued_bulk: usize,
    /// Sends that wait for credit.
    pub waiting: usize,
    /// Messages accepted and not known to be delivered.
    pub unconfirmed: u64,
    /// Their bytes, [`MESSAGE_COST`] each included.
    pub unconfirmed_bytes: u64,
    /// Bytes received, or being received, and not yet delivered.
    pub undelivered_bytes: u64,
    /// Messages accepted since the session began.
    pub messages_sent: u64,
    /// Messages received whole since the session began.
    pub messages_received: u64,
    /// Of those, the ones for which there was no process.
    pub no_process: u64,
    /// Frames queued again because their connection was lost.
    pub frames_resent: u64,
    /// Connections retired.
    pub connections_retired: u64,
    /// Remembered things that go when nothing is in flight: messages, pairs, holds, accounts, partial messages.
    pub entries: usize,
}

/// What was open when a session ended.
#[derive(Debug, Default)]
pub struct Ending {
    /// Messages accepted and not known to be delivered.
    pub unconfirmed: u64,
    /// Sends that were still waiting; none of them was accepted.
    pub waiting: Vec<Ticket>,
    /// Acknowledged sends that will get no outcome.
    pub acknowledgements: Vec<AckToken>,
}

/// A size for each class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct PoolSize {
    express: u32,
    bulk: u32,
}

impl PoolSize {
    fn of(&mut self, class: Class) -> &mut u32 {
        match class {
            Class::Express => &mut self.express,
            Class::Bulk => &mut self.bulk,
        }
    }
}

/// One side of a session's messages. See the [module](self).
pub struct Transfer {
    config: TransferConfig,
    admission: Admission,
    outbox: Outbox,
    inbox: Inbox,
    connections: Vec<Connection>,
    /// Being opened by this side, the dialler.
    joining: FxHashMap<ConnectionId, Class>,
    last_connection: ConnectionId,
    /// The connections that this side, the acceptor, has had or has given up: none of them comes up (again).
    known_connections: NumberSet,
    /// The pool that this side has use for, and the one that the peer asked for.
    target: PoolSize,
    peer_target: PoolSize,
    /// What the peer has consumed is counted per account, in bytes: express and bulk.
    consumed: FxHashMap<AccountId, (u64, u64)>,
    actions: VecDeque<Action>,
    // What the control connection has to say.
    say_delivered: bool,
    say_consumed: FxHashSet<AccountId>,
    say_noted: FxHashSet<ConnectionId>,
    say_unknown: FxHashSet<ConnectionId>,
    say_wanted: bool,
    urgent: bool,
    delivered_since_said: u64,
    frames_resent: u64,
    connections_retired: u64,
    messages_sent: u64,
    admitted: Vec<Admitted>,
    confirmed: Vec<Confirmed>,
    #[cfg(feature = "planted-faults")]
    faults: Faults,
}

impl Transfer {
    /// The machine for a session that has just been agreed on.
    pub fn new(
        config: TransferConfig,
        budget: Arc<dyn Budget>,
        buffers: Arc<dyn Buffers + Send + Sync>,
    ) -> Self {
        Self {
            admission: Admission::new(config.send_window, config.mailbox_window, budget),
            outbox: Outbox::new(config.fragment_size),
            inbox: Inbox::new(buffers, config.max_message, config.receive_window),
            config,
            connections: Vec::new(),
            joining: FxHashMap::default(),
            last_connection: 0,
            known_connections: NumberSet::default(),
            target: PoolSize::default(),
            peer_target: PoolSize::default(),
            consumed: FxHashMap::default(),
            actions: VecDeque::new(),
            say_delivered: false,
            say_consumed: FxHashSet::default(),
            say_noted: FxHashSet::default(),
            say_unknown: FxHashSet::default(),
            say_wanted: false,
            urgent: false,
            delivered_since_said: 0,
            frames_resent: 0,
            connections_retired: 0,
            messages_sent: 0,
            admitted: Vec::new(),
            confirmed: Vec::new(),
            #[cfg(feature = "planted-faults")]
            faults: Faults::default(),
        }
    }

    /// Plants faults.
    #[cfg(feature = "planted-faults")]
    pub fn plant(&mut self, faults: Faults) {
        self.faults = faults;
        self.inbox.faults = faults;
    }

    // ---- Sending -----------------------------------------------------------------------------------------------

    /// Offers a message.
    pub fn send(&mut self, message: Outgoing) -> Result<Sent, Refused> {
        let (size, limit) = (message.body_len(), self.config.max_message);
        if size > limit {
            return Err(Refused::TooLarge { size, limit });
        }
        if let Destination::Name(name) = &message.to
            && name.len() > MAX_NAME_LEN
        {
            return Err(Refused::NameTooLong(name.len()));
        }
        match self.admission.offer(message) {
            Offer::Admitted(admitted) => {
                self.accept(admitted);
                Ok(Sent::Accepted)
            }
            Offer::Waiting(ticket) => Ok(Sent::Waiting(ticket)),
            Offer::Busy => Err(Refused::Busy),
        }
    }

    /// Takes back a message that is still waiting; `false` if it has been accepted.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        let cancelled = self.admission.cancel(ticket, &mut self.admitted);
        self.accept_admitted();
        cancelled
    }

    /// Bytes have come back to the node's budget.
    pub fn budget_freed(&mut self) {
        self.admission.pump(&mut self.admitted);
        self.accept_admitted();
    }

    /// Asks for the whole pool ahead of use.
    pub fn prime(&mut self) {
        let (express, bulk) = (self.config.express_connections, self.config.bulk_connections);
        self.raise_target(Class::Express, express);
        self.raise_target(Class::Bulk, bulk);
    }

    /// Whether the pool is as large as both sides have asked for.
    pub fn is_primed(&self) -> bool {
        let enough = |class, own: u32, peer: u32| self.live(class) >= own.max(peer) as usize;
        enough(Class::Express, self.target.express, self.peer_target.express)
            && enough(Class::Bulk, self.target.bulk, self.peer_target.bulk)
    }

    // ---- Pool --------------------------------------------------------------------------------------------------

    /// The next connection that this side should open, if it is the dialler and one is missing.
    ///
    /// The caller answers with [`Transfer::connection_up`] or [`Transfer::join_failed`].
    pub fn next_join(&mut self) -> Option<(ConnectionId, Class)> {
        if !self.config.dialler {
            return None;
        }
        let class = [Class::Express, Class::Bulk].into_iter().find(|&class| {
            let joining = self.joining.values().filter(|&&c| c == class).count();
            let wanted = (*self.target.of(class)).max(*self.peer_target.of(class));
            self.live(class) + joining < wanted as usize
        })?;
        self.last_connection += 1;
        self.joining.insert(self.last_connection, class);
        Some((self.last_connection, class))
    }

    /// A connection could not be opened.
    pub fn join_failed(&mut self, id: ConnectionId) {
        self.joining.remove(&id);
    }

    /// A connection has proved itself, on this side. `false` if it must not be used: the peer has given it up already,
    /// or its id has been used.
    pub fn connection_up(&mut self, id: ConnectionId, class: Class) -> bool {
        let welcome = if self.config.dialler {
            self.joining.remove(&id) == Some(class)
        } else {
            let new = self.known_connections.insert(id);
            #[cfg(feature = "planted-faults")]
            let new = new || (self.faults.readmit_connections && self.connection(id).is_none());
            new
        };
        if welcome {
            self.connections.push(Connection::new(id, class));
        }
        welcome
    }

    /// A connection has died, stalled or is to be closed.
    pub fn retire(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.iter_mut().find(|c| c.id == id && c.live) else { return };
        connection.live = false;
        let class = connection.class;
        #[cfg(feature = "planted-faults")]
        if self.faults.count_before_stopped {
            (connection.say_retired, self.urgent) = (true, true);
        }
        self.connections_retired += 1;
        self.actions.push_back(Action::Close(id));
        let shrink = class == Class::Bulk && !self.outbox.has_work(class);
        #[cfg(feature = "planted-faults")]
        let shrink = shrink && !self.faults.reopen_idle;
        if shrink {
            // It comes back on use; otherwise what one side closes as idle the other would open again.
            self.target.bulk = self.target.bulk.min(self.live(class) as u32);
        }
        #[cfg(feature = "planted-faults")]
        if self.faults.requeue_early {
            self.requeue(id);
        }
        // It may have been woken for something.
        self.serve(class);
        // Who cannot open a connection himself repeats what he needs.
        self.say_wanted |= !self.config.dialler;
    }

    /// The reader of a retired connection has stopped for good; it gives back the region it was filling.
    pub fn reader_stopped(&mut self, id: ConnectionId, region: Option<Region>) {
        self.retire(id);
        if let Some(region) = region {
            self.inbox.give_back(region);
        }
        if let Some(connection) = self.connection_mut(id) {
            connection.reader_stopped = true;
            connection.say_retired = true;
            self.urgent = true;
        }
        self.forget_done();
    }

    /// Closes bulk connections over which nothing has gone since the last sweep. Returns whether there are any left
    /// to sweep.
    pub fn sweep_idle(&mut self) -> bool {
        let mut idle = Vec::new();
        for connection in self.connections.iter_mut().filter(|c| c.live && c.class == Class::Bulk) {
            let frames = connection.sent + connection.received;
            if frames == connection.frames_at_sweep && connection.log.is_empty() {
                idle.push(connection.id);
            }
            connection.frames_at_sweep = frames;
        }
        if !idle.is_empty() {
            (self.target.bulk, self.peer_target.bulk) = (0, 0);
        }
        idle.into_iter().for_each(|id| self.retire(id));
        self.live(Class::Bulk) > 0
    }

    /// The next frame to write on a connection; `None` puts its writer to sleep until [`Action::Wake`].
    pub fn next_frame(&mut self, id: ConnectionId) -> Option<Frame> {
        let connection = self.connections.iter_mut().find(|c| c.id == id && c.live)?;
        let Some((frame, record)) = self.outbox.next_frame(id, connection.class) else {
            connection.idle = true;
            return None;
        };
        connection.idle = false;
        connection.sent += 1;
        connection.log.push_back(record);
        if connection.class == Class::Bulk {
            self.serve(Class::Bulk);
        }
        Some(frame)
    }

    // ---- Receiving ---------------------------------------------------------------------------------------------

    /// Takes a whole batch frame that an express connection has received.
    pub fn receive_batch(
        &mut self,
        id: ConnectionId,
        frame: Bytes,
        sink: &mut dyn Sink,
    ) -> Result<(), ReceiveError> {
        if !self.is_live(id) {
            return Ok(());
        }
        let result = self.inbox.batch(frame, sink);
        self.after_receiving(id, result)
    }

    /// Lends the place for a fragment's data; `None` if the connection has been retired, and its reader has to stop.
    ///
    /// `head` is what stands between the header and the data.
    pub fn begin_fragment(
        &mut self,
        id: ConnectionId,
        header: &FragmentHeader,
        head: &[u8],
    ) -> Result<Option<Region>, ReceiveError> {
        if !self.is_live(id) {
            return Ok(None);
        }
        match self.inbox.begin_fragment(header, head) {
            Ok(region) => Ok(Some(region)),
            Err(error) => {
                self.retire(id);
                Err(error)
            }
        }
    }

    /// Takes back the place for a fragment's data, filled.
    pub fn end_fragment(
        &mut self,
        id: ConnectionId,
        mut region: Region,
        sink: &mut dyn Sink,
    ) -> Result<(), ReceiveError> {
        if !self.is_live(id) {
            // The count has been frozen: the fragment will come again.
            region.bytes_mut().clear();
            self.inbox.give_back(region);
            return Ok(());
        }
        let result = self.inbox.end_fragment(region, sink);
        self.after_receiving(id, result)
    }

    /// A deferred delivery has ended, as delivered or without a taker.
    pub fn finish_delivery(
        &mut self,
        seq: Seq,
        end: Disposition,
        sink: &mut dyn Sink,
    ) -> Result<(), ReceiveError> {
        let result = self.inbox.finish(seq, end, sink);
        self.after_delivering()?;
        result
    }

    /// A message has left its mailbox.
    pub fn consumed(&mut self, credit: Credit) {
        if credit.account == 0 {
            return;
        }
        let (express, bulk) = self.consumed.entry(credit.account).or_default();
        *match credit.class {
            Class::Express => express,
            Class::Bulk => bulk,
        } += credit.bytes;
        self.say_consumed.insert(credit.account);
    }

    // ---- Control -----------------------------------------------------------------------------------------------

    /// Takes a frame that the control connection has received.
    pub fn control(&mut self, frame: TransferFrame) -> Result<(), Violation> {
        match frame {
            TransferFrame::Received { connection, frames } => self.peer_received(connection, frames)?,
            TransferFrame::Delivered { watermark, above } => {
                let runs = [(1, watermark)].into_iter().chain(above).filter(|(first, last)| first <= last);
                for (first, last) in runs {
                    if !self.outbox.delivered(first, last, &mut self.confirmed) {
                        return Err(Violation::NeverSent { what: "message", number: last });
                    }
                }
                for Confirmed { len, exempt, .. } in self.confirmed.drain(..) {
                    if !exempt {
                        self.admission.delivered(len);
                    }
                }
                self.admission.pump(&mut self.admitted);
            }
            TransferFrame::Consumed { account, express, bulk } => {
                if !self.admission.consumed(account, express, bulk, &mut self.admitted) {
                    return Err(Violation::Consumed { account });
                }
            }
            TransferFrame::AccountClosed { account } => {
                self.consumed.remove(&account);
                self.say_consumed.remove(&account);
            }
            TransferFrame::Retired { connection, frames } => self.peer_retired(connection, frames)?,
            TransferFrame::RetireNoted { connection } => {
                if let Some(connection) = self.connection_mut(connection) {
                    (connection.noted, connection.say_retired) = (true, false);
                }
            }
            TransferFrame::RetireUnknown { connection } => {
                if let Some(known) = self.connection_mut(connection) {
                    (known.noted, known.say_retired) = (true, false);
                    if known.peer_final.is_none() {
                        self.peer_final(connection, 0)?;
                    }
                }
            }
            TransferFrame::Wanted { express, bulk } => {
                let (most_express, most_bulk) =
                    (self.config.express_connections, self.config.bulk_connections);
                self.peer_target = PoolSize { express: express.min(most_express), bulk: bulk.min(most_bulk) };
            }
        }
        self.accept_admitted();
        self.forget_done();
        Ok(())
    }

    /// Whether the control connection has something to say, and how soon.
    pub fn control_due(&self) -> Option<Urgency> {
        let much = self.config.receive_window / 8;
        if self.urgent || self.say_wanted || self.delivered_since_said >= much {
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
        for connection in self.say_unknown.drain() {
            say(TransferFrame::RetireUnknown { connection });
        }
        if std::mem::take(&mut self.say_delivered) {
            let delivered = self.inbox.delivered();
            let above = delivered.runs().take(MAX_RANGES).collect();
            say(TransferFrame::Delivered { watermark: delivered.watermark(), above });
        }
        for account in self.say_consumed.drain() {
            let (express, bulk) = self.consumed.get(&account).copied().unwrap_or_default();
            say(TransferFrame::Consumed { account, express, bulk });
        }
        for account in self.admission.take_closed() {
            say(TransferFrame::AccountClosed { account });
        }
        if std::mem::take(&mut self.say_wanted) {
            let PoolSize { express, bulk } = self.target;
            say(TransferFrame::Wanted { express, bulk });
        }
        (self.urgent, self.delivered_since_said) = (false, 0);
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
        self.say_consumed = self.consumed.keys().copied().collect();
        self.say_wanted = !self.config.dialler;
        self.urgent = true;
    }

    // ---- The rest ----------------------------------------------------------------------------------------------

    /// The next thing for the engine to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Counters and gauges.
    pub fn stats(&self) -> TransferStats {
        TransferStats {
            express_connections: self.live(Class::Express),
            bulk_connections: self.live(Class::Bulk),
            retiring_connections: self.connections.iter().filter(|c| !c.live).count(),
            queued_express: self.outbox.queued_express(),
            queued_bulk: self.outbox.queued_bulk(),
            waiting: self.admission.waiting(),
            unconfirmed: self.outbox.unconfirmed(),
            unconfirmed_bytes: self.outbox.unconfirmed_bytes(),
            undelivered_bytes: self.inbox.undelivered_bytes(),
            messages_sent: self.messages_sent,
            messages_received: self.inbox.messages,
            no_process: self.inbox.no_process,
            frames_resent: self.frames_resent,
            connections_retired: self.connections_retired,
            entries: self.outbox.entries()
                + self.inbox.entries()
                + self.admission.accounts()
                + self.consumed.len()
                + self.connections.iter().map(|c| c.log.len() + usize::from(!c.live)).sum::<usize>(),
        }
    }

    /// Bytes in the peer's window: 0 when everything accepted has been delivered.
    pub fn in_window(&self) -> u64 {
        self.admission.in_window()
    }

    /// Frames written on a connection that the peer has not confirmed, or `None` if it is not live.
    pub fn frames_in_flight(&self, id: ConnectionId) -> Option<(u64, usize)> {
        self.connection(id).filter(|c| c.live).map(|c| (c.acknowledged, c.log.len()))
    }

    /// Ends the session on this side.
    pub fn end(mut self) -> Ending {
        self.admission.abandon();
        Ending {
            unconfirmed: self.outbox.unconfirmed(),
            waiting: self.admission.take_waiting().collect(),
            acknowledgements: self.outbox.take_acknowledgements().collect(),
        }
    }

    fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.iter().find(|c| c.id == id)
    }

    fn connection_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|c| c.id == id)
    }

    fn is_live(&self, id: ConnectionId) -> bool {
        self.connection(id).is_some_and(|c| c.live)
    }

    fn live(&self, class: Class) -> usize {
        self.connections.iter().filter(|c| c.live && c.class == class).count()
    }

    fn accept(&mut self, Admitted { message, account, ticket }: Admitted) {
        self.messages_sent += u64::from(message.kind == Kind::Data);
        let (_, class) = self.outbox.accept(message, account);
        if let Some(ticket) = ticket {
            self.actions.push_back(Action::Granted(ticket));
        }
        self.serve(class);
    }

    fn accept_admitted(&mut self) {
        let mut admitted = std::mem::take(&mut self.admitted);
        admitted.drain(..).for_each(|message| self.accept(message));
        self.admitted = admitted;
    }

    /// Sees to it that what is queued in a class finds a connection.
    fn serve(&mut self, class: Class) {
        if !self.outbox.has_work(class) {
            return;
        }
        if let Some(connection) = self.connections.iter_mut().find(|c| c.live && c.idle && c.class == class) {
            connection.idle = false;
            self.actions.push_back(Action::Wake(connection.id));
            return;
        }
        let wanted = match class {
            Class::Express => 1,
            Class::Bulk => self.outbox.queued_bulk().min(self.config.bulk_connections as usize) as u32,
        };
        self.raise_target(class, wanted.max(1));
    }

    fn raise_target(&mut self, class: Class, wanted: u32) {
        let live = self.live(class) as u32;
        let target = self.target.of(class);
        let raised = *target < wanted;
        *target = wanted.max(*target);
        self.say_wanted |= !self.config.dialler && (raised || live == 0);
    }

    fn after_receiving(
        &mut self,
        id: ConnectionId,
        result: Result<(), ReceiveError>,
    ) -> Result<(), ReceiveError> {
        if result.is_err() {
            self.retire(id);
        } else if let Some(connection) = self.connection_mut(id) {
            connection.received += 1;
            connection.say_received = true;
        }
        let handled = self.after_delivering();
        result.and(handled)
    }

    fn after_delivering(&mut self) -> Result<(), ReceiveError> {
        self.say_delivered = true;
        self.delivered_since_said += std::mem::take(&mut self.inbox.delivered_bytes);
        let unclaimed = std::mem::take(&mut self.inbox.unclaimed);
        unclaimed.into_iter().for_each(|credit| self.consumed(credit));
        for Answer { seq, envelope, disposition } in std::mem::take(&mut self.inbox.answers) {
            self.answer(seq, envelope.from, disposition);
        }
        for (_, body) in std::mem::take(&mut self.inbox.system) {
            self.outcome(&body)?;
        }
        Ok(())
    }

    /// Tells the sender of an acknowledged message what became of it.
    fn answer(&mut self, seq: Seq, to: ProcessId, disposition: Disposition) {
        let mut body = BytesMut::with_capacity(9);
        body.extend_from_slice(&seq.to_be_bytes());
        body.extend_from_slice(&[u8::from(disposition == Disposition::NoProcess)]);
        let from = ProcessId { id: 0, serial: 0 };
        let mut message = Outgoing::new(from, Destination::Process(to), Segments::from(body.freeze()));
        (message.kind, message.exempt, message.unordered) = (Kind::Outcome, true, true);
        self.accept(Admitted { message, account: 0, ticket: None });
    }

    fn outcome(&mut self, body: &Bytes) -> Result<(), Violation> {
        let (seq, status) = body.split_last_chunk::<1>().ok_or(Violation::Outcome)?;
        let seq = Seq::from_be_bytes(seq.try_into().map_err(|_| Violation::Outcome)?);
        let outcome = match status {
            [0] => Outcome::Delivered,
            [1] => Outcome::NoProcess,
            _ => return Err(Violation::Outcome),
        };
        if let Some(token) = self.outbox.take_acknowledgement(seq) {
            self.actions.push_back(Action::Outcome(token, outcome));
        }
        Ok(())
    }

    fn peer_received(&mut self, id: ConnectionId, frames: u64) -> Result<(), Violation> {
        let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) else { return Ok(()) };
        let Some(records) = connection.acknowledge(frames) else {
            return Err(Violation::NeverSent { what: "frame", number: frames });
        };
        records.for_each(|record| self.outbox.received(record));
        Ok(())
    }

    fn peer_retired(&mut self, id: ConnectionId, frames: u64) -> Result<(), Violation> {
        self.urgent = true;
        let Some(connection) = self.connection(id) else {
            // Never used on this side, or long done with. If it is being opened, it must not come up any more.
            if self.config.dialler {
                self.joining.remove(&id);
            } else {
                self.known_connections.insert(id);
            }
            self.say_unknown.insert(id);
            return Ok(());
        };
        let first = connection.peer_final.is_none();
        self.retire(id);
        self.say_noted.insert(id);
        if first { self.peer_final(id, frames) } else { Ok(()) }
    }

    /// The peer has said what it got of a connection: the rest goes out again.
    fn peer_final(&mut self, id: ConnectionId, frames: u64) -> Result<(), Violation> {
        self.retire(id);
        let Some(connection) = self.connection_mut(id) else { return Ok(()) };
        connection.peer_final = Some(frames);
        if frames < connection.acknowledged {
            return Err(Violation::NeverSent { what: "final frame count", number: frames });
        }
        self.peer_received(id, frames)?;
        self.requeue(id);
        Ok(())
    }

    fn requeue(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) else { return };
        let records = std::mem::take(&mut connection.log);
        self.frames_resent += records.len() as u64;
        #[cfg(feature = "planted-faults")]
        if self.faults.lose_credit && !records.is_empty() {
            self.admission.lose(records.len() as u64);
        }
        self.outbox.requeue(records.into_iter());
        self.serve(Class::Express);
        self.serve(Class::Bulk);
    }

    fn forget_done(&mut self) {
        self.connections.retain(|c| !c.is_done());
    }
}
