//! Probes over sockets: connections and threads of their own.
//!
//! One thread per kind writes when a probe is due, without waiting for answers, and one per connection reads them. A
//! probe carries the time it was due, so reading needs no table.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::bench::child::NodeError;
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
    samples: mpsc::Receiver<Sample>,
    epoch: Instant,
    started: Duration,
}

/// An answered probe; times are since the epoch.
struct Sample {
    due: Duration,
    answered: Duration,
}

enum Order {
    /// Probes are due from this time on.
    Start(Instant),
    /// Answers how many probes were sent.
    Stop(mpsc::Sender<usize>),
}

impl Prober {
    /// A prober at rest, and what its threads have to do.
    pub(super) fn new(kind: Kind, offset: Duration, neighbours: Vec<Arc<TcpStream>>) -> (Self, Vec<Task>) {
        let (orders, queue) = mpsc::channel();
        let (answered, samples) = mpsc::channel();
        let epoch = Instant::now();
        let mut tasks: Vec<Task> = Vec::new();
        for stream in &neighbours {
            let (stream, answered) = (Arc::clone(stream), answered.clone());
            tasks.push(Box::new(move || measure(&stream, kind, epoch, &answered)));
        }
        tasks.push(Box::new(move || send_when_due(&queue, kind, epoch, offset, &neighbours)));
        (Self { kind, orders, samples, epoch, started: Duration::ZERO }, tasks)
    }

    /// Of the probes.
    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    /// The first probe is due after the offset.
    pub(super) fn start(&mut self) -> Result<(), NodeError> {
        // Taken here, not in the thread, which may come late because of the flood.
        let now = Instant::now();
        self.started = now - self.epoch;
        self.orders.send(Order::Start(now)).map_err(|_| NodeError::ThreadGone("prober"))
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
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(Sample { due, answered }) = self.samples.recv_timeout(left) else { break };
            // Older ones were given up in their own round.
            if due >= self.started {
                round_trips.push(microseconds(answered.saturating_sub(due)));
            }
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
        let mut due = match order {
            Order::Start(time) => time + offset,
            Order::Stop(reply) => {
                // Nothing was started, so nothing was sent.
                let _ = reply.send(0);
                continue;
            }
        };
        let mut sent = 0;
        let mut stop = None;
        while stop.is_none() {
            match orders.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    sent += send(due)?;
                    due += INTERVAL;
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(Order::Start(_)) => {}
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
    samples: &mpsc::Sender<Sample>,
) -> Result<(), NodeError> {
    let mut probe = vec![0; kind.size()];
    while read_probe(stream, &mut probe)? {
        let mut due = [0; 8];
        due.copy_from_slice(&probe[..8]);
        let due = Duration::from_nanos(u64::from_le_bytes(due));
        if samples.send(Sample { due, answered: epoch.elapsed() }).is_err() {
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

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (dialled, listener.accept().unwrap().0)
    }

    #[test]
    fn an_answer_held_back_counts_from_the_time_its_probe_was_due() {
        let (here, mut there) = connection();
        let closing = here.try_clone().unwrap();
        let (mut prober, tasks) = Prober::new(Kind::Tick, Duration::ZERO, vec![Arc::new(here)]);
        let threads: Vec<_> = tasks.into_iter().map(thread::spawn).collect();
        prober.start().unwrap();
        let mut probes = [[0; 16]; 3];
        for probe in &mut probes {
            there.read_exact(probe).unwrap();
        }
        there.write_all(&probes.concat()).unwrap();
        let answering = thread::spawn(move || answer(&there, Kind::Tick).unwrap());
        let (mut round_trips, unanswered) = prober.stop().unwrap();
        assert_eq!(unanswered, 0);
        round_trips.sort_unstable();
        // All three waited for the third, so the first waited two intervals longer than that.
        let longest = Duration::from_micros(*round_trips.last().unwrap());
        assert!(round_trips.len() >= 3 && longest >= 2 * INTERVAL, "{round_trips:?}");
        drop(prober);
        closing.shutdown(std::net::Shutdown::Write).unwrap();
        answering.join().unwrap();
        threads.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
    }

    #[test]
    fn stopping_at_rest_measures_nothing() {
        let (here, _there) = connection();
        let (prober, mut tasks) = Prober::new(Kind::Echo, Duration::ZERO, vec![Arc::new(here)]);
        let sending = thread::spawn(tasks.pop().unwrap());
        assert_eq!(prober.stop().unwrap(), (Vec::new(), 0));
        drop(prober);
        sending.join().unwrap().unwrap();
    }
}
