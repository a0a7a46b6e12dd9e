//! Leads all transports' nodes through the rounds.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::RateError;
use super::protocol::{Answer, Command, Counts, Order};
use super::report::{Outcome, Run};
use crate::args::{Mode, RateOptions, RateTransport};
use crate::bench::cluster::Cluster;
use crate::bench::own_program;
use crate::bench::progress::{Progress, round_name};
use crate::bench::stats::RoundTrips;
use crate::bench::tls::Certificates;

/// Rounds per transport before the timed ones.
const WARMUP: u32 = 1;

/// A warm-up round is no longer than this.
const LONGEST_WARMUP: Duration = Duration::from_secs(2);

/// At most so long before the measurement, so that queues are as full as they get.
const LONGEST_LEAD_IN: Duration = Duration::from_millis(200);

/// How often receivers are asked whether the last messages are there.
const SETTLE_EVERY: Duration = Duration::from_millis(5);

/// Starts all nodes, runs all rounds, ends all nodes.
pub(crate) async fn measure(options: &RateOptions) -> Result<Outcome, RateError> {
    let progress = Progress::new();
    let mut contenders = Vec::new();
    for transport in options.transports() {
        progress.note(&format!("starting the nodes of {}", transport.name()));
        contenders.push(Contender::start(options, transport).await?);
    }
    let rounds = WARMUP + options.rounds;
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
    let mut runs = Vec::with_capacity(contenders.len());
    for contender in contenders {
        runs.push(contender.run);
        contender.nodes.stop().await;
    }
    Ok(Outcome::new(options, runs))
}

/// A transport under measurement.
struct Contender {
    nodes: Cluster<Order, Answer>,
    mode: Mode,
    run: Run,
    _certificates: Option<Certificates>,
}

impl Contender {
    async fn start(options: &RateOptions, transport: RateTransport) -> Result<Self, RateError> {
        let certificates =
            (transport == RateTransport::Tls).then(|| options.tls.certificates()).transpose()?;
        let node = |index: u16| {
            let mut arguments = vec![
                "rate-node".to_owned(),
                format!("--transport={}", transport.name()),
                format!("--index={index}"),
                format!("--mode={}", options.mode.name()),
                format!("--size={}", options.size),
                format!("--pairs={}", options.pairs),
                format!("--threads={}", options.threads.name()),
            ];
            arguments.extend(options.congestion.as_ref().map(|name| format!("--congestion={name}")));
            arguments.extend(certificates.iter().flat_map(Certificates::arguments));
            own_program(&arguments)
        };
        let programs = vec![node(0)?, node(1)?];
        let label = transport.name().to_owned();
        let nodes = Cluster::start(label, Command::to_json, options.deadline, programs).await?;
        let run = Run::new(transport);
        Ok(Self { nodes, mode: options.mode, run, _certificates: certificates })
    }

    async fn round(
        &mut self,
        options: &RateOptions,
        round: u32,
        progress: &Progress,
    ) -> Result<(), RateError> {
        let warmup = round <= WARMUP;
        let name = round_name(round, WARMUP, options.rounds);
        let time = if warmup { options.seconds.min(LONGEST_WARMUP) } else { options.seconds };
        self.counts(Order::Prepare { verify: warmup }).await?;
        self.counts(Order::Go).await?;
        self.nodes.rest((time / 4).min(LONGEST_LEAD_IN), "go on").await?;
        let begin = self.counts(Order::Begin).await?;
        self.nodes.rest(time, "go on").await?;
        let end = self.counts(Order::End).await?;
        let sent = self.counts(Order::Halt).await?[0].messages;
        self.settle(sent, &name, options.deadline).await?;

        // Counted where messages are taken out of a mailbox: by receivers, and by those who are answered.
        let counting = match self.mode {
            Mode::Send => 1,
            Mode::Call => 0,
        };
        let per_second = rate(&begin[counting], &end[counting], |counts| counts.messages);
        if per_second == 0.0 {
            return Err(RateError::Silence { transport: self.nodes.label().to_owned(), round: name });
        }
        // The nodes are not asked at the same moment, so each counts by its own time.
        let cpu: f64 =
            begin.iter().zip(&end).map(|(begin, end)| rate(begin, end, |counts| counts.cpu_ns)).sum();
        let cpu = cpu / 1e3 / per_second;
        progress.step(format!(
            "{name} {}: {per_second:.0} {}/s, {cpu:.2} CPU us each",
            self.nodes.label(),
            super::report::unit(self.mode),
        ));
        let round_trips = self.round_trips().await?;
        if !warmup {
            self.run.rounds.push(per_second);
            self.run.cpu.push(cpu);
            self.run.round_trips.extend(&round_trips);
        }
        Ok(())
    }

