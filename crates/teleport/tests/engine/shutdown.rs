//! The end of a node: what is drained, refused, reported and given back.

use crate::common::child::{self, Child};
use crate::common::faulty::{Kind, through_proxy};
use crate::common::{
    COOKIE, assert_says, config, event, eventually, name, next_end, pair, payload, peer_of, receive, start,
    start_apart, start_with, within,
};
use futures_util::FutureExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake};
use std::thread::Thread;
use std::time::{Duration, Instant};
use teleport::{
    Binary, CallError, Config, DeliveryError, EndReason, Node, NodeEvent, RegisterError, SendError,
    SendOptions, ShutdownReport, StaticPeers,
};
use teleport_testkit::proxy::Proxy;

/// What a test holds on a connection is held until it lets it go: no other one takes its place.
fn patient(config: &mut Config) {
    config.stall_timeout = Duration::from_secs(600);
}

#[tokio::test]
async fn everything_accepted_is_delivered_first() {
    let (a, b) = pair().await;
    let mut inbox = b.register("inbox").unwrap();
    for i in 0..40u64 {
        let body = payload([10, 500_000][i as usize % 2], i);
        within(a.send(("inbox", b.name()), &(i, body))).await.unwrap();
    }
    let report = within(a.shutdown(Duration::from_secs(20))).await;
    assert_eq!(report, ShutdownReport::default());
    assert_eq!(inbox.len(), 40, "all there when it returns");
    for i in 0..40u64 {
        let (number, body): (u64, Binary) = receive(&mut inbox).await;
        assert_eq!((number, &body), (i, &payload(body.len(), i)));
    }
}

#[tokio::test]
async fn a_shutdown_that_is_given_up_ends_the_node() {
    let (a, b, proxy, _peers) = through_proxy(patient).await;
    within(a.prime(b.name())).await.unwrap();
    let (mut own, _inbox) = (a.register("own").unwrap(), b.register("inbox").unwrap());
    Kind::Express.of(&proxy).iter().for_each(|connection| connection.stall());
    within(a.send(("inbox", b.name()), &1)).await.unwrap();
    // It waits for that, and is dropped then.
    assert!(a.shutdown(Duration::from_secs(60)).now_or_never().is_none());
    assert!(within(own.recv()).await.is_none());
    // Who asks again, as by a second Ctrl-C, is told what was lost.
    let report = within(a.shutdown(Duration::ZERO)).await;
    assert_eq!(report.unconfirmed, [(b.name().clone(), 1)]);
}

/// On a thread that has no runtime, and so no timer.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn calls_limits_and_shutdown_need_no_runtime_of_the_caller() {
    block_on(async {
        let (a, b) = pair().await;
        a.prime(b.name()).await.unwrap();
        let inbox = b.register("inbox").unwrap();
        let process = a.process();
        let call = process.call::<_, Binary>(("inbox", b.name()), &1, Duration::from_millis(20));
        assert!(matches!(call.await, Err(CallError::Timeout(_))));
        let limited = SendOptions::default().timeout(Duration::from_secs(20));
        process.send_with(("inbox", b.name()), &2, limited).await.unwrap();
        assert_eq!(a.shutdown(Duration::from_secs(20)).await, ShutdownReport::default());
        assert_eq!(inbox.len(), 2);
    });
}

#[tokio::test]
async fn what_is_not_delivered_by_the_deadline_is_reported_on_both_sides() {
    let (a, b, proxy, _peers) = through_proxy(patient).await;
    within(a.prime(b.name())).await.unwrap();
    let mut events = b.monitor_nodes();
    let inbox = b.register("inbox").unwrap();
    for connection in [Kind::Express, Kind::Bulk].into_iter().flat_map(|kind| kind.of(&proxy)) {
        connection.stall();
    }
    let (mut acks, sender) = (Vec::new(), a.process());
    for i in 0..5u64 {
        let body = payload([10, 500_000][i as usize % 2], i);
        let ack = sender.send_acknowledged(("inbox", b.name()), &body, SendOptions::default());
        acks.push(within(ack).await.unwrap());
    }
    let (begin, deadline) = (Instant::now(), Duration::from_millis(200));
    let report = within(a.shutdown(deadline)).await;
    assert_eq!(report.unconfirmed, [(b.name().clone(), 5)]);
    assert!(begin.elapsed() >= deadline);
    for ack in acks {
        let error = within(ack).await.unwrap_err();
        assert!(matches!(error, DeliveryError::Unconfirmed { .. }), "{error:?}");
        assert_says(&error, &["b@127.0.0.1", "may have arrived"]);
    }
    let down = next_end(&mut events).await;
    assert!(
        matches!(down, NodeEvent::Down { reason: EndReason::PeerShutDown, unconfirmed: 0, .. }),
        "{down:?}"
    );
    assert!(inbox.is_empty());
}

