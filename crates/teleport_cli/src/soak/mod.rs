//! `teleport soak`: nodes under load and faults, with a ledger at both ends of every pair.
//!
//! The coordinator ([`run`]) starts the nodes, strikes them as [`plan`]ned, and keeps what they tell ([`coordinator`],
//! [`fleet`]). A [`node`] ([`run_node`]) sends, calls and monitors all the while. At the end the [`judge`] compares the [`ledger`]s of
//! all lives of all nodes.

mod coordinator;
mod fleet;
mod judge;
mod ledger;
mod node;
mod plan;
mod protocol;
mod report;

use thiserror::Error;

use crate::args::{SoakNodeOptions, SoakOptions};
use crate::bench::child::{self, NodeError};
use crate::bench::process::available_bytes;
use crate::bench::{BenchError, lead, print, results};
use node::SoakNode;

/// So many complaints are printed.
const MOST_COMPLAINTS: usize = 20;

/// Why a soak has failed, or has not taken place.
#[derive(Debug, Error)]
pub(crate) enum SoakError {
    /// Nodes may fill more memory than there is.
    #[error(
        "{nodes} nodes with messages up to {size} may take {needed} MiB of memory, and {available} MiB are free: \
         choose fewer --nodes, or a smaller --size"
    )]
    NoMemory {
        /// How many.
        nodes: u16,
        /// Of a message.
        size: String,
        /// In MiB.
        needed: u64,
        /// In MiB.
        available: u64,
    },
    /// A promise was broken.
    #[error(
        "the soak failed: {complaints}; --seed {seed} draws the same traffic and faults again, in other timing"
    )]
    Broken {
        /// What is not as it should be.
        complaints: String,
        /// Of the run.
        seed: u64,
    },
    /// As in every benchmark.
    #[error(transparent)]
    Bench(#[from] BenchError),
}

/// Runs the soak and prints what came of it.
pub(crate) fn run(options: &SoakOptions) -> Result<(), SoakError> {
    if let Some(path) = &options.json {
        results::check_writable(path)?;
    }
    check_memory(options, available_bytes())?;
    let seed = options.seed();
    let (report, complaints) = lead(coordinator::soak(options, seed))?;
    if let Some(path) = &options.json {
        results::write(&report, path)?;
    }
    print(&report.render(options))?;
    if report.is_clean() && complaints.is_empty() {
        return Ok(());
    }
    let more = complaints.len().saturating_sub(MOST_COMPLAINTS);
    let mut complaints: Vec<_> = complaints.into_iter().take(MOST_COMPLAINTS).collect();
    if more > 0 {
        complaints.push(format!("and {more} more"));
    }
    Err(SoakError::Broken { complaints: complaints.join("; "), seed })
}

/// Runs one node until the coordinator closes its stdin.
pub(crate) fn run_node(options: &SoakNodeOptions) -> Result<(), NodeError> {
    child::run(|| SoakNode::start(options)?.serve())
}

/// A node has one message of the largest size to send from, one that arrives, and one in a mailbox.
fn check_memory(options: &SoakOptions, available: Option<u64>) -> Result<(), SoakError> {
    let per_node = 3 * options.size.bytes() as u64 + node::KEPT_BYTES;
    let needed = u64::from(options.nodes) * per_node;
    match available {
        Some(available) if needed > available => Err(SoakError::NoMemory {
            nodes: options.nodes,
            size: options.size.to_string(),
            needed: needed >> 20,
            available: available >> 20,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn what_there_is_no_memory_for_is_refused_with_the_numbers() {
        let Command::Soak(options) = Cli::parse_from(["teleport", "soak"]).command else {
            unreachable!("`soak` was parsed")
        };
        assert!(check_memory(&options, None).is_ok() && check_memory(&options, Some(8 << 30)).is_ok());
        let refusal = check_memory(&options, Some(1 << 30)).unwrap_err().to_string();
        for part in ["6 nodes", "64MiB", "2112 MiB", "1024 MiB", "--size"] {
            assert!(refusal.contains(part), "{refusal}");
        }
    }
}
