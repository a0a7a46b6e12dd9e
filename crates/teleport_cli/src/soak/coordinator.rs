//! Leads the nodes through a soak: load and faults, rest, and the comparison of what they know.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::SoakError;
use super::fleet::{Fleet, Outcome};
use super::judge::{Excused, Reckoning};
use super::ledger::{Account, Counts};
use super::plan::{Fault, Plan};
use super::protocol::{Blow, Missing, Order};
use super::report::Report;
use crate::args::{FaultKind, SoakOptions};
use crate::bench::BenchError;
use crate::bench::progress::Progress;

/// How often nodes are asked for their ledgers. What a killed node did after its last one is unknown.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How often nodes are asked while they come to rest.
const SETTLE_EVERY: Duration = Duration::from_millis(200);

/// So many nodes stay as they are when one is stopped, killed or shut down.
const LEFT_ALONE: usize = 1;

/// Faults that have struck, by kind.
type Struck = BTreeMap<FaultKind, u64>;

/// Runs the soak.
pub(super) async fn soak(options: &SoakOptions, seed: u64) -> Result<(Report, Vec<String>), SoakError> {
    let progress = Progress::new();
    progress.note(&format!("starting the nodes; --seed {seed}"));
    let mut fleet = Fleet::start(options, seed)?;
    while fleet.up() < usize::from(options.nodes) {
        fleet.attend(Instant::now() + SETTLE_EVERY).await?;
    }
    let struck = reign(&mut fleet, options, seed, &progress).await?;
    progress.note("no more faults, waiting for rest");
    rest(&mut fleet, options).await?;
    let reckoning = reckon(&mut fleet, options).await?;
    progress.finish();
    let (report, complaints) = report(&fleet, options, seed, struck, reckoning);
    fleet.stop().await;
    Ok((report, complaints))
}

/// Load and faults.
async fn reign(
    fleet: &mut Fleet<'_>,
    options: &SoakOptions,
    seed: u64,
    progress: &Progress,
) -> Result<Struck, BenchError> {
    let start = Instant::now();
    let (end, seconds) = (start + options.minutes, options.minutes.as_secs());
    let mut plan = Plan::new(&options.faults(), seed, start, options.minutes);
    let mut struck = Struck::new();
    let mut ask = start + ASK_EVERY;
    progress.begin(seconds);
    // Each kind strikes at least once, however slow all goes.
    let all_struck = |struck: &Struck| options.faults().iter().all(|kind| struck.contains_key(kind));
    loop {
        let now = Instant::now();
        if now >= end && (all_struck(&struck) || now >= end + options.deadline) {
            break;
        }
        let next = plan.next().map_or(ask, |next| next.min(ask)).min(end.max(now + SETTLE_EVERY));
        match fleet.attend(next).await? {
            Some(Outcome::Struck(blow, true)) => *struck.entry(blow.kind()).or_default() += 1,
            Some(Outcome::Struck(blow, false)) if !struck.contains_key(&blow.kind()) => {
                plan.again(blow.kind(), Instant::now());
            }
            _ => {}
        }
        let now = Instant::now();
        if now >= ask {
            fleet.ask().await;
            ask = now + ASK_EVERY;
            let total = fleet.accounts().map(|account| account.counts).sum::<Counts>();
            let text = summary(fleet, &total, struck.values().sum());
            progress.second(start.elapsed().as_secs().min(seconds), seconds, text);
        }
        while let Some(fault) = plan.take(now) {
            match strike(fleet, fault).await? {
                Strike::Done => *struck.entry(fault.kind).or_default() += 1,
                Strike::Ordered => {}
                Strike::Nobody => {
                    plan.again(fault.kind, now);
                    break;
                }
            }
        }
    }
    Ok(struck)
}

/// What has become of a fault.
enum Strike {
    Done,
    /// A node was told to do it to itself.
    Ordered,
    /// There was no node to be hit.
    Nobody,
}

async fn strike(fleet: &mut Fleet<'_>, fault: Fault) -> Result<Strike, BenchError> {
    let blow = match fault.kind {
        FaultKind::Cut => Some(Blow::Cut),
        FaultKind::Control => Some(Blow::Control),
        FaultKind::Disconnect => Some(Blow::Disconnect),
        FaultKind::Exit => Some(Blow::Exit),
        FaultKind::Stop | FaultKind::Silence | FaultKind::Kill | FaultKind::Restart => None,
    };
    let left = if blow.is_some() { 0 } else { LEFT_ALONE };
    let Some(index) = fleet.pick(fault.pick, left) else { return Ok(Strike::Nobody) };
    if let Some(blow) = blow {
        fleet.order(index, Order::Strike { blow, pick: fault.pick.rotate_left(16) }).await;
        return Ok(Strike::Ordered);
    }
    match fault.kind {
        FaultKind::Kill => fleet.kill_one(index, fault.pause).await?,
        FaultKind::Restart => fleet.dismiss_one(index, fault.pause).await,
        _ => fleet.stop_one(index, fault.pause)?,
    }
    Ok(Strike::Done)
}

