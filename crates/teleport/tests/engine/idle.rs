//! What peers cost that say nothing: no threads, no wake-ups.

use crate::common::child::{self, Child, status, switches};
use crate::common::{name, payload, peer_of, start_with, within};
use std::time::{Duration, Instant};
use teleport::{Config, Node, StaticPeers};

const PEERS: usize = 50;
const WATCHED: Duration = Duration::from_secs(5);

/// Of a node that sends ticks often, and how many of these it is watched for at least.
const TICK: Duration = Duration::from_secs(1);
const INTERVALS: u32 = 4;

fn idle(i: usize) -> String {
    format!("idle{i}@127.0.0.1")
}

/// The threads of a node have nothing left to do if they did not wake up for this long.
const REST: Duration = Duration::from_millis(500);

/// Ticks far apart, so that nothing else has a reason; and each session looks once more soon after its last use.
fn seldom(config: &mut Config) {
    config.net_ticktime = Duration::from_secs(600);
    config.stall_timeout = REST;
}

/// A child's part: many nodes that do nothing. Tells their addresses.
pub(crate) fn peers_process() {
    child::run(async {
        let (peers, mut nodes, mut inboxes) = (StaticPeers::new(), Vec::new(), Vec::new());
        for i in 0..PEERS {
            let quiet = |config: &mut Config| {
                seldom(config);
                config.worker_threads = 1; // there are many of them
            };
            let node = start_with(&idle(i), &peers, quiet).await;
            inboxes.push(node.register("inbox").unwrap());
            nodes.push(node);
        }
        let addresses: Vec<_> = nodes.iter().map(|node| node.address().to_string()).collect();
        child::tell(addresses.join(" "));
        let _parent_is_done = child::hear();
    });
}

/// Talks to all peers at these addresses once.
async fn meet(node: &Node, peers: &StaticPeers, addresses: &str) {
    for (i, address) in addresses.split(' ').enumerate() {
        let peer = name(&idle(i));
        peers.insert(peer.clone(), address.parse().unwrap());
        for len in [10, 100_000] {
            within(node.send(("inbox", &peer), &payload(len, 1))).await.unwrap();
        }
    }
    for i in 0..PEERS {
        let confirmed = || peer_of(node, &name(&idle(i))).unwrap().transfer.unconfirmed == 0;
        crate::common::eventually("all delivered", confirmed).await;
    }
}

/// A child's part: one node that talks to all the peers that it is told once, and then to none. Tells how many threads it
/// has more than without peers, how often its threads woke up within a while, and how many threads were watched.
pub(crate) fn hub_process() {
    child::run(async {
        let peers = StaticPeers::new();
        let node = start_with("hub@127.0.0.1", &peers, seldom).await;
        let before = status("Threads");
        meet(&node, &peers, &child::hear().unwrap()).await;
        let threads = status("Threads") - before;
        let watched = ["io hub", "ctl hub", "bulk"];
        // Each session looks once more after its last use, an eighth of `stall_timeout` later: from then on there is nothing.
        let (mut begin, mut before) = (switches(&watched).0, 0);
        while begin != before {
            std::thread::sleep(REST);
            (begin, before) = (switches(&watched).0, begin);
        }
        std::thread::sleep(WATCHED); // this is a measurement: the node's threads are others
        let (end, count) = switches(&watched);
        child::tell(format!("{threads} {} {count}", end - begin));
    });
}

/// A child's part: one node that sends ticks to all the peers that it is told, which send none. Tells how often the thread for them
/// woke up, how many threads were watched, and for how many intervals, the last one begun.
pub(crate) fn ticking_hub_process() {
    child::run(async {
        let peers = StaticPeers::new();
        let often = |config: &mut Config| {
            seldom(config);
            config.tick_interval = Some(TICK);
        };
        let node = start_with("ticking@127.0.0.1", &peers, often).await;
        meet(&node, &peers, &child::hear().unwrap()).await;
        std::thread::sleep(REST); // sessions look once more after their last use
        let (begin, watched) = switches(&["ctl ticking"]);
        let begun = Instant::now();
        std::thread::sleep(INTERVALS * TICK); // this is a measurement: the node's threads are others
        let wakeups = switches(&["ctl ticking"]).0 - begin;
        // It may have slept for longer.
        let intervals = begun.elapsed().div_duration_f64(TICK).ceil();
        child::tell(format!("{wakeups} {watched} {intervals}"));
    });
}

#[tokio::test]
async fn ticks_to_many_peers_share_their_wake_ups() {
    let (mut peers, mut hub) = (Child::start("idle peers"), Child::start("ticking hub"));
    let addresses = peers.hear().await;
    let answer = hub.ask(&addresses).await;
    let [wakeups, watched, intervals] =
        answer.split(' ').map(|n| n.parse::<usize>().unwrap()).collect::<Vec<_>>()[..]
    else {
        panic!("{answer}")
    };
    assert_eq!(watched, 1);
    let each = PEERS * intervals;
    println!("{wakeups} wake-ups for {each} ticks and their answers");
    // At the most one for each answer, and eight for all ticks of an interval. One more for each tick would be twice as many.
    assert!(wakeups < each + 8 * intervals, "{wakeups} wake-ups for {each} ticks");
}

#[tokio::test]
async fn idle_peers_cost_neither_threads_nor_wake_ups() {
    let (mut peers, mut hub) = (Child::start("idle peers"), Child::start("hub"));
    let addresses = peers.hear().await;
    let answer = hub.ask(&addresses).await;
    let [threads, wakeups, watched] =
        answer.split(' ').map(|n| n.parse::<u64>().unwrap()).collect::<Vec<_>>()[..]
    else {
        panic!("{answer}")
    };
    assert_eq!(threads, 0, "threads for {PEERS} peers");
    assert!(watched >= 3, "{watched} threads were watched");
    println!("{wakeups} wake-ups of {watched} threads with {PEERS} idle peers in {WATCHED:?}");
    // One per peer in the whole time would be generous; a timer per connection would be far above it.
    assert!(wakeups < PEERS as u64, "{wakeups} wake-ups");
}
