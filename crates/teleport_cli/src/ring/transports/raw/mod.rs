//! `raw`: blocking sockets without a protocol, the ceiling for everything that moves messages over TCP.
//!
//! A *lane* is a worker's way in one direction. It has one connection per hop, on which messages go only one way,
//! and one thread per node that reads a whole message and writes it on. The last node's acknowledgement takes the
//! other lane's connection against its traffic: that byte stream is otherwise unused, so acknowledgements
//! never wait behind a message.

mod buffers;
mod probes;
mod relay;
mod sender;
mod wire;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use crate::args::NodeOptions;
use crate::bench::child::NodeError;
use crate::bench::socket;
use crate::ring::arrivals::Arrivals;
use crate::ring::node::RingNode;
use crate::ring::probe::{Kind, Prober};
use crate::ring::protocol::{ProbeSamples, Tally};
use crate::ring::topology::{Direction, Topology};

use buffers::Buffers;
use relay::Relay;
use sender::{Job, Sender};
use wire::Purpose;

/// A node of plain sockets.
pub(crate) struct RawNode {
    setup: Setup,
    listener: TcpListener,
    address: SocketAddr,
    arrivals: Arc<Mutex<Arrivals>>,
    /// Each worker's queue; empty before the node is connected.
    senders: Vec<mpsc::Sender<Job>>,
    probers: Vec<(Kind, Prober)>,
    reports: mpsc::Receiver<Report>,
    reporter: mpsc::Sender<Report>,
}

/// What all parts of a node know.
#[derive(Debug, Clone)]
struct Setup {
    index: u16,
    nodes: u16,
    workers: u16,
    size: usize,
    ring: Topology,
    congestion: Option<String>,
}

/// From a node's threads to its main thread.
enum Report {
    /// A worker's message of this round is acknowledged.
    Acknowledged { worker: u16, round: u32, after: Duration },
    /// A thread cannot go on.
    Failed(NodeError),
}

/// A connection's writing half: the relay and the sender of a lane take turns, message by message.
type Outgoing = Arc<Mutex<Arc<TcpStream>>>;

impl RawNode {
    /// A node that listens, but has no connections yet.
    pub(crate) fn new(options: &NodeOptions) -> Result<Self, NodeError> {
        let setup = Setup {
            index: options.index,
            nodes: options.nodes,
            workers: options.workers,
            size: options.size.bytes(),
            ring: Topology::new(options.nodes),
            congestion: options.congestion.clone(),
        };
        let listener = socket::listen(Ipv4Addr::LOCALHOST, setup.congestion.as_deref())?;
        let address = listener.local_addr().map_err(NodeError::io("cannot tell the listener's address"))?;
        let (reporter, reports) = mpsc::channel();
        Ok(Self {
            setup,
            listener,
            address,
            arrivals: Arc::default(),
            senders: Vec::new(),
            probers: Vec::new(),
            reports,
            reporter,
        })
    }

    /// Opens this node's connections, to the neighbours in both directions.
    fn dial(&self, addresses: &[String]) -> Result<HashMap<(Direction, Purpose), Arc<TcpStream>>, NodeError> {
        let mut connections = HashMap::new();
        for direction in Direction::BOTH {
            let neighbour = self.setup.ring.neighbour(self.setup.index, direction);
            let text = addresses.get(usize::from(neighbour)).map_or("", String::as_str);
            let address =
                text.parse().map_err(|_| NodeError::Address { node: neighbour, address: text.to_owned() })?;
            for purpose in Purpose::all(self.setup.workers) {
                let stream = wire::dial(address, self.setup.congestion.as_deref(), direction, purpose)?;
                connections.insert((direction, purpose), Arc::new(stream));
            }
        }
        Ok(connections)
    }

    /// Takes the neighbours' connections; keys tell the direction of the dialler's traffic.
    fn accept(&self) -> Result<HashMap<(Direction, Purpose), Arc<TcpStream>>, NodeError> {
        let expected = 2 * Purpose::all(self.setup.workers).count();
        let mut connections = HashMap::new();
        while connections.len() < expected {
            let (stream, direction, purpose) = wire::accept(&self.listener, self.setup.workers)?;
            connections.insert((direction, purpose), Arc::new(stream));
        }
        Ok(connections)
    }

