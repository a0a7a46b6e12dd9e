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

mod allowance;
mod answers;
mod assembly;
mod barrier;
mod batches;
mod bodies;
mod cap;
mod charge;
mod connection;
mod control;
mod credit;
mod deferring;
mod error;
mod frame;
mod gate;
mod grants;
mod growth;
mod incoming;
mod large;
mod line;
mod message;
mod numbers;
mod outgoing;
mod pairs;
mod pool;
mod progress;
mod receive;
mod report;
mod shares;
mod tray;
mod window;

pub use assembly::{Buffers, Foreign, Piece, PlainBuffers, Region};
pub use bodies::Bodies;
pub use cap::GrantCap;
pub use error::{ReceiveError, Violation};
pub use frame::Frame;
pub use grants::{Granter, Renewal};
pub use message::{
    AckToken, Credit, Deliveries, Delivery, Disposition, Outcome, Outgoing, Posted, Refused, Sent, Sink,
    Ticket,
};
pub use progress::{Progress, Seen};
pub use report::{Ending, TransferConfig, TransferStats};
pub use shares::{FairWindow, Sharing};
pub use tray::Tray;
pub use window::{Budget, MESSAGE_COST, Unlimited, Window};

pub(crate) use message::{Pair, Wish};

use crate::ConnectionId;
#[cfg(feature = "planted-faults")]
use crate::Faults;
use crate::wire::envelope::{AccountId, Destination, Kind, Lane, MAX_NAME_LEN, ProcessId};
use crate::wire::pool::Class;
use answers::Answers;
use batches::COPY_LIMIT;
use connection::Connection;
use credit::{Admission, Admitted, Measure, Offer};
use growth::Growth;
use incoming::Incoming;
use numbers::NumberSet;
use outgoing::Outbox;
use pool::PoolSize;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tray::Trays;
use window::Totals;

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

/// How soon [`Transfer::take_control`] should be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Within some milliseconds: so that one control frame speaks for many messages.
    Soon,
    /// The peer is waiting for it.
    Now,
}

/// One side of a session's messages. See the [module](self).
pub struct Transfer {
    config: TransferConfig,
    admission: Admission,
    answers: Answers,
    outbox: Outbox,
    incoming: Incoming,
    connections: Vec<Connection>,
    /// Being opened by this side, the dialler.
    joining: FxHashMap<ConnectionId, Class>,
    /// Nothing is accepted any more.
    sealed: bool,
    last_connection: ConnectionId,
    /// The connections that this side, the acceptor, has had or has given up: none of them comes up (again).
    known_connections: NumberSet,
    /// The pool that this side has use for, and the one that the peer asked for.
    target: PoolSize,
    peer_target: PoolSize,
    growth: Growth,
    /// What the peer has consumed is counted per account, in bytes: express and bulk. The peer chooses the numbers of
    /// accounts, so they are not hashed.
    consumed: BTreeMap<AccountId, (u64, u64)>,
    actions: VecDeque<Action>,
    // What the control connection has to say.
    say_delivered: bool,
    say_consumed: BTreeSet<AccountId>,
    say_noted: FxHashSet<ConnectionId>,
    say_unknown: BTreeSet<ConnectionId>,
    say_wanted: bool,
    urgent: bool,
    consumed_since_said: Totals,
    /// What was left behind when grants were renewed last.
    left: u64,
    frames_resent: u64,
    /// Connections that got out of step.
    out_of_step: u32,
    /// The most that the peer could have under way of small messages since it last had taken all answers, in bytes.
    answerable: u64,
    connections_retired: u64,
    messages_sent: u64,
    bytes_sent: u64,
    admitted: Vec<Admitted>,
    trays: Trays,
    #[cfg(feature = "planted-faults")]
    faults: Faults,
}

