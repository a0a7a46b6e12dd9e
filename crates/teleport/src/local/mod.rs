//! The processes of this node: their names and pids, their mailboxes, and what they watch and are watched by.
//!
//! Sessions, hosts and the face use them; they know of those only what the traits here say.

pub(crate) mod carry;
pub(crate) mod inbox;
pub(crate) mod registry;
mod room;
pub(crate) mod watch;

use crate::base::lock::Held;
use crate::io::source::Source;
use crate::{ReplyError, SendError};
use bytes::Bytes;
pub use carry::{Accepted, Backlog, Carry};
use std::net::SocketAddr;
use std::sync::Arc;
use teleport_etf::Pid;
use teleport_proto::NodeName;
use teleport_proto::transfer::{Credit, Disposition, Outgoing};
use teleport_proto::wire::envelope::{ProcessId, RefId, Seq};
use watch::{Watched, Watchers};

/// A session with a peer, for processes of this node that get something over it or send something back.
pub(crate) trait Peer: Send + Sync {
    /// The peer's name.
    fn name(&self) -> &NodeName;

    /// The session's number, which no other session of this program's life has. Never [`HERE`](watch::HERE).
    fn number(&self) -> u64;

    /// Where it comes from.
    fn source(&self) -> Source;

    /// The pid of one of the peer's processes.
    fn pid_of(&self, process: ProcessId) -> Pid;

    /// Processes of this node that the peer's processes watch.
    fn watched(&self) -> &Watched;

    /// Sends what waits for no credit.
    fn send_exempt(&self, message: Outgoing) -> Result<(), Unsent>;

    /// Sends what is carried. `accepted` is called, on a thread of the node, for what waits for room, with what does no longer;
    /// returns what waits.
    fn carry(
        self: Arc<Self>,
        messages: &mut dyn Iterator<Item = Carry<'_>>,
        accepted: &Accepted,
    ) -> Result<Backlog, SendError>;

    /// Whether both ends carry connections of distributed Erlang.
    fn carries(&self) -> bool;

    /// Has the peer say something.
    fn ask(&self);

    /// Warns that something carried was given up, for what the peer has done.
    fn warn_of_carried(&self, why: &str);

    /// When the last byte came, by any connection.
    fn last_heard(&self) -> teleport_proto::Time;

    /// Where the peer's end of the last control connection was.
    fn address(&self) -> Option<SocketAddr>;

    /// The peer's life.
    fn incarnation(&self) -> teleport_proto::Incarnation;

    /// A message has left its mailbox.
    fn consumed(&self, credit: Credit);

    /// The host has taken small messages out of its queue, and with them so much room in the window.
    fn taken(&self, bytes: u64);

    /// Deliveries that were deferred, or placed, have ended.
    fn finish_deliveries(self: Arc<Self>, seqs: &[Seq], end: Disposition);

    /// Whether what has come over the session may still be delivered to a host. That does not change while this is held.
    fn up(&self) -> Held<'_, bool>;
}

/// Why something that waits for no credit was not sent.
#[derive(Debug)]
pub(crate) enum Unsent {
    /// The session has ended, and so have its calls and monitors.
    Ended,
    /// It is larger than any message may be.
    TooLarge { size: u64, limit: u64 },
    /// Not kept, since this many bytes wait for the peer to take them already.
    NotTaken { waiting: u64 },
    /// It goes to a name that no process can have.
    NoSuchName,
    /// The node has been shut down.
    NotRunning,
}

impl Unsent {
    /// What this means for an answer. A caller who is gone is no error.
    pub(crate) fn of_reply(self) -> Result<(), ReplyError> {
        match self {
            Self::Ended | Self::NoSuchName => Ok(()),
            Self::TooLarge { size, limit } => Err(ReplyError::TooLarge { size, limit }),
            Self::NotTaken { waiting } => Err(ReplyError::NotTaken { waiting }),
            Self::NotRunning => Err(ReplyError::NotRunning),
        }
    }
}

/// A process with a mailbox, for what it watches and who watches it.
pub(crate) trait Monitored: Send + Sync {
    /// Who has to be told when it ends.
    fn watchers(&self) -> &Watchers;

    /// It has a monitor, or has it no longer.
    fn note_monitor(&self, monitor: RefId, present: bool);

    /// The DOWN of one of its monitors.
    fn put_down(&self, monitor: RefId, body: Bytes);
}
