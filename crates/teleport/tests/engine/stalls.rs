//! Connections that take everything and hand nothing on, and such as only seem to.

use crate::common::child::Child;
use crate::common::faulty::{Kind, through_proxy};
use crate::common::{events_so_far, eventually, name, payload, peer_of, receive, start_with, within};
use rustix::process::Signal;
use std::time::Duration;
use teleport::{Backoff, Binary, Config, Node, SendOptions, StaticPeers};

fn hasty(config: &mut Config) {
    config.backoff = Backoff { first: Duration::from_millis(2), most: Duration::from_millis(20) };
    config.stall_timeout = Duration::from_millis(200);
}

/// Longer than a thread stands still by chance.
fn patient(config: &mut Config) {
    config.stall_timeout = Duration::from_secs(1);
}

/// Answers calls with what they say.
fn echo(node: &Node) {
    let mut server = node.register("echo").unwrap();
    tokio::spawn(async move {
        while let Some(message) = server.recv().await {
            let (caller, request) = message.call().unwrap();
            let body: Binary = request.decode().unwrap();
            server.process().reply(&caller, &body).unwrap();
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_though_a_connection_swallows_them_and_more_is_written_to_it() {
    let (a, b, proxy, _peers) = through_proxy(hasty).await;
    for node in [&a, &b] {
        echo(node);
    }
    let (mut events_a, mut events_b) = (a.monitor_nodes(), b.monitor_nodes());
    within(a.prime(b.name())).await.unwrap();
    for (kind, len) in [(Kind::Express, 10), (Kind::Bulk, 100_000)] {
        for from_a in [true, false] {
            let (from, to) = if from_a { (&a, &b) } else { (&b, &a) };
            within(a.prime(b.name())).await.unwrap();
            let swallowing = kind.of(&proxy);
            assert!(!swallowing.is_empty());
            swallowing.iter().for_each(|connection| connection.swallow());
            let caller = from.mailbox().unwrap();
            let body = payload(len, 1);
            let request = caller.process();
            let call = request.call(("echo", to.name()), &body, Duration::from_secs(60));
            // Bytes that the system takes are no progress.
            let noise = async {
                loop {
                    let body = payload(len, 2);
                    let _full = request
                        .send_with(("nobody", to.name()), &body, SendOptions::default().nosuspend())
                        .await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::select! {
                reply = within(call) => assert!(reply.is_ok_and(|reply: Binary| reply == body), "{kind:?}, {from_a}"),
                () = noise => {}
            }
            swallowing.iter().for_each(|connection| connection.cut());
        }
    }
    assert_eq!(events_so_far(&mut events_a).await.len(), 1);
    assert_eq!(events_so_far(&mut events_b).await.len(), 1);
}

#[tokio::test]
async fn a_peer_that_is_stopped_for_a_while_keeps_its_connections() {
    let peers = StaticPeers::new();
    let a = start_with("a@127.0.0.1", &peers, patient).await;
    let mut child = Child::start("peer");
    let to = name("child@127.0.0.1");
    peers.insert(to.clone(), child.hear().await.parse().unwrap());
    within(a.prime(&to)).await.unwrap();
    let sender = a.process();
    child.stop().await;
    let mut acks = Vec::new();
    for len in [10, 100_000] {
        let (body, options) = (payload(len, 1), SendOptions::default());
        acks.push(within(sender.send_acknowledged(("inbox", &to), &body, options)).await.unwrap());
    }
    // The fault's length: bulk connections have four times as long as others.
    tokio::time::sleep(Duration::from_secs(6)).await;
    child.signal(Signal::CONT);
    for ack in acks {
        within(ack).await.unwrap();
    }
    let transfer = peer_of(&a, &to).unwrap().transfer;
    assert_eq!((transfer.connections_retired, transfer.frames_resent), (0, 0));
}

#[tokio::test]
async fn a_connection_with_frames_that_are_counted_is_kept_however_many_are_under_way() {
    let (a, b, _proxy, _peers) = through_proxy(patient).await;
    let mut inbox = b.register("inbox").unwrap();
    within(a.prime(b.name())).await.unwrap();
    for i in 0..200 {
        let body = payload(if i % 10 == 0 { 300_000 } else { 1000 }, i);
        within(a.send(("inbox", b.name()), &body)).await.unwrap();
        assert!(receive::<Binary>(&mut inbox).await == body);
        tokio::time::sleep(Duration::from_millis(25)).await; // more than a timeout in all
    }
    eventually("nothing under way", || peer_of(&a, b.name()).unwrap().transfer.unconfirmed == 0).await;
    assert_eq!(peer_of(&a, b.name()).unwrap().transfer.connections_retired, 0);
}
