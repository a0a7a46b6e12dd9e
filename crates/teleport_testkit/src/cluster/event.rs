//! Events of the simulation, in order of time.

use super::Micros;
use super::ledger::Id;
use super::session::Who;
use bytes::Bytes;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use teleport_proto::transfer::{Disposition, Ticket};
use teleport_proto::wire::envelope::{Destination, ProcessId, RefId, Seq};
use teleport_proto::wire::pool::Class;
use teleport_proto::{ConnectionId, Incarnation};

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
    /// A request is answered.
    Answer { who: Who, request: Id, reference: RefId, server: Destination, caller: ProcessId },
    /// A caller waits no longer.
    CallLate(usize, Incarnation, RefId),
    /// A deferred delivery ends.
    Finish(Who, Seq, Disposition),
    /// A host takes so many bytes out of its queue.
    Take(Who, u64),
    /// The control connection has room for what there is to say.
    Flush(Who, Micros),
    /// Bytes arrive on the control connection of that generation.
    Control(Who, u64),
    /// One side uses the control connection of that generation from now on.
    Attach(Who, u64),
    /// One side learns that it is gone.
    ControlGone(Who, u64),
    /// Liveness is asked what is due.
    Live(Who, Micros),
    /// The side that does not dial looks whether anything listens where its peer is.
    Look(Who, Micros),
    /// Membership is asked what is due.
    Due(usize, Micros),
    /// A node wants a session with another.
    Want(usize, usize),
    /// A node is started.
    Start(usize),
    /// A node ends without a word.
    Crash(usize),
    /// A frame of a handshake arrives: which step of which.
    Shake { shake: u64, step: usize, bytes: Bytes },
    /// A connection for a handshake could not be opened, or broke; whether it was refused.
    ShakeFailed(u64, bool),
    /// The dialler does not wait any longer.
    ShakeLate(u64),
    /// A pool connection is opened.
    Join(Who, ConnectionId, Class),
    /// A pool connection has proved itself, on one side.
    Up(Who, ConnectionId),
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
    /// Somebody says that it is another node.
    Claim,
    /// A side closes what is idle.
    Sweep(Who),
}

impl Event {
    /// The node at which it happens, given the nodes of a session.
    pub(super) fn node(&self, nodes_of: impl Fn(usize) -> [usize; 2]) -> Option<usize> {
        match self {
            Event::Send { node, .. }
            | Event::Consume { node, .. }
            | Event::CallLate(node, ..)
            | Event::Due(node, _)
            | Event::Want(node, _) => Some(*node),
            Event::Fault
            | Event::Claim
            | Event::Start(_)
            | Event::Crash(_)
            | Event::Shake { .. }
            | Event::ShakeFailed(..)
            | Event::ShakeLate(_) => None,
            Event::Answer { who, .. }
            | Event::Cancel(who, _)
            | Event::BudgetFreed(who)
            | Event::GrantsFreed(who)
            | Event::Rest(who)
            | Event::Finish(who, ..)
            | Event::Take(who, _)
            | Event::Flush(who, _)
            | Event::Control(who, _)
            | Event::Attach(who, _)
            | Event::ControlGone(who, _)
            | Event::Live(who, _)
            | Event::Look(who, _)
            | Event::Up(who, _)
            | Event::Join(who, ..)
            | Event::Write(who, _)
            | Event::Read(who, _)
            | Event::Notice(who, _)
            | Event::ReaderStop(who, _)
            | Event::Sweep(who) => Some(nodes_of(who.session)[who.side]),
        }
    }

    /// What only waits for time to pass: nothing is left to do once there is nothing else.
    fn is_timer(&self) -> bool {
        matches!(self, Event::Live(..) | Event::Look(..) | Event::Due(..) | Event::ShakeLate(_))
    }
}

/// Events to come, by time, and in the order in which they were planned.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Reverse<Planned>>,
    planned: u64,
    /// How many of them do not only wait for time to pass.
    work: usize,
}

#[derive(Debug)]
struct Planned {
    at: Micros,
    order: u64,
    idle: bool,
    event: Event,
}

impl Agenda {
    pub(super) fn plan(&mut self, at: Micros, event: Event) {
        let idle = event.is_timer();
        self.put(at, event, idle);
    }

    /// What recurs, such as a tick, and is nothing to wait for.
    pub(super) fn plan_idle(&mut self, at: Micros, event: Event) {
        self.put(at, event, true);
    }

    fn put(&mut self, at: Micros, event: Event, idle: bool) {
        self.planned += 1;
        self.work += usize::from(!idle);
        self.heap.push(Reverse(Planned { at, order: self.planned, idle, event }));
    }

    pub(super) fn next(&mut self) -> Option<(Micros, Event)> {
        let Reverse(planned) = self.heap.pop()?;
        self.work -= usize::from(!planned.idle);
        Some((planned.at, planned.event))
    }

    pub(super) fn next_at(&self) -> Option<Micros> {
        self.heap.peek().map(|Reverse(planned)| planned.at)
    }

    /// Whether anything is to come that does not only wait for time to pass.
    pub(super) fn has_work(&self) -> bool {
        self.work > 0
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