    /// Waits until all that was sent is received.
    async fn settle(&mut self, sent: u64, round: &str, patience: Duration) -> Result<(), RateError> {
        let deadline = Instant::now() + patience;
        loop {
            let received = self.counts(Order::Count).await?[1].messages;
            if received == sent {
                return Ok(());
            }
            if received > sent || Instant::now() > deadline {
                let (transport, round) = (self.nodes.label().to_owned(), round.to_owned());
                return Err(RateError::Lost { transport, round, sent, received });
            }
            sleep(SETTLE_EVERY).await;
        }
    }

    /// Tells both nodes to do something; answers what they have counted then.
    async fn counts(&mut self, order: Order) -> Result<Vec<Counts>, RateError> {
        let counts = self.nodes.ask(order, order.purpose(), |answer| match answer {
            Answer::Counts(counts) => Ok(counts),
            other => Err(other),
        });
        Ok(counts.await?)
    }

    async fn round_trips(&mut self) -> Result<RoundTrips, RateError> {
        let order = Order::RoundTrips;
        let by_node = self.nodes.ask(order, order.purpose(), |answer| match answer {
            Answer::RoundTrips { round_trips } => Ok(round_trips),
            other => Err(other),
        });
        let mut all = RoundTrips::default();
        by_node.await?.iter().for_each(|round_trips| all.extend(round_trips));
        Ok(all)
    }
}

/// How much per second, by the node's own clock.
fn rate(begin: &Counts, end: &Counts, figure: impl Fn(&Counts) -> u64) -> f64 {
    let seconds = end.elapsed_ns.saturating_sub(begin.elapsed_ns) as f64 / 1e9;
    figure(end).saturating_sub(figure(begin)) as f64 / seconds
}

#[cfg(test)]
mod tests {
    use tokio::process::Command as Program;

    use super::*;

    /// Nodes played by a shell script, which have counted four messages whatever they are told.
    #[tokio::test]
    async fn a_message_that_does_not_arrive_is_missed() {
        let script = r#"echo '{"event":"ready","address":"a","version":"1"}'
            read peers; echo '{"event":"connected"}'
            while read order; do echo '{"event":"counts","messages":4,"elapsed_ns":1,"cpu_ns":1}'; done"#;
        let node = |_| {
            let mut program = Program::new("sh");
            program.args(["-c", script]);
            program
        };
        let (label, patience) = ("scripted".to_owned(), Duration::from_secs(30));
        let programs = (0..2).map(node).collect();
        let nodes = Cluster::start(label, Command::to_json, patience, programs).await.unwrap();
        let run = Run::new(RateTransport::Raw);
        let mut contender = Contender { nodes, mode: Mode::Send, run, _certificates: None };
        contender.settle(4, "round 1/1", Duration::ZERO).await.unwrap();
        for (sent, patience) in [(5, Duration::ZERO), (3, patience)] {
            let error = contender.settle(sent, "round 1/1", patience).await.unwrap_err().to_string();
            assert!(error.contains(&format!("{sent} messages were sent in round 1/1, but 4")), "{error}");
        }
        contender.nodes.stop().await;
    }

    #[test]
    fn rates_are_differences() {
        let begin = Counts { messages: 1000, elapsed_ns: 500_000_000, cpu_ns: 1 };
        let end = Counts { messages: 5000, elapsed_ns: 2_500_000_000, cpu_ns: 1_000_000_001 };
        assert_eq!(rate(&begin, &end, |counts| counts.messages), 2000.0);
        assert_eq!(rate(&begin, &end, |counts| counts.cpu_ns), 5e8);
    }
}
