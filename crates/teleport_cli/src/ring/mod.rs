//! `teleport ring`: transports side by side on a ring of nodes.
//!
//! The coordinator ([`run`]) starts the node processes of every transport ([`cluster`]), leads them through the
//! rounds in turn ([`coordinator`]) and reports ([`report`], [`table`]). A node is either a Rust process
//! ([`run_node`]) with one of the [`transports`], or a program that speaks the same [`protocol`]. A run under
//! [`chaos`] has no rounds, but the same processes, probes and report.

mod arrivals;
mod chaos;
mod child;
mod cluster;
mod coordinator;
mod payload;
mod probe;
mod process;
mod progress;
mod protocol;
mod report;
mod stats;
mod table;
mod topology;
mod transports;

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{NodeOptions, RingOptions, Transport};
use report::Report;
use transports::teleport::TeleportNode;
use transports::teleport::chaos::ChaosNode;

pub(crate) use child::NodeError;

/// Why there are no results.
#[derive(Debug, Error)]
pub(crate) enum RingError {
    /// The coordinator's own runtime, signals or path.
    #[error("cannot {what}")]
    Setup {
        /// What it tried.
        what: &'static str,
        /// What came of it.
        source: io::Error,
    },
    /// None of the transports asked for can run here.
    #[error("nothing to measure: {0}")]
    NothingToMeasure(String),
    /// A node's process cannot be started.
    #[error("{transport}: cannot start node {node}")]
    Spawn {
        /// Of the node.
        transport: String,
        /// Its index.
        node: usize,
        /// Why.
        source: io::Error,
    },
    /// Nodes did not do their part in time.
    #[error(
        "{transport}: nodes {nodes} did not {what} within {seconds} s (a slow machine may need a longer --deadline)"
    )]
    Overdue {
        /// Of the nodes.
        transport: String,
        /// Those that are missing.
        nodes: String,
        /// What they should have done.
        what: String,
        /// The deadline.
        seconds: u64,
    },
    /// A node's process ended early.
    #[error("{transport}: node {node} ended before it could {what}; it last said: `{last_words}`")]
    NodeEnded {
        /// Of the node.
        transport: String,
        /// Its index.
        node: usize,
        /// What it should have done.
        what: String,
        /// What it printed.
        last_words: String,
    },
    /// A node gave up.
    #[error("{transport}: node {node} failed: {reason}")]
    NodeFailed {
        /// Of the node.
        transport: String,
        /// Its index.
        node: usize,
        /// In its own words.
        reason: String,
    },
    /// A node said something out of turn.
    #[error("{transport}: node {node} should {what}, but said `{event}`")]
    Unexpected {
        /// Of the node.
        transport: String,
        /// Its index.
        node: usize,
        /// What it should have done.
        what: String,
        /// What it said.
        event: String,
    },
    /// The system does not tell a node's CPU time or memory.
    #[error("{transport}: cannot read the CPU time or memory of node {node}")]
    Measure {
        /// Of the node.
        transport: String,
        /// Its index.
        node: usize,
        /// Why.
        source: io::Error,
    },
    /// Something cannot be written as JSON.
    #[error("cannot write JSON")]
    Json(#[from] serde_json::Error),
    /// The results cannot be stored.
    #[error("cannot write the results to {path}")]
    Write {
        /// Where to.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A run under chaos went wrong, or proves nothing.
    #[error(
        "the run under chaos failed: {complaints}; --seed {seed} draws the same messages and faults again, in other timing"
    )]
    Chaos {
        /// What is not as it should be.
        complaints: String,
        /// Of the run.
        seed: u64,
    },
    /// The user or the system wants it to end.
    #[error("interrupted; all nodes are ended")]
    Interrupted,
}

/// What came of a run.
struct Outcome {
    /// The results.
    report: Report,
    /// What is wrong with them, if anything.
    verdict: Result<(), RingError>,
}

/// Runs the benchmark and prints its results.
pub(crate) fn run(options: &RingOptions) -> Result<(), RingError> {
    if let Some(path) = &options.json {
        report::check_writable(path).map_err(|source| RingError::Write { path: path.clone(), source })?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| RingError::Setup { what: "start the coordinator's runtime", source })?;
    let Outcome { report, verdict } = runtime.block_on(async {
        tokio::select! {
            outcome = measure(options) => outcome,
            interrupt = interrupted() => Err(interrupt),
        }
    })?;
    print(&table::render(&report));
    if let Some(path) = &options.json {
        report::write(&report, path)?;
    }
    verdict
}

async fn measure(options: &RingOptions) -> Result<Outcome, RingError> {
    match options.chaos() {
        Some(chaos) => chaos::measure(options, chaos).await,
        None => Ok(Outcome { report: coordinator::measure(options).await?, verdict: Ok(()) }),
    }
}

/// Runs one node until the coordinator closes its stdin.
pub(crate) fn run_node(options: &NodeOptions) -> Result<(), NodeError> {
    match options.transport {
        Transport::Teleport => {
            let node = TeleportNode::start(options)?;
            match options.chaos {
                Some(seed) => ChaosNode::new(node, seed).serve(),
                None => child::serve_ring(node),
            }
        }
        Transport::Raw => child::serve_ring(transports::raw::RawNode::new(options)?),
        Transport::Disterl => Err(NodeError::NotRust("disterl")),
    }
}

/// The reason why the run ends early.
async fn interrupted() -> RingError {
    let watch = |kind| signal(kind).map_err(|source| RingError::Setup { what: "watch for signals", source });
    match (watch(SignalKind::interrupt()), watch(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            RingError::Interrupted
        }
        (Err(error), _) | (_, Err(error)) => error,
    }
}

#[allow(clippy::print_stdout, reason = "results are what this program prints")]
fn print(results: &str) {
    println!("{results}");
}
