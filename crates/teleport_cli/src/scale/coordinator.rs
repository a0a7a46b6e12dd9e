//! Leads the nodes through a measurement: alone, idle, lightly used.

use std::time::Duration;

use tokio::time::Instant;

use super::ScaleError;
use super::protocol::{Answer, Command, Order};
use super::report::{Phase, Report};
use crate::args::ScaleOptions;
use crate::bench::cluster::Cluster;
use crate::bench::own_program;
use crate::bench::process::Usage;
use crate::bench::progress::Progress;
use crate::bench::stats::RoundTrips;

/// How long nodes are left alone before they are idle: sessions look once more after their last use, connections of the pool that
/// nothing needs any more end, and threads wait for something to do for a while before they sleep.
const CALM: Duration = Duration::from_secs(10);

type Nodes = Cluster<Order, Answer>;

/// Starts the nodes, measures, ends them.
pub(super) async fn measure(options: &ScaleOptions) -> Result<Report, ScaleError> {
    let progress = Progress::new();
    progress.note(&format!("starting {} nodes", options.nodes));
    let programs: Result<Vec<_>, _> = (0..options.nodes)
        .map(|index| own_program(&["scale-node".to_owned(), format!("--index={index}")]))
        .collect();
    let label = "scale".to_owned();
    let mut nodes = Nodes::start(label, Command::to_json, options.deadline, programs?).await?;
    let alone = nodes.usage()?;

    progress.note("connecting each of them with each other one");
    let meeting = Instant::now();
    done(&mut nodes, Order::Meet).await?;
    let met_in = meeting.elapsed();
    progress.note("waiting for rest");
    nodes.rest(CALM, "rest").await?;

    progress.begin(2 * options.seconds.as_secs());
    let idle = watch(&mut nodes, options, &progress, "idle", 0).await?;
    done(&mut nodes, Order::Use).await?;
    let used = watch(&mut nodes, options, &progress, "used", 1).await?;
    let round_trips = rest(&mut nodes).await?;
    progress.finish();
    nodes.stop().await;
    Ok(Report::new(options, met_in, &alone, &idle, &used, &round_trips))
}

async fn done(nodes: &mut Nodes, order: Order) -> Result<(), ScaleError> {
    let answers = nodes.ask(order, order.purpose(), |answer| match answer {
        Answer::Done => Ok(()),
        other => Err(other),
    });
    answers.await?;
    Ok(())
}

async fn rest(nodes: &mut Nodes) -> Result<RoundTrips, ScaleError> {
    let order = Order::Rest;
    let answers = nodes.ask(order, order.purpose(), |answer| match answer {
        Answer::Called { round_trips } => Ok(round_trips),
        other => Err(other),
    });
    let mut all = RoundTrips::default();
    answers.await?.iter().for_each(|round_trips| all.extend(round_trips));
    Ok(all)
}

/// What the nodes' processes do in the time.
async fn watch(
    nodes: &mut Nodes,
    options: &ScaleOptions,
    progress: &Progress,
    name: &str,
    turn: u64,
) -> Result<Phase, ScaleError> {
    let (begin, seconds) = (Instant::now(), options.seconds.as_secs());
    let before = nodes.usage()?;
    for second in 1..=seconds {
        let left = Duration::from_secs(second).saturating_sub(begin.elapsed());
        nodes.rest(left, "go on").await?;
        let at = turn * seconds + second;
        progress.second(at, 2 * seconds, format!("{} {name} nodes", options.nodes));
    }
    let time = begin.elapsed();
    Ok(Phase { before, after: nodes.usage()?, time })
}

impl Nodes {
    /// What the system knows of each node's process.
    fn usage(&self) -> Result<Vec<Usage>, ScaleError> {
        Ok(self.measure(Usage::of)?)
    }
}
