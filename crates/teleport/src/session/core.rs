//! What a node has once, as far as its sessions need it; and what its sessions tell the node.

use crate::Config;
use crate::base::allow::Current;
use crate::base::meter::NodeMeter;
use crate::base::seldom::Warnings;
use crate::host::Hosting;
use crate::io::budget::{NodeBudget, NodeGrants, SessionBudget, SessionGrants};
use crate::io::buffers::{BufferPool, Provider};
use crate::io::clock::Clock;
use crate::io::readers::Readers;
use crate::io::runtime::Timers;
use crate::io::source::Source;
use crate::local::registry::Registry;
use crate::local::watch::{HostedWaiters, WatchLimit, Watches};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use teleport_proto::handshake::LocalNode;
use teleport_proto::membership::EndReason;
use teleport_proto::transfer::Budget;
use teleport_proto::wire::pool::Class;
use teleport_proto::{ConnectionId, SessionId};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};

/// What concerns the set of sessions, from wherever it was noticed.
#[derive(Debug)]
pub(crate) enum SessionEvent {
    /// A control connection is gone.
    ControlLost { session: SessionId, generation: u64 },
    /// A session that was doubted has answered.
    ProbeAnswered { session: SessionId },
    /// A session wants one more pool connection, and is the side that dials.
    Join { session: SessionId, connection: ConnectionId, class: Class },
    /// A session has to end.
    End { session: SessionId, reason: EndReason },
}

/// Where events are sent to: never blocks, takes no lock.
#[derive(Debug, Clone)]
pub(crate) struct Events(mpsc::UnboundedSender<SessionEvent>);

impl Events {
    pub(crate) fn send(&self, event: SessionEvent) {
        let _ = self.0.send(event); // nobody is left to hear it after the node's end
    }

    pub(crate) fn end(&self, session: SessionId, reason: EndReason) {
        self.send(SessionEvent::End { session, reason });
    }
}

/// What all sessions of a node share. Knows none of them.
pub(crate) struct Core {
    pub(crate) local: LocalNode,
    pub(crate) config: Config,
    /// Where express connections, accepts, handshakes and sessions run.
    pub(crate) handle: Handle,
    pub(crate) timers: Timers,
    pub(crate) clock: Clock,
    pub(crate) registry: Registry,
    /// Whom the processes belong to that are not in the registry.
    pub(crate) hosting: Option<Arc<Hosting>>,
    pub(crate) watches: Arc<Watches>,
    /// What peers may watch of this node.
    pub(crate) watch_limit: Arc<WatchLimit>,
    pub(crate) buffers: Arc<BufferPool>,
    budget: Arc<NodeBudget>,
    /// For what goes without credit.
    answers: Arc<NodeBudget>,
    /// What peers may have under way to this node.
    grants: Arc<NodeGrants>,
    /// Whose small messages are taken in next.
    pub(super) readers: Arc<Readers>,
    pub(crate) events: Events,
    pub(crate) warnings: Warnings,
    /// What peers may reach.
    pub(crate) allowed: Current,
    pub(crate) meter: NodeMeter,
    /// Nothing is read of what peers send.
    deaf: AtomicBool,
}

impl Core {
    /// For a node that has no sessions yet. What they tell comes out of the channel.
    pub(crate) fn new(
        local: LocalNode,
        config: Config,
        handle: Handle,
        timers: Timers,
        hosting: Option<Arc<Hosting>>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<SessionEvent>) {
        let (events, told) = mpsc::unbounded_channel();
        let waiters = hosting.clone().map(|hosting| -> Arc<dyn HostedWaiters> { hosting });
        let share = (config.peer_window.get() / 8).max(1);
        let foreign = hosting.clone().map(|hosting| -> Arc<dyn Provider> { hosting });
        let meter = NodeMeter::new(&local.name);
        let core = Self {
            clock: Clock::start(),
            registry: Registry::default(),
            watches: Watches::new(meter.late_replies.clone(), waiters),
            meter,
            watch_limit: WatchLimit::new(config.max_watches),
            buffers: BufferPool::new(config.buffer_pool, foreign),
            budget: NodeBudget::for_sends(config.node_window.get(), share),
            answers: NodeBudget::for_answers(config.answers_window.get()),
            grants: NodeGrants::new(config.receive_window.get()),
            readers: Readers::new(config.worker_threads),
            events: Events(events),
            warnings: Warnings::default(),
            allowed: Current::default(),
            local,
            config,
            handle,
            timers,
            hosting,
            deaf: AtomicBool::new(false),
        };
        (Arc::new(core), told)
    }

    /// From now on nothing is taken in, and so nothing acknowledged: there is nobody who would get it.
    pub(crate) fn take_nothing_in(&self) {
        self.deaf.store(true, Ordering::Relaxed);
    }

    /// Never returns when nothing is taken in any more.
    pub(super) async fn takes_in(&self) {
        if self.deaf.load(Ordering::Relaxed) {
            std::future::pending().await
        }
    }

    /// A session's parts in the node's windows: for what takes credit, and for what does not.
    pub(super) fn session_budgets(
        &self,
        session: u64,
        source: Source,
        freed: &Arc<Notify>,
    ) -> [Arc<dyn Budget>; 2] {
        [&self.budget, &self.answers].map(|window| {
            let part: Arc<dyn Budget> =
                Arc::new(SessionBudget::new(window.clone(), session, source, freed.clone()));
            part
        })
    }

    /// What a session's peer may have under way to this node.
    pub(super) fn session_grants(
        &self,
        session: u64,
        source: Source,
        freed: &Arc<Notify>,
    ) -> Arc<SessionGrants> {
        Arc::new(SessionGrants::new(self.grants.clone(), session, source, freed.clone()))
    }

    /// Bytes accepted and not known to be delivered, of all sessions.
    pub(crate) fn bytes_in_flight(&self) -> u64 {
        self.budget.used() + self.answers.used()
    }
}
