//! Leads all transports' nodes through the rounds.

use super::RingError;
use super::report::{Config, LeftOut, Report, Round, Run};
use super::rounds::{Ring, RoundOutcome};
use super::transports::{disterl, start_rust};
use crate::args::{RingOptions, Transport};
use crate::bench::progress::{Progress, round_name};
use crate::bench::stats::Latency;
use crate::bench::tls::Certificates;

/// Starts all nodes, runs all rounds, ends all nodes.
pub(crate) async fn measure(options: &RingOptions) -> Result<Report, RingError> {
    let progress = Progress::new();
    let (mut contenders, left_out) = start(options, &progress).await?;
    if contenders.is_empty() {
        let reasons: Vec<String> =
            left_out.iter().map(|out| format!("{}: {}", out.transport, out.reason)).collect();
        return Err(RingError::NothingToMeasure(reasons.join("; ")));
    }
    let rounds = options.warmup + options.rounds;
    progress.begin(u64::from(rounds) * contenders.len() as u64);
    for round in 1..=rounds {
        // Each transport goes first, second.. equally often: a transport that follows a hot machine has a harder time.
        let first = round as usize % contenders.len();
        for place in 0..contenders.len() {
            let place = (first + place) % contenders.len();
            contenders[place].round(options, round, &progress).await?;
        }
    }
    progress.finish();
    let mut config = Config::new(options, left_out);
    let mut runs = Vec::with_capacity(contenders.len());
    for contender in contenders {
        config.versions.insert(contender.cluster.label().to_owned(), contender.cluster.version().to_owned());
        runs.push(contender.finish(options).await?);
    }
    Ok(Report { config, runs })
}

/// A transport under measurement.
struct Contender {
    transport: Transport,
    cluster: Ring,
    /// What the nodes need as long as they live.
    environment: Option<disterl::Environment>,
    _certificates: Option<Certificates>,
    cold_seconds: Option<f64>,
    rounds: Vec<Round>,
    tick_us: Vec<u64>,
    echo_us: Vec<u64>,
    unanswered: u64,
}

impl Contender {
    async fn round(
        &mut self,
        options: &RingOptions,
        round: u32,
        progress: &Progress,
    ) -> Result<(), RingError> {
        let warmup = round <= options.warmup;
        let outcome = self.cluster.round(round, warmup).await?;
        let figures = figures(options, &outcome);
        progress.step(format!(
            "{} {}: {:.3} s, {:.0} MB/s, {:.2} CPU s/GB",
            round_name(round, options.warmup, options.rounds),
            self.cluster.label(),
            figures.seconds,
            figures.megabytes_per_second,
            figures.cpu_seconds_per_gigabyte
        ));
        if warmup {
            self.cold_seconds.get_or_insert(figures.seconds);
            return Ok(());
        }
        self.rounds.push(figures);
        self.tick_us.extend(outcome.probes.tick_us);
        self.echo_us.extend(outcome.probes.echo_us);
        self.unanswered += outcome.probes.unanswered;
        Ok(())
    }

    async fn finish(mut self, options: &RingOptions) -> Result<Run, RingError> {
        let tally = self.cluster.tally().await?;
        let sent = u64::from(options.warmup + options.rounds) * messages_per_round(options);
        let run = Run {
            transport: self.transport.name().to_owned(),
            label: self.cluster.label().to_owned(),
            cold_seconds: self.cold_seconds,
            rounds: self.rounds,
            tick_ms: Latency::of(self.tick_us),
            echo_ms: Latency::of(self.echo_us),
            probes_unanswered: self.unanswered,
            peak_rss_mib: self.cluster.peak_rss_mib()?,
            messages: sent,
            lost: sent.saturating_sub(tally.messages),
            doubled: tally.doubled,
            reordered: tally.reordered,
            connections_killed: 0,
            frames_resent: 0,
            chaos: None,
        };
        self.cluster.stop().await;
        if let Some(environment) = self.environment {
            environment.close().await;
        }
        Ok(run)
    }
}

async fn start(
    options: &RingOptions,
    progress: &Progress,
) -> Result<(Vec<Contender>, Vec<LeftOut>), RingError> {
    let mut contenders = Vec::new();
    let mut left_out = Vec::new();
    for transport in options.transports() {
        match transport {
            Transport::Teleport | Transport::Tls | Transport::Raw => {
                progress.note(&format!("starting the nodes of {}", transport.name()));
                let (cluster, certificates) = start_rust(options, transport, None).await?;
                let mut contender = Contender::new(transport, cluster, None);
                contender._certificates = certificates;
                contenders.push(contender);
            }
            Transport::Disterl => {
                for flags in variants(&options.erl_flags) {
                    progress.note(&format!("starting the nodes of {}", disterl::label(flags)));
                    match disterl::start(options, flags).await? {
                        disterl::Started::Ring(cluster, environment) => {
                            contenders.push(Contender::new(transport, cluster, Some(environment)));
                        }
                        disterl::Started::Unavailable(unavailable) => {
                            let reason = unavailable.to_string();
                            progress.note(&format!("disterl is left out: {reason}"));
                            left_out.push(LeftOut { transport: disterl::label(flags), reason });
                        }
                    }
                }
            }
        }
    }
    Ok((contenders, left_out))
}

impl Contender {
    const fn new(transport: Transport, cluster: Ring, environment: Option<disterl::Environment>) -> Self {
        Self {
            transport,
            cluster,
            environment,
            _certificates: None,
            cold_seconds: None,
            rounds: Vec::new(),
            tick_us: Vec::new(),
            echo_us: Vec::new(),
            unanswered: 0,
        }
    }
}

/// One set of flags per variant; the defaults if none is given.
fn variants(erl_flags: &[String]) -> Vec<&str> {
    if erl_flags.is_empty() { vec![""] } else { erl_flags.iter().map(String::as_str).collect() }
}

fn figures(options: &RingOptions, outcome: &RoundOutcome) -> Round {
    let hops = f64::from(options.nodes - 1);
    let bytes = messages_per_round(options) as f64 * hops * options.size.bytes() as f64;
    let seconds = outcome.elapsed.as_secs_f64();
    Round {
        seconds,
        megabytes_per_second: bytes / 1e6 / seconds,
        mean_sender_seconds: mean(&outcome.sender_seconds),
        cpu_seconds_per_gigabyte: outcome.cpu.as_secs_f64() / (bytes / 1e9),
    }
}

fn messages_per_round(options: &RingOptions) -> u64 {
    u64::from(options.nodes) * u64::from(options.workers)
}

fn mean(figures: &[f64]) -> f64 {
    if figures.is_empty() { 0.0 } else { figures.iter().sum::<f64>() / figures.len() as f64 }
}
