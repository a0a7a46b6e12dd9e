//! When probes are due, and how long they took.
//!
//! A probe's round trip counts from the time it was *due*: if the sender itself was held up, that is a delay that
//! a user would have had, too.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::bench::child::NodeError;

/// Answers not here so long after the last probe are counted as missing.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// One probe of each kind is due at each neighbour so often.
pub(crate) const INTERVAL: Duration = Duration::from_millis(10);

/// Bytes of a tick.
pub(crate) const TICK_SIZE: usize = 16;

/// Bytes of an echo message.
pub(crate) const ECHO_SIZE: usize = 1024;

/// What a probe stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A heartbeat.
    Tick,
    /// A small message.
    Echo,
}

impl Kind {
    /// Both kinds.
    pub(crate) const BOTH: [Self; 2] = [Self::Tick, Self::Echo];

    /// Bytes of such a probe.
    pub(crate) const fn size(self) -> usize {
        match self {
            Self::Tick => TICK_SIZE,
            Self::Echo => ECHO_SIZE,
        }
    }

    /// When a node's first probe is due after the start.
    ///
    /// Nodes and kinds take turns within the interval, lest probes mostly wait for one another.
    pub(crate) fn offset(self, node: u16, nodes: u16) -> Duration {
        let turn = 2 * u32::from(node) + self as u32;
        INTERVAL * turn / (2 * u32::from(nodes))
    }
}

/// Probes of one kind to all neighbours: lets its [`Schedule`] send them, and collects what [`Answers`] come.
pub(crate) struct Prober {
    orders: mpsc::Sender<Order>,
    samples: mpsc::Receiver<Sample>,
    epoch: Instant,
    started: Duration,
}

/// The part of a prober that sends.
pub(crate) struct Schedule {
    orders: mpsc::Receiver<Order>,
    epoch: Instant,
    offset: Duration,
}

/// The part of a prober that takes answers.
#[derive(Clone)]
pub(crate) struct Answers {
    samples: mpsc::Sender<Sample>,
    epoch: Instant,
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
    /// A prober at rest, whose first probe is due so long after each start.
    pub(crate) fn new(offset: Duration) -> (Self, Schedule, Answers) {
        let (orders, queue) = mpsc::channel();
        let (answered, samples) = mpsc::channel();
        let epoch = Instant::now();
        let schedule = Schedule { orders: queue, epoch, offset };
        let answers = Answers { samples: answered, epoch };
        (Self { orders, samples, epoch, started: Duration::ZERO }, schedule, answers)
    }

    /// The first probe is due after the offset.
    pub(crate) fn start(&mut self) -> Result<(), NodeError> {
        // Taken here, not in the thread, which may come late because of the flood.
        let now = Instant::now();
        self.started = now - self.epoch;
        self.orders.send(Order::Start(now)).map_err(|_| NodeError::ThreadGone("prober"))
    }

    /// Round trips since the start in microseconds, and how many answers are missing.
    pub(crate) fn stop(&self) -> Result<(Vec<u64>, u64), NodeError> {
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

impl Schedule {
    /// Calls `send` whenever probes are due, without waiting for answers, as long as there is a prober.
    ///
    /// `send` is told when they were due, which the probe carries and its answer returns, so that nobody needs a table;
    /// it answers how many it has sent.
    pub(crate) fn run(self, mut send: impl FnMut(u64) -> Result<usize, NodeError>) -> Result<(), NodeError> {
        let Self { orders, epoch, offset } = self;
        let mut send = |due: Instant| send(nanoseconds(due - epoch));
        while let Ok(order) = orders.recv() {
            let mut due = match order {
                Order::Start(time) => time + offset,
                Order::Stop(reply) => {
                    // Nothing was started, so nothing was sent.
                    let _ = reply.send(0);
                    continue;
                }
            };
            let (mut sent, mut stop) = (0, None);
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
            // The receiver is gone only if the node is ending.
            let _ = stop.map(|reply| reply.send(sent));
        }
        Ok(())
    }
}

impl Answers {
    /// The answer to a probe that was due then is here; false once nobody wants to know.
    pub(crate) fn answered(&self, due_ns: u64) -> bool {
        let due = Duration::from_nanos(due_ns);
        self.samples.send(Sample { due, answered: self.epoch.elapsed() }).is_ok()
    }
}

/// For round trips.
pub(crate) fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Lasts for 584 years.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn turns_fill_the_interval_evenly() {
        let mut offsets: Vec<Duration> =
            (0..5).flat_map(|node| Kind::BOTH.map(|kind| kind.offset(node, 5))).collect();
        offsets.sort();
        assert_eq!(offsets[0], Duration::ZERO);
        assert!(offsets.windows(2).all(|pair| pair[1] - pair[0] == Duration::from_millis(1)));
    }

    #[test]
    fn stopping_at_rest_measures_nothing() {
        let (prober, schedule, _answers) = Prober::new(Duration::ZERO);
        let sending = thread::spawn(|| schedule.run(|_| unreachable!("nothing was started")));
        assert_eq!(prober.stop().unwrap(), (Vec::new(), 0));
        drop(prober);
        sending.join().unwrap().unwrap();
    }
}
