//! The processes of one transport's nodes, seen from the coordinator.

use std::collections::VecDeque;
use std::io;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command as Program};
use tokio::sync::mpsc;
use tokio::time::timeout_at;

use super::RingError;
use super::process;
use super::protocol::{Command, Event, ProbeSamples, Tally};

/// How long nodes may take to end after their stdin is closed.
const FAREWELL: Duration = Duration::from_secs(5);

/// Lines a node printed that are no events; kept to explain its end.
const REMARKS: usize = 5;

/// Which notation a transport's nodes read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Rust nodes.
    Json,
    /// Erlang nodes.
    Erlang,
}

/// All nodes of one transport. Dropping it kills them.
pub(crate) struct Cluster {
    label: String,
    dialect: Dialect,
    deadline: Duration,
    nodes: Vec<NodeProcess>,
    inbox: mpsc::UnboundedReceiver<(usize, Heard)>,
    version: String,
}

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

struct NodeProcess {
    pid: u32,
    child: Child,
    stdin: ChildStdin,
}

/// What a node's reader tells.
enum Heard {
    Event(Event),
    /// The end of the node's output, with the last things it printed apart from events.
    End(String),
}

impl Cluster {
    /// Starts the processes and connects them with each other.
    pub(crate) async fn start(
        label: String,
        dialect: Dialect,
        deadline: Duration,
        programs: Vec<Program>,
    ) -> Result<Self, RingError> {
        let (heard, inbox) = mpsc::unbounded_channel();
        let mut nodes = Vec::with_capacity(programs.len());
        for (index, program) in programs.into_iter().enumerate() {
            let node = spawn(program, index, &heard).map_err(|source| RingError::Spawn {
                transport: label.clone(),
                node: index,
                source,
            })?;
            nodes.push(node);
        }
        let mut cluster = Self { label, dialect, deadline, nodes, inbox, version: String::new() };
        let ready = cluster
            .gather("start", |event| match event {
                Event::Ready { address, version } => Ok((address, version)),
                other => Err(other),
            })
            .await?;
        cluster.version = ready.first().map(|(_, version)| version.clone()).unwrap_or_default();
        let addresses = ready.into_iter().map(|(address, _)| address).collect();
        cluster
            .ask(&Command::Peers { addresses }, "connect", |event| match event {
                Event::Connected => Ok(()),
                other => Err(other),
            })
            .await?;
        Ok(cluster)
    }

    /// What results call this transport.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// Version of the transport's implementation, as told by its nodes.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// One message per worker, and the probes meanwhile.
    pub(crate) async fn round(&mut self, round: u32, verify: bool) -> Result<RoundOutcome, RingError> {
        let cpu_before = self.cpu_time()?;
        let start = Instant::now();
        let done = self
            .ask(&Command::Go { round, verify }, &format!("finish round {round}"), |event| match event {
                Event::Done { round: of, sender_seconds } if of == round => Ok(sender_seconds),
                other => Err(other),
            })
            .await?;
        let elapsed = start.elapsed();
        let cpu = self.cpu_time()?.saturating_sub(cpu_before);
        let probes = self.stop_probes(&format!("end the probes of round {round}")).await?;
        Ok(RoundOutcome { elapsed, cpu, sender_seconds: done.concat(), probes })
    }

    /// Ends the probes of all nodes; answers what came of them.
    pub(crate) async fn stop_probes(&mut self, what: &str) -> Result<ProbeSamples, RingError> {
        let samples = self
            .ask(&Command::StopProbes, what, |event| match event {
                Event::Probes(samples) => Ok(samples),
                other => Err(other),
            })
            .await?;
        let mut probes = ProbeSamples::default();
        samples.into_iter().for_each(|sample| probes += sample);
        Ok(probes)
    }

    /// All nodes' counts of arrived messages.
    pub(crate) async fn tally(&mut self) -> Result<Tally, RingError> {
        let tallies = self
            .ask(&Command::Report, "report", |event| match event {
                Event::Report(tally) => Ok(tally),
                other => Err(other),
            })
            .await?;
        let mut sum = Tally::default();
        tallies.into_iter().for_each(|tally| sum += tally);
        Ok(sum)
    }

    /// Each node's peak resident memory in MiB.
    pub(crate) fn peak_rss_mib(&self) -> Result<Vec<f64>, RingError> {
        self.measure(process::peak_rss_mib)
    }

