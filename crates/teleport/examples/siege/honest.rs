//! Nodes that mean well: they call all the time, send small and large messages, ask for large answers, and monitor.

use super::victim::Ask;
use super::{COOKIE, Result};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use teleport::{Binary, Mailbox, Node, NodeName, StaticPeers};
use tokio::task::JoinSet;

/// How many of them.
const NODES: usize = 3;

/// From one call of a node to the next.
const EVERY: Duration = Duration::from_millis(10);

/// Monitors that each node has all the time: more than each peer is promised whatever others hold.
const MONITORS: usize = 300;

/// Large answers that a node asks for at a time, their length, and how long it waits before it asks again.
const ANSWERS: usize = 4;
const ANSWER: u64 = 1 << 20;
const ANSWERS_PAUSE: Duration = Duration::from_millis(500);

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Honest {
    nodes: Vec<Node>,
    /// Of each node the process that monitors; it gets nothing else than what ended a monitor.
    watchers: Vec<Mailbox>,
    victim: NodeName,
}

/// What they met with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    pub(crate) answered: usize,
    pub(crate) failed: usize,
    /// How long calls took, from when they were due, in milliseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    /// The longest of those that were due in each second, in milliseconds.
    pub(crate) seconds: Vec<f64>,
    /// Messages of 1 KiB and of 1 MiB that were accepted, and those that were not.
    pub(crate) small: usize,
    pub(crate) large: usize,
    pub(crate) unsent: usize,
    /// Answers of 1 MiB that came, and those that did not.
    pub(crate) large_answers: usize,
    pub(crate) large_failed: usize,
    /// Monitors that have ended since the beginning, though nothing did that is monitored.
    pub(crate) monitors_lost: usize,
}

impl Honest {
    pub(crate) async fn start(victim: &NodeName, address: SocketAddr) -> Result<Self> {
        let (mut nodes, mut watchers) = (Vec::new(), Vec::new());
        for number in 0..NODES {
            let peers = StaticPeers::from_iter([(victim.clone(), address)]);
            let builder = Node::builder(&format!("honest{number}@127.0.0.1")).cookie(COOKIE).resolver(peers);
            let node = builder.start().await?;
            let watcher = node.mailbox()?;
            for _ in 0..MONITORS {
                watcher.monitor(("desk", victim)).await?;
            }
            nodes.push(node);
            watchers.push(watcher);
        }
        Ok(Self { nodes, watchers, victim: victim.clone() })
    }

    /// Calls, sends and asks for this long.
    pub(crate) async fn measure(&self, span: Duration) -> Figures {
        let begun = Instant::now();
        let end = begun + span;
        let mut calls = Vec::new();
        let mut sends = Vec::new();
        let mut asks = Vec::new();
        for node in &self.nodes {
            calls.push(tokio::spawn(call(node.clone(), self.victim.clone(), end)));
            asks.push(tokio::spawn(ask(node.clone(), self.victim.clone(), end)));
            for len in [1 << 10, 1 << 20] {
                sends.push((len, tokio::spawn(send(node.clone(), self.victim.clone(), len, end))));
            }
        }
        let mut figures = Figures::default();
        let mut took = Vec::new();
        for call in calls {
            let (times, failed) = call.await.unwrap_or_default();
            for (due, time) in times {
                let second = due.duration_since(begun).as_secs() as usize;
                figures.seconds.resize(figures.seconds.len().max(second + 1), 0.0);
                figures.seconds[second] = figures.seconds[second].max(time.as_secs_f64() * 1e3);
                took.push(time);
            }
            figures.failed += failed;
        }
        for (len, send) in sends {
            let (sent, failed) = send.await.unwrap_or_default();
            *(if len > 1 << 10 { &mut figures.large } else { &mut figures.small }) += sent;
            figures.unsent += failed;
        }
        for ask in asks {
            let (answered, failed) = ask.await.unwrap_or_default();
            figures.large_answers += answered;
            figures.large_failed += failed;
        }
        figures.monitors_lost = self.watchers.iter().map(Mailbox::len).sum();
        took.sort_unstable();
        let at = |permille: usize| {
            took.get(took.len() * permille / 1000).map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        (figures.answered, figures.p50, figures.p99) = (took.len(), at(500), at(990));
        figures.max = took.last().map_or(0.0, |time| time.as_secs_f64() * 1e3);
        figures
    }
}

/// Calls are made when they are due, whether or not those before have been answered.
async fn call(node: Node, victim: NodeName, end: Instant) -> (Vec<(Instant, Duration)>, usize) {
    let mut calls = Vec::new();
    let mut due = Instant::now();
    let mut number = 0;
    while due < end {
        tokio::time::sleep_until(due.into()).await;
        let (node, victim) = (node.clone(), victim.clone());
        number += 1;
        calls.push(tokio::spawn(async move {
            let process = node.process();
            let reply = process.call::<_, Binary>(("desk", victim), &Ask::Echo(number), PATIENCE).await;
            ((due, due.elapsed()), reply)
        }));
        due += EVERY;
    }
    let (mut took, mut failed) = (Vec::new(), 0);
    for call in calls {
        match call.await {
            Ok((time, Ok(_))) => took.push(time),
            Ok((_, Err(error))) => {
                failed += 1;
                if failed == 1 {
                    eprintln!("siege: an honest call failed: {error}");
                }
            }
            Err(_) => failed += 1,
        }
    }
    (took, failed)
}

/// Asks for several large answers at a time, of a server that nobody else asks.
async fn ask(node: Node, victim: NodeName, end: Instant) -> (usize, usize) {
    let (mut answered, mut failed) = (0, 0);
    while Instant::now() < end {
        let mut asked = JoinSet::new();
        for _ in 0..ANSWERS {
            let (process, victim) = (node.process(), victim.clone());
            asked.spawn(async move {
                process.call::<_, Binary>(("shelf", victim), &Ask::Blob(ANSWER), PATIENCE).await
            });
        }
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(_)) => answered += 1,
                Ok(Err(error)) => {
                    failed += 1;
                    if failed == 1 {
                        eprintln!("siege: an honest large answer did not come: {error}");
                    }
                }
                Err(_) => failed += 1,
            }
        }
        tokio::time::sleep(ANSWERS_PAUSE).await;
    }
    (answered, failed)
}

async fn send(node: Node, victim: NodeName, len: usize, end: Instant) -> (usize, usize) {
    let process = node.process();
    let body = Binary::from(vec![1; len]);
    let (mut sent, mut failed) = (0, 0);
    while Instant::now() < end {
        let message = process.send(("taker", victim.clone()), &body);
        match tokio::time::timeout_at(end.into(), message).await {
            Ok(Ok(())) => sent += 1,
            Ok(Err(_)) => failed += 1,
            Err(_) => break,
        }
        tokio::time::sleep(Duration::from_millis(if len > 1 << 10 { 50 } else { 5 })).await;
    }
    (sent, failed)
}
