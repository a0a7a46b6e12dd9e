//! A Rust node of the ring: the part that is the same for every transport.

use std::io::{self, BufRead, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use thiserror::Error;

use super::protocol::{Command, Event, ProbeSamples, Tally};

/// A transport's node. One thread calls it, and waits as long as it takes: the coordinator has the deadlines.
pub(crate) trait RingNode {
    /// Where other nodes reach this one.
    fn address(&self) -> String;

    /// Connects to the neighbours, and waits until they are connected to this node.
    fn connect(&mut self, addresses: &[String]) -> Result<(), NodeError>;

    /// Starts the probes.
    fn start_probes(&mut self) -> Result<(), NodeError>;

    /// Lets each worker send its message; answers how long each waited for the acknowledgement.
    fn round(&mut self, round: u32, verify: bool) -> Result<Vec<Duration>, NodeError>;

    /// Ends the probes, and waits for those under way.
    fn stop_probes(&mut self) -> Result<ProbeSamples, NodeError>;

    /// What was counted so far.
    fn tally(&self) -> Tally;
}

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

/// Follows the coordinator through the rounds.
pub(crate) fn serve_ring(mut node: impl RingNode) -> Result<(), NodeError> {
    serve(node.address(), |command| obey(&mut node, command))
}

/// Follows the coordinator's commands until it closes the node's stdin.
///
/// The process ends with stdin even in the middle of a round, so that no node outlives its coordinator.
pub(crate) fn serve(
    address: String,
    obey: impl FnMut(Command) -> Result<Event, NodeError>,
) -> Result<(), NodeError> {
    let served = follow(address, obey);
    if let Err(error) = &served {
        let reason = crate::chain(error);
        // Should this fail too, the coordinator sees the process end.
        let _ = tell(&Event::Failed { reason });
    }
    served
}

fn follow(
    address: String,
    mut obey: impl FnMut(Command) -> Result<Event, NodeError>,
) -> Result<(), NodeError> {
    let commands = read_commands()?;
    tell(&Event::Ready { address, version: env!("CARGO_PKG_VERSION").to_owned() })?;
    for line in commands {
        let command = serde_json::from_str(&line)
            .map_err(|source| NodeError::Command { line: line.clone(), source })?;
        tell(&obey(command)?)?;
    }
    Ok(())
}

fn obey(node: &mut impl RingNode, command: Command) -> Result<Event, NodeError> {
    match command {
        Command::Peers { addresses } => {
            node.connect(&addresses)?;
            Ok(Event::Connected)
        }
        Command::Go { round, verify } => {
            node.start_probes()?;
            let waits = node.round(round, verify)?;
            Ok(Event::Done { round, sender_seconds: waits.iter().map(Duration::as_secs_f64).collect() })
        }
        Command::StopProbes => Ok(Event::Probes(node.stop_probes()?)),
        Command::Report => Ok(Event::Report(node.tally())),
        Command::Chaos { .. } => Err(NodeError::WrongRole("a ring")),
    }
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

fn tell(event: &Event) -> Result<(), NodeError> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, event)
        .map_err(io::Error::from)
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush())
        .map_err(NodeError::io(format!("cannot tell the coordinator `{}`", event.name())))
}