    /// Ends all nodes, at first by closing their stdin.
    pub(crate) async fn stop(self) {
        let children: Vec<Child> = self.nodes.into_iter().map(|node| node.child).collect();
        let end = tokio::time::Instant::now() + FAREWELL;
        for mut child in children {
            if timeout_at(end, child.wait()).await.is_err() {
                // Already gone is as good.
                let _ = child.kill().await;
            }
        }
    }

    /// CPU time of all nodes so far.
    pub(crate) fn cpu_time(&self) -> Result<Duration, RingError> {
        Ok(self.measure(process::cpu_time)?.into_iter().sum())
    }

    /// Tells all nodes to do something, and waits until each has answered with what `wanted` takes; by node.
    pub(crate) async fn ask<T>(
        &mut self,
        command: &Command,
        what: &str,
        wanted: impl Fn(Event) -> Result<T, Event>,
    ) -> Result<Vec<T>, RingError> {
        self.tell(command).await?;
        self.gather(what, wanted).await
    }

    fn measure<T>(&self, figure: impl Fn(u32) -> io::Result<T>) -> Result<Vec<T>, RingError> {
        let measure = |(index, node): (usize, &NodeProcess)| {
            figure(node.pid).map_err(|source| RingError::Measure {
                transport: self.label.clone(),
                node: index,
                source,
            })
        };
        self.nodes.iter().enumerate().map(measure).collect()
    }

    async fn tell(&mut self, command: &Command) -> Result<(), RingError> {
        let line = match self.dialect {
            Dialect::Json => command.to_json()?,
            Dialect::Erlang => command.to_erlang(),
        };
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if let Err(source) = node.stdin.write_all(format!("{line}\n").as_bytes()).await {
                // A node that has ended has said why, if it could.
                let last_words = last_words(&mut self.inbox, index).await;
                return Err(RingError::NodeEnded {
                    transport: self.label.clone(),
                    node: index,
                    what: format!("be told `{line}` ({source})"),
                    last_words,
                });
            }
        }
        Ok(())
    }

    /// Waits until every node has sent what `wanted` takes.
    async fn gather<T>(
        &mut self,
        what: &str,
        wanted: impl Fn(Event) -> Result<T, Event>,
    ) -> Result<Vec<T>, RingError> {
        let end = tokio::time::Instant::now() + self.deadline;
        let mut answers: Vec<Option<T>> = self.nodes.iter().map(|_| None).collect();
        while answers.iter().any(Option::is_none) {
            let Ok(heard) = timeout_at(end, self.inbox.recv()).await else {
                return Err(self.overdue(what, &answers));
            };
            // The channel ends when all readers have, and each of them says so before: `End` below.
            let Some((index, heard)) = heard else { return Err(self.overdue(what, &answers)) };
            match heard {
                Heard::Event(Event::Failed { reason }) => {
                    return Err(RingError::NodeFailed { transport: self.label.clone(), node: index, reason });
                }
                Heard::Event(event) => match wanted(event) {
                    Ok(answer) if answers[index].is_none() => answers[index] = Some(answer),
                    Ok(_) => return Err(self.unexpected(index, what, "the same answer twice")),
                    Err(event) => return Err(self.unexpected(index, what, event.name())),
                },
                Heard::End(last_words) => {
                    return Err(RingError::NodeEnded {
                        transport: self.label.clone(),
                        node: index,
                        what: what.to_owned(),
                        last_words,
                    });
                }
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    fn overdue<T>(&self, what: &str, answers: &[Option<T>]) -> RingError {
        let missing = answers.iter().enumerate().filter(|(_, answer)| answer.is_none());
        RingError::Overdue {
            transport: self.label.clone(),
            nodes: missing.map(|(index, _)| index.to_string()).collect::<Vec<_>>().join(", "),
            what: what.to_owned(),
            seconds: self.deadline.as_secs(),
        }
    }

    fn unexpected(&self, node: usize, what: &str, event: &str) -> RingError {
        RingError::Unexpected {
            transport: self.label.clone(),
            node,
            what: what.to_owned(),
            event: event.to_owned(),
        }
    }
}

/// A node's process, and a task that reads what it says.
fn spawn(
    mut program: Program,
    index: usize,
    heard: &mpsc::UnboundedSender<(usize, Heard)>,
) -> io::Result<NodeProcess> {
    // Of a process group of its own, so that Ctrl-C reaches the coordinator alone, which ends its nodes in order.
    let mut child =
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).kill_on_drop(true).spawn()?;
    let gone = || io::Error::other("it ended at once");
    let pid = child.id().ok_or_else(gone)?;
    let stdin = child.stdin.take().ok_or_else(gone)?;
    let stdout = child.stdout.take().ok_or_else(gone)?;
    tokio::spawn(listen(BufReader::new(stdout).lines(), index, heard.clone()));
    Ok(NodeProcess { pid, child, stdin })
}

async fn listen(
    mut lines: Lines<BufReader<ChildStdout>>,
    index: usize,
    heard: mpsc::UnboundedSender<(usize, Heard)>,
) {
    let mut remarks = VecDeque::new();
    // What cannot be read ends it like the end of output: the node does not keep to the protocol.
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(event) => {
                if heard.send((index, Heard::Event(event))).is_err() {
                    return;
                }
            }
            Err(_) if line.trim().is_empty() => {}
            Err(error) if line.starts_with(r#"{"event""#) => {
                remarks.push_back(format!("{line} ({error})"));
                break;
            }
            Err(_) => {
                remarks.push_back(line);
                if remarks.len() > REMARKS {
                    remarks.pop_front();
                }
            }
        }
    }
    let last_words = remarks.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" / ");
    // Nobody listens only if the run is over.
    let _ = heard.send((index, Heard::End(last_words)));
}

