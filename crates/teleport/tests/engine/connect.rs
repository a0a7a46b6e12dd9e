//! Sessions that come and go: races for the first one, restarts, and peers that die.

use crate::common::child::{self, Child};
use crate::common::{
    COOKIE, event, events_so_far, eventually, name, next_end, pair, pair_with, payload, peer_of, receive,
    start, start_apart, start_with, within,
};
use rustix::process::Signal;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use teleport::{
    Config, DeliveryError, EndReason, Node, NodeEvent, NodeName, Pid, Resolver, Resolving, SendError,
    SendOptions, StaticPeers,
};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// Noticed "within seconds", on a busy machine, too: well below the liveness deadline, which is a minute by default.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_first_sends_share_one_session_and_each_keeps_its_order() {
    const TASKS: u64 = 1000;
    const EACH: u64 = 3;
    let (a, b) = pair().await;
    let (mut inbox, mut events) = (b.register("inbox").unwrap(), b.monitor_nodes());
    let barrier = std::sync::Arc::new(Barrier::new(TASKS as usize));
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (sender, to, barrier) = (a.mailbox().unwrap(), b.name().clone(), barrier.clone());
        tasks.spawn(async move {
            barrier.wait().await;
            for i in 0..EACH {
                // Large ones among the small ones: several connections, one order.
                let body = payload(if (task + i) % 100 == 0 { 80_000 } else { 10 }, task);
                sender.send(("inbox", &to), &(task, i, body)).await.unwrap();
            }
            sender // its process lives until all is there
        });
    }
    let mut next = vec![0; TASKS as usize];
    for _ in 0..TASKS * EACH {
        let (task, i, _body): (u64, u64, teleport::Binary) = receive(&mut inbox).await;
        assert_eq!(i, next[task as usize], "task {task}");
        next[task as usize] += 1;
    }
    within(tasks.join_all()).await;
    assert!(inbox.try_recv().is_none());
    let events = events_so_far(&mut events).await;
    assert!(matches!(events[..], [NodeEvent::Up { .. }]), "{events:?}");
}

/// Panics at the first question of each kind, and knows the answers then.
struct Fragile {
    peers: StaticPeers,
    asked: AtomicUsize,
}

impl Resolver for Fragile {
    fn resolve<'a>(&'a self, node: &'a NodeName) -> Resolving<'a> {
        match self.asked.fetch_add(1, Ordering::Relaxed) {
            0 => panic!("at once"),
            1 => Box::pin(async { panic!("in between") }),
            _ => self.peers.resolve(node),
        }
    }
}

