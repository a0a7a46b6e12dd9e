//! What peers that stand still take from one that does not: 40 processes are stopped and go on, and one peer takes all and
//! acknowledges nothing.

use super::peer::Peer;
use super::{COOKIE, Result, USAGE, Victim};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use teleport::gen_server::{Answer, Context, GenServer};
use teleport::{Binary, Caller, Node, NodeName, Process, SendOptions, StaticPeers};
use teleport_proto::wire::pool::Class;
use tokio::process::Command;
use tokio::task::JoinSet;

const STOPPED: usize = 40;
const ROUNDS: usize = 5;

/// Small and large messages, and how many processes send them to the healthy peer, or from it.
const KINDS: [(&str, usize, usize); 2] = [("1 KiB", 1 << 10, 8), ("1 MiB", 1 << 20, 4)];

/// How long sends go on before a measurement, and how long that is.
const BEFORE: Duration = Duration::from_millis(500);
const SPAN: Duration = Duration::from_millis(1500);

const PATIENCE: Duration = Duration::from_secs(20);

/// What a peer is asked.
#[derive(Debug, Serialize, Deserialize)]
enum Ask {
    /// How many messages it has taken.
    Taken,
    /// To send to that name at the node in the middle.
    Send { to: String, len: usize, processes: usize, millis: u64 },
}

struct Desk {
    taken: Arc<AtomicU64>,
    middle: NodeName,
}

impl GenServer for Desk {
    type Call = Ask;
    type Reply = u64;
    type Cast = ();

    async fn handle_call(&mut self, request: Ask, _caller: &Caller, context: &mut Context) -> Answer<u64> {
        if let Ask::Send { to, len, processes, millis } = request {
            let end = Instant::now() + Duration::from_millis(millis);
            send(context.node(), &to, &self.middle, len, processes, end).detach_all();
        }
        self.taken.load(Ordering::Relaxed).into()
    }
}

/// `peer <name>@<ip> <middle> <ip>:<port>`: a peer that listens at its address, until its standard input ends.
pub(crate) async fn peer(mut arguments: VecDeque<String>) -> Result<()> {
    let mut next = || arguments.pop_front().ok_or("siege peer takes three arguments");
    let (name, middle, address): (String, NodeName, SocketAddr) =
        (next()?, next()?.parse()?, next()?.parse()?);
    let peers = StaticPeers::from_iter([(middle.clone(), address)]);
    let ip = name.split_once('@').ok_or("a peer has an address in its name")?.1.parse()?;
    let node =
        Node::builder(&name).listen(SocketAddr::new(ip, 0)).cookie(COOKIE).resolver(peers).start().await?;
    let taken = take(&node, "taker")?;
    let _desk = node.register_server("desk", Desk { taken, middle })?;
    println!("victim {} {}", node.name(), node.address());
    tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await?;
    Ok(())
}

