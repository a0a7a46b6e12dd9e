//! `teleport rate`: small messages per second from one node to another, and round trips of calls.
//!
//! The coordinator ([`run`]) starts two nodes per transport and lets them work in turn ([`coordinator`]): the first
//! sends or calls, the second receives or answers. A node ([`run_node`]) is one of the [`transports`].

mod coordinator;
mod meter;
mod node;
mod payload;
mod protocol;
mod report;
mod table;
mod transports;

use thiserror::Error;

use crate::args::{RateNodeOptions, RateOptions, RateTransport};
use crate::bench::child::{self, NodeError};
use crate::bench::{BenchError, lead, print, results};
use transports::plain::PlainNode;
use transports::teleport::TeleportNode;

/// Why there are no results.
#[derive(Debug, Error)]
pub(crate) enum RateError {
    /// As in every benchmark.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// What was sent did not all arrive.
    #[error("{transport}: {sent} messages were sent in {round}, but {received} received")]
    Lost {
        /// What should have carried them.
        transport: String,
        /// When.
        round: String,
        /// By all senders since the start.
        sent: u64,
        /// By all receivers since the start.
        received: u64,
    },
    /// There is nothing to count.
    #[error("{transport}: nothing arrived in {round}; a busy machine may need more --seconds")]
    Silence {
        /// What should have carried messages.
        transport: String,
        /// When.
        round: String,
    },
}

/// Runs the benchmark and prints its results.
pub(crate) fn run(options: &RateOptions) -> Result<(), RateError> {
    if let Some(path) = &options.json {
        results::check_writable(path)?;
    }
    let outcome = lead(coordinator::measure(options))?;
    if let Some(path) = &options.json {
        results::write(&report::Report::of(&outcome), path)?;
    }
    Ok(print(&table::render(&outcome))?)
}

/// Runs one node until the coordinator closes its stdin.
pub(crate) fn run_node(options: &RateNodeOptions) -> Result<(), NodeError> {
    child::run(|| match options.transport {
        RateTransport::Teleport | RateTransport::Tls => node::serve_rate(TeleportNode::start(options)?),
        RateTransport::Raw | RateTransport::Inline => node::serve_rate(PlainNode::new(options)?),
    })
}
