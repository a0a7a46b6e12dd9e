//! A node that is a process of this program: the part that is the same in every benchmark.

use std::io::{self, BufRead, Write};
use std::sync::mpsc;
use std::thread;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::protocol::{Command, Event};

/// Why a node cannot go on.
#[derive(Debug, Error)]
pub(crate) enum NodeError {
    /// A socket or a pipe failed.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// What came of it.
        source: io::Error,
    },
    /// The coordinator said something that this node does not understand.
    #[error("cannot read the coordinator's line `{line}`")]
    Command {
        /// What it said.
        line: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The coordinator's list of peers has a gap, or something that is no address.
    #[error("no usable address for node {node}: `{address}`")]
    Address {
        /// Whose.
        node: u16,
        /// As it was told.
        address: String,
    },
    /// Another node sent what it should never send.
    #[error("{from} sent {what}")]
    Protocol {
        /// The connection.
        from: String,
        /// What came.
        what: String,
    },
    /// The payload is not what its sender made.
    #[error("the payload of worker {worker} at node {origin} was damaged on its way in round {round}")]
    Damaged {
        /// The sender's node.
        origin: u16,
        /// The sender.
        worker: u16,
        /// The round.
        round: u32,
    },
    /// The transport's nodes are not processes of this program.
    #[error("`{0}` has no nodes in this program; use `teleport ring --transport {0}`")]
    NotRust(&'static str),
    /// The coordinator takes this node for one of another kind of run.
    #[error("told what a node of {0} does not do; are coordinator and nodes the same program?")]
    WrongRole(&'static str),
    /// The product refused.
    #[error("{what}: {reason}")]
    Teleport {
        /// What was tried.
        what: String,
        /// In the product's words.
        reason: String,
    },
    /// A thread of this node ended too early.
    #[error("a thread ended without a reason: {0}")]
    ThreadGone(&'static str),
}

impl NodeError {
    /// For `map_err`: what was tried when the product refused.
    pub(crate) fn teleport<E: std::error::Error>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |error| Self::Teleport { what, reason: crate::chain(&error) }
    }

    /// For `map_err`: what was tried when an I/O error came.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::Io { what, source }
    }
}

/// Runs a node to its end; a failure, also before it could be told anything, is the coordinator's to know.
pub(crate) fn run(node: impl FnOnce() -> Result<(), NodeError>) -> Result<(), NodeError> {
    node().inspect_err(tell_failure)
}

/// Ends the process from one of its other threads, with the reason for the coordinator.
pub(crate) fn give_up(error: &NodeError) -> ! {
    tell_failure(error);
    std::process::exit(1);
}

/// Follows the coordinator's commands until it closes the node's stdin.
///
/// The process ends with stdin even in the middle of a round, so that no node outlives its coordinator.
pub(crate) fn serve<O: DeserializeOwned, A: Serialize>(
    address: String,
    mut obey: impl FnMut(Command<O>) -> Result<Event<A>, NodeError>,
) -> Result<(), NodeError> {
    let commands = read_commands()?;
    tell(&Event::<A>::Ready { address, version: env!("CARGO_PKG_VERSION").to_owned() })?;
    for line in commands {
        let command = serde_json::from_str(&line)
            .map_err(|source| NodeError::Command { line: line.clone(), source })?;
        tell(&obey(command)?)?;
    }
    Ok(())
}

fn tell_failure(error: &NodeError) {
    let reason = crate::chain(error);
    // Should this fail too, the coordinator sees the process end.
    let _ = tell(&Event::<()>::Failed { reason });
}

fn read_commands() -> Result<mpsc::Receiver<String>, NodeError> {
    let (sender, receiver) = mpsc::channel();
    let read = move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                return;
            }
        }
        std::process::exit(0);
    };
    thread::Builder::new()
        .name("commands".to_owned())
        .spawn(read)
        .map_err(NodeError::io("cannot start a thread for the coordinator's commands"))?;
    Ok(receiver)
}

fn tell<A: Serialize>(event: &Event<A>) -> Result<(), NodeError> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, event)
        .map_err(io::Error::from)
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush())
        .map_err(NodeError::io(format!("cannot tell the coordinator `{}`", event.name())))
}
