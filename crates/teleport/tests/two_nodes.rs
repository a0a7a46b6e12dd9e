//! Two nodes in one process, over real sockets: what a user sees.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use futures_util::StreamExt;
use std::time::Duration;
use teleport::{Address, Binary, DeliveryError, Node, NodeEvent, SendOptions, Sever, StaticPeers};

const COOKIE: &str = "XVTqZ3vF0cYbN7sLk2Rw";

async fn start(name: &str, peers: &StaticPeers) -> Node {
    let node = Node::builder(name).cookie(COOKIE).resolver(peers.clone()).start().await.unwrap();
    peers.insert(node.name().clone(), node.address());
    node
}

async fn pair() -> (Node, Node) {
    let peers = StaticPeers::new();
    (start("a@127.0.0.1", &peers).await, start("b@127.0.0.1", &peers).await)
}

fn pattern(len: usize, seed: u8) -> Binary {
    Binary::from((0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect::<Vec<u8>>())
}

#[tokio::test]
async fn messages_of_every_size_arrive_in_order() {
    let (a, b) = pair().await;
    let mut inbox = b.register("inbox").unwrap();
    let sender = a.register("sender").unwrap();
    let sizes = [0, 1, 1000, 65_000, 65_536, 65_537, 600_000, 10 << 20, 5, 3 << 20, 17];
    for (i, len) in sizes.into_iter().enumerate() {
        sender.send(("inbox", b.name()), &(i as u64, pattern(len, i as u8))).await.unwrap();
    }
    for (i, len) in sizes.into_iter().enumerate() {
        let message = inbox.recv().await.unwrap();
        assert_eq!(message.from(), &sender.pid());
        let (number, body): (u64, Binary) = message.decode().unwrap();
        assert_eq!((number, body.len()), (i as u64, len));
        assert_eq!(body, pattern(len, i as u8));
    }
}

#[tokio::test]
async fn a_pid_is_answered_across_nodes() {
    let (a, b) = pair().await;
    let mut server = b.register("server").unwrap();
    let mut client = a.mailbox().unwrap();
    client.send(("server", b.name()), &"ping").await.unwrap();
    let request = server.recv().await.unwrap();
    server.send(request.from(), &"pong").await.unwrap();
    let answer: String = client.recv().await.unwrap().decode().unwrap();
    assert_eq!(answer, "pong");
}

#[tokio::test]
async fn acknowledgements_tell_delivered_from_no_process() {
    let (a, b) = pair().await;
    let _inbox = b.register("inbox").unwrap();
    let sender = a.process();
    let options = SendOptions::default();
    let ack = sender.send_acknowledged(("inbox", b.name()), &1, options).await.unwrap();
    ack.await.unwrap();
    let ack = sender.send_acknowledged(("nobody", b.name()), &1, options).await.unwrap();
    assert!(matches!(ack.await, Err(DeliveryError::NoProcess)));
    let ack = sender.send_acknowledged("nobody", &1, options).await.unwrap();
    assert!(matches!(ack.await, Err(DeliveryError::NoProcess)));
}

#[tokio::test]
async fn severed_connections_lose_nothing() {
    let (a, b) = pair().await;
    let mut inbox = b.register("inbox").unwrap();
    a.prime(b.name()).await.unwrap();
    let (name, faulty) = (b.name().clone(), a.clone());
    let sending = tokio::spawn(async move {
        let sender = faulty.process();
        for i in 0..300u64 {
            let len = [10, 70_000, 2_000_000][i as usize % 3];
            sender.send(("inbox", &name), &(i, pattern(len, i as u8))).await.unwrap();
            if i % 10 == 0 {
                faulty.sever(&name, Sever::Pool(i as usize / 10));
            }
            if i % 77 == 0 {
                faulty.sever(&name, Sever::Control);
            }
        }
    });
    for i in 0..300u64 {
        let (number, body): (u64, Binary) = inbox.recv().await.unwrap().decode().unwrap();
        assert_eq!(number, i);
        assert_eq!(body, pattern(body.len(), i as u8));
    }
    sending.await.unwrap();
    assert!(inbox.try_recv().is_none());
}

#[tokio::test]
async fn a_slow_mailbox_holds_back_its_senders_and_nobody_else() {
    let (a, b) = pair().await;
    let mut slow = b.register("slow").unwrap();
    let mut quick = b.register("quick").unwrap();
    let options = SendOptions::default().nosuspend();
    a.prime(b.name()).await.unwrap();
    let (mut accepted, body) = (0, pattern(1 << 20, 0));
    while a.process().send_with(("slow", b.name()), &body, options).await.is_ok() {
        accepted += 1;
        assert!(accepted < 100, "the window never fills");
    }
    a.send(("quick", b.name()), &"through").await.unwrap();
    assert_eq!(quick.recv().await.unwrap().decode::<String>().unwrap(), "through");
    // A send that waits goes on when the reader does.
    let (waiting, name) = (a.clone(), b.name().clone());
    let last = tokio::spawn(async move { waiting.send(("slow", &name), &pattern(1 << 20, 0)).await });
    for _ in 0..=accepted {
        slow.recv().await.unwrap();
    }
    last.await.unwrap().unwrap();
}

#[tokio::test]
async fn node_events_and_unconfirmed_messages_are_reported() {
    let (a, b) = pair().await;
    let mut events = a.monitor_nodes();
    let inbox = b.register("inbox").unwrap();
    a.send(("inbox", b.name()), &1).await.unwrap();
    assert!(matches!(events.recv().await, Some(NodeEvent::Up { peer, .. }) if peer == *b.name()));
    drop(inbox);
    let report = b.shutdown(Duration::from_secs(5)).await;
    assert_eq!(report.unconfirmed, []);
    assert!(matches!(events.recv().await, Some(NodeEvent::Down { peer, .. }) if peer == *b.name()));
}

#[tokio::test]
async fn bad_addresses_are_named() {
    let (a, _b) = pair().await;
    let error = Address::try_from(("x", "nohost")).unwrap_err();
    assert!(error.to_string().contains("nohost"), "{error}");
    let unknown = Address::try_from(("x", "unknown@127.0.0.1")).unwrap();
    let error = a.send(unknown, &1).await.unwrap_err();
    assert!(error.to_string().contains("unknown@127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_congestion_control_that_the_kernel_lacks_is_named() {
    let mut config = teleport::Config::default();
    config.congestion = Some("nosuch".to_owned());
    let error = Node::builder("a@127.0.0.1").cookie(COOKIE).config(config).start().await.unwrap_err();
    assert!(error.to_string().contains("\"nosuch\""), "{error}");
}

#[tokio::test]
async fn mailboxes_and_node_monitors_are_streams() {
    let (a, b) = pair().await;
    let (inbox, events) = (b.register("inbox").unwrap(), a.monitor_nodes());
    let numbers = inbox.map(|message| message.decode::<u32>().unwrap());
    let reading = tokio::spawn(numbers.collect::<Vec<_>>());
    for number in 0..100 {
        a.send(("inbox", b.name()), &number).await.unwrap();
        if number == 50 {
            tokio::task::yield_now().await; // the reader may wait by now
        }
    }
    let _ = a.shutdown(Duration::from_secs(5)).await;
    let _ = b.shutdown(Duration::from_secs(5)).await;
    assert_eq!(reading.await.unwrap(), (0..100).collect::<Vec<_>>());
    let events: Vec<_> = events.collect().await;
    assert!(matches!(&events[..], [NodeEvent::Up { .. }, NodeEvent::Down { .. }]), "{events:?}");
}