/// The reason a node gave for its end, from what it said before.
async fn last_words(inbox: &mut mpsc::UnboundedReceiver<(usize, Heard)>, node: usize) -> String {
    let end = tokio::time::Instant::now() + FAREWELL;
    while let Ok(Some((index, heard))) = timeout_at(end, inbox.recv()).await {
        match heard {
            Heard::Event(Event::Failed { reason }) if index == node => return reason,
            Heard::End(remarks) if index == node => return remarks,
            Heard::Event(_) | Heard::End(_) => {}
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node played by a shell script.
    async fn scripted(script: &str) -> Result<Cluster, RingError> {
        let node = |_| {
            let mut program = Program::new("sh");
            program.args(["-c", script]);
            program
        };
        let programs = (0..2).map(node).collect();
        Cluster::start("scripted".to_owned(), Dialect::Erlang, Duration::from_secs(30), programs).await
    }

    const GREETING: &str = r#"echo '{"event":"ready","address":"a","version":"1"}'
        read peers; echo '{"event":"connected"}'"#;

    #[tokio::test]
    async fn a_round() {
        let script = r#"read go; echo '{"event":"done","round":7,"sender_seconds":[0.5]}'
            read stop; echo '{"event":"probes","tick_us":[1,2],"echo_us":[3],"unanswered":0}'; read end"#;
        let mut cluster = scripted(&format!("{GREETING}; {script}")).await.unwrap();
        let outcome = cluster.round(7, false).await.unwrap();
        assert_eq!(outcome.sender_seconds, [0.5, 0.5]);
        assert_eq!((outcome.probes.tick_us.len(), outcome.probes.echo_us.len()), (4, 2));
        cluster.stop().await;
    }

    #[tokio::test]
    async fn a_node_that_hangs_is_named() {
        let mut cluster = scripted(&format!("{GREETING}; read go; read never")).await.unwrap();
        cluster.deadline = Duration::from_millis(50);
        let error = cluster.round(1, false).await.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("nodes 0, 1") && error.contains("finish round 1"), "{error}");
    }

    #[tokio::test]
    async fn a_node_that_ends_is_quoted() {
        let error = scripted("echo no such thing").await.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("no such thing"), "{error}");
    }

    #[tokio::test]
    async fn an_event_that_makes_no_sense_is_quoted() {
        let script = r#"read report; echo '{"event":"report","messages":-1}'; read end"#;
        let error = scripted(&format!("{GREETING}; {script}")).await.unwrap().tally().await.unwrap_err();
        assert!(error.to_string().contains(r#""messages":-1"#), "{error}");
    }

    #[tokio::test]
    async fn a_node_that_fails_gives_its_reason() {
        let failing = r#"read report; echo '{"event":"failed","reason":"out of luck"}'; read end"#;
        let error = scripted(&format!("{GREETING}; {failing}")).await.unwrap().tally().await.unwrap_err();
        assert!(error.to_string().contains("out of luck"), "{error}");
    }
}