/// Takes and counts what comes for that name.
fn take(node: &Node, name: &str) -> Result<Arc<AtomicU64>> {
    let taken = Arc::<AtomicU64>::default();
    let (mut mailbox, counter) = (node.register(name)?, taken.clone());
    tokio::spawn(async move {
        while mailbox.recv().await.is_some() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    Ok(taken)
}

/// Processes that send until then, or until they are dropped.
fn send(node: &Node, to: &str, at: &NodeName, len: usize, processes: usize, end: Instant) -> JoinSet<()> {
    let body = Binary::from(vec![1; len]);
    let mut sending = JoinSet::new();
    for _ in 0..processes {
        let (process, to, body) = (node.process(), (to.to_owned(), at.clone()), body.clone());
        sending.spawn(async move {
            let options = SendOptions::default();
            while Instant::now() < end {
                let sent = process.send_with((to.0.as_str(), &to.1), &body, options);
                if !matches!(tokio::time::timeout_at(end.into(), sent).await, Ok(Ok(()))) {
                    break;
                }
            }
        });
    }
    sending
}

/// The node in the middle, with its peers.
struct Stage {
    node: Node,
    process: Process,
    from_healthy: Arc<AtomicU64>,
    healthy: Victim,
    still: Vec<Victim>,
}

impl Stage {
    async fn start() -> Result<Self> {
        let peers = StaticPeers::new();
        let node = Node::builder("middle@127.0.0.1").cookie(COOKIE).resolver(peers.clone()).start().await?;
        let from_healthy = take(&node, "healthy")?;
        take(&node, "still")?;
        let exe = std::env::current_exe()?;
        let start = async |name: String| {
            let command = format!("{} peer {name} {} {}", exe.display(), node.name(), node.address());
            let peer = Victim::start(Some(&command)).await?;
            peers.insert(peer.name.clone(), peer.address);
            node.prime(&peer.name).await?;
            Result::Ok(peer)
        };
        let healthy = start("healthy@127.0.0.1".into()).await?;
        let mut still = Vec::new();
        for number in 0..STOPPED {
            // Each at an address of its own, as hosts are: peers at one address share what they may send.
            still.push(start(format!("still{number}@127.0.1.{}", number + 1)).await?);
        }
        Ok(Self { process: node.process(), node, from_healthy, healthy, still })
    }

    async fn ask(&self, peer: &Victim, ask: &Ask) -> Result<u64> {
        Ok(self.process.call(("desk", &peer.name), ask, PATIENCE).await?)
    }

    async fn signal(&self, signal: &str) -> Result<()> {
        let processes = self.still.iter().filter_map(|peer| peer.child.id()).map(|id| id.to_string());
        Command::new("kill")
            .arg(signal)
            .args(processes)
            .status()
            .await?
            .success()
            .then_some(())
            .ok_or("kill")?;
        Ok(())
    }

    /// Messages a second that the healthy one takes, or sends.
    async fn rate(&self, outward: bool, len: usize, processes: usize) -> Result<f64> {
        let end = Instant::now() + BEFORE + SPAN;
        let mut sending = JoinSet::new();
        if outward {
            sending = send(&self.node, "taker", &self.healthy.name, len, processes, end);
        } else {
            let (to, millis) = ("healthy".into(), (BEFORE + SPAN).as_millis() as u64);
            self.ask(&self.healthy, &Ask::Send { to, len, processes, millis }).await?;
        }
        let taken = async || {
            let there = outward.then(|| self.ask(&self.healthy, &Ask::Taken));
            Result::Ok(match there {
                Some(there) => (there.await?, Instant::now()),
                None => (self.from_healthy.load(Ordering::Relaxed), Instant::now()),
            })
        };
        tokio::time::sleep(BEFORE).await;
        let (before, begun) = taken().await?;
        tokio::time::sleep_until((end - Duration::from_millis(50)).into()).await;
        let (after, ended) = taken().await?;
        while sending.join_next().await.is_some() {}
        Ok((after - before) as f64 / ended.duration_since(begun).as_secs_f64())
    }

    /// What the healthy one gets while others stand still.
    async fn rate_beside(&self, outward: bool, len: usize, processes: usize) -> Result<f64> {
        let end = Instant::now() + Duration::from_secs(60);
        let mut filling = Vec::new();
        let nothing = if outward {
            let name = "nothing@127.0.0.2";
            let peer = Peer::open(name, self.node.name(), self.node.address(), 0, 1 << 40).await?;
            for class in [Class::Express, Class::Bulk] {
                let mut connection = peer.join(class).await?;
                tokio::spawn(async move { tokio::io::copy(&mut connection, &mut tokio::io::sink()).await });
            }
            self.signal("-STOP").await?;
            let nothing = name.parse()?;
            for name in self.still.iter().map(|peer| &peer.name).chain([&nothing]) {
                filling.extend(KINDS.map(|(_, len, _)| send(&self.node, "taker", name, len, 1, end)));
            }
            Some(peer)
        } else {
            for peer in &self.still {
                for (_, len, _) in KINDS {
                    let ask = Ask::Send { to: "still".into(), len, processes: 1, millis: 1000 };
                    self.ask(peer, &ask).await?;
                }
            }
            self.signal("-STOP").await?;
            None
        };
        tokio::time::sleep(Duration::from_secs(1)).await;
        let rate = self.rate(outward, len, processes).await;
        let held = self.node.info();
        eprintln!(
            "siege: {} MiB sent and not confirmed, {} MiB to come",
            held.bytes_in_flight >> 20,
            held.peers.iter().map(|peer| peer.transfer.granted_bytes).sum::<u64>() >> 20
        );
        drop(filling);
        self.signal("-CONT").await?;
        if let Some(nothing) = nothing {
            self.node.disconnect(&nothing.name().parse()?);
        }
        for peer in &self.still {
            self.ask(peer, &Ask::Taken).await?;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        rate
    }
}

/// Prints what a healthy peer gets with and without the others, and the ratio of both. Fails if a median is less than `--least`.
pub(crate) async fn run(mut arguments: VecDeque<String>) -> Result<()> {
    let mut least = None;
    while let Some(option) = arguments.pop_front() {
        let value = arguments.pop_front().filter(|_| option == "--least").ok_or(USAGE)?;
        least = Some(value.parse::<f64>()?);
    }
    let mut short = Vec::new();
    let stage = Stage::start().await?;
    println!(
        "{STOPPED} stopped peers, and one that acknowledges nothing; messages a second of a healthy one"
    );
    for outward in [true, false] {
        for (what, len, processes) in KINDS {
            let (mut ratios, mut lines) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let alone = stage.rate(outward, len, processes).await?;
                let beside = stage.rate_beside(outward, len, processes).await?;
                ratios.push(beside / alone);
                lines.push(format!("{alone:.0}/{beside:.0}"));
            }
            ratios.sort_unstable_by(f64::total_cmp);
            let (way, median) = (if outward { "to it  " } else { "from it" }, ratios[ROUNDS / 2]);
            if least.is_some_and(|least| median.is_nan() || median < least) {
                short.push(format!("{} {what}: {median:.2}", way.trim_end()));
            }
            println!(
                "{way} {what}: {median:.2} ({:.2} - {:.2})  alone/beside {}",
                ratios[0],
                ratios[ROUNDS - 1],
                lines.join(" ")
            );
        }
    }
    match least {
        Some(least) if !short.is_empty() => {
            Err(format!("less than {least} of before, {}", short.join(", ")).into())
        }
        _ => Ok(()),
    }
}
