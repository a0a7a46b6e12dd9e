//! What is sent and what is delivered.

use super::bodies::Bodies;
use crate::wire::envelope::{AccountId, Destination, Kind, MAX_NAME_LEN, ProcessId, Seq};
use crate::wire::pool::Class;
use bytes::Bytes;
use std::cmp::Ordering;
use teleport_etf::Segments;

/// Names a message that waits for credit.
pub type Ticket = u64;

/// Names an acknowledged send; chosen by the engine.
pub type AckToken = u64;

/// A sender and a destination: the unit of order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Pair {
    pub(crate) from: ProcessId,
    pub(crate) to: Destination,
}

impl Pair {
    fn order(&self) -> (ProcessId, Result<ProcessId, &str>) {
        let to = match &self.to {
            Destination::Process(process) => Ok(*process),
            Destination::Name(name) => Err(&**name),
        };
        (self.from, to)
    }
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
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
    /// For [`Kind::Carried`]: wait for everything that was accepted before, and all that was carried
    /// before, even if that waits; be waited for by all that is carried later.
    pub behind_all: bool,
    /// Refuse rather than wait for credit.
    pub nosuspend: bool,
    /// Report what became of it.
    pub acknowledge: Option<AckToken>,
    /// What it is for. A kind that is [exempt](Kind::is_exempt) never waits for credit; a reply is refused
    /// if the peer has not taken too many. It keeps its place behind what its
    /// pair had accepted before, but not behind what is still waiting to be.
    pub kind: Kind,
}

impl Outgoing {
    /// An ordinary message: ordered, willing to wait, without acknowledgement.
    pub fn new(from: ProcessId, to: Destination, body: Segments) -> Self {
        Self::of_kind(Kind::Data, from, to, body)
    }

    /// A message of another kind: ordered, and willing to wait if its kind has to.
    pub fn of_kind(kind: Kind, from: ProcessId, to: Destination, body: Segments) -> Self {
        Self {
            from,
            to,
            body,
            unordered: false,
            behind_all: false,
            nosuspend: false,
            acknowledge: None,
            kind,
        }
    }

    /// Whether it is no more than a body for a destination, in the order of its pair, of which nothing is asked: what
    /// [`Transfer::post`](super::Transfer::post) sends.
    pub fn is_plain(&self) -> bool {
        self.kind.is_plain() && !self.unordered && !self.behind_all && self.acknowledge.is_none()
    }

    pub(super) fn wish(&self) -> Wish<'_> {
        let &Self { from, ref to, unordered, nosuspend, behind_all, kind, .. } = self;
        let carried = kind == Kind::Carried;
        Wish { from, to, len: self.body_len(), unordered, nosuspend, carried, behind_all }
    }

    pub(super) fn body_len(&self) -> u64 {
        self.body.len() as u64
    }

    pub(super) fn pair(&self) -> Pair {
        Pair { from: self.from, to: self.to.clone() }
    }
}

/// What admission has to know of a message.
#[derive(Clone, Copy)]
pub(crate) struct Wish<'a> {
    pub(crate) from: ProcessId,
    pub(crate) to: &'a Destination,
    pub(crate) len: u64,
    pub(crate) unordered: bool,
    pub(crate) nosuspend: bool,
    pub(crate) carried: bool,
    pub(crate) behind_all: bool,
}

impl Wish<'_> {
    /// Carried, and behind what goes behind all.
    pub(super) fn is_in_order(&self) -> bool {
        self.carried && !self.unordered
    }

    pub(super) fn pair(&self) -> Pair {
        Pair { from: self.from, to: self.to.clone() }
    }
}

/// What became of an offered message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The session answers for it now.
    Accepted,
    /// It waits for credit; [`Action::Granted`](super::Action::Granted) or the session's end will say more.
    Waiting(Ticket),
}

/// What became of a message that was to go at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// It is accepted, and goes out with those before it: there is nothing to be done.
    Behind,
    /// It is accepted, and the first to go out: there may be [actions](super::Action).
    First,
    /// Something is in its way.
    No,
}

