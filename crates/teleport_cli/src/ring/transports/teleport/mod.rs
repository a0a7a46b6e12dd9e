//! `teleport`: the product, used as an application would: mailboxes, names and `send`.
//!
//! A *lane* is a worker's way in one direction, at each node a mailbox and a task that passes on what comes. Ticks are
//! the product's own, at the probes' cadence while a round runs.

pub(crate) mod chaos;
mod lane;
mod probes;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use teleport::{Config, Node, NodeName, StaticPeers};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::args::NodeOptions;
use crate::bench::COOKIE;
use crate::bench::child::NodeError;
use crate::ring::arrivals::Arrivals;
use crate::ring::node::RingNode;
use crate::ring::probe::{INTERVAL, Prober};
use crate::ring::protocol::{ProbeSamples, Tally};
use crate::ring::topology::{Direction, Topology};

use lane::{Job, Sender};
use probes::Ticks;

/// Ticks while no round runs: as good as none.
const AT_REST: Duration = Duration::from_secs(15);

/// A node of the product.
pub(crate) struct TeleportNode {
    setup: Setup,
    runtime: Runtime,
    node: Node,
    peers: StaticPeers,
    arrivals: Arc<Mutex<Arrivals>>,
    senders: Vec<Sender>,
    ticks: Arc<Ticks>,
    echoes: Option<Prober>,
    failures: (mpsc::UnboundedSender<NodeError>, mpsc::UnboundedReceiver<NodeError>),
}

/// What all parts of a node know.
#[derive(Debug, Clone, Copy)]
struct Setup {
    index: u16,
    nodes: u16,
    workers: u16,
    size: usize,
    ring: Topology,
}

impl TeleportNode {
    /// A node that listens, and knows no peers yet.
    pub(crate) fn start(options: &NodeOptions) -> Result<Self, NodeError> {
        let setup = Setup {
            index: options.index,
            nodes: options.nodes,
            workers: options.workers,
            size: options.size.bytes(),
            ring: Topology::new(options.nodes),
        };
        let mut config = Config::default();
        config.congestion = options.congestion.clone();
        config.tick_interval = Some(AT_REST);
        // The largest --size is that of a binary in the message.
        config.max_message = config.max_message.saturating_add(1024);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.worker_threads)
            .enable_all()
            .build()
            .map_err(NodeError::io("cannot start the node's threads"))?;
        let (peers, ticks) = (StaticPeers::new(), Arc::new(Ticks::default()));
        let observer = Arc::clone(&ticks);
        let mut builder = Node::builder(name(options.index).as_str())
            .cookie(COOKIE)
            .resolver(peers.clone())
            .config(config)
            .runtime(runtime.handle().clone())
            .on_tick(move |tick| observer.record(tick.round_trip));
        if let Some(tls) = options.tls.config() {
            builder = builder.tls(tls);
        }
        let node = runtime.block_on(builder.start()).map_err(NodeError::teleport("cannot start the node"))?;
        let failures = mpsc::unbounded_channel();
        let (arrivals, senders) = (Arc::default(), Vec::new());
        Ok(Self { setup, runtime, node, peers, arrivals, senders, ticks, echoes: None, failures })
    }

    fn neighbours(&self) -> Result<Vec<NodeName>, NodeError> {
        let indices = Direction::BOTH.map(|direction| self.setup.ring.neighbour(self.setup.index, direction));
        let mut names = indices.map(node_name).into_iter().collect::<Result<Vec<_>, _>>()?;
        names.dedup(); // in a ring of two
        Ok(names)
    }

    /// Takes note of where all nodes are.
    fn learn(&self, addresses: &[String]) -> Result<(), NodeError> {
        for (index, text) in (0u16..).zip(addresses) {
            let address: SocketAddr =
                text.parse().map_err(|_| NodeError::Address { node: index, address: text.clone() })?;
            self.peers.insert(node_name(index)?, address);
        }
        Ok(())
    }

    fn prime(&self, peers: &[NodeName]) -> Result<(), NodeError> {
        for peer in peers {
            self.runtime
                .block_on(self.node.prime(peer))
                .map_err(NodeError::teleport(format!("cannot connect to {peer}")))?;
        }
        Ok(())
    }

    fn start_echoes(&mut self) -> Result<(), NodeError> {
        self.echoes = Some(probes::echoes(&self.runtime, &self.node, self.setup, self.neighbours()?)?);
        Ok(())
    }

    fn start_lanes(&mut self) -> Result<(), NodeError> {
        let own_direction = self.setup.ring.direction(self.setup.index);
        for worker in 0..self.setup.workers {
            for direction in Direction::BOTH {
                let relay =
                    lane::Relay::new(&self.node, self.setup, worker, direction, Arc::clone(&self.arrivals))?;
                let failures = self.failures.0.clone();
                self.runtime.spawn(async move {
                    if let Err(error) = relay.run().await {
                        // The receiver is gone only if the node is ending.
                        let _ = failures.send(error);
                    }
                });
            }
            self.senders.push(Sender::new(&self.node, self.setup, worker, own_direction)?);
        }
        Ok(())
    }
}

impl RingNode for TeleportNode {
    fn address(&self) -> String {
        self.node.address().to_string()
    }

    fn connect(&mut self, addresses: &[String]) -> Result<(), NodeError> {
        self.learn(addresses)?;
        self.start_lanes()?;
        self.prime(&self.neighbours()?)?;
        self.start_echoes()
    }

    fn start_probes(&mut self) -> Result<(), NodeError> {
        self.ticks.start();
        self.node.set_tick_interval(INTERVAL);
        self.echoes.as_mut().map_or(Ok(()), Prober::start)
    }

    fn round(&mut self, round: u32, verify: bool) -> Result<Vec<Duration>, NodeError> {
        let senders = std::mem::take(&mut self.senders);
        let failed = self.failures.1.recv();
        let (senders, waits) = self.runtime.block_on(async {
            let tasks: Vec<_> =
                senders.into_iter().map(|sender| tokio::spawn(sender.send(Job { round, verify }))).collect();
            let all = async {
                let (mut senders, mut waits) = (Vec::new(), Vec::new());
                for task in tasks {
                    let (sender, wait) = task.await.map_err(|_| NodeError::ThreadGone("sender"))??;
                    senders.push(sender);
                    waits.push(wait);
                }
                Ok((senders, waits))
            };
            tokio::select! {
                done = all => done,
                failure = failed => Err(failure.unwrap_or(NodeError::ThreadGone("relay"))),
            }
        })?;
        self.senders = senders;
        Ok(waits)
    }

    fn stop_probes(&mut self) -> Result<ProbeSamples, NodeError> {
        self.node.set_tick_interval(AT_REST);
        let (echo_us, unanswered) = self.echoes.as_ref().map_or(Ok(Default::default()), Prober::stop)?;
        Ok(ProbeSamples { tick_us: self.ticks.stop(), echo_us, unanswered })
    }

    fn tally(&self) -> Tally {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).tally()
    }
}

fn name(index: u16) -> String {
    format!("ring{index}@127.0.0.1")
}

fn node_name(index: u16) -> Result<NodeName, NodeError> {
    name(index).parse().map_err(NodeError::teleport("cannot name a node"))
}
