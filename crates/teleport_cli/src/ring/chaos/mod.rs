//! `teleport ring --chaos`: what the product promises, while its connections are killed.
//!
//! A run of its own kind. Every node has senders that pipeline messages of all sizes to mailboxes on several other
//! nodes, numbered by pair, and kills connections at random meanwhile ([`transports::teleport::chaos`]). At the end
//! what was sent is held against what was received, pair by pair.
//!
//! [`transports::teleport::chaos`]: super::transports::teleport

mod verdict;

use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::figures::{Counts, Ledger, Step};
use super::protocol::{Answer, Order, ProbeSamples};
use super::report::{ChaosRun, Config, Report, Round, Run};
use super::rounds::Ring;
use super::transports::start_rust;
use super::{Outcome, RingError};
use crate::args::{ChaosOptions, RingOptions};
use crate::bench::progress::Progress;
use crate::bench::stats::Latency;
use verdict::{Balance, complaints};

/// How often nodes are asked what they have counted.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// How often nodes are asked while the last messages are on their way.
const SETTLE_EVERY: Duration = Duration::from_millis(50);

/// Starts all nodes, lets chaos reign, waits for what is under way, and settles the account.
pub(crate) async fn measure(options: &RingOptions, chaos: ChaosOptions) -> Result<Outcome, RingError> {
    let progress = Progress::new();
    progress.note(&format!("starting the nodes; --seed {}", chaos.seed));
    let (mut cluster, _certificates) = start_rust(options, options.of_chaos(), Some(chaos)).await?;
    progress.begin(chaos.seconds);
    let reign = reign(&mut cluster, options, chaos, &progress).await?;
    progress.finish();
    let what = "tell what they sent and received";
    let ledgers = cluster
        .ask(Order::Chaos { step: Step::Ledger }, what, |answer| match answer {
            Answer::Ledger(ledger) => Ok(ledger),
            other => Err(other),
        })
        .await?;
    let (report, complaints) = settle_account(&cluster, options, chaos, reign, &ledgers)?;
    cluster.stop().await;
    let broken = !complaints.is_empty();
    let verdict = broken.then(|| RingError::Chaos { complaints: complaints.join("; "), seed: chaos.seed });
    Ok(Outcome { report, verdict: verdict.map_or(Ok(()), Err) })
}

/// What was measured from the beginning until everything was received.
struct Reign {
    elapsed: Duration,
    cpu: Duration,
    probes: ProbeSamples,
    counts: Counts,
}

async fn reign(
    cluster: &mut Ring,
    options: &RingOptions,
    chaos: ChaosOptions,
    progress: &Progress,
) -> Result<Reign, RingError> {
    let cpu_before = cluster.cpu_time()?;
    let start = Instant::now();
    count(cluster, Step::Begin).await?;
    let mut tick = interval(COUNT_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    tick.tick().await; // the first comes at once
    let end = start + Duration::from_secs(chaos.seconds);
    while Instant::now() < end {
        tokio::select! {
            _ = tick.tick() => {}
            () = sleep(end.saturating_duration_since(Instant::now())) => {}
        }
        let counts = count(cluster, Step::Count).await?;
        progress.second(start.elapsed().as_secs().min(chaos.seconds), chaos.seconds, counts.summary());
    }
    let mut counts = count(cluster, Step::Calm).await?;
    let probes = cluster.stop_probes("end the probes").await?;
    let deadline = Instant::now() + options.deadline;
    while !counts.is_settled() && Instant::now() < deadline {
        sleep(SETTLE_EVERY).await;
        counts = count(cluster, Step::Count).await?;
    }
    let cpu = cluster.cpu_time()?.saturating_sub(cpu_before);
    Ok(Reign { elapsed: start.elapsed(), cpu, probes, counts })
}

async fn count(cluster: &mut Ring, step: Step) -> Result<Counts, RingError> {
    let what = format!("{} and tell their counts", step.name());
    let counts = cluster
        .ask(Order::Chaos { step }, &what, |answer| match answer {
            Answer::Counts(counts) => Ok(counts),
            other => Err(other),
        })
        .await?;
    Ok(counts.into_iter().sum())
}

fn settle_account(
    cluster: &Ring,
    options: &RingOptions,
    chaos: ChaosOptions,
    reign: Reign,
    ledgers: &[Ledger],
) -> Result<(Report, Vec<String>), RingError> {
    let Reign { elapsed, cpu, probes, counts } = reign;
    let balance = Balance::of(ledgers);
    let (seconds, bytes) = (elapsed.as_secs_f64(), counts.received_bytes as f64);
    let round = Round {
        seconds,
        megabytes_per_second: bytes / 1e6 / seconds,
        mean_sender_seconds: counts.send_seconds / counts.sent.max(1) as f64,
        cpu_seconds_per_gigabyte: cpu.as_secs_f64() / (bytes / 1e9),
    };
    let run = Run {
        transport: options.of_chaos().name().to_owned(),
        label: cluster.label().to_owned(),
        cold_seconds: None,
        rounds: vec![round],
        tick_ms: Latency::of(probes.tick_us),
        echo_ms: Latency::of(probes.echo_us),
        probes_unanswered: probes.unanswered,
        peak_rss_mib: cluster.peak_rss_mib()?,
        messages: balance.sent,
        lost: balance.lost,
        doubled: counts.doubled,
        reordered: counts.reordered,
        connections_killed: counts.pool_killed,
        frames_resent: counts.frames_resent,
        chaos: Some(ChaosRun {
            seconds: chaos.seconds,
            seed: chaos.seed,
            damaged: counts.damaged,
            control_killed: counts.control_killed,
            connections_retired: counts.connections_retired,
            ticks_missed: counts.ticks_missed,
            nodedowns: counts.nodedowns,
            unconfirmed: counts.unconfirmed,
        }),
    };
    let mut config = Config::new(options, Vec::new());
    (config.rounds, config.warmup) = (1, 0);
    config.versions.insert(run.label.clone(), cluster.version().to_owned());
    let complaints = complaints(chaos.seconds, &counts, &balance);
    Ok((Report { config, runs: vec![run] }, complaints))
}
