//! Probes over sockets: connections and threads of their own.
//!
//! One thread per kind writes when a probe is due, without waiting for answers, and one per connection reads them. A
//! probe carries the time it was due, so reading needs no table.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::ring::child::NodeError;
use crate::ring::probe::{INTERVAL, Kind};

use super::is_end;

/// Answers not here so long after the last probe are counted as missing.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// A thread's work.
type Task = Box<dyn FnOnce() -> Result<(), NodeError> + Send>;

/// Probes of one kind to all neighbours.
pub(super) struct Prober {
    kind: Kind,
    orders: mpsc::Sender<Order>,
    round_trips: mpsc::Receiver<u64>,
}

enum Order {
    Start,
    /// Answers how many probes were sent.
    Stop(mpsc::Sender<usize>),
}

impl Prober {
    /// A prober at rest, and what its threads have to do.
    pub(super) fn new(kind: Kind, offset: Duration, neighbours: Vec<Arc<TcpStream>>) -> (Self, Vec<Task>) {
        let (orders, queue) = mpsc::channel();
        let (samples, round_trips) = mpsc::channel();
        let epoch = Instant::now();
        let mut tasks: Vec<Task> = Vec::new();
        for stream in &neighbours {
            let (stream, samples) = (Arc::clone(stream), samples.clone());
            tasks.push(Box::new(move || measure(&stream, kind, epoch, &samples)));
        }
        tasks.push(Box::new(move || send_when_due(&queue, kind, epoch, offset, &neighbours)));
        (Self { kind, orders, round_trips }, tasks)
    }

    /// Of the probes.
    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    /// The first probe is due after the offset.
    pub(super) fn start(&self) -> Result<(), NodeError> {
        self.orders.send(Order::Start).map_err(|_| NodeError::ThreadGone("prober"))
    }

    /// Round trips since the start in microseconds, and how many answers are missing.
    pub(super) fn stop(&self) -> Result<(Vec<u64>, u64), NodeError> {
        let gone = || NodeError::ThreadGone("prober");
        let (reply, count) = mpsc::channel();
        self.orders.send(Order::Stop(reply)).map_err(|_| gone())?;
        let sent = count.recv().map_err(|_| gone())?;
        let deadline = Instant::now() + ANSWER_DEADLINE;
        let mut round_trips = Vec::with_capacity(sent);
        while round_trips.len() < sent {
            let Ok(sample) =
                self.round_trips.recv_timeout(deadline.saturating_duration_since(Instant::now()))
            else {
                break;
            };
            round_trips.push(sample);
        }
        let unanswered = (sent - round_trips.len()) as u64;
        Ok((round_trips, unanswered))
    }
}

/// Sends every probe back until the neighbour closes the connection.
pub(super) fn answer(mut stream: &TcpStream, kind: Kind) -> Result<(), NodeError> {
    let mut probe = vec![0; kind.size()];
    while read_probe(stream, &mut probe)? {
        stream.write_all(&probe).map_err(NodeError::io("cannot answer a neighbour's probe"))?;
    }
    Ok(())
}

fn send_when_due(
    orders: &mpsc::Receiver<Order>,
    kind: Kind,
    epoch: Instant,
    offset: Duration,
    neighbours: &[Arc<TcpStream>],
) -> Result<(), NodeError> {
    let mut probe = vec![0x5a; kind.size()];
    let mut send = |due: Instant| {
        probe[..8].copy_from_slice(&nanoseconds(due - epoch).to_le_bytes());
        neighbours
            .iter()
            .try_for_each(|stream| (&**stream).write_all(&probe))
            .map(|()| neighbours.len())
            .map_err(NodeError::io("cannot send a probe to a neighbour"))
    };
    while let Ok(order) = orders.recv() {
        let mut due = Instant::now() + offset;
        let mut sent = 0;
        let mut stop = match order {
            Order::Start => None,
            Order::Stop(reply) => {
                // Nothing was started, so nothing was sent.
                let _ = reply.send(0);
                continue;
            }
        };
        while stop.is_none() {
            match orders.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    sent += send(due)?;
                    due += INTERVAL;
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(Order::Start) => {}
                Ok(Order::Stop(reply)) => stop = Some(reply),
            }
        }
        // What was due before the end counts, even if this thread comes late.
        while due <= Instant::now() {
            sent += send(due)?;
            due += INTERVAL;
        }
        // Who asked has given up only if the node is ending.
        let _ = stop.map(|reply| reply.send(sent));
    }
    Ok(())
}

fn measure(
    stream: &TcpStream,
    kind: Kind,
    epoch: Instant,
    samples: &mpsc::Sender<u64>,
) -> Result<(), NodeError> {
    let mut probe = vec![0; kind.size()];
    while read_probe(stream, &mut probe)? {
        let mut due = [0; 8];
        due.copy_from_slice(&probe[..8]);
        let round_trip = nanoseconds(epoch.elapsed()).saturating_sub(u64::from_le_bytes(due));
        if samples.send(round_trip / 1000).is_err() {
            break;
        }
    }
    Ok(())
}

fn read_probe(mut stream: &TcpStream, probe: &mut [u8]) -> Result<bool, NodeError> {
    match stream.read_exact(probe) {
        Ok(()) => Ok(true),
        Err(error) if is_end(&error) => Ok(false),
        Err(error) => Err(NodeError::io("cannot read a probe")(error)),
    }
}

/// Lasts for 584 years.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