/// Whether somebody waits by then or asks later.
#[tokio::test]
async fn a_node_ends_with_the_runtime_that_it_was_given() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (peers, mute) = (StaticPeers::new(), tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap());
    let builder = Node::builder("a@127.0.0.1").cookie(COOKIE).resolver(peers.clone());
    let a = builder.runtime(runtime.handle().clone()).start().await.unwrap();
    let b = start("b@127.0.0.1", &peers).await;
    let unreached = name("c@127.0.0.1");
    peers.insert(unreached.clone(), mute.local_addr().unwrap());
    let (mut mailbox, mut events) = (a.mailbox().unwrap(), b.monitor_nodes());
    within(a.prime(b.name())).await.unwrap();
    let sender = a.clone();
    let to = unreached.clone();
    let waiting = tokio::spawn(async move { sender.send(("x", &to), "waits for a session").await });
    let _accepted = within(mute.accept()).await.unwrap();
    tokio::task::spawn_blocking(move || drop(runtime)).await.unwrap();
    let not_running = |result| match result {
        Err(SendError::NotRunning) => {}
        other => panic!("{other:?}"),
    };
    not_running(within(waiting).await.unwrap());
    not_running(within(a.send(("x", &unreached), "late")).await);
    not_running(within(a.send(("x", b.name()), "late")).await);
    assert!(within(mailbox.recv()).await.is_none());
    let down = next_end(&mut events).await;
    assert!(matches!(down, NodeEvent::Down { reason: EndReason::PeerShutDown, .. }), "{down:?}");
    assert_eq!(within(a.shutdown(Duration::from_secs(30))).await, ShutdownReport::default());
}

#[tokio::test]
async fn a_node_that_drains_takes_nothing_new() {
    let (a, b, proxy, _peers) = through_proxy(patient).await;
    within(a.prime(b.name())).await.unwrap();
    let mut inbox = b.register("inbox").unwrap();
    let held = Kind::Express.of(&proxy);
    held.iter().for_each(|connection| connection.stall());
    within(a.send(("inbox", b.name()), &"before")).await.unwrap();
    let draining = a.clone();
    let shutdown = tokio::spawn(async move { draining.shutdown(Duration::from_secs(30)).await });
    let refused = loop {
        // Accepted until the shutdown has begun.
        match within(a.send(("inbox", b.name()), &"meanwhile")).await {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, SendError::NotRunning), "{refused:?}");
    let error = within(a.send(("inbox", name("c@127.0.0.1")), &1)).await.unwrap_err();
    assert_says(&error, &["this node has been shut down"]);
    assert!(!shutdown.is_finished());
    held.iter().for_each(|connection| connection.release());
    assert_eq!(within(shutdown).await.unwrap(), ShutdownReport::default());
    assert_eq!(receive::<String>(&mut inbox).await, "before");
}

