//! Probes over the product: its own ticks, and 1 KiB messages to a mailbox that sends them back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use teleport::{Binary, Node, NodeName};
use tokio::runtime::{Handle, Runtime};

use super::Setup;
use crate::bench::child::NodeError;
use crate::ring::probe::{ECHO_SIZE, Kind, Prober, microseconds};

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
    /// As the prober's schedule counts.
    due_ns: u64,
    filling: Binary,
}

/// A prober at rest, and the mailbox that answers those of the neighbours.
pub(super) fn echoes(
    runtime: &Runtime,
    node: &Node,
    setup: Setup,
    neighbours: Vec<NodeName>,
) -> Result<Prober, NodeError> {
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
    let (prober, schedule, answers) = Prober::new(Kind::Echo.offset(setup.index, setup.nodes));
    let mut inbox = node.mailbox().map_err(NodeError::teleport("cannot start the prober"))?;
    let process = inbox.process();
    runtime.spawn(async move {
        while let Some(answer) = inbox.recv().await {
            let Ok(Echo { due_ns, .. }) = answer.decode() else { continue };
            if !answers.answered(due_ns) {
                break;
            }
        }
    });
    let handle = runtime.handle().clone();
    let send = move |due_ns| Ok(send(&handle, &process, &neighbours, due_ns));
    let run = move || {
        // A failed send is a probe not sent: there is nothing else that could fail.
        let _ = schedule.run(send);
    };
    thread::Builder::new()
        .name("echo".to_owned())
        .spawn(run)
        .map_err(NodeError::io("cannot start the echo thread"))?;
    Ok(prober)
}

/// Sends a probe to each neighbour; returns to how many.
fn send(handle: &Handle, process: &teleport::Process, neighbours: &[NodeName], due_ns: u64) -> usize {
    let echo = Echo { due_ns, filling: Binary::from(vec![0x5a; ECHO_SIZE]) };
    let sent = |neighbour: &&NodeName| handle.block_on(process.send(("echo", *neighbour), &echo)).is_ok();
    neighbours.iter().filter(sent).count()
}
