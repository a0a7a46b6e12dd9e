//! A node of a soak.
//!
//! [`senders`] send to the [`inboxes`] of all other nodes, [`callers`] call the [`servers`], [`watchers`] monitor [`targets`];
//! [`sessions`] notes which sessions end, and [`book`] has what all of them need and count.

mod book;
mod callers;
mod inboxes;
mod senders;
mod servers;
mod sessions;
mod targets;
mod watchers;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use teleport::{Backoff, Config, Node, NodeName, Sever, StaticPeers};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::ledger::Account;
use super::protocol::{Answer, Blow, Command, Event, Order};
use crate::args::SoakNodeOptions;
use crate::bench::COOKIE;
use crate::bench::child::{self, NodeError};

use book::Book;

/// A peer of which nothing is heard for so long is down.
pub(super) const TICKTIME: Duration = Duration::from_secs(4);

/// How long a node that leaves sees through what it has accepted.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long what it did may take to end after that.
const PARTING: Duration = Duration::from_secs(5);

/// Small windows: full ones are what is to be tried, and many nodes have to fit into one machine.
const PEER_WINDOW: u64 = 8 << 20;

/// Processes of a kind.
const SENDERS: u16 = 3;
const INBOXES: u16 = 2;
const SERVERS: u16 = 2;
const CALLERS: u16 = 3;
const WATCHERS: u16 = 2;

/// What nodes keep in memory at the most, the largest message apart.
pub(super) const KEPT_BYTES: u64 = 160 << 20;

/// A node under load.
pub(super) struct SoakNode {
    book: Arc<Book>,
    runtime: Runtime,
    peers: StaticPeers,
    /// Those that end when it is calm, or the node is shut down.
    busy: JoinSet<()>,
    /// Those that end when the node is shut down.
    serving: JoinSet<()>,
    is_loaded: bool,
}