#[tokio::test]
async fn after_the_end_everything_says_so() {
    let (a, b) = pair().await;
    let mut inbox = a.register("inbox").unwrap();
    let (mut events, mut idle) = (a.monitor_nodes(), a.mailbox().unwrap());
    within(b.send(("inbox", a.name()), &"left over")).await.unwrap();
    eventually("it is there", || !inbox.is_empty()).await;
    let waiting = tokio::spawn(async move { idle.recv().await.is_none() });
    let _report = within(a.shutdown(Duration::from_secs(5))).await;

    assert!(within(waiting).await.unwrap(), "who waits for a message learns that none will come");
    assert_eq!(receive::<String>(&mut inbox).await, "left over");
    assert!(within(inbox.recv()).await.is_none());
    assert!(matches!(event(&mut events).await, NodeEvent::Up { .. }));
    assert!(matches!(event(&mut events).await, NodeEvent::Down { reason: EndReason::Disconnected, .. }));
    assert!(within(events.recv()).await.is_none());
    for to in [("inbox", b.name()), ("inbox", a.name()), ("inbox", &name("c@127.0.0.1"))] {
        let error = within(a.send(to, &1)).await.unwrap_err();
        assert!(matches!(error, SendError::NotRunning), "{error:?}");
    }
    assert!(within(a.prime(b.name())).await.is_err());
    assert_eq!(a.register("another").unwrap_err(), RegisterError::NotRunning);
    assert!(within(a.monitor_nodes().recv()).await.is_none(), "a monitor made too late ends at once");
    assert!(a.info().peers.is_empty());
    // Once more does no harm.
    assert_eq!(within(a.shutdown(Duration::from_secs(5))).await, ShutdownReport::default());
}

#[tokio::test]
async fn sends_that_wait_for_room_end_with_the_session() {
    let (a, b) = pair().await;
    let _slow = b.register("slow").unwrap();
    let mut sends = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let (from, to) = (a.clone(), b.name().clone());
        sends.spawn(async move { from.send(("slow", &to), &payload(2 << 20, 1)).await });
    }
    let waits = || {
        peer_of(&a, b.name()).is_some_and(|peer| peer.transfer.waiting > 0 && peer.transfer.unconfirmed == 0)
    };
    eventually("some wait", waits).await;
    let _report = within(b.shutdown(Duration::from_secs(5))).await;
    let failed = within(sends.join_all()).await.into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert!(!failed.is_empty());
    for error in failed {
        assert!(matches!(error, SendError::NodeDown { reason: EndReason::PeerShutDown, .. }), "{error:?}");
    }
}

/// To a mailbox of the node itself: what comes of it is known, and nothing is told to be there that is not.
#[tokio::test]
async fn sends_that_wait_for_room_in_a_mailbox_here_are_told_of_the_nodes_end() {
    let peers = StaticPeers::new();
    let small = |config: &mut teleport::Config| config.mailbox_window = std::num::NonZeroU64::MIN;
    let a = start_with("a@127.0.0.1", &peers, small).await;
    let (mut full, process) = (a.mailbox().unwrap(), a.process());
    let to = full.pid();
    within(process.send(&to, &"there is room for it")).await.unwrap();
    let mut send = Box::pin(process.send(&to, &"lost"));
    let mut acknowledged = Box::pin(process.send_acknowledged(&to, &"lost", SendOptions::default()));
    let mut call = Box::pin(process.send_request::<_, ()>(&to, &"lost"));
    // Each has its place in the line by then.
    assert!((&mut send).now_or_never().is_none());
    assert!((&mut acknowledged).now_or_never().is_none());
    assert!((&mut call).now_or_never().is_none());
    let _report = within(a.shutdown(Duration::from_secs(5))).await;

    assert!(matches!(within(send).await, Err(SendError::NotRunning)));
    assert!(matches!(within(acknowledged).await, Err(SendError::NotRunning)));
    assert!(matches!(within(call).await, Err(CallError::Send(SendError::NotRunning))));
    assert_eq!(receive::<String>(&mut full).await, "there is room for it");
    assert!(within(full.recv()).await.is_none());
}

