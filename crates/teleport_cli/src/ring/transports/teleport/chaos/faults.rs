//! Kills connections at random, at a steady pace.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::SmallRng;
use teleport::{Node, NodeName, Sever};

use crate::bench::child::NodeError;
use crate::bench::payload::random;

/// From one pool connection killed in the cluster to the next: 8 per second, where 5 are asked for.
const POOL_EVERY: Duration = Duration::from_millis(125);

/// From one control connection killed in the cluster to the next.
const CONTROL_EVERY: Duration = Duration::from_secs(3);

/// When there was nothing to kill.
const RETRY: Duration = Duration::from_millis(5);

/// What a node kills.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Pool,
    Control,
}

/// Connections that a node has killed.
#[derive(Debug, Default)]
pub(super) struct Killed {
    pub(super) pool: AtomicU64,
    pub(super) control: AtomicU64,
}

/// A thread that kills connections until it is told to stop.
pub(super) struct Faults {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Faults {
    /// Begins to kill connections to these peers, as one of this many nodes that do.
    pub(super) fn begin(
        node: &Node,
        peers: Vec<NodeName>,
        index: u16,
        nodes: u16,
        seed: u64,
        killed: Arc<Killed>,
    ) -> Result<Self, NodeError> {
        let (stop, stopped) = mpsc::channel();
        let killer =
            Killer { node: node.clone(), peers, random: random(seed, ("faults", index)), killed, stopped };
        let schedules = [(Fault::Pool, POOL_EVERY), (Fault::Control, CONTROL_EVERY)]
            .map(|(fault, every)| Schedule::new(fault, every, index, nodes));
        let thread = thread::Builder::new()
            .name("faults".to_owned())
            .spawn(move || killer.run(schedules))
            .map_err(NodeError::io("cannot start a thread for faults"))?;
        Ok(Self { stop, thread })
    }

    /// No more faults.
    pub(super) fn stop(self) -> Result<(), NodeError> {
        drop(self.stop);
        self.thread.join().map_err(|_| NodeError::ThreadGone("faults"))
    }
}

/// When a fault is due next.
struct Schedule {
    fault: Fault,
    every: Duration,
    due: Instant,
}

impl Schedule {
    /// All nodes together keep to `every`; they take turns.
    fn new(fault: Fault, every: Duration, index: u16, nodes: u16) -> Self {
        let turn = every.mul_f64(f64::from(index) + 0.5);
        Self { fault, every: every * nodes.into(), due: Instant::now() + turn }
    }
}

struct Killer {
    node: Node,
    peers: Vec<NodeName>,
    random: SmallRng,
    killed: Arc<Killed>,
    stopped: mpsc::Receiver<()>,
}

impl Killer {
    fn run(mut self, mut schedules: [Schedule; 2]) {
        loop {
            let [first, second] = &mut schedules;
            let next = if first.due <= second.due { first } else { second };
            if self.is_stopped_within(next.due.saturating_duration_since(Instant::now())) {
                return;
            }
            while !self.strike(next.fault) {
                if self.is_stopped_within(RETRY) {
                    return;
                }
            }
            // From when it was due: a late fault does not make the next one late.
            next.due += next.every.mul_f64(self.random.random_range(0.5..1.5));
        }
    }

    fn is_stopped_within(&self, pause: Duration) -> bool {
        !matches!(self.stopped.recv_timeout(pause), Err(mpsc::RecvTimeoutError::Timeout))
    }

    /// Kills one connection to one of the peers; `false` if there was none.
    fn strike(&mut self, fault: Fault) -> bool {
        let peer = &self.peers[self.random.random_range(0..self.peers.len())];
        let (killed, count) = match fault {
            Fault::Pool => {
                let pick = self.random.random::<u32>() as usize;
                (self.node.sever(peer, Sever::Pool(pick)), &self.killed.pool)
            }
            Fault::Control => {
                // Severing what is being reconnected would be no fault.
                let info = self.node.info();
                let connected = info.peers.iter().any(|other| other.name == *peer && other.control_connected);
                (connected && self.node.sever(peer, Sever::Control), &self.killed.control)
            }
        };
        if killed {
            count.fetch_add(1, Ordering::Relaxed);
        }
        killed
    }
}
