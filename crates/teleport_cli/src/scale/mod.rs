//! `teleport scale`: what idle and lightly used peers cost a node: memory, descriptors, threads, wake-ups.
//!
//! The coordinator ([`run`]) starts the nodes, has them connect with each other, and reads at each step what the system knows of
//! their processes ([`coordinator`]). A [`node`] ([`run_node`]) does nothing but what it is told to.

mod coordinator;
mod node;
mod protocol;
mod report;

use thiserror::Error;

use crate::args::{ScaleNodeOptions, ScaleOptions};
use crate::bench::child::{self, NodeError};
use crate::bench::process::available_bytes;
use crate::bench::{BenchError, lead, print, results};
use node::ScaleNode;

/// What a node takes at the most without peers, and for each of them: twice what was ever measured.
const NODE_BYTES: u64 = 16 << 20;
const PEER_BYTES: u64 = 128 << 10;

/// Why there are no results.
#[derive(Debug, Error)]
pub(crate) enum ScaleError {
    /// Nodes may fill more memory than there is.
    #[error(
        "{nodes} nodes may take {needed} MiB of memory, and {available} MiB are free: choose fewer --nodes"
    )]
    NoMemory {
        /// How many.
        nodes: u16,
        /// In MiB.
        needed: u64,
        /// In MiB.
        available: u64,
    },
    /// As in every benchmark.
    #[error(transparent)]
    Bench(#[from] BenchError),
}

/// Runs the measurement and prints its results.
pub(crate) fn run(options: &ScaleOptions) -> Result<(), ScaleError> {
    if let Some(path) = &options.json {
        results::check_writable(path)?;
    }
    check_memory(options.nodes, available_bytes())?;
    let report = lead(coordinator::measure(options))?;
    if let Some(path) = &options.json {
        results::write(&report, path)?;
    }
    Ok(print(&report.render())?)
}

/// Runs one node until the coordinator closes its stdin.
pub(crate) fn run_node(options: &ScaleNodeOptions) -> Result<(), NodeError> {
    child::run(|| ScaleNode::start(options)?.serve())
}

fn check_memory(nodes: u16, available: Option<u64>) -> Result<(), ScaleError> {
    let count = u64::from(nodes);
    let needed = count * (NODE_BYTES + count * PEER_BYTES);
    match available {
        Some(available) if needed > available => {
            Err(ScaleError::NoMemory { nodes, needed: needed >> 20, available: available >> 20 })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_no_memory_for_is_refused_with_the_numbers() {
        assert!(check_memory(50, None).is_ok() && check_memory(50, Some(2 << 30)).is_ok());
        let refusal = check_memory(200, Some(2 << 30)).unwrap_err().to_string();
        for part in ["200 nodes", "8200 MiB", "2048 MiB", "--nodes"] {
            assert!(refusal.contains(part), "{refusal}");
        }
    }
}