#[tokio::test]
async fn a_mailbox_that_nobody_empties_does_not_hold_a_shutdown_up() {
    let (a, b) = pair().await;
    let _slow = b.register("slow").unwrap();
    let sends = many_sends(&a, "slow", &b);
    let waits = || {
        peer_of(&a, b.name()).is_some_and(|peer| peer.transfer.waiting > 0 && peer.transfer.unconfirmed == 0)
    };
    eventually("some wait", waits).await;
    let begin = Instant::now();
    assert_eq!(within(a.shutdown(Duration::from_secs(60))).await, ShutdownReport::default());
    assert!(begin.elapsed() < Duration::from_secs(30));
    let failed = within(sends.join_all()).await.into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert!(!failed.is_empty());
    for error in failed {
        assert!(matches!(error, SendError::NodeDown { reason: EndReason::Disconnected, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn sends_that_get_room_during_the_drain_are_seen_through() {
    let (a, b, proxy, _peers) =
        through_proxy(|config| config.mailbox_window = std::num::NonZeroU64::new(1 << 30).unwrap()).await;
    within(a.prime(b.name())).await.unwrap();
    let inbox = b.register("inbox").unwrap();
    let held = Kind::Bulk.of(&proxy);
    held.iter().for_each(|connection| connection.stall());
    let sends = many_sends(&a, "inbox", &b);
    let waiting = || peer_of(&a, b.name()).is_some_and(|peer| peer.transfer.waiting >= 20);
    eventually("most wait for room", waiting).await;
    let (draining, shutdown) = (a.clone(), Duration::from_secs(30));
    let shutdown = tokio::spawn(async move { draining.shutdown(shutdown).await });
    begun(&a).await;
    held.iter().for_each(|connection| connection.release());
    assert_eq!(within(shutdown).await.unwrap(), ShutdownReport::default());
    for sent in within(sends.join_all()).await {
        sent.unwrap();
    }
    assert_eq!(inbox.len(), 40);
}

#[tokio::test]
async fn sends_that_get_room_while_another_peer_is_waited_for_are_seen_through() {
    let peers = StaticPeers::new();
    let a = start("a@127.0.0.1", &peers).await;
    let (mut nodes, mut proxies) = (Vec::new(), Vec::new());
    for peer in ["b@127.0.0.1", "c@127.0.0.1"] {
        let node = start_apart(peer, &StaticPeers::new(), |_| {}).await;
        proxies.push(Proxy::start(node.address()).await.unwrap());
        peers.insert(node.name().clone(), proxies.last().unwrap().address());
        within(a.prime(node.name())).await.unwrap();
        nodes.push(node);
    }
    let state = |i: usize| peer_of(&a, nodes[i].name()).unwrap().transfer;
    let (mut full, _inbox) = (nodes[0].register("full").unwrap(), nodes[1].register("inbox").unwrap());
    let sends = many_sends(&a, "full", &nodes[0]);
    eventually("some wait", || state(0).waiting > 0 && state(0).unconfirmed == 0).await;
    let held_c = Kind::Express.of(&proxies[1]);
    held_c.iter().for_each(|connection| connection.stall());
    within(a.send(("inbox", nodes[1].name()), &"held")).await.unwrap();
    let draining = a.clone();
    let shutdown = tokio::spawn(async move { draining.shutdown(Duration::from_secs(60)).await });
    begun(&a).await;

    // Now some of the sends to b get room, and their messages are held.
    let held_b = Kind::Bulk.of(&proxies[0]);
    held_b.iter().for_each(|connection| connection.stall());
    while state(0).unconfirmed == 0 {
        // Once all are taken nothing comes any more; then it is a matter of time.
        tokio::select! {
            taken = within(full.recv()) => assert!(taken.is_some()),
            () = eventually("some get room", || state(0).unconfirmed > 0) => break,
        }
        tokio::time::timeout(Duration::from_millis(100), eventually("", || state(0).unconfirmed > 0))
            .await
            .ok();
    }
    held_c.iter().for_each(|connection| connection.release());
    eventually("c has all", || state(1).unconfirmed == 0).await;
    assert!(!shutdown.is_finished());
    held_b.iter().for_each(|connection| connection.release());
    assert_eq!(within(shutdown).await.unwrap(), ShutdownReport::default());
    drop(sends);
}

/// Returns when a node takes nothing more.
async fn begun(node: &Node) {
    while within(node.send(("nobody", node.name()), &1)).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

/// More than fits into the windows, each by a task of its own.
fn many_sends(from: &Node, to: &'static str, node: &Node) -> tokio::task::JoinSet<Result<(), SendError>> {
    let mut sends = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let (from, node) = (from.clone(), node.name().clone());
        sends.spawn(async move { from.send((to, &node), &payload(2 << 20, 1)).await });
    }
    sends
}

#[tokio::test]
async fn messages_from_peers_arrive_during_the_drain_and_can_be_taken_out() {
    let (a, b, proxy, _peers) = through_proxy(patient).await;
    within(a.prime(b.name())).await.unwrap();
    let (mut at_a, mut at_b) = (a.register("inbox").unwrap(), b.register("inbox").unwrap());
    let held = Kind::Express.of(&proxy);
    held.iter().for_each(|connection| connection.stall());
    within(a.send(("inbox", b.name()), &"held")).await.unwrap();
    let draining = a.clone();
    let shutdown = tokio::spawn(async move { draining.shutdown(Duration::from_secs(30)).await });
    begun(&a).await;
    let large = payload(1 << 20, 1);
    within(b.send(("inbox", a.name()), &large)).await.unwrap();
    assert_eq!(receive::<Binary>(&mut at_a).await, large);
    assert!(!shutdown.is_finished());
    let refused = within(at_a.send(("inbox", b.name()), &"an answer")).await.unwrap_err();
    assert!(matches!(refused, SendError::NotRunning), "{refused:?}");
    held.iter().for_each(|connection| connection.release());
    assert_eq!(within(shutdown).await.unwrap(), ShutdownReport::default());
    assert_eq!(receive::<String>(&mut at_b).await, "held");
}

#[tokio::test]
async fn a_peer_that_does_not_answer_costs_no_time_if_nothing_is_open() {
    let (a, b, proxy, _peers) = through_proxy(|_| {}).await;
    within(a.prime(b.name())).await.unwrap();
    proxy.connections().iter().for_each(|connection| connection.stall());
    let begin = Instant::now();
    assert_eq!(within(a.shutdown(Duration::from_secs(60))).await, ShutdownReport::default());
    assert!(begin.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_second_call_with_a_shorter_deadline_hurries_the_first() {
    let (a, b, proxy, _peers) = through_proxy(patient).await;
    within(a.prime(b.name())).await.unwrap();
    let _inbox = b.register("inbox").unwrap();
    Kind::Express.of(&proxy).iter().for_each(|connection| connection.stall());
    within(a.send(("inbox", b.name()), &"held")).await.unwrap();
    let draining = a.clone();
    let first = tokio::spawn(async move { draining.shutdown(Duration::from_secs(600)).await });
    begun(&a).await;
    let second = within(a.shutdown(Duration::from_millis(100))).await;
    assert_eq!(second.unconfirmed, [(b.name().clone(), 1)]);
    assert_eq!(within(first).await.unwrap(), second);
}

#[tokio::test]
async fn a_node_that_is_dropped_says_goodbye_and_answers_for_nothing() {
    let (a, b, proxy, _peers) = through_proxy(patient).await;
    within(a.prime(b.name())).await.unwrap();
    let (mut events, inbox) = (b.monitor_nodes(), b.register("inbox").unwrap());
    Kind::Express.of(&proxy).iter().for_each(|connection| connection.stall());
    let sender = a.process();
    let ack = sender.send_acknowledged(("inbox", b.name()), &1, SendOptions::default());
    let ack = within(ack).await.unwrap();
    drop((sender, a));
    let error = within(ack).await.unwrap_err();
    assert!(matches!(error, DeliveryError::Unconfirmed { reason: EndReason::Disconnected, .. }), "{error:?}");
    let down = next_end(&mut events).await;
    assert!(matches!(down, NodeEvent::Down { reason: EndReason::PeerShutDown, .. }), "{down:?}");
    assert!(inbox.is_empty());
}

/// A child's part: it sends one message, shuts down, and its process ends at once.
pub(crate) fn leaver_process() {
    child::run(async {
        let peers = StaticPeers::new();
        let node = start("leaver@127.0.0.1", &peers).await;
        let stays = name("stays@127.0.0.1");
        peers.insert(stays.clone(), child::hear().unwrap().parse().unwrap());
        within(node.send(("inbox", &stays), &payload(300_000, 1))).await.unwrap();
        let report = node.shutdown(Duration::from_secs(20)).await;
        std::process::exit(i32::from(report != ShutdownReport::default()));
    });
}

#[tokio::test]
async fn a_process_may_end_as_soon_as_the_shutdown_returns() {
    let peers = StaticPeers::new();
    let stays = start("stays@127.0.0.1", &peers).await;
    let (mut events, mut inbox) = (stays.monitor_nodes(), stays.register("inbox").unwrap());
    for _ in 0..10 {
        let mut leaver = Child::start("leaver");
        leaver.say(&stays.address().to_string()).await;
        assert_eq!(receive::<Binary>(&mut inbox).await, payload(300_000, 1));
        assert!(matches!(event(&mut events).await, NodeEvent::Up { .. }));
        let down = event(&mut events).await;
        assert!(matches!(down, NodeEvent::Down { reason: EndReason::PeerShutDown, .. }), "{down:?}");
    }
}

#[tokio::test]
async fn a_dropped_nodes_port_is_free() {
    // Its own address, so that no other test takes the port in between.
    let a = start_at("127.0.9.2:0".parse().unwrap()).await.unwrap();
    let (address, mailbox) = (a.address(), a.register("inbox").unwrap());
    drop(a);
    assert!(start_at(address).await.is_err(), "a mailbox is a handle too");
    drop(mailbox);
    let begin = Instant::now();
    while let Err(error) = start_at(address).await {
        assert!(begin.elapsed() < Duration::from_secs(20), "{error}");
        tokio::task::yield_now().await;
    }
}

/// Also when the node's only thread has other things to do.
#[tokio::test]
async fn behind_a_shutdown_the_address_is_free() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    for _ in 0..4 {
        let done = done.clone();
        runtime.spawn(async move {
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1)); // work
                tokio::task::yield_now().await;
            }
        });
    }
    // Its own address, so that no other test takes the port in between.
    let mut address = "127.0.9.1:0".parse().unwrap();
    // That thread stood still for as long as a shutdown waits for it.
    let mut gave_up = false;
    for _ in 0..10 {
        let begin = Instant::now();
        let a = loop {
            let builder = Node::builder("a@127.0.0.1").cookie(COOKIE).runtime(runtime.handle().clone());
            match within(builder.listen(address).start()).await {
                Ok(a) => break a,
                Err(error) => assert!(gave_up && begin.elapsed() < Duration::from_secs(20), "{error}"),
            }
            tokio::task::yield_now().await;
        };
        address = a.address();
        let begin = Instant::now();
        let _report = within(a.shutdown(Duration::from_secs(5))).await;
        gave_up = begin.elapsed() >= Duration::from_secs(1);
    }
    done.store(true, Ordering::Relaxed);
    runtime.shutdown_background();
}

async fn start_at(address: std::net::SocketAddr) -> Result<Node, teleport::StartError> {
    Node::builder("a@127.0.0.1")
        .cookie(crate::common::COOKIE)
        .config(config(|_| {}))
        .listen(address)
        .start()
        .await
}

/// A child's part: it starts and stops nodes, and tells how many threads and descriptors there were before and after.
pub(crate) fn cycles_process() {
    const CYCLES: usize = 100;
    child::run(async {
        let used = || {
            let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
            (child::status("Threads"), descriptors)
        };
        let before = used();
        for cycle in 0..CYCLES {
            let (a, b) = pair().await;
            let mut inbox = b.register("inbox").unwrap();
            within(a.send(("inbox", b.name()), &payload([10, 100_000][cycle % 2], 1))).await.unwrap();
            receive::<Binary>(&mut inbox).await;
            match cycle % 3 {
                0 => drop(within(a.shutdown(Duration::from_secs(5))).await),
                1 => drop((
                    within(b.shutdown(Duration::from_secs(5))).await,
                    within(a.shutdown(Duration::from_secs(5))).await,
                )),
                _ => {}
            }
        }
        eventually("threads and descriptors are given back", || used() == before).await;
        child::tell(format!("{CYCLES} {before:?}"));
    });
}

#[tokio::test]
async fn a_hundred_nodes_later_threads_and_descriptors_are_as_before() {
    let mut child = Child::start("cycles");
    assert!(child.hear().await.starts_with("100 "));
}
