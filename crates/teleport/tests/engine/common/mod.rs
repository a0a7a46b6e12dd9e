//! What the tests have in common.

pub(crate) mod child;
pub(crate) mod faulty;
pub(crate) mod log;
pub(crate) mod script;
pub(crate) mod servers;

use std::net::SocketAddr;
use std::time::Duration;
use teleport::{Binary, Config, Mailbox, Node, NodeEvent, NodeMonitor, NodeName, PeerInfo, StaticPeers};
use teleport_testkit::wait::PATIENCE;
pub(crate) use teleport_testkit::wait::{eventually, eventually_async};

pub(crate) const COOKIE: &str = "XVTqZ3vF0cYbN7sLk2Rw";

pub(crate) const MIB: usize = 1 << 20;

pub(crate) fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

/// The defaults, changed.
pub(crate) fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

/// A node that knows the table's peers, and is entered in it.
pub(crate) async fn start(name: &str, peers: &StaticPeers) -> Node {
    start_with(name, peers, |_| {}).await
}

pub(crate) async fn start_with(name: &str, peers: &StaticPeers, change: impl FnOnce(&mut Config)) -> Node {
    let node = start_apart(name, peers, change).await;
    peers.insert(node.name().clone(), node.address());
    node
}

/// A node that knows the table's peers, and is not in it.
pub(crate) async fn start_apart(name: &str, peers: &StaticPeers, change: impl FnOnce(&mut Config)) -> Node {
    let builder = Node::builder(name).cookie(COOKIE).resolver(peers.clone()).config(config(change));
    builder.start().await.unwrap()
}

pub(crate) async fn pair() -> (Node, Node) {
    pair_with(|_| {}).await
}

/// Two nodes that know each other, both with the same changes to the defaults.
pub(crate) async fn pair_with(change: impl Fn(&mut Config)) -> (Node, Node) {
    let peers = StaticPeers::new();
    (start_with("a@127.0.0.1", &peers, &change).await, start_with("b@127.0.0.1", &peers, &change).await)
}

/// Bytes that differ from place to place and from seed to seed.
pub(crate) fn payload(len: usize, seed: u64) -> Binary {
    let mut bytes = Vec::with_capacity(len + 8);
    let mut word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while bytes.len() < len {
        word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(len);
    Binary::from(bytes)
}

/// The result, which has to come.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("nothing came in time")
}

/// A peer with a session, as a node sees it.
pub(crate) fn peer_of(node: &Node, peer: &NodeName) -> Option<PeerInfo> {
    node.info().peers.into_iter().find(|info| info.name == *peer)
}

/// Receives a value, which has to come.
pub(crate) async fn receive<T: serde::de::DeserializeOwned>(mailbox: &mut Mailbox) -> T {
    within(mailbox.recv()).await.expect("the node runs").decode().unwrap()
}

/// The next event, which has to come.
pub(crate) async fn event(monitor: &mut NodeMonitor) -> NodeEvent {
    within(monitor.recv()).await.expect("the node runs")
}

/// The end of a session, which has to come. A session's beginning may have been told of after the monitor was made.
pub(crate) async fn next_end(monitor: &mut NodeMonitor) -> NodeEvent {
    loop {
        let event = event(monitor).await;
        if !matches!(event, NodeEvent::Up { .. }) {
            return event;
        }
    }
}

/// No session has ended so far.
pub(crate) async fn assert_none_ended(monitor: &mut NodeMonitor) {
    let events = events_so_far(monitor).await;
    assert!(!events.iter().any(|event| matches!(event, NodeEvent::Down { .. })), "{events:?}");
}

/// The events there are by now.
pub(crate) async fn events_so_far(monitor: &mut NodeMonitor) -> Vec<NodeEvent> {
    let mut events = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, monitor.recv()).await {
        events.push(event);
    }
    events
}

/// An error names what is wrong and a way out.
#[track_caller]
pub(crate) fn assert_says(error: &impl std::fmt::Display, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
}

/// An address of this machine at which nobody listens, for as long as the socket lives.
pub(crate) fn nobodys_address() -> (tokio::net::TcpSocket, SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}