#[tokio::test]
async fn a_resolver_that_panics_costs_an_attempt_to_connect() {
    // Whichever of the two names is the greater one.
    for [one, other] in [["a@127.0.0.1", "b@127.0.0.1"], ["b@127.0.0.1", "a@127.0.0.1"]] {
        let peers = StaticPeers::new();
        let fragile = Fragile { peers: peers.clone(), asked: AtomicUsize::new(0) };
        let a = Node::builder(one).cookie(COOKIE).resolver(fragile).start().await.unwrap();
        let b = start(other, &peers).await;
        let mut inbox = b.register("inbox").unwrap();
        for _ in 0..2 {
            let sent = within(a.send(("inbox", b.name()), &1)).await;
            assert!(matches!(sent, Err(SendError::NoConnection(_))), "{sent:?}");
        }
        within(a.send(("inbox", b.name()), &2)).await.unwrap();
        assert_eq!(receive::<u8>(&mut inbox).await, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_connect_to_each_other_at_once_get_one_session() {
    for _ in 0..25 {
        let (a, b) = pair().await;
        let (mut events_a, mut events_b) = (a.monitor_nodes(), b.monitor_nodes());
        let (mut at_a, mut at_b) = (a.register("inbox").unwrap(), b.register("inbox").unwrap());
        let send = |from: &Node, to: &Node| {
            let (from, to) = (from.clone(), to.name().clone());
            tokio::spawn(async move { from.send(("inbox", &to), &1).await })
        };
        let (there, back) = (send(&a, &b), send(&b, &a));
        assert_eq!((receive::<u8>(&mut at_a).await, receive::<u8>(&mut at_b).await), (1, 1));
        there.await.unwrap().unwrap();
        back.await.unwrap().unwrap();
        for events in [&mut events_a, &mut events_b] {
            let events = events_so_far(events).await;
            assert!(matches!(events[..], [NodeEvent::Up { .. }]), "{events:?}");
        }
        let dialled = [peer_of(&a, b.name()), peer_of(&b, a.name())].map(|peer| peer.unwrap().dialled);
        assert_ne!(dialled[0], dialled[1]);
    }
}

#[tokio::test]
async fn the_loopback_of_ipv6_will_do() {
    let peers = StaticPeers::new();
    let node = async |name: &str| {
        let builder = Node::builder(name).cookie(COOKIE).resolver(peers.clone());
        let node = builder.listen("[::1]:0".parse().unwrap()).start().await.unwrap();
        peers.insert(node.name().clone(), node.address());
        node
    };
    let (a, b) = (node("a@::1").await, node("b@::1").await);
    assert!(b.address().is_ipv6());
    let mut inbox = b.register("inbox").unwrap();
    within(a.send(("inbox", name("b@::1")), &payload(3_000_000, 1))).await.unwrap();
    assert_eq!(receive::<teleport::Binary>(&mut inbox).await, payload(3_000_000, 1));
}

#[tokio::test]
async fn a_peer_that_restarts_is_another_life_and_pids_of_the_old_one_are_nobody() {
    let peers = StaticPeers::new();
    let a = start("a@127.0.0.1", &peers).await;
    let mut events = a.monitor_nodes();
    let b = start("b@127.0.0.1", &peers).await;
    let (old, mut stale) = (b.incarnation(), b.mailbox().unwrap());
    let to_stale = stale.pid();
    within(a.send(&to_stale, &1)).await.unwrap();
    assert_eq!(receive::<u8>(&mut stale).await, 1);
    let up = event(&mut events).await;
    assert!(matches!(&up, NodeEvent::Up { incarnation, .. } if *incarnation == old), "{up:?}");

    assert!(within(b.shutdown(Duration::from_secs(5))).await.unconfirmed.is_empty());
    drop((b, stale));
    let down = event(&mut events).await;
    let NodeEvent::Down { incarnation, reason: EndReason::PeerShutDown, unconfirmed: 0, .. } = down else {
        panic!("{down:?}")
    };
    assert_eq!(incarnation, old);

    let b = start("b@127.0.0.1", &peers).await;
    assert_ne!(b.incarnation(), old);
    // The new life gives out the same numbers: only the incarnation tells its processes from the old ones.
    let mut processes: Vec<_> = (0..20).map(|_| b.mailbox().unwrap()).collect();
    assert!(processes.iter().any(|process| process.pid().id == to_stale.id));
    let ack =
        within(a.process().send_acknowledged(&to_stale, &"stale", SendOptions::default())).await.unwrap();
    assert!(matches!(within(ack).await, Err(DeliveryError::NoProcess)));
    within(a.send(&to_stale, &"stale")).await.unwrap();
    let mut inbox = b.register("inbox").unwrap();
    within(a.send(("inbox", b.name()), &"new")).await.unwrap();
    assert_eq!(receive::<String>(&mut inbox).await, "new");
    assert!(processes.iter_mut().all(|process| process.try_recv().is_none()));
    let up = event(&mut events).await;
    assert!(matches!(up, NodeEvent::Up { incarnation, .. } if incarnation == b.incarnation()), "{up:?}");
    // Of one's own earlier life likewise.
    let own = Pid { creation: a.incarnation().as_u32() ^ 1, ..a.mailbox().unwrap().pid() };
    let ack = a.process().send_acknowledged(own, &1, SendOptions::default()).await.unwrap();
    assert!(matches!(ack.await, Err(DeliveryError::NoProcess)));
}

#[tokio::test]
async fn a_peer_that_restarts_without_a_word_while_messages_flow_is_another_life() {
    let peers = StaticPeers::new();
    let a = start("a@127.0.0.1", &peers).await;
    let mut events = a.monitor_nodes();
    for life in 0..3u64 {
        let b = start("b@127.0.0.1", &peers).await;
        let mut inbox = b.register("inbox").unwrap();
        // The first sends may still meet the old life's end.
        let sending = async {
            while let Err(error) = a.send(("inbox", b.name()), &life).await {
                assert!(
                    matches!(error, SendError::NodeDown { .. } | SendError::NoConnection(_)),
                    "{error:?}"
                );
            }
        };
        let sent = Instant::now();
        within(sending).await;
        // Accepted by the old life's session it would be reported, not repeated: so send until one is there.
        while inbox.is_empty() {
            let _ = a.send(("inbox", b.name()), &life).await;
            assert!(sent.elapsed() < SOON);
            tokio::task::yield_now().await;
        }
        assert_eq!(receive::<u64>(&mut inbox).await, life);
        drop((b, inbox)); // no goodbye is waited for
    }
    let mut lives = Vec::new();
    while lives.len() < 5 {
        lives.push(event(&mut events).await);
    }
    let ups = lives.iter().filter(|event| matches!(event, NodeEvent::Up { .. })).count();
    assert_eq!((ups, lives.len()), (3, 5), "{lives:?}");
}

/// The part of a child with a node: it tells its address, and knows the parent's by what it is told.
pub(crate) fn peer_process() {
    child::run(async {
        let peers = StaticPeers::new();
        let node = start("child@127.0.0.1", &peers).await;
        let _inbox = node.register("inbox").unwrap();
        child::tell(node.address());
        while let Some(line) = child::hear() {
            // "dial <node> <address>": send something there.
            let mut words = line.split(' ').skip(1);
            let (peer, address) = (name(words.next().unwrap()), words.next().unwrap().parse().unwrap());
            peers.insert(peer.clone(), address);
            within(node.send(("inbox", &peer), &1)).await.unwrap();
            child::tell("sent");
        }
    });
}

/// A process that is gone is noticed after a second, silence after a minute.
fn tick_soon(config: &mut Config) {
    config.tick_interval = Some(Duration::from_secs(1));
}

/// A node and a child with another one that is its peer; who dialled is the test's choice.
async fn with_child(parent_dials: bool) -> (Node, Child) {
    let peers = StaticPeers::new();
    let a = start_with("a@127.0.0.1", &peers, tick_soon).await;
    let mut child = Child::start("peer");
    let address = child.hear().await.parse().unwrap();
    // Its name has an address, too, that this host has no way to, as those of IPv6 often are: that says nothing of the peer.
    let unreachable = "255.255.255.255:9".parse().unwrap();
    peers.insert_all(name("child@127.0.0.1"), [unreachable, address]);
    if parent_dials {
        within(a.prime(&name("child@127.0.0.1"))).await.unwrap();
    } else {
        let dial = format!("dial {} {}", a.name(), a.address());
        assert_eq!(child.ask(&dial).await, "sent");
    }
    assert_eq!(peer_of(&a, &name("child@127.0.0.1")).unwrap().dialled, parent_dials);
    (a, child)
}

#[tokio::test]
async fn a_killed_peer_is_noticed_after_a_tick_interval_and_what_it_did_not_confirm_is_counted() {
    for parent_dials in [true, false] {
        let (a, child) = with_child(parent_dials).await;
        let mut events = a.monitor_nodes();
        let to = name("child@127.0.0.1");
        let sender = a.process();
        let ack = within(sender.send_acknowledged(("inbox", &to), &0, SendOptions::default())).await.unwrap();
        within(ack).await.unwrap();
        eventually("the report on it", || peer_of(&a, &to).unwrap().transfer.unconfirmed == 0).await;
        // A stopped process confirms nothing.
        child.stop().await;
        let mut acks = Vec::new();
        for i in 0..7u64 {
            let body = payload(if i % 2 == 0 { 100 } else { 100_000 }, i);
            let options = SendOptions::default();
            acks.push(within(sender.send_acknowledged(("inbox", &to), &body, options)).await.unwrap());
        }
        let killed = Instant::now();
        child.signal(Signal::KILL);
        let down = next_end(&mut events).await;
        assert!(killed.elapsed() < SOON, "{:?}", killed.elapsed());
        let NodeEvent::Down { peer, reason: EndReason::Gone, unconfirmed: 7, .. } = &down else {
            panic!("{down:?}, dialled: {parent_dials}")
        };
        assert_eq!(*peer, to);
        for ack in acks {
            let error = within(ack).await.unwrap_err();
            assert!(matches!(error, DeliveryError::Unconfirmed { reason: EndReason::Gone, .. }), "{error:?}");
        }
        let error = within(a.send(("inbox", &to), &1)).await.unwrap_err();
        assert!(matches!(error, SendError::NoConnection(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_peer_that_is_dropped_without_shutdown_is_noticed_at_once() {
    for a_dials in [true, false] {
        let (a, b) = pair_with(tick_soon).await;
        let mut events = a.monitor_nodes();
        match a_dials {
            true => within(a.prime(b.name())).await.unwrap(),
            false => within(b.prime(a.name())).await.unwrap(),
        }
        assert!(matches!(event(&mut events).await, NodeEvent::Up { .. }));
        let dropped = Instant::now();
        drop(b);
        let down = event(&mut events).await;
        assert!(dropped.elapsed() < SOON, "{:?}", dropped.elapsed());
        let NodeEvent::Down { reason: EndReason::PeerShutDown | EndReason::Gone, unconfirmed: 0, .. } = down
        else {
            panic!("{down:?}")
        };
    }
}

#[tokio::test]
async fn a_stopped_peer_is_down_after_the_ticktime_and_comes_back_as_a_new_session() {
    let peers = StaticPeers::new();
    let a = start_with("a@127.0.0.1", &peers, |config| config.net_ticktime = Duration::from_secs(4)).await;
    let mut child = Child::start("peer");
    let to = name("child@127.0.0.1");
    peers.insert(to.clone(), child.hear().await.parse().unwrap());
    let mut events = a.monitor_nodes();
    within(a.prime(&to)).await.unwrap();
    child.stop().await;
    let down = next_end(&mut events).await;
    assert!(matches!(down, NodeEvent::Down { reason: EndReason::Silent, .. }), "{down:?}");
    child.signal(Signal::CONT);
    within(a.send(("inbox", &to), &1)).await.unwrap();
    let up = event(&mut events).await;
    assert!(matches!(up, NodeEvent::Up { .. }), "{up:?}");
}

#[tokio::test]
async fn a_disconnected_peer_is_told_and_the_next_send_begins_another_session() {
    let (a, b) = pair().await;
    assert!(!a.disconnect(b.name()));
    let mut inbox = b.register("inbox").unwrap();
    let (mut events_a, mut events_b) = (a.monitor_nodes(), b.monitor_nodes());
    for i in 0..10 {
        within(a.send(("inbox", b.name()), &i)).await.unwrap();
        assert_eq!(receive::<i32>(&mut inbox).await, i);
        assert!(matches!(event(&mut events_a).await, NodeEvent::Up { .. }));
        assert!(matches!(event(&mut events_b).await, NodeEvent::Up { .. }));
        assert!(a.disconnect(b.name()));
        let down = event(&mut events_a).await;
        assert!(matches!(down, NodeEvent::Down { reason: EndReason::Disconnected, .. }), "{down:?}");
        let down = event(&mut events_b).await;
        assert!(matches!(down, NodeEvent::Down { reason: EndReason::PeerShutDown, .. }), "{down:?}");
    }
}

#[tokio::test]
async fn a_second_node_of_a_living_nodes_name_is_refused() {
    let peers = StaticPeers::new();
    let (a, b) = (start("a@127.0.0.1", &peers).await, start("b@127.0.0.1", &peers).await);
    let mut inbox = a.register("inbox").unwrap();
    let mut events = a.monitor_nodes();
    within(b.send(("inbox", a.name()), &"first")).await.unwrap();
    let usurper =
        start_apart("b@127.0.0.1", &peers, |config| config.setup_timeout = Duration::from_secs(2)).await;
    let error = within(usurper.send(("inbox", a.name()), &"usurper")).await.unwrap_err();
    assert!(matches!(error, SendError::NoConnection(_)), "{error:?}");
    crate::common::assert_says(&error, &["a@127.0.0.1", "another node of our name"]);
    within(b.send(("inbox", a.name()), &"second")).await.unwrap();
    assert_eq!(receive::<String>(&mut inbox).await, "first");
    assert_eq!(receive::<String>(&mut inbox).await, "second");
    assert_eq!(events_so_far(&mut events).await.len(), 1, "the living session goes on");
}

#[tokio::test]
async fn sends_that_wait_for_a_session_end_with_it_when_their_own_node_goes() {
    let peers = StaticPeers::new();
    let a = start("a@127.0.0.1", &peers).await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    peers.insert(name("b@127.0.0.1"), silent.local_addr().unwrap());
    let waiting = a.clone();
    let send = tokio::spawn(async move { waiting.send(("inbox", name("b@127.0.0.1")), &1).await });
    let _dialled = within(silent.accept()).await.unwrap();
    let _report = within(a.shutdown(Duration::from_secs(1))).await;
    let error = within(send).await.unwrap().unwrap_err();
    crate::common::assert_says(&error, &["this node has been shut down"]);
}

#[tokio::test]
async fn one_peer_that_does_not_answer_delays_no_other() {
    let peers = StaticPeers::new();
    let (a, b) = (start("a@127.0.0.1", &peers).await, start("b@127.0.0.1", &peers).await);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    peers.insert(name("silent@127.0.0.1"), silent.local_addr().unwrap());
    let waiting = a.clone();
    let send = tokio::spawn(async move { waiting.send(("inbox", name("silent@127.0.0.1")), &1).await });
    let _dialled = within(silent.accept()).await.unwrap();
    let mut inbox = b.register("inbox").unwrap();
    within(a.send(("inbox", b.name()), &1)).await.unwrap();
    assert_eq!(receive::<u8>(&mut inbox).await, 1);
    assert!(!send.is_finished());
    send.abort();
}

#[tokio::test]
async fn nosuspend_does_not_wait_for_the_first_session_and_begins_it() {
    let (a, b) = pair_with(|_| {}).await;
    let mut inbox = b.register("inbox").unwrap();
    let options = SendOptions::default().nosuspend();
    let error = a.process().send_with(("inbox", b.name()), &0, options).await.unwrap_err();
    assert!(matches!(error, SendError::Busy), "{error:?}");
    eventually("a session", || peer_of(&a, b.name()).is_some()).await;
    a.process().send_with(("inbox", b.name()), &1, options).await.unwrap();
    assert_eq!(receive::<u8>(&mut inbox).await, 1);
}

#[tokio::test]
async fn noconnect_neither_waits_for_a_session_nor_begins_one() {
    let (a, b) = pair_with(|_| {}).await;
    let mut inbox = b.register("inbox").unwrap();
    let options = SendOptions::default().noconnect();
    for _ in 0..20 {
        let error = within(a.process().send_with(("inbox", b.name()), &0, options)).await.unwrap_err();
        assert!(matches!(&error, SendError::NotConnected { peer } if peer == b.name()), "{error:?}");
    }
    assert!(peer_of(&a, b.name()).is_none());
    a.process().send(("inbox", b.name()), &1).await.unwrap();
    a.process().send_with(("inbox", b.name()), &2, options).await.unwrap();
    assert_eq!((receive::<u8>(&mut inbox).await, receive::<u8>(&mut inbox).await), (1, 2));
}

#[tokio::test]
async fn sends_to_a_node_that_nobody_knows_fail_at_once_each_of_them() {
    let hour = Duration::from_secs(3600);
    let a = start_with("a@127.0.0.1", &StaticPeers::new(), |config| {
        (config.backoff.first, config.backoff.most) = (hour, hour);
    })
    .await;
    for _ in 0..20 {
        let error = within(a.send(("inbox", name("nobody@127.0.0.1")), &1)).await.unwrap_err();
        assert!(matches!(error, SendError::NoConnection(teleport::ConnectError::UnknownNode(_))), "{error}");
    }
}

#[tokio::test]
async fn what_is_sent_after_a_disconnect_goes_by_the_next_session() {
    let (a, b) = pair().await;
    let mut inbox = b.register("inbox").unwrap();
    for round in 0..50u32 {
        let sent =
            within(a.process().send_acknowledged(("inbox", b.name()), &round, Default::default())).await;
        within(sent.unwrap()).await.unwrap();
        assert_eq!(receive::<u32>(&mut inbox).await, round);
        a.disconnect(b.name());
    }
}