/// A message that was not taken. Nothing of it is left behind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    /// A reply that the peer would take later than others of which it has not taken enough.
    #[error(
        "the answers to the caller's node are not being taken: {waiting} bytes wait; find out why, or raise answers_window"
    )]
    AnswersFull {
        /// Bytes of the answers that it has not taken.
        waiting: u64,
    },
    /// The session is [sealed](super::Transfer::seal).
    #[error("this node is shutting down, and accepts nothing more for the peer")]
    Sealed,
    /// A registered name that no node can have.
    #[error("the registered name has {0} bytes, {MAX_NAME_LEN} are allowed")]
    NameTooLong(usize),
}

/// What became of an acknowledged send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the mailbox.
    Delivered,
    /// There was no such process.
    NoProcess,
}

/// A received message on its way into a mailbox.
#[derive(Debug)]
pub struct Delivery {
    /// Its number, for [`Transfer::finish_delivery`](super::Transfer::finish_delivery).
    pub seq: Seq,
    /// The sending process on the peer.
    pub from: ProcessId,
    /// The process or name it is for.
    pub to: Destination,
    /// What it is for; never an outcome.
    pub kind: Kind,
    /// Its sender is told when it has been delivered.
    pub acknowledge: bool,
    /// The encoded term.
    pub body: Bytes,
    /// To be given back by [`Transfer::consumed`](super::Transfer::consumed) when the message leaves its mailbox.
    pub credit: Credit,
}

/// Small messages of one pair that follow one another.
#[derive(Debug)]
pub struct Deliveries<'a> {
    /// The number of the first.
    pub first: Seq,
    /// The sending process on the peer.
    pub from: ProcessId,
    /// The process or name they are for.
    pub to: &'a Destination,
    /// What they are for.
    pub kind: Kind,
    /// The encoded terms.
    pub bodies: Bodies,
    /// Of all of them.
    pub credit: Credit,
}

/// What a message holds of its destination mailbox's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    /// The account it belongs to, 0 for none.
    pub account: AccountId,
    /// The part of the window.
    pub class: Class,
    /// How much; nothing if it came without credit.
    pub bytes: u64,
}

/// What a [`Sink`] did with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It is in the mailbox.
    Delivered,
    /// It is in a mailbox without bounds, which keeps nothing of its sender's window. The session returns the message's
    /// credit itself.
    Consumed,
    /// It has been delivered, to a queue of the host's. What lies there keeps room in the peer's window until
    /// [`Transfer::taken`](super::Transfer::taken). The session returns the message's credit itself.
    Queued,
    /// There is no such process. The session returns the message's credit itself.
    NoProcess,
    /// Its delivery takes longer; [`Transfer::finish_delivery`](super::Transfer::finish_delivery) will tell
    /// how it ended. Until then nothing that names it as its predecessor is handed over: so nothing of its
    /// pair behind a large message, and nothing large behind a small one. Small ones that came behind a small
    /// one by the same connection do not name it: the sink has to defer them too, and to deliver and finish
    /// them in order.
    Deferred,
    /// It is in its place in a mailbox that has no room for it: it keeps its room in the peer's window until
    /// [`Transfer::finish_delivery`](super::Transfer::finish_delivery) tells that it has got some, or has
    /// left the mailbox. What its pair sent behind it is handed over all the same: the mailbox keeps the
    /// order.
    Placed,
}

/// Where received messages go.
pub trait Sink {
    /// Hands a message to its mailbox. Called in the order of each pair.
    fn deliver(&mut self, delivery: Delivery) -> Disposition;

    /// Hands some messages to their mailbox, all or none, which takes the bodies: they are delivered, consumed or without a
    /// process. `None`: nothing has changed, and each is to be [delivered](Self::deliver) by itself. Default: that.
    fn deliver_all(&mut self, _deliveries: &mut Deliveries<'_>) -> Option<Disposition> {
        None
    }

    /// Whether a body of that kind is copied, or gone, soon after it has been delivered. Then it may be a part of what has been read
    /// from the connection, all of which it keeps. Default: no, and it keeps nothing but itself, or a small block.
    fn copies(&self, _kind: Kind) -> bool {
        false
    }
}
