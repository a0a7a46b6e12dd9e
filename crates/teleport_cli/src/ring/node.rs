//! A Rust node of the ring: the part that is the same for every transport.

use std::time::Duration;

use super::protocol::{Answer, Command, Event, Order, ProbeSamples, Tally};
use crate::bench::child::{NodeError, serve};

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

/// Follows the coordinator through the rounds.
pub(crate) fn serve_ring(mut node: impl RingNode) -> Result<(), NodeError> {
    serve(node.address(), |command| obey(&mut node, command))
}

fn obey(node: &mut impl RingNode, command: Command) -> Result<Event, NodeError> {
    match command {
        Command::Peers { addresses } => {
            node.connect(&addresses)?;
            Ok(Event::Connected)
        }
        Command::Order(Order::Go { round, verify }) => {
            node.start_probes()?;
            let waits = node.round(round, verify)?;
            let sender_seconds = waits.iter().map(Duration::as_secs_f64).collect();
            Ok(Event::Answer(Answer::Done { round, sender_seconds }))
        }
        Command::Order(Order::StopProbes) => Ok(Event::Answer(Answer::Probes(node.stop_probes()?))),
        Command::Order(Order::Report) => Ok(Event::Answer(Answer::Report(node.tally()))),
        Command::Order(Order::Chaos { .. }) => Err(NodeError::WrongRole("a ring")),
    }
}
