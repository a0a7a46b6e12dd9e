//! What the ring's coordinator asks of its nodes.

use std::time::{Duration, Instant};

use super::protocol::{Answer, Order, ProbeSamples, Tally};
use crate::bench::BenchError;
use crate::bench::cluster::Cluster;

/// All nodes of one transport.
pub(crate) type Ring = Cluster<Order, Answer>;

/// What came of one round.
pub(crate) struct RoundOutcome {
    /// From the go signal to the last sender's acknowledgement.
    pub(crate) elapsed: Duration,
    /// Of all node processes.
    pub(crate) cpu: Duration,
    /// Of all senders.
    pub(crate) sender_seconds: Vec<f64>,
    /// Of all nodes.
    pub(crate) probes: ProbeSamples,
}

impl Ring {
    /// One message per worker, and the probes meanwhile.
    pub(crate) async fn round(&mut self, round: u32, verify: bool) -> Result<RoundOutcome, BenchError> {
        let cpu_before = self.cpu_time()?;
        let start = Instant::now();
        let done = self
            .ask(Order::Go { round, verify }, &format!("finish round {round}"), |answer| match answer {
                Answer::Done { round: of, sender_seconds } if of == round => Ok(sender_seconds),
                other => Err(other),
            })
            .await?;
        let elapsed = start.elapsed();
        let cpu = self.cpu_time()?.saturating_sub(cpu_before);
        let probes = self.stop_probes(&format!("end the probes of round {round}")).await?;
        Ok(RoundOutcome { elapsed, cpu, sender_seconds: done.concat(), probes })
    }

    /// Ends the probes of all nodes; answers what came of them.
    pub(crate) async fn stop_probes(&mut self, what: &str) -> Result<ProbeSamples, BenchError> {
        let samples = self
            .ask(Order::StopProbes, what, |answer| match answer {
                Answer::Probes(samples) => Ok(samples),
                other => Err(other),
            })
            .await?;
        let mut probes = ProbeSamples::default();
        samples.into_iter().for_each(|sample| probes += sample);
        Ok(probes)
    }

    /// All nodes' counts of arrived messages.
    pub(crate) async fn tally(&mut self) -> Result<Tally, BenchError> {
        let tallies = self
            .ask(Order::Report, "report", |answer| match answer {
                Answer::Report(tally) => Ok(tally),
                other => Err(other),
            })
            .await?;
        let mut sum = Tally::default();
        tallies.into_iter().for_each(|tally| sum += tally);
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::protocol::to_erlang;
    use tokio::process::Command as Program;

    /// Nodes played by a shell script.
    #[tokio::test]
    async fn a_round_ends_when_all_nodes_are_done() {
        let script = r#"echo '{"event":"ready","address":"a","version":"1"}'
            read peers; echo '{"event":"connected"}'
            read go; echo '{"event":"done","round":7,"sender_seconds":[0.5]}'
            read stop; echo '{"event":"probes","tick_us":[1,2],"echo_us":[3],"unanswered":0}'; read end"#;
        let node = |_| {
            let mut program = Program::new("sh");
            program.args(["-c", script]);
            program
        };
        let programs = (0..2).map(node).collect();
        let mut ring =
            Ring::start("scripted".to_owned(), to_erlang, Duration::from_secs(30), programs).await.unwrap();
        let outcome = ring.round(7, false).await.unwrap();
        assert_eq!(outcome.sender_seconds, [0.5, 0.5]);
        assert_eq!((outcome.probes.tick_us.len(), outcome.probes.echo_us.len()), (4, 2));
        ring.stop().await;
    }
}
