//! What happens next.

use super::Micros;
use super::session::Who;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use teleport_proto::ConnectionId;
use teleport_proto::transfer::{Disposition, Ticket};
use teleport_proto::wire::envelope::Seq;

#[derive(Debug, Clone)]
pub(super) enum Event {
    /// A process offers messages.
    Send { node: usize, process: usize },
    /// A sender takes back what waits.
    Cancel(Who, Ticket),
    /// A mailbox's reader takes out a message.
    Consume { node: usize, mailbox: usize },
    /// The node's budget has room again.
    BudgetFreed(Who),
    /// The node can grant more to a session that needs it.
    GrantsFreed(Who),
    /// A side gives up what it has no use for.
    Rest(Who),
    /// A deferred delivery ends.
    Finish(Who, Seq, Disposition),
    /// The control connection has room for what there is to say.
    Flush(Who, Micros),
    /// Bytes arrive on the control connection of that number.
    Control(Who, u32),
    /// The control connection of that number is up on one side.
    ControlUp(Who, u32),
    /// A pool connection has proved itself, on one side.
    Up(Who, ConnectionId),
    /// A pool connection could not be opened.
    JoinFailed(Who, ConnectionId),
    /// A writer goes on.
    Write(Who, ConnectionId),
    /// A reader goes on.
    Read(Who, ConnectionId),
    /// A side finds out that a connection is dead.
    Notice(Who, ConnectionId),
    /// A retired connection's reader has stopped.
    ReaderStop(Who, ConnectionId),
    /// The next fault.
    Fault,
    /// A side closes what is idle.
    Sweep(Who),
    /// A side learns that its peer's incarnation is gone.
    NodeDown(Who),
    /// Two nodes have agreed on a session anew.
    SessionUp(usize),
}

/// Events to come, by time, and in the order in which they were planned.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Reverse<Planned>>,
    planned: u64,
}

#[derive(Debug)]
struct Planned {
    at: Micros,
    order: u64,
    event: Event,
}

impl Agenda {
    pub(super) fn plan(&mut self, at: Micros, event: Event) {
        self.planned += 1;
        self.heap.push(Reverse(Planned { at, order: self.planned, event }));
    }

    pub(super) fn next(&mut self) -> Option<(Micros, Event)> {
        self.heap.pop().map(|Reverse(planned)| (planned.at, planned.event))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Planned {}