    fn start_lanes(
        &mut self,
        dialled: &HashMap<(Direction, Purpose), Arc<TcpStream>>,
        accepted: &HashMap<(Direction, Purpose), Arc<TcpStream>>,
    ) -> Result<(), NodeError> {
        let buffers = Arc::new(Buffers::new(self.setup.size));
        let own_direction = self.setup.ring.direction(self.setup.index);
        for worker in 0..self.setup.workers {
            let purpose = Purpose::Lane(worker);
            for direction in Direction::BOTH {
                let outgoing: Outgoing = Arc::new(Mutex::new(Arc::clone(&dialled[&(direction, purpose)])));
                if direction == own_direction {
                    // Acknowledgements come from the neighbour behind, on the connection that leads there.
                    let acks = Arc::clone(&dialled[&(direction.reverse(), purpose)]);
                    let sender = Sender::new(&self.setup, worker, Arc::clone(&outgoing), acks);
                    let (jobs, queue) = mpsc::channel();
                    self.senders.push(jobs);
                    self.spawn(format!("send-{worker}"), move |reports| sender.run(&queue, reports))?;
                }
                let relay = Relay {
                    setup: self.setup.clone(),
                    worker,
                    incoming: Arc::clone(&accepted[&(direction, purpose)]),
                    outgoing,
                    // To the neighbour ahead, against the traffic that it sends here.
                    acks: Arc::clone(&accepted[&(direction.reverse(), purpose)]),
                    buffers: Arc::clone(&buffers),
                    arrivals: Arc::clone(&self.arrivals),
                };
                self.spawn(format!("relay-{worker}"), move |_| relay.run())?;
            }
        }
        Ok(())
    }

    fn start_probers(
        &mut self,
        dialled: &HashMap<(Direction, Purpose), Arc<TcpStream>>,
        accepted: &HashMap<(Direction, Purpose), Arc<TcpStream>>,
    ) -> Result<(), NodeError> {
        for kind in Kind::BOTH {
            let purpose = Purpose::Probe(kind);
            for direction in Direction::BOTH {
                let stream = Arc::clone(&accepted[&(direction, purpose)]);
                self.spawn("answer".to_owned(), move |_| probes::answer(&stream, kind))?;
            }
            let to_neighbours =
                Direction::BOTH.map(|direction| Arc::clone(&dialled[&(direction, purpose)])).to_vec();
            let (prober, tasks) =
                probes::prober(kind, kind.offset(self.setup.index, self.setup.nodes), to_neighbours);
            self.probers.push((kind, prober));
            for task in tasks {
                self.spawn("probe".to_owned(), move |_| task())?;
            }
        }
        Ok(())
    }

    /// A thread whose failure is the node's.
    fn spawn<F>(&self, name: String, run: F) -> Result<(), NodeError>
    where
        F: FnOnce(&mpsc::Sender<Report>) -> Result<(), NodeError> + Send + 'static,
    {
        let reports = self.reporter.clone();
        let body = move || {
            if let Err(error) = run(&reports) {
                // The receiver is gone only if the node is ending.
                let _ = reports.send(Report::Failed(error));
            }
        };
        thread::Builder::new()
            .name(name)
            .stack_size(256 * 1024)
            .spawn(body)
            .map_err(NodeError::io("cannot start a thread"))?;
        Ok(())
    }
}

impl RingNode for RawNode {
    fn address(&self) -> String {
        self.address.to_string()
    }

    fn connect(&mut self, addresses: &[String]) -> Result<(), NodeError> {
        // The kernel completes connections before they are accepted, so dialling first cannot hang as long as
        // the listener's backlog holds them.
        let dialled = self.dial(addresses)?;
        let accepted = self.accept()?;
        self.start_lanes(&dialled, &accepted)?;
        self.start_probers(&dialled, &accepted)
    }

    fn start_probes(&mut self) -> Result<(), NodeError> {
        self.probers.iter_mut().try_for_each(|(_, prober)| prober.start())
    }

    fn round(&mut self, round: u32, verify: bool) -> Result<Vec<Duration>, NodeError> {
        for sender in &self.senders {
            sender.send(Job { round, verify }).map_err(|_| NodeError::ThreadGone("sender"))?;
        }
        let mut waits = vec![None; self.senders.len()];
        while waits.contains(&None) {
            match self.reports.recv() {
                Ok(Report::Acknowledged { worker, round: of, after }) if of == round => {
                    waits[usize::from(worker)] = Some(after);
                }
                Ok(Report::Acknowledged { worker, round: of, .. }) => {
                    let what = format!("an acknowledgement of round {of} in round {round}");
                    return Err(NodeError::Protocol {
                        from: format!("the last node of worker {worker}"),
                        what,
                    });
                }
                Ok(Report::Failed(error)) => return Err(error),
                Err(mpsc::RecvError) => return Err(NodeError::ThreadGone("all")),
            }
        }
        Ok(waits.into_iter().flatten().collect())
    }

    fn stop_probes(&mut self) -> Result<ProbeSamples, NodeError> {
        let mut samples = ProbeSamples::default();
        for (kind, prober) in &self.probers {
            let (round_trips, unanswered) = prober.stop()?;
            match kind {
                Kind::Tick => samples.tick_us = round_trips,
                Kind::Echo => samples.echo_us = round_trips,
            }
            samples.unanswered += unanswered;
        }
        Ok(samples)
    }

    fn tally(&self) -> Tally {
        locked(&self.arrivals).tally()
    }
}

/// Locks what is whole at any time, even if a thread panicked while it held the lock.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the neighbour has just ended, as it does when the ring is taken down.
fn is_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}