impl Transfer {
    /// The machine for a session that has just been agreed on. `budget` is for what takes credit, `answers` for what does
    /// not, and `granter` for what the peer may send.
    pub fn new(
        config: TransferConfig,
        budget: Arc<dyn Budget>,
        answers: Arc<dyn Budget>,
        granter: Arc<dyn Granter>,
        buffers: Arc<dyn Buffers + Send + Sync>,
    ) -> Self {
        let outbox = Outbox::new(config.fragment_size, config.send_window);
        let mut admission = Admission::new(config.send_window, config.mailbox_window, budget);
        admission.set_reach(outbox.reach());
        Self {
            admission,
            answers: Answers::new(answers),
            outbox,
            incoming: Incoming::new(buffers, config.max_message, config.receive_window, granter),
            growth: Growth::new(config.most_bulk(), config.fragment_size),
            trays: Trays::new(&config),
            config,
            connections: Vec::new(),
            joining: FxHashMap::default(),
            sealed: false,
            last_connection: 0,
            known_connections: NumberSet::default(),
            target: PoolSize::default(),
            peer_target: PoolSize::default(),
            consumed: BTreeMap::new(),
            actions: VecDeque::new(),
            say_delivered: false,
            say_consumed: BTreeSet::new(),
            say_noted: FxHashSet::default(),
            say_unknown: BTreeSet::new(),
            say_wanted: false,
            urgent: false,
            consumed_since_said: Totals::default(),
            left: 0,
            frames_resent: 0,
            out_of_step: 0,
            answerable: 0,
            connections_retired: 0,
            messages_sent: 0,
            bytes_sent: 0,
            admitted: Vec::new(),
            #[cfg(feature = "planted-faults")]
            faults: Faults::default(),
        }
    }

    /// Plants faults.
    #[cfg(feature = "planted-faults")]
    pub fn plant(&mut self, faults: Faults) {
        self.faults = faults;
        self.incoming.faults = faults;
        self.admission.ignore_barriers(faults.pass_those_waiting);
    }

    /// Offers a message.
    ///
    /// # Errors
    ///
    /// [`Refused`]: it is larger than the peer takes, say, or would have to wait and may not.
    pub fn send(&mut self, message: Outgoing) -> Result<Sent, Refused> {
        let refused = match self.offer(&message) {
            Ok(Offer::Admitted(account)) => {
                let len = message.body_len();
                self.accept(message, len, account);
                return Ok(Sent::Accepted);
            }
            Ok(Offer::Wait(place)) => {
                self.say_what_is_wanted();
                return Ok(Sent::Waiting(self.admission.wait(message, place)));
            }
            Ok(Offer::Busy) => Refused::Busy,
            Err(refused) => refused,
        };
        self.outbox.spend(message.body);
        Err(refused)
    }

    /// Takes room for a message, or says where it has to wait, or why it may not.
    fn offer(&mut self, message: &Outgoing) -> Result<Offer, Refused> {
        if self.sealed {
            return Err(Refused::Sealed);
        }
        let limit = self.largest(message.kind);
        let size = message.body_len();
        if size > limit {
            return Err(Refused::TooLarge { size, limit });
        }
        if let Destination::Name(name) = &message.to
            && name.len() > MAX_NAME_LEN
        {
            return Err(Refused::NameTooLong(name.len()));
        }
        if message.kind.is_exempt() {
            let admitted = self.answers.admit(message.kind, size);
            self.incoming.rejects_requests = self.answers.is_full();
            return admitted.map(|()| Offer::Admitted(0));
        }
        let measure = if message.nosuspend { Measure::Window } else { Measure::Granted };
        Ok(self.admission.offer(message.wish(), measure))
    }

    /// Accepts a small message at once, if nothing at all is in its way: a [plain](Outgoing::is_plain) one, whose body is copied
    /// into the open batch. Otherwise nothing has changed, and [`send`](Self::send) has an answer.
    pub fn post(&mut self, kind: Kind, from: ProcessId, to: &Destination, body: &[u8]) -> Posted {
        debug_assert!(kind.is_plain(), "others are more than a body for a destination");
        let len = body.len() as u64;
        let is_too_long = matches!(to, Destination::Name(name) if name.len() > MAX_NAME_LEN);
        if self.sealed || body.len() > COPY_LIMIT || len > self.largest(kind) || is_too_long {
            return Posted::No;
        }
        if !self.outbox.passes(len) {
            return Posted::No;
        }
        let carried = kind == Kind::Carried;
        let wish = Wish { from, to, len, unordered: false, nosuspend: true, carried, behind_all: false };
        let Offer::Admitted(account) = self.admission.offer(wish, Measure::Granted) else {
            return Posted::No;
        };
        self.messages_sent += 1;
        self.bytes_sent += len;
        let others_wait = self.outbox.has_work(Class::Express);
        self.outbox.post(kind, from, to, body, account);
        if others_wait {
            return Posted::Behind; // the writer that was woken for those writes this one, too
        }
        self.serve(Class::Express);
        Posted::First
    }