impl SoakNode {
    /// A node that listens, has its mailboxes, and knows no peers yet.
    pub(super) fn start(options: &SoakNodeOptions) -> Result<Self, NodeError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(NodeError::io("cannot start the node's threads"))?;
        let peers = StaticPeers::new();
        let starting = Node::builder(&name(options.index))
            .cookie(COOKIE)
            .resolver(peers.clone())
            .config(config(options.size.bytes() as u64))
            .start();
        let node = runtime.block_on(starting).map_err(NodeError::teleport("cannot start the node"))?;
        let book = Arc::new(Book::new(node, options)?);
        let mut serving = JoinSet::new();
        for inbox in 0..INBOXES {
            serving.spawn_on(inboxes::open(&book, inbox)?, runtime.handle());
        }
        for server in 0..SERVERS {
            serving.spawn_on(servers::supervise(Arc::clone(&book), server), runtime.handle());
        }
        serving.spawn_on(sessions::note(Arc::clone(&book)), runtime.handle());
        Ok(Self { book, runtime, peers, busy: JoinSet::new(), serving, is_loaded: false })
    }

    /// Follows the coordinator until it closes this process's stdin.
    pub(super) fn serve(mut self) -> Result<(), NodeError> {
        child::serve(self.book.node.address().to_string(), |command| self.obey(command))
    }

    fn obey(&mut self, command: Command) -> Result<Event, NodeError> {
        let answer = match command {
            Command::Peers { addresses } => {
                self.learn(&addresses)?;
                if !self.is_loaded {
                    self.load()?;
                }
                return Ok(Event::Connected);
            }
            Command::Order(Order::Tell) => Answer::Account(Box::new(self.account())),
            Command::Order(Order::Strike { blow, pick }) => {
                Answer::Struck { blow, done: self.strike(blow, pick as usize) }
            }
            Command::Order(Order::Calm) => {
                self.book.calm();
                Answer::Account(Box::new(self.account()))
            }
            Command::Order(Order::Leave) => self.leave(),
            Command::Order(Order::Explain { missing }) => Answer::Explained {
                confirmed: missing.iter().map(|missing| self.book.confirmed(missing)).collect(),
            },
        };
        Ok(Event::Answer(answer))
    }

    /// Takes note of where the nodes are that have said so.
    fn learn(&self, addresses: &[String]) -> Result<(), NodeError> {
        for (index, text) in (0u16..).zip(addresses).filter(|(_, text)| !text.is_empty()) {
            let address =
                text.parse().map_err(|_| NodeError::Address { node: index, address: text.clone() })?;
            self.peers.insert(node_name(index)?, address);
        }
        Ok(())
    }

    fn load(&mut self) -> Result<(), NodeError> {
        let handle = self.runtime.handle();
        for worker in 0..SENDERS {
            self.busy.spawn_on(senders::open(&self.book, worker)?, handle);
        }
        for worker in 0..CALLERS {
            self.busy.spawn_on(callers::open(&self.book, worker)?, handle);
        }
        for worker in 0..WATCHERS {
            self.busy.spawn_on(watchers::open(&self.book, worker)?, handle);
        }
        self.is_loaded = true;
        Ok(())
    }

    /// Whether there was anything to strike.
    fn strike(&self, blow: Blow, pick: usize) -> bool {
        if blow == Blow::Exit {
            self.book.end_servers();
            return true;
        }
        let peers = self.book.node.info().peers;
        let Some(peer) = peers.get(pick.checked_rem(peers.len()).unwrap_or(0)) else { return false };
        match blow {
            Blow::Cut => self.book.node.sever(&peer.name, Sever::Pool(pick / peers.len())),
            // Breaking what is being set up anew would be no fault.
            Blow::Control => peer.control_connected && self.book.node.sever(&peer.name, Sever::Control),
            Blow::Disconnect => self.book.node.disconnect(&peer.name),
            Blow::Exit => false,
        }
    }

    fn leave(&mut self) -> Answer {
        let report = self.runtime.block_on(self.book.node.shutdown(FAREWELL));
        // All of them end with the node; who does not shows among the gauges.
        let ended = async {
            while self.busy.join_next().await.is_some() {}
            while self.serving.join_next().await.is_some() {}
        };
        let _ = self.runtime.block_on(async { timeout(PARTING, ended).await });
        let unconfirmed =
            report.unconfirmed.iter().filter_map(|(peer, count)| Some((index_of(peer)?, *count))).collect();
        Answer::Left { unconfirmed, account: Box::new(self.account()) }
    }

    fn account(&mut self) -> Account {
        while self.busy.try_join_next().is_some() {}
        self.book.account(self.busy.len() as u64)
    }
}

fn config(largest: u64) -> Config {
    let bytes = |count| NonZeroU64::new(count).unwrap_or(NonZeroU64::MIN);
    let mut config = Config::default();
    config.net_ticktime = TICKTIME;
    config.backoff = Backoff { first: Duration::from_millis(20), most: Duration::from_millis(500) };
    config.max_message = bytes(largest + 64 * 1024);
    config.peer_window = bytes(PEER_WINDOW);
    config.mailbox_window = bytes(PEER_WINDOW / 2);
    config.receive_window = bytes(4 * PEER_WINDOW);
    config.node_window = bytes(8 * PEER_WINDOW);
    config.answers_window = bytes(4 * PEER_WINDOW);
    config.buffer_pool = 4 * PEER_WINDOW as usize;
    // Short, so that connections come and go.
    config.bulk_idle = Duration::from_secs(5);
    config.stall_timeout = Duration::from_secs(2);
    config.worker_threads = 2;
    config
}

fn name(index: u16) -> String {
    format!("soak{index}@127.0.0.1")
}

fn node_name(index: u16) -> Result<NodeName, NodeError> {
    name(index).parse().map_err(NodeError::teleport("cannot name a node"))
}

fn inbox_name(inbox: u16) -> String {
    format!("inbox {inbox}")
}

fn index_of(name: &NodeName) -> Option<u16> {
    name.as_str().strip_prefix("soak")?.split('@').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_indices_belong_together() {
        for index in [0, 7, 63] {
            assert_eq!(index_of(&node_name(index).unwrap()), Some(index));
        }
    }
}
