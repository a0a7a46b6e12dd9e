//! A node of which little is asked.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use teleport::{Address, Binary, Mailbox, Node, NodeName, StaticPeers};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::protocol::{Answer, Command, Event, Order};
use crate::args::ScaleNodeOptions;
use crate::bench::COOKIE;
use crate::bench::child::{self, NodeError};
use crate::bench::stats::RoundTrips;

/// Who answers at each node.
const SERVER: &str = "server";

/// Where a greeting goes at each node.
const INBOX: &str = "inbox";

/// Of a request, and of its answer.
const REQUEST_BYTES: usize = 1024;

/// How often each peer is called while nodes are used.
const CALL_EVERY: Duration = Duration::from_secs(1);

/// Longer than the coordinator waits: a call ends because it is answered.
const CALL_TIMEOUT: Duration = Duration::from_secs(3600);

/// A node of a large cluster.
pub(super) struct ScaleNode {
    index: u16,
    runtime: Runtime,
    node: Node,
    resolver: StaticPeers,
    inbox: Mailbox,
    /// As told, and of use from [`Order::Meet`] on.
    addresses: Vec<String>,
    calling: Option<Calling>,
}

/// Calls that are made until this is told to stop.
struct Calling {
    stop: watch::Sender<()>,
    task: JoinHandle<Result<RoundTrips, NodeError>>,
}

impl ScaleNode {
    /// A node that listens, and knows no peers yet.
    pub(super) fn start(options: &ScaleNodeOptions) -> Result<Self, NodeError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(NodeError::io("cannot start the node's threads"))?;
        let resolver = StaticPeers::new();
        let starting = Node::builder(&name(options.index)).cookie(COOKIE).resolver(resolver.clone()).start();
        let node = runtime.block_on(starting).map_err(NodeError::teleport("cannot start the node"))?;
        let open = |name| node.register(name).map_err(NodeError::teleport("cannot open a mailbox"));
        let (inbox, server) = (open(INBOX)?, open(SERVER)?);
        runtime.spawn(async move {
            if let Err(error) = answer(server).await {
                child::give_up(&error);
            }
        });
        Ok(Self {
            index: options.index,
            runtime,
            node,
            resolver,
            inbox,
            addresses: Vec::new(),
            calling: None,
        })
    }

    /// Follows the coordinator until it closes this process's stdin.
    pub(super) fn serve(mut self) -> Result<(), NodeError> {
        child::serve(self.node.address().to_string(), |command| self.obey(command))
    }

    fn obey(&mut self, command: Command) -> Result<Event, NodeError> {
        let answer = match command {
            Command::Peers { addresses } => {
                self.addresses = addresses;
                return Ok(Event::Connected);
            }
            Command::Order(Order::Meet) => self.meet()?,
            Command::Order(Order::Use) => self.call_all()?,
            Command::Order(Order::Rest) => self.rest()?,
        };
        Ok(Event::Answer(answer))
    }

    fn meet(&mut self) -> Result<Answer, NodeError> {
        let addresses = std::mem::take(&mut self.addresses);
        let mut others = Vec::with_capacity(addresses.len());
        for (index, text) in (0..).zip(&addresses) {
            let address: SocketAddr =
                text.parse().map_err(|_| NodeError::Address { node: index, address: text.clone() })?;
            if index != self.index {
                self.resolver.insert(node_name(index)?, address);
                others.push(index);
            }
        }
        // Not all with the first node at once.
        let (before, behind) = others.split_at(usize::from(self.index));
        let (node, inbox) = (&self.node, &mut self.inbox);
        self.runtime.block_on(async {
            for &index in behind.iter().chain(before) {
                let to = Address::from((INBOX, &node_name(index)?));
                let greeting = Binary::from(vec![0; REQUEST_BYTES]);
                node.send(to, &greeting).await.map_err(NodeError::teleport("cannot send"))?;
            }
            for _ in &others {
                inbox.recv().await.ok_or(NodeError::ThreadGone("node"))?;
            }
            Ok(Answer::Done)
        })
    }

    fn call_all(&mut self) -> Result<Answer, NodeError> {
        let peers: Vec<NodeName> = self.node.info().peers.into_iter().map(|peer| peer.name).collect();
        let (stop, stopped) = watch::channel(());
        let mailbox = self.node.mailbox().map_err(NodeError::teleport("cannot open a mailbox"))?;
        let task = self.runtime.spawn(call(mailbox, peers, stopped));
        self.calling = Some(Calling { stop, task });
        Ok(Answer::Done)
    }

    fn rest(&mut self) -> Result<Answer, NodeError> {
        let Calling { stop, task } = self.calling.take().ok_or(NodeError::WrongRole("`teleport scale`"))?;
        drop(stop);
        let round_trips = self.runtime.block_on(task).map_err(|_| NodeError::ThreadGone("caller"))??;
        Ok(Answer::Called { round_trips })
    }
}

/// Calls each of the peers in turn, evenly over [`CALL_EVERY`], until it is stopped and all is answered.
async fn call(
    mailbox: Mailbox,
    peers: Vec<NodeName>,
    mut stopped: watch::Receiver<()>,
) -> Result<RoundTrips, NodeError> {
    let (answered, mut answers) = mpsc::unbounded_channel();
    let process = mailbox.process();
    let mut turns = tokio::time::interval(CALL_EVERY / u32::try_from(peers.len()).unwrap_or(1).max(1));
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for peer in peers.iter().cycle() {
        tokio::select! {
            _ = stopped.changed() => break,
            _ = turns.tick() => {}
        }
        let (process, answered, to) = (process.clone(), answered.clone(), Address::from((SERVER, peer)));
        tokio::spawn(async move {
            let (begun, request) = (Instant::now(), Binary::from(vec![0; REQUEST_BYTES]));
            let answer: Result<Binary, _> = process.call(to, &request, CALL_TIMEOUT).await;
            // Nobody waits for it only if the node is ending.
            let _ = answered.send(answer.map(|_| begun.elapsed()));
        });
    }
    drop(answered);
    let mut round_trips = RoundTrips::default();
    while let Some(answer) = answers.recv().await {
        round_trips.record(answer.map_err(NodeError::teleport("a call failed"))?);
    }
    Ok(round_trips)
}

/// Sends every request back, until the node ends.
async fn answer(mut server: Mailbox) -> Result<(), NodeError> {
    let process = server.process();
    while let Some(message) = server.recv().await {
        let (caller, request) = message.call().ok_or_else(|| NodeError::Protocol {
            from: "a caller".to_owned(),
            what: "what is no call".to_owned(),
        })?;
        process.reply(&caller, &request).map_err(NodeError::teleport("cannot answer"))?;
    }
    Ok(())
}

fn name(index: u16) -> String {
    format!("scale{index}@127.0.0.1")
}

fn node_name(index: u16) -> Result<NodeName, NodeError> {
    name(index).parse().map_err(NodeError::teleport("cannot name a node"))
}
