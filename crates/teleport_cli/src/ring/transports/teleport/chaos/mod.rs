//! A node of a run under chaos.
//!
//! [`Sender`]s keep the pool full, [`Inbox`]es check what comes, [`Faults`] kill connections; the ring's probes measure
//! what users of the product would feel of it.

mod faults;
mod traffic;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use teleport::{NodeEvent, NodeName};
use tokio::sync::mpsc;

use super::{TeleportNode, node_name};
use crate::bench::child::{self, NodeError};
use crate::bench::payload::{Payloads, Sizes};
use crate::ring::figures::{Counts, Ledger, Pair, Step};
use crate::ring::node::RingNode;
use crate::ring::protocol::{Answer, Command, Event, Order};

use faults::{Faults, Killed};
use traffic::{Inbox, Sender, Sending, Taken, locked};

/// Destinations that a sender has at each peer.
const INBOXES_PER_PEER: u16 = 2;

/// A node of the product under chaos.
pub(crate) struct ChaosNode {
    base: TeleportNode,
    seed: u64,
    peers: Vec<u16>,
    senders: Vec<Sender>,
    sendings: Vec<Arc<Sending>>,
    taken: Vec<Arc<Mutex<Taken>>>,
    faults: Option<Faults>,
    killed: Arc<Killed>,
    downs: Arc<Downs>,
    calm: Arc<AtomicBool>,
    failures: (mpsc::UnboundedSender<NodeError>, mpsc::UnboundedReceiver<NodeError>),
}

/// Sessions that ended.
#[derive(Debug, Default)]
struct Downs {
    sessions: AtomicU64,
    unconfirmed: AtomicU64,
}

impl ChaosNode {
    /// A node that knows no peers yet, in a run with that seed.
    pub(crate) fn new(base: TeleportNode, seed: u64) -> Self {
        let peers = peers(base.setup.index, base.setup.nodes);
        Self {
            base,
            seed,
            peers,
            senders: Vec::new(),
            sendings: Vec::new(),
            taken: Vec::new(),
            faults: None,
            killed: Arc::default(),
            downs: Arc::default(),
            calm: Arc::default(),
            failures: mpsc::unbounded_channel(),
        }
    }

    /// Follows the coordinator until it closes this process's stdin.
    pub(crate) fn serve(mut self) -> Result<(), NodeError> {
        child::serve(self.base.address(), |command| self.obey(command))
    }

    fn obey(&mut self, command: Command) -> Result<Event, NodeError> {
        match command {
            Command::Peers { addresses } => {
                self.connect(&addresses)?;
                return Ok(Event::Connected);
            }
            Command::Order(Order::Chaos { step: Step::Begin }) => self.begin()?,
            Command::Order(Order::Chaos { step: Step::Count }) => {}
            Command::Order(Order::Chaos { step: Step::Calm }) => self.calm()?,
            Command::Order(Order::Chaos { step: Step::Ledger }) => {
                return Ok(Event::Answer(Answer::Ledger(self.ledger())));
            }
            Command::Order(Order::StopProbes) => {
                return Ok(Event::Answer(Answer::Probes(self.base.stop_probes()?)));
            }
            Command::Order(Order::Go { .. } | Order::Report) => {
                return Err(NodeError::WrongRole("a run under chaos"));
            }
        }
        Ok(Event::Answer(Answer::Counts(self.counts()?)))
    }

    fn connect(&mut self, addresses: &[String]) -> Result<(), NodeError> {
        let (node, index) = (&self.base.node, self.base.setup.index);
        let payloads = Payloads::new(self.seed, Sizes::Even, self.base.setup.size);
        for worker in 0..self.base.setup.workers {
            let inbox = Inbox::new(node, index, worker, payloads.clone())?;
            self.taken.push(inbox.taken());
            self.base.runtime.spawn(inbox.run());
            let destinations = destinations(index, worker, self.base.setup.workers, &self.peers);
            let calm = Arc::clone(&self.calm);
            let sender = Sender::new(node, destinations, payloads.clone(), self.seed, calm)?;
            self.sendings.push(sender.sent());
            self.senders.push(sender);
        }
        self.watch_sessions();
        self.base.learn(addresses)?;
        self.base.prime(&self.peer_names()?)?;
        self.base.start_echoes()
    }

    fn watch_sessions(&self) {
        let mut events = self.base.node.monitor_nodes();
        let downs = Arc::clone(&self.downs);
        self.base.runtime.spawn(async move {
            while let Some(event) = events.recv().await {
                if let NodeEvent::Down { unconfirmed, .. } = event {
                    downs.sessions.fetch_add(1, Ordering::Relaxed);
                    downs.unconfirmed.fetch_add(unconfirmed, Ordering::Relaxed);
                }
            }
        });
    }

