//! Holders of the cookie that mean harm, and strangers without it that come in numbers.

use crate::common::faulty::{Kind, through_proxy};
use crate::common::script::Script;
use crate::common::{
    COOKIE, assert_none_ended, assert_says, eventually, pair, peer_of, receive, start, start_with, within,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use teleport::{ConnectError, Node, SendError, Sever, StaticPeers};
use teleport_proto::handshake::{Cookie, HandshakeError, Opening, Refusal};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

fn dial(number: u64) -> Opening {
    Opening::NewSession { cookie: Cookie::new(COOKIE.as_bytes()).unwrap(), dial: number }
}

/// An impostor that claims to be that node, in its present life, to another one.
fn impostor(of: &Node, at: &Node) -> Script {
    let mut script = Script::new(of.name().as_str(), at.name(), at.address());
    script.local.incarnation = of.incarnation();
    script
}

#[tokio::test]
async fn a_copied_incarnation_does_not_take_the_session_over() {
    for a_dials in [true, false] {
        let (a, b) = pair().await;
        let (mut at_a, mut at_b) = (a.register("inbox").unwrap(), b.register("inbox").unwrap());
        let (from, to) = if a_dials { (&a, &b) } else { (&b, &a) };
        within(from.prime(to.name())).await.unwrap();
        let (mut events_a, mut events_b) = (a.monitor_nodes(), b.monitor_nodes());
        let mut claimant = impostor(&a, &b);
        for round in 0..20u64 {
            for number in [2, 1000 + round, 1 << 21, u64::MAX] {
                let error = claimant.open(dial(number)).await.map(drop).unwrap_err();
                let HandshakeError::Refused { refusal, .. } = error else { panic!("{error}") };
                assert!([Refusal::NameInUse, Refusal::Simultaneous].contains(&refusal), "{refusal}");
            }
            // Also while control is being replaced.
            a.sever(b.name(), Sever::Control);
            within(a.send(("inbox", b.name()), &round)).await.unwrap();
            within(b.send(("inbox", a.name()), &round)).await.unwrap();
            assert_eq!((receive::<u64>(&mut at_a).await, receive::<u64>(&mut at_b).await), (round, round));
        }
        eventually("control", || {
            [(&a, &b), (&b, &a)]
                .iter()
                .all(|(node, peer)| peer_of(node, peer.name()).is_some_and(|peer| peer.control_connected))
        })
        .await;
        assert_none_ended(&mut events_a).await;
        assert_none_ended(&mut events_b).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_ends_no_session_of_which_control_alone_passes_nothing_on() {
    let (a, b, proxy, _peers) = through_proxy(|_| {}).await;
    let mut inbox = a.register("inbox").unwrap();
    within(a.prime(b.name())).await.unwrap();
    within(b.send(("inbox", a.name()), &0)).await.unwrap();
    assert_eq!(receive::<u8>(&mut inbox).await, 0);
    let (mut events_a, mut events_b) = (a.monitor_nodes(), b.monitor_nodes());
    let swallowing = Kind::Control.of(&proxy);
    let last = swallowing.iter().map(|connection| connection.number()).max().unwrap();
    swallowing.iter().for_each(|connection| connection.swallow());
    let error = impostor(&b, &a).open(dial(2)).await.map(drop).unwrap_err();
    assert!(matches!(error, HandshakeError::Refused { refusal: Refusal::NameInUse, .. }), "{error}");
    // Meanwhile the pool is heard.
    let heard = async {
        loop {
            within(b.send(("inbox", a.name()), &1)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let renewed = || Kind::Control.of(&proxy).iter().any(|connection| connection.number() > last);
    tokio::select! {
        () = eventually("another control connection", renewed) => {}
        () = heard => {}
    }
    within(b.send(("inbox", a.name()), &2)).await.unwrap();
    while receive::<u8>(&mut inbox).await != 2 {}
    assert_none_ended(&mut events_a).await;
    assert_none_ended(&mut events_b).await;
}

#[tokio::test]
async fn sessions_that_others_open_are_limited_and_those_that_stand_stay() {
    let peers = StaticPeers::new();
    // A sixteenth of it for one address.
    let b = start_with("b@127.0.0.1", &peers, |config| config.max_sessions = 64).await;
    let mut inbox = b.register("inbox").unwrap();
    let a = start("a@127.0.0.1", &peers).await;
    within(a.send(("inbox", b.name()), &0)).await.unwrap();
    let mut held = Vec::new();
    for i in 0..3 {
        let mut script = Script::new(&format!("made-up-{i}@127.0.0.1"), b.name(), b.address());
        held.push(script.session().await);
    }
    for i in 3..20 {
        let mut script = Script::new(&format!("made-up-{i}@127.0.0.1"), b.name(), b.address());
        let error = script.open(dial(1)).await.map(drop).unwrap_err();
        assert!(
            matches!(error, HandshakeError::Refused { refusal: Refusal::TooManySessions, .. }),
            "{error}"
        );
        assert_says(&error, &["max_sessions"]);
    }
    // A node is told the same; and what b opens itself is not limited.
    let c = start("c@127.0.0.1", &peers).await;
    let mut at_c = c.register("inbox").unwrap();
    let error = within(c.send(("inbox", b.name()), &1)).await.unwrap_err();
    assert!(matches!(&error, SendError::NoConnection(ConnectError::Handshake { .. })), "{error:?}");
    assert_says(&error, &["b@127.0.0.1", "max_sessions"]);
    within(b.send(("inbox", c.name()), &2)).await.unwrap();
    assert_eq!(receive::<u8>(&mut at_c).await, 2);
    within(a.prime(b.name())).await.unwrap();
    within(a.send(("inbox", b.name()), &3)).await.unwrap();
    assert_eq!((receive::<u8>(&mut inbox).await, receive::<u8>(&mut inbox).await), (0, 3));
    // The place of one that has ended is free.
    drop(held.pop());
    b.disconnect(&"made-up-0@127.0.0.1".parse().unwrap());
    let mut script = Script::new("another@127.0.0.1", b.name(), b.address());
    script.session().await;
}

/// Opens and counts connections as fast as it can, and keeps those that are kept; every other one says hello.
async fn flood(b: Node, opened: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let mut script = Script::new("stranger@127.0.0.1", b.name(), b.address());
    let (mut says_hello, mut held) = (false, std::collections::VecDeque::new());
    while !stop.load(Ordering::Relaxed) {
        says_hello = !says_hello;
        if says_hello {
            let (mut stream, _, hello) = script.begin(dial(1)).await;
            // It may have been dropped already.
            let _dropped = stream.write_all(&hello).await;
            held.push_back(stream);
        } else if let Ok(stream) = TcpStream::connect(b.address()).await {
            held.push_back(stream);
        }
        opened.fetch_add(1, Ordering::Relaxed);
        if held.len() > 300 {
            held.pop_front();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_sends_arrive_in_a_flood_of_strangers() {
    const NEWCOMERS: u64 = 30;
    const STRANGERS: u64 = 2000;
    let peers = StaticPeers::new();
    let b = start("b@127.0.0.1", &peers).await;
    let mut inbox = b.register("inbox").unwrap();
    let (opened, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut strangers = JoinSet::new();
    for _ in 0..2 {
        strangers.spawn(flood(b.clone(), opened.clone(), stop.clone()));
    }
    // Until it was a flood.
    for i in (0..).take_while(|&i| i < NEWCOMERS || opened.load(Ordering::Relaxed) < STRANGERS) {
        let a = start(&format!("a{i}@127.0.0.1"), &peers).await;
        within(a.send(("inbox", b.name()), &i)).await.unwrap();
        assert_eq!(receive::<u64>(&mut inbox).await, i);
    }
    stop.store(true, Ordering::Relaxed);
    within(strangers.join_all()).await;
    println!("{} strangers", opened.load(Ordering::Relaxed));
}
