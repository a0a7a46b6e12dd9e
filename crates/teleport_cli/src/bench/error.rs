//! Why a benchmark has no results.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

impl BenchError {
    /// The exit code that goes with it: what shells have for a program that a signal has ended, else 1.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted { signal } => u8::try_from(128 + signal).unwrap_or(1),
            _ => 1,
        }
    }
}

/// What can go wrong in every benchmark, seen from its coordinator.
#[derive(Debug, Error)]
pub(crate) enum BenchError {
    /// The coordinator's own runtime, signals or path.
    #[error("cannot {what}")]
    Setup {
        /// What it tried.
        what: &'static str,
        /// What came of it.
        source: io::Error,
    },
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
    /// A node cannot be stopped, or ended.
    #[error("{transport}: cannot send node {node} a signal")]
    Signal {
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
    /// The user or the system wants it to end.
    #[error("interrupted; all nodes are ended")]
    Interrupted {
        /// The signal's number.
        signal: i32,
    },
}
