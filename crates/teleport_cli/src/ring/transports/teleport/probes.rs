//! Probes over the product: its own ticks, and 1 KiB messages to a mailbox that sends them back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use teleport::{Binary, Node, NodeName};
use tokio::runtime::{Handle, Runtime};

use super::Setup;
use crate::bench::child::NodeError;
use crate::ring::probe::{ECHO_SIZE, INTERVAL, Kind};

/// Answers not here so long after the last probe are counted as missing.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// Round trips of the product's ticks, as long as somebody wants to know.
#[derive(Debug, Default)]
pub(super) struct Ticks {
    wanted: AtomicBool,
    round_trips: Mutex<Vec<u64>>,
}

impl Ticks {
    /// Called on the thread that ticks.
    pub(super) fn record(&self, round_trip: Duration) {
        if self.wanted.load(Ordering::Relaxed) {
            self.lock().push(microseconds(round_trip));
        }
    }

    pub(super) fn start(&self) {
        self.lock().clear();
        self.wanted.store(true, Ordering::Relaxed);
    }

    pub(super) fn stop(&self) -> Vec<u64> {
        self.wanted.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u64>> {
        self.round_trips.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A 1 KiB message, there and back. Carries the time it was due, so that nobody has to remember it.
#[derive(Debug, Serialize, Deserialize)]
struct Echo {
    /// Since the prober's start.
    due_ns: u64,
    filling: Binary,
}

enum Order {
    Start(Instant),
    /// Answers how many probes were sent.
    Stop(mpsc::Sender<usize>),
}

/// Echo messages to all neighbours.
pub(super) struct Echoes {
    epoch: Instant,
    started: Duration,
    orders: mpsc::Sender<Order>,
    answers: mpsc::Receiver<(Duration, Duration)>,
}

impl Echoes {
    /// A prober at rest, and the mailbox that answers those of the neighbours.
    pub(super) fn start(
        runtime: &Runtime,
        node: &Node,
        setup: Setup,
        neighbours: Vec<NodeName>,
    ) -> Result<Self, NodeError> {
        let unusable = NodeError::teleport("cannot register the echo");
        let mut echo = node.register("echo").map_err(unusable)?;
        runtime.spawn(async move {
            while let Some(probe) = echo.recv().await {
                // The asker is gone only if the ring is taken down.
                let _ = echo
                    .process()
                    .send_encoded(probe.from(), probe.body().clone().into(), Default::default())
                    .await;
            }
        });
        let epoch = Instant::now();
        let mut inbox = node.spawn_mailbox().map_err(NodeError::teleport("cannot start the prober"))?;
        let process = inbox.process();
        let (answered, answers) = mpsc::channel();
        runtime.spawn(async move {
            while let Some(answer) = inbox.recv().await {
                let now = epoch.elapsed();
                let Ok(Echo { due_ns, .. }) = answer.decode() else { continue };
                if answered.send((Duration::from_nanos(due_ns), now)).is_err() {
                    break;
                }
            }
        });
        let (orders, queue) = mpsc::channel();
        let (handle, offset) = (runtime.handle().clone(), Kind::Echo.offset(setup.index, setup.nodes));
        let send = move |due: Duration| send(&handle, &process, &neighbours, due);
        thread::Builder::new()
            .name("echo".to_owned())
            .spawn(move || send_when_due(&queue, epoch, offset, send))
            .map_err(NodeError::io("cannot start the echo thread"))?;
        Ok(Self { epoch, started: Duration::ZERO, orders, answers })
    }

    /// The first probe is due after the node's offset.
    pub(super) fn start_probing(&mut self) -> Result<(), NodeError> {
        let now = Instant::now();
        self.started = now - self.epoch;
        self.orders.send(Order::Start(now)).map_err(|_| NodeError::ThreadGone("echo"))
    }

    /// Round trips since the start in microseconds, and how many answers are missing.
    pub(super) fn stop_probing(&mut self) -> Result<(Vec<u64>, u64), NodeError> {
        let gone = || NodeError::ThreadGone("echo");
        let (reply, count) = mpsc::channel();
        self.orders.send(Order::Stop(reply)).map_err(|_| gone())?;
        let sent = count.recv().map_err(|_| gone())?;
        let deadline = Instant::now() + ANSWER_DEADLINE;
        let mut round_trips = Vec::with_capacity(sent);
        while round_trips.len() < sent {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok((due, answered)) = self.answers.recv_timeout(left) else { break };
            // Older ones were given up in their own round.
            if due >= self.started {
                round_trips.push(microseconds(answered.saturating_sub(due)));
            }
        }
        let unanswered = (sent - round_trips.len()) as u64;
        Ok((round_trips, unanswered))
    }
}

/// Sends a probe to each neighbour; returns to how many.
fn send(handle: &Handle, process: &teleport::Process, neighbours: &[NodeName], due: Duration) -> usize {
    let due_ns = u64::try_from(due.as_nanos()).unwrap_or(u64::MAX);
    let echo = Echo { due_ns, filling: Binary::from(vec![0x5a; ECHO_SIZE]) };
    let sent = |neighbour: &&NodeName| handle.block_on(process.send(("echo", *neighbour), &echo)).is_ok();
    neighbours.iter().filter(sent).count()
}

fn send_when_due(
    orders: &mpsc::Receiver<Order>,
    epoch: Instant,
    offset: Duration,
    send: impl Fn(Duration) -> usize,
) {
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
                    sent += send(due - epoch);
                    due += INTERVAL;
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Ok(Order::Start(_)) => {}
                Ok(Order::Stop(reply)) => stop = Some(reply),
            }
        }
        // What was due before the end counts, even if this thread comes late.
        while due <= Instant::now() {
            sent += send(due - epoch);
            due += INTERVAL;
        }
        // Who asked has given up only if the node is ending.
        let _ = stop.map(|reply| reply.send(sent));
    }
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