    /// The largest body of that kind.
    fn largest(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Carried => self.incoming.largest_carried(),
            _ => self.config.max_message,
        }
    }

    /// Takes back a message that is still waiting; `false` if it has been accepted.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        let cancelled = self.admission.cancel(ticket, &mut self.admitted);
        self.accept_admitted();
        cancelled.map(|message| self.outbox.spend(message.body)).is_some()
    }

    /// Whether no small message goes past one that waits for room: it is small, and not there for a large one of its pair.
    pub fn waits_among_small(&self, ticket: Ticket) -> bool {
        self.admission.waits_among_small(ticket)
    }

    /// Bytes have come back to the node's budget.
    pub fn budget_freed(&mut self) {
        self.admission.pump(&mut self.admitted);
        self.accept_admitted();
    }

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
            exempt_waiting: self.outbox.exempt_waiting(),
            answer_bytes: self.answers.kept(),
            answers_refused: self.answers.refused(),
            unconfirmed: self.outbox.unconfirmed(),
            unconfirmed_carried: self.outbox.unconfirmed_carried(),
            unconfirmed_bytes: self.outbox.unconfirmed_bytes(),
            undelivered_bytes: self.incoming.undelivered_bytes(),
            granted_bytes: self.incoming.granted_bytes(),
            messages_sent: self.messages_sent,
            messages_received: self.incoming.messages,
            bytes_sent: self.bytes_sent,
            bytes_received: self.incoming.bytes,
            no_process: self.incoming.no_process,
            frames_resent: self.frames_resent,
            connections_retired: self.connections_retired,
            entries: self.outbox.entries()
                + self.incoming.entries()
                + self.admission.accounts()
                + self.consumed.len()
                + self.connections.iter().map(|c| c.log.len() + usize::from(!c.live)).sum::<usize>(),
        }
    }

    /// Whether anything accepted is not known to be delivered.
    pub fn is_under_way(&self) -> bool {
        self.outbox.unconfirmed_bytes() > 0
    }

    /// Bytes in the peer's window: 0 when everything accepted has been delivered.
    pub fn in_window(&self) -> u64 {
        self.admission.in_window()
    }

    /// Accepts nothing from now on, provided that everything with credit has been delivered; all that waits for credit is
    /// given up. `false`: something is under way, and nothing has changed.
    ///
    /// What goes without credit may still be under way then, but no more comes to it that an application sends. So the
    /// last of it is delivered some time, however often the peer's calls are answered.
    pub fn seal(&mut self) -> bool {
        if self.admission.in_window() > 0 {
            return false;
        }
        if !std::mem::replace(&mut self.sealed, true) {
            self.admission.give_up();
        }
        true
    }

    /// Ends the session on this side: the node's budgets have back what the session held of them. What is left is memory, to be
    /// dropped where nobody waits for that.
    pub fn end(&mut self) {
        self.admission.abandon();
        self.answers.abandon();
    }

    /// What is open, and comes to nothing if the session ends.
    pub fn ending(&self) -> Ending {
        Ending {
            unconfirmed: self.outbox.unconfirmed(),
            waiting: self.admission.tickets().collect(),
            acknowledgements: self.outbox.acknowledgements().collect(),
        }
    }

    /// Bytes of all messages in here, accepted, waiting and received, with what each costs: about what its end frees.
    pub fn held_bytes(&self) -> u64 {
        self.outbox.unconfirmed_bytes() + self.incoming.undelivered_bytes() + self.admission.waiting_bytes()
    }

    /// A message with a body of this length is this side's to deliver.
    fn accept(&mut self, message: Outgoing, len: u64, account: AccountId) {
        self.messages_sent += u64::from(message.kind.is_message());
        self.bytes_sent += if message.kind.is_message() { len } else { 0 };
        let class = self.outbox.accept(message, len, account);
        self.serve(class);
    }

    /// Asks the peer to let more be under way, for mailboxes that have much of it.
    fn say_what_is_wanted(&mut self) {
        if let Some(reach) = self.admission.take_wanted() {
            self.outbox.allowance(Lane::Ordinary).want(Class::Express, reach);
        }
    }

    fn accept_admitted(&mut self) {
        self.say_what_is_wanted();
        let mut admitted = std::mem::take(&mut self.admitted);
        for Admitted { message, account, ticket } in admitted.drain(..) {
            self.actions.extend(ticket.map(Action::Granted));
            let len = message.body_len();
            self.accept(message, len, account);
        }
        self.admitted = admitted;
    }
}
