//! `teleport ring`: transports side by side on a ring of nodes.
//!
//! The coordinator ([`run`]) starts the node processes of every transport, leads them through the
//! rounds in turn ([`coordinator`]) and reports ([`report`], [`table`]). A node is either a Rust process
//! ([`run_node`]) with one of the [`transports`], or a program that speaks the same [`protocol`]. A run under
//! [`chaos`] has no rounds, but the same processes, probes and report.

mod arrivals;
mod chaos;
mod coordinator;
mod demand;
mod figures;
mod node;
mod payload;
mod probe;
mod protocol;
mod report;
mod rounds;
mod table;
mod topology;
mod transports;

use thiserror::Error;

use crate::args::{NodeOptions, RingOptions, Transport};
use crate::bench::child::{self, NodeError};
use crate::bench::{BenchError, lead, print, results};
use report::Report;
use transports::teleport::TeleportNode;
use transports::teleport::chaos::ChaosNode;

/// Why there are no results.
#[derive(Debug, Error)]
pub(crate) enum RingError {
    /// None of the transports asked for can run here.
    #[error("nothing to measure: {0}")]
    NothingToMeasure(String),
    /// The messages alone take more than there is.
    #[error(
        "--size {size} for {workers} workers takes {needed} MiB of memory at the least, and {available} MiB are free: \
         choose a smaller --size, fewer --nodes or --workers, or one --transport"
    )]
    NoMemory {
        /// Of a message.
        size: String,
        /// Of all nodes.
        workers: u32,
        /// In MiB.
        needed: u128,
        /// In MiB.
        available: u128,
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
    /// As in every benchmark.
    #[error(transparent)]
    Bench(#[from] BenchError),
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
        results::check_writable(path)?;
    }
    demand::check(options)?;
    let Outcome { report, verdict } = lead(measure(options))?;
    if let Some(path) = &options.json {
        results::write(&report, path)?;
    }
    print(&table::render(&report))?;
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
    child::run(|| match options.transport {
        Transport::Teleport | Transport::Tls => {
            let node = TeleportNode::start(options)?;
            match options.chaos {
                Some(seed) => ChaosNode::new(node, seed).serve(),
                None => node::serve_ring(node),
            }
        }
        Transport::Raw => node::serve_ring(transports::raw::RawNode::new(options)?),
        Transport::Disterl => Err(NodeError::NotRust("disterl")),
    })
}