/// All nodes are there, and have nothing more to do. At the deadline it is as it is.
async fn rest(fleet: &mut Fleet<'_>, options: &SoakOptions) -> Result<(), BenchError> {
    let end = Instant::now() + options.deadline;
    fleet.gather();
    while fleet.up() < usize::from(options.nodes) {
        fleet.attend(Instant::now() + SETTLE_EVERY).await?;
    }
    for index in 0..usize::from(options.nodes) {
        fleet.order(index, Order::Calm).await;
    }
    loop {
        fleet.attend(Instant::now() + SETTLE_EVERY).await?;
        if !fleet.is_complete() {
            continue; // `attend` has a deadline for each answer
        }
        if gauges(fleet).values().all(|value| *value == 0) || Instant::now() >= end {
            return Ok(());
        }
        fleet.ask().await;
    }
}

/// Compares all ledgers, and asks the senders about what is missing.
async fn reckon(fleet: &mut Fleet<'_>, options: &SoakOptions) -> Result<Reckoning, BenchError> {
    let lives = fleet.lives();
    let mut reckoning = Reckoning::of(&lives);
    for index in 0..usize::from(options.nodes) {
        let is_of_it = |excused: &&Excused| {
            usize::from(excused.from.0) == index
                && lives
                    .iter()
                    .rfind(|life| life.node == excused.from.0)
                    .is_some_and(|life| life.life == excused.from.1)
        };
        let excused: Vec<_> = reckoning.excused.iter().filter(is_of_it).copied().collect();
        if excused.is_empty() {
            continue;
        }
        let missing = excused.iter().map(|excused| Missing {
            worker: excused.worker,
            node: excused.to.0,
            inbox: excused.to.1,
            range: excused.range,
        });
        fleet.order(index, Order::Explain { missing: missing.collect() }).await;
        let confirmed = loop {
            if let Some(Outcome::Explained(node, confirmed)) =
                fleet.attend(Instant::now() + options.deadline).await?
                && node == index
            {
                break confirmed;
            }
        };
        for (excused, count) in excused.iter().zip(confirmed) {
            reckoning.confirmed(excused, count);
        }
    }
    Ok(reckoning)
}

fn report(
    fleet: &Fleet<'_>,
    options: &SoakOptions,
    seed: u64,
    struck: Struck,
    reckoning: Reckoning,
) -> (Report, Vec<String>) {
    let counts: Counts = fleet.accounts().map(|account| account.counts).sum();
    // A killed node had calls that ended with it.
    let unended: u64 = fleet.living().map(|account| account.counts.calls - account.counts.calls_ended).sum();
    let gauges = gauges(fleet);
    let totals = reckoning.totals;
    let mut complaints = reckoning.complaints;
    complaints.extend(fleet.accounts().flat_map(|account| account.complaints.clone()));
    let ends = || fleet.accounts().flat_map(|account| &account.downs).count();
    if !options.faults().iter().any(|kind| kind.ends_sessions()) && ends() > 0 {
        complaints.push(format!("{} sessions ended, and nothing was to end any", ends()));
    }
    if unended > 0 {
        complaints.push(format!("{unended} calls have not ended"));
    }
    for (name, value) in gauges.iter().filter(|(_, value)| **value > 0) {
        complaints.push(format!("{name} is {value} at the end"));
    }
    let report = Report {
        seed,
        messages: totals.messages,
        delivered: totals.delivered,
        unconfirmed: totals.unconfirmed,
        lost: totals.lost + counts.lost,
        doubled: totals.doubled + counts.doubled,
        reordered: totals.reordered + counts.reordered,
        calls: counts.calls,
        calls_unended: unended,
        faults: options
            .faults()
            .into_iter()
            .map(|kind| (kind.name(), struck.get(&kind).copied().unwrap_or(0)))
            .collect(),
        gauges_at_end: gauges,
        bytes: counts.bytes,
        watches: counts.watches,
        sessions_ended: ends() as u64,
    };
    (report, complaints)
}

/// Of all nodes together.
fn gauges(fleet: &Fleet<'_>) -> BTreeMap<String, u64> {
    let mut gauges = BTreeMap::new();
    for (name, value) in fleet.living().flat_map(|account: &Account| &account.gauges) {
        *gauges.entry(name.clone()).or_default() += value;
    }
    gauges
}

fn summary(fleet: &Fleet<'_>, counts: &Counts, faults: u64) -> String {
    let messages: u64 = fleet.accounts().flat_map(|account| &account.sent).map(|sent| sent.accepted).sum();
    let (up, gigabytes) = (fleet.up(), counts.bytes as f64 / 1e9);
    format!("{messages} messages, {gigabytes:.1} GB, {} calls, {faults} faults; {up} nodes up", counts.calls)
}

impl Blow {
    fn kind(self) -> FaultKind {
        match self {
            Self::Cut => FaultKind::Cut,
            Self::Control => FaultKind::Control,
            Self::Disconnect => FaultKind::Disconnect,
            Self::Exit => FaultKind::Exit,
        }
    }
}
