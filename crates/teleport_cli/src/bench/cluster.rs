//! The processes of one transport's nodes, seen from the coordinator.

use std::io;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::process::Command as Program;
use tokio::sync::mpsc;
use tokio::time::timeout_at;

use super::BenchError;
use super::process;
use super::protocol::{Command, Event};
use super::spawned::{Heard, NodeProcess};

/// How long nodes may take to end after their stdin is closed.
const FAREWELL: Duration = Duration::from_secs(5);

/// How a transport's nodes are told something.
pub(crate) type Notation<O> = fn(&Command<O>) -> Result<String, serde_json::Error>;

/// All nodes of one transport. Dropping it kills them.
pub(crate) struct Cluster<O, A> {
    label: String,
    notation: Notation<O>,
    deadline: Duration,
    nodes: Vec<NodeProcess>,
    inbox: mpsc::UnboundedReceiver<(usize, Heard<A>)>,
    version: String,
}

impl<O, A: Serialize + DeserializeOwned + Send + 'static> Cluster<O, A> {
    /// Starts the processes and connects them with each other.
    pub(crate) async fn start(
        label: String,
        notation: Notation<O>,
        deadline: Duration,
        programs: Vec<Program>,
    ) -> Result<Self, BenchError> {
        let (heard, inbox) = mpsc::unbounded_channel();
        let mut nodes = Vec::with_capacity(programs.len());
        for (index, program) in programs.into_iter().enumerate() {
            let node = NodeProcess::spawn(program, index, &heard).map_err(|source| BenchError::Spawn {
                transport: label.clone(),
                node: index,
                source,
            })?;
            nodes.push(node);
        }
        let mut cluster = Self { label, notation, deadline, nodes, inbox, version: String::new() };
        let ready = cluster
            .hear("start", |event| match event {
                Event::Ready { address, version } => Ok((address, version)),
                other => Err(other),
            })
            .await?;
        cluster.version = ready.first().map(|(_, version)| version.clone()).unwrap_or_default();
        let addresses = ready.into_iter().map(|(address, _)| address).collect();
        cluster.tell(&Command::Peers { addresses }).await?;
        cluster
            .hear("connect", |event| match event {
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

    /// Each node's peak resident memory in MiB.
    pub(crate) fn peak_rss_mib(&self) -> Result<Vec<f64>, BenchError> {
        self.measure(process::peak_rss_mib)
    }

    /// Ends all nodes, at first by closing their stdin.
    pub(crate) async fn stop(self) {
        let end = tokio::time::Instant::now() + FAREWELL;
        let mut nodes = self.nodes;
        nodes.iter_mut().for_each(NodeProcess::close);
        for mut node in nodes {
            if timeout_at(end, node.child.wait()).await.is_err() {
                // Already gone is as good.
                let _ = node.child.kill().await;
            }
        }
    }

    /// CPU time of all nodes so far.
    pub(crate) fn cpu_time(&self) -> Result<Duration, BenchError> {
        Ok(self.measure(process::cpu_time)?.into_iter().sum())
    }

    /// Tells all nodes to do something, and waits until each has answered with what `wanted` takes; by node.
    pub(crate) async fn ask<T>(
        &mut self,
        order: O,
        what: &str,
        wanted: impl Fn(A) -> Result<T, A>,
    ) -> Result<Vec<T>, BenchError> {
        self.tell(&Command::Order(order)).await?;
        self.hear(what, |event| match event {
            Event::Answer(answer) => wanted(answer).map_err(Event::Answer),
            other => Err(other),
        })
        .await
    }

    /// Lets the nodes work for a while, unless one of them ends or gives up.
    pub(crate) async fn rest(&mut self, time: Duration, what: &str) -> Result<(), BenchError> {
        let end = tokio::time::Instant::now() + time;
        match timeout_at(end, self.inbox.recv()).await {
            Err(_) => Ok(()),
            Ok(Some((index, Heard::Event(Event::Failed { reason })))) => {
                Err(BenchError::NodeFailed { transport: self.label.clone(), node: index, reason })
            }
            Ok(Some((index, Heard::Event(event)))) => Err(self.unexpected(index, what, &event.name())),
            Ok(Some((index, Heard::End(last_words)))) => Err(self.ended(index, what, last_words)),
            // The channel ends when all readers have, and each of them says so before.
            Ok(None) => Err(self.ended(0, what, String::new())),
        }
    }

    /// What the system tells of each node's process.
    pub(crate) fn measure<T>(&self, figure: impl Fn(u32) -> io::Result<T>) -> Result<Vec<T>, BenchError> {
        let measure = |(index, node): (usize, &NodeProcess)| {
            figure(node.pid).map_err(|source| BenchError::Measure {
                transport: self.label.clone(),
                node: index,
                source,
            })
        };
        self.nodes.iter().enumerate().map(measure).collect()
    }

    async fn tell(&mut self, command: &Command<O>) -> Result<(), BenchError> {
        let line = (self.notation)(command)?;
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if let Err(source) = node.tell(&line).await {
                // A node that has ended has said why, if it could.
                let last_words = last_words(&mut self.inbox, index).await;
                return Err(BenchError::NodeEnded {
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
    async fn hear<T>(
        &mut self,
        what: &str,
        wanted: impl Fn(Event<A>) -> Result<T, Event<A>>,
    ) -> Result<Vec<T>, BenchError> {
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
                    return Err(BenchError::NodeFailed {
                        transport: self.label.clone(),
                        node: index,
                        reason,
                    });
                }
                Heard::Event(event) => match wanted(event) {
                    Ok(answer) if answers[index].is_none() => answers[index] = Some(answer),
                    Ok(_) => return Err(self.unexpected(index, what, "the same answer twice")),
                    Err(event) => return Err(self.unexpected(index, what, &event.name())),
                },
                Heard::End(last_words) => {
                    return Err(self.ended(index, what, last_words));
                }
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    fn overdue<T>(&self, what: &str, answers: &[Option<T>]) -> BenchError {
        let missing = answers.iter().enumerate().filter(|(_, answer)| answer.is_none());
        BenchError::Overdue {
            transport: self.label.clone(),
            nodes: missing.map(|(index, _)| index.to_string()).collect::<Vec<_>>().join(", "),
            what: what.to_owned(),
            seconds: self.deadline.as_secs(),
        }
    }

    fn ended(&self, node: usize, what: &str, last_words: String) -> BenchError {
        BenchError::NodeEnded { transport: self.label.clone(), node, what: what.to_owned(), last_words }
    }

    fn unexpected(&self, node: usize, what: &str, event: &str) -> BenchError {
        BenchError::Unexpected {
            transport: self.label.clone(),
            node,
            what: what.to_owned(),
            event: event.to_owned(),
        }
    }
}

/// The reason a node gave for its end, from what it said before.
async fn last_words<A>(inbox: &mut mpsc::UnboundedReceiver<(usize, Heard<A>)>, node: usize) -> String {
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
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(tag = "command", rename_all = "snake_case")]
    enum Order {
        Count,
    }

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(tag = "event", rename_all = "snake_case")]
    enum Answer {
        Counted { messages: u64 },
        Other,
    }

    type Scripted = Cluster<Order, Answer>;

    /// Nodes played by a shell script.
    async fn scripted(script: &str) -> Result<Scripted, BenchError> {
        let node = |_| {
            let mut program = Program::new("sh");
            program.args(["-c", script]);
            program
        };
        let programs = (0..2).map(node).collect();
        Cluster::start("scripted".to_owned(), Command::to_json, Duration::from_secs(30), programs).await
    }

    async fn count(nodes: &mut Scripted) -> Result<Vec<u64>, BenchError> {
        nodes
            .ask(Order::Count, "count", |answer| match answer {
                Answer::Counted { messages } => Ok(messages),
                other => Err(other),
            })
            .await
    }

    const GREETING: &str = r#"echo '{"event":"ready","address":"a","version":"1"}'
        read peers; echo '{"event":"connected"}'"#;

    /// After the greeting, nodes that print this line when they are told to count.
    async fn answering(line: &str) -> Result<Vec<u64>, BenchError> {
        let mut nodes = scripted(&format!("{GREETING}; read count; echo '{line}'; read end")).await.unwrap();
        let answer = count(&mut nodes).await;
        nodes.stop().await;
        answer
    }

    #[tokio::test]
    async fn every_node_answers() {
        assert_eq!(answering(r#"{"event":"counted","messages":7}"#).await.unwrap(), [7, 7]);
    }

    #[tokio::test]
    async fn a_node_that_hangs_is_named() {
        let mut nodes = scripted(&format!("{GREETING}; read count; read never")).await.unwrap();
        nodes.deadline = Duration::from_millis(50);
        let error = count(&mut nodes).await.unwrap_err().to_string();
        assert!(error.contains("nodes 0, 1") && error.contains("count"), "{error}");
    }

    #[tokio::test]
    async fn a_node_that_ends_is_quoted() {
        let error = scripted("echo no such thing").await.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("no such thing"), "{error}");
    }

    #[tokio::test]
    async fn a_node_that_ends_while_nothing_is_asked_is_noticed() {
        let mut nodes = scripted(&format!("{GREETING}; read never")).await.unwrap();
        nodes.nodes[1].child.start_kill().unwrap();
        let error = nodes.rest(Duration::from_secs(30), "go on").await.unwrap_err().to_string();
        assert!(error.contains("node 1 ended before it could go on"), "{error}");
    }

    #[tokio::test]
    async fn an_answer_that_makes_no_sense_is_quoted() {
        let error = answering(r#"{"event":"counted","messages":-1}"#).await.unwrap_err();
        assert!(error.to_string().contains(r#""messages":-1"#), "{error}");
    }

    #[tokio::test]
    async fn an_answer_to_another_question_is_named() {
        let error = answering(r#"{"event":"other"}"#).await.unwrap_err();
        assert!(error.to_string().contains("said `other`"), "{error}");
    }

    #[tokio::test]
    async fn a_node_that_fails_gives_its_reason() {
        let error = answering(r#"{"event":"failed","reason":"out of luck"}"#).await.unwrap_err();
        assert!(error.to_string().contains("out of luck"), "{error}");
    }
}
