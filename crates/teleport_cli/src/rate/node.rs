//! A node: the part that is the same for every transport.

use std::time::{Duration, Instant};

use super::meter::Meters;
use super::protocol::{Answer, Command, Counts, Event, Order};
use crate::bench::child::{NodeError, serve};
use crate::bench::process;

/// A transport's node. One thread calls it; the coordinator has the deadlines.
pub(crate) trait RateNode {
    /// Where the other node reaches this one.
    fn address(&self) -> String;

    /// Connects with the other node.
    fn connect(&mut self, addresses: &[String]) -> Result<(), NodeError>;

    /// Lets senders or callers begin, if it has any.
    fn go(&mut self) -> Result<(), NodeError>;

    /// Waits until senders or callers have ended, after the meters told them to.
    fn wait(&mut self) -> Result<(), NodeError>;

    /// What it counts.
    fn meters(&self) -> &Meters;
}

/// Follows the coordinator through the rounds.
pub(crate) fn serve_rate(mut node: impl RateNode) -> Result<(), NodeError> {
    let start = Instant::now();
    serve(node.address(), |command| obey(&mut node, start, command))
}

fn obey(node: &mut impl RateNode, start: Instant, command: Command) -> Result<Event, NodeError> {
    let order = match command {
        Command::Peers { addresses } => {
            node.connect(&addresses)?;
            return Ok(Event::Connected);
        }
        Command::Order(order) => order,
    };
    match order {
        Order::Prepare { verify } => node.meters().prepare(verify),
        Order::Go => node.go()?,
        Order::Begin => node.meters().set_measuring(true),
        Order::End => node.meters().set_measuring(false),
        Order::Halt => {
            node.meters().halt();
            node.wait()?;
        }
        Order::Count => {}
        Order::RoundTrips => {
            let round_trips = node.meters().take_round_trips();
            return Ok(Event::Answer(Answer::RoundTrips { round_trips }));
        }
    }
    let messages = node.meters().count();
    let elapsed_ns = nanoseconds(start.elapsed());
    let cpu = process::cpu_time(std::process::id()).map_err(NodeError::io("cannot tell the CPU time"))?;
    Ok(Event::Answer(Answer::Counts(Counts { messages, elapsed_ns, cpu_ns: nanoseconds(cpu) })))
}

/// Lasts for 584 years.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
