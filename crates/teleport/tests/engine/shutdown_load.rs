//! Shutdowns in the middle of everything: whatever was accepted arrives, or said to be sent.

use crate::common::{MIB, eventually, pair, peer_of, receive, start_apart, start_with, within};
use crate::embed::{self, SERVER, recipient};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use teleport::embed::Recipient;
use teleport::etf::to_segments;
use teleport::{
    Binary, Config, Node, NodeName, ReplyError, SendError, SendOptions, ShutdownReport, StaticPeers,
};
use tokio::task::JoinSet;

const ROUNDS: usize = 200;
const PEERS: usize = 8;
const SENDERS: usize = 3;

/// Windows so small that sends wait for room all the time.
fn narrow(config: &mut Config) {
    config.mailbox_window = NonZeroU64::new(128 * 1024).unwrap();
    config.peer_window = NonZeroU64::new(256 * 1024).unwrap();
    config.worker_threads = 1;
}

/// A peer whose mailbox is emptied all the time, and what came into it in its life.
async fn taker(name: &str, peers: &StaticPeers) -> (Node, Arc<AtomicU64>) {
    let node = start_with(name, peers, narrow).await;
    let (mut inbox, taken) = (node.register("inbox").unwrap(), Arc::new(AtomicU64::new(0)));
    let counter = taken.clone();
    tokio::spawn(async move {
        while inbox.recv().await.is_some() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    (node, taken)
}

/// Sends until it is refused; returns how many were accepted.
async fn send_on(node: Node, peer: NodeName) -> u64 {
    let (sizes, mut accepted) = ([10, 3_000, 100_000].map(|len| Binary::from(vec![7; len])), 0);
    for body in sizes.iter().cycle() {
        match node.send(("inbox", &peer), body).await {
            Ok(()) => accepted += 1,
            Err(SendError::NotRunning | SendError::NodeDown { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    accepted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_arrives_however_often_a_node_shuts_down_under_load() {
    let table = StaticPeers::new();
    let mut takers = Vec::new();
    for i in 0..PEERS {
        takers.push(taker(&format!("taker{i}@127.0.0.1"), &table).await);
    }
    let mut accepted = [0; PEERS];
    for round in 0..ROUNDS {
        let node = start_apart(&format!("leaver{round}@127.0.0.1"), &table, narrow).await;
        let involved = &takers[..1 + round % PEERS];
        let before = involved.iter().map(|(_, taken)| taken.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let mut senders = JoinSet::new();
        for (i, (taker, _)) in involved.iter().enumerate() {
            for _ in 0..SENDERS {
                let sending = send_on(node.clone(), taker.name().clone());
                senders.spawn(async move { (i, sending.await) });
            }
        }
        let flows = |(taken, before): (&Arc<AtomicU64>, &u64)| taken.load(Ordering::Relaxed) > before + 6;
        eventually("all get messages", || involved.iter().map(|(_, taken)| taken).zip(&before).all(flows))
            .await;
        let report = within(node.shutdown(Duration::from_secs(30))).await;
        assert_eq!(report, ShutdownReport::default(), "round {round}");
        for (i, sent) in within(senders.join_all()).await {
            accepted[i] += sent;
        }
        for ((_, taken), accepted) in involved.iter().zip(accepted) {
            // They are in the mailbox, and taken out of it soon.
            eventually("all of them are there", || taken.load(Ordering::Relaxed) >= accepted).await;
            assert_eq!(taken.load(Ordering::Relaxed), accepted, "round {round}");
        }
    }
}

/// Calls that come all the time do not keep a node from its end, and each answer that was accepted ends its call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_called_all_the_time_shuts_down_and_every_answer_arrives() {
    let (a, b) = pair().await;
    let mut server = b.register("server").unwrap();
    let (node, asker) = (b.clone(), a.name().clone());
    let answering = tokio::spawn(async move {
        // Where the session has ended an answer is `Ok` as well: its call ended with it.
        let (mut answered, mut in_session) = (0u64, 0u64);
        while let Some(message) = server.recv().await {
            let (caller, request) = message.call().unwrap();
            match server.process().reply(&caller, &request) {
                Ok(()) => {
                    answered += 1;
                    in_session += u64::from(peer_of(&node, &asker).is_some());
                }
                Err(error) => assert!(matches!(error, ReplyError::NotRunning), "{error}"),
            }
        }
        (answered, in_session)
    });
    let (calls, mut callers) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
    for caller in 0..30 {
        let (process, to, calls) = (a.process(), b.name().clone(), calls.clone());
        callers.spawn(async move {
            let body = Binary::from(vec![7; [10, 100_000][caller % 2]]);
            let call = || process.call::<_, Binary>(("server", &to), &body, Duration::from_secs(600));
            while call().await.is_ok() {
                calls.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    eventually("calls are answered", || calls.load(Ordering::Relaxed) > 100).await;
    let report = within(b.shutdown(Duration::from_secs(600))).await;
    assert_eq!(report, ShutdownReport::default());
    within(callers.join_all()).await;
    let ((answered, in_session), calls) = (within(answering).await.unwrap(), calls.load(Ordering::Relaxed));
    assert!(in_session <= calls && calls <= answered, "{calls} ended of {in_session} to {answered}");
}

/// However full the mailbox is: what is left is a matter of its reader, and of the deadline.
#[tokio::test]
async fn what_was_said_to_be_sent_arrives_though_it_waits_for_room_in_a_mailbox() {
    const COUNT: usize = 100;
    let (hosted, node) = embed::pair().await;
    let mut server = node.register("server").unwrap();
    let sender = hosted.node.clone();
    let send_to = |to: Recipient, options: SendOptions| {
        let body = to_segments(&Binary::from(vec![7; MIB])).unwrap();
        sender.send_behind(SERVER, to, body, options)
    };
    let send = || send_to(recipient(&node, "server"), SendOptions::default());
    eventually("the session is up", || send().is_ok()).await;
    for _ in 1..COUNT {
        send().unwrap();
    }
    let full = || {
        let mut peers = sender.info().peers.into_iter();
        peers.next().is_some_and(|peer| peer.transfer.waiting > 0 && peer.transfer.unconfirmed == 0)
    };
    eventually("the mailbox is full, and the rest waits", full).await;
    let draining = sender.clone();
    let shutdown = tokio::spawn(async move { draining.shutdown(Duration::from_secs(600)).await });
    let begun = || {
        let nowhere = Recipient { peer: "no@where".parse().unwrap(), ..recipient(&node, "server") };
        matches!(send_to(nowhere, SendOptions::default().noconnect()), Err(SendError::NotRunning))
    };
    eventually("nothing new is taken", begun).await;
    for _ in 0..COUNT {
        receive::<Binary>(&mut server).await;
    }
    assert_eq!(within(shutdown).await.unwrap(), ShutdownReport::default());
}
