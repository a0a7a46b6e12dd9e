//! Servers for calls under faults, in this process or in a child.

use super::child;
use super::{name, payload, start_with};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;
use teleport::{Backoff, Binary, Caller, Config, Node, RegisterError, StaticPeers, Term};
use tokio::task::JoinSet;

/// Servers of each node.
pub(crate) const SERVERS: u64 = 3;

/// Where requests are handed on to.
pub(crate) const WORKER: (&str, &str) = ("worker", "steady@127.0.0.1");

/// The child's node.
pub(crate) const KILLED: &str = "killed@127.0.0.1";

/// What a server is to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wish {
    Answer,
    /// By a worker on another node.
    HandOn,
    Reject,
    /// Never to answer.
    Ignore,
    /// To end without an answer.
    Exit,
}

/// The call's number, what to do, how long the reply is to be, and a [`body`].
pub(crate) type Request = (u64, Wish, u64, Binary);

/// The call's number, whether the request was intact and came for the first time, and a [`body`].
pub(crate) type Reply = (u64, bool, Binary);

/// Bytes that differ from call to call; made once, as debug builds are slow at it.
pub(crate) fn body(call: u64, len: u64) -> Binary {
    static BYTES: LazyLock<Bytes> = LazyLock::new(|| payload(4 * super::MIB, 5).into());
    let begin = (call % 100_003) as usize;
    Binary::from(BYTES.slice(begin..begin + len as usize))
}

/// Connections that come back at once.
pub(crate) fn hasty(config: &mut Config) {
    config.backoff = Backoff { first: Duration::from_millis(2), most: Duration::from_millis(20) };
    config.bulk_connections = 2;
}

/// The servers of a node. Each comes back under its name when it has ended, as if supervised.
pub(crate) fn serve(node: &Node) -> JoinSet<()> {
    let mut servers = JoinSet::new();
    for i in 0..SERVERS {
        let node = node.clone();
        servers.spawn(async move {
            let mut seen = HashSet::new();
            while one_life(&node, &format!("server{i}"), &mut seen).await {}
        });
    }
    servers
}

/// Answers for others.
pub(crate) async fn work(node: Node) {
    let mut worker = node.register(WORKER.0).unwrap();
    while let Some(message) = worker.recv().await {
        let (caller, call, len): (Caller, u64, u64) = message.decode().unwrap();
        worker.process().reply(&caller, &(call, true, body(call, len))).unwrap();
    }
}

/// How many watches the node's peers have on its processes.
pub(crate) fn watched(node: &Node) -> usize {
    node.info().peers.iter().map(|peer| peer.watched).sum()
}

/// A child's part: serves, and says how many watches there are whenever it hears something.
pub(crate) fn process() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let peers = StaticPeers::new();
        let worker: SocketAddr = child::hear().unwrap().parse().unwrap();
        peers.insert(name(WORKER.1), worker);
        let node = start_with(KILLED, &peers, hasty).await;
        let _servers = serve(&node);
        child::tell(node.address());
        while child::hear().is_some() {
            child::tell(watched(&node));
        }
    });
}

/// From registration to the end; `false` if there will be no further one.
async fn one_life(node: &Node, name: &str, seen: &mut HashSet<u64>) -> bool {
    let mut server = match node.register(name) {
        Ok(server) => server,
        Err(RegisterError::NotRunning) => return false,
        Err(error) => panic!("{error}"),
    };
    let process = server.process();
    while let Some(message) = server.recv().await {
        let (caller, request) = message.call().unwrap();
        let (call, wish, len, received): Request = request.decode().unwrap();
        let fine = seen.insert(call) && received == body(call, received.len() as u64);
        match wish {
            Wish::Answer => process.reply(&caller, &(call, fine, body(call, len))).unwrap(),
            Wish::HandOn => {
                if let Err(error) =
                    process.send((WORKER.0, super::name(WORKER.1)), &(&caller, call, len)).await
                {
                    process.reject(&caller, &error.to_string());
                }
            }
            Wish::Reject => process.reject(&caller, "as asked"),
            Wish::Ignore => {}
            Wish::Exit => {
                server.exit(Term::tuple([Term::atom("asked"), Term::atom("to")]));
                return true;
            }
        }
    }
    false
}