    fn begin(&mut self) -> Result<(), NodeError> {
        self.base.start_probes()?;
        for sender in self.senders.drain(..) {
            let failures = self.failures.0.clone();
            self.base.runtime.spawn(async move {
                if let Err(error) = sender.run().await {
                    // The receiver is gone only if the node is ending.
                    let _ = failures.send(error);
                }
            });
        }
        let (setup, killed) = (self.base.setup, Arc::clone(&self.killed));
        let peers = self.peer_names()?;
        let faults = Faults::begin(&self.base.node, peers, setup.index, setup.nodes, self.seed, killed)?;
        self.faults = Some(faults);
        Ok(())
    }

    fn calm(&mut self) -> Result<(), NodeError> {
        self.calm.store(true, Ordering::Relaxed);
        self.faults.take().map_or(Ok(()), Faults::stop)
    }

    fn counts(&mut self) -> Result<Counts, NodeError> {
        if let Ok(failure) = self.failures.1.try_recv() {
            return Err(failure);
        }
        let mut counts = Counts {
            pool_killed: self.killed.pool.load(Ordering::Relaxed),
            control_killed: self.killed.control.load(Ordering::Relaxed),
            nodedowns: self.downs.sessions.load(Ordering::Relaxed),
            unconfirmed: self.downs.unconfirmed.load(Ordering::Relaxed),
            ..Counts::default()
        };
        // Whether a sender has ended is read before what it sent: one that has ended sends nothing more.
        counts.senders = self.sendings.iter().filter(|sending| !sending.has_ended()).count() as u64;
        for sending in &self.sendings {
            counts.sent += sending.messages();
            counts.send_seconds += sending.waited().as_secs_f64();
        }
        for taken in &self.taken {
            let taken = locked(taken);
            counts.received += taken.tally().messages;
            counts.doubled += taken.tally().doubled;
            counts.reordered += taken.tally().reordered;
            counts.received_bytes += taken.bytes();
            counts.damaged += taken.damaged();
        }
        for peer in self.base.node.info().peers {
            counts.ticks_missed += peer.ticks_missed;
            counts.connections_retired += peer.transfer.connections_retired;
            counts.frames_resent += peer.transfer.frames_resent;
            counts.unconfirmed += peer.transfer.unconfirmed;
        }
        Ok(counts)
    }

    fn ledger(&self) -> Ledger {
        let sent = self.sendings.iter().flat_map(|sending| sending.by_pair()).collect();
        let received = self.taken.iter().flat_map(|taken| locked(taken).by_pair().collect::<Vec<_>>());
        Ledger { sent, received: received.collect() }
    }

    fn peer_names(&self) -> Result<Vec<NodeName>, NodeError> {
        self.peers.iter().map(|&peer| node_name(peer)).collect()
    }
}

/// Both neighbours, and the node on the other side of the ring.
fn peers(index: u16, nodes: u16) -> Vec<u16> {
    let mut peers: Vec<u16> = [1, nodes / 2, nodes - 1].map(|steps| (index + steps) % nodes).to_vec();
    peers.sort_unstable();
    peers.dedup(); // in a small ring
    peers
}

/// The same-numbered inbox of each peer, and the next one.
fn destinations(origin: u16, worker: u16, workers: u16, peers: &[u16]) -> Vec<Pair> {
    let inboxes = INBOXES_PER_PEER.min(workers);
    let at =
        |node| (0..inboxes).map(move |next| Pair { origin, worker, node, inbox: (worker + next) % workers });
    peers.iter().flat_map(|&node| at(node)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_other_nodes() {
        assert_eq!(peers(0, 2), [1]);
        assert_eq!(peers(1, 3), [0, 2]);
        assert_eq!(peers(5, 6), [0, 2, 4]);
        for (nodes, index) in (2..10).flat_map(|nodes| (0..nodes).map(move |index| (nodes, index))) {
            assert!(peers(index, nodes).iter().all(|&peer| peer != index && peer < nodes));
        }
    }

    #[test]
    fn every_inbox_has_several_senders() {
        let of = |worker| destinations(0, worker, 3, &[1, 2]);
        assert_eq!(
            of(2).iter().map(|pair| (pair.node, pair.inbox)).collect::<Vec<_>>(),
            [(1, 2), (1, 0), (2, 2), (2, 0)]
        );
        assert_eq!(destinations(0, 0, 1, &[1]).len(), 1);
    }
}
