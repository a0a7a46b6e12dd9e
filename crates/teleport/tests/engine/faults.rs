//! Connections that are cut, stalled and damaged under a session that goes on.

use crate::common::faulty::{Kind, through_proxy};
use crate::common::{
    assert_none_ended, event, events_so_far, eventually, next_end, pair_with, payload, peer_of, receive,
    within,
};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use teleport::{
    Backoff, Binary, Config, ConnectError, EndReason, Mailbox, Node, NodeEvent, NodeName, SendOptions, Sever,
};
use teleport_testkit::cluster::Rng;
use teleport_testkit::proxy::{Fault, Faults, Opening, Proxy};
use teleport_testkit::wait::PATIENCE;
use tokio::task::JoinSet;

/// Bytes of the handshake in the dialler's direction (hello, proof) and in the acceptor's (challenge, verdict).
const TO_SERVER: u64 = 640 + 48;
const TO_CLIENT: u64 = 384 + 56;

fn hasty(config: &mut Config) {
    config.backoff = Backoff { first: Duration::from_millis(2), most: Duration::from_millis(20) };
    config.bulk_connections = 2;
}

/// `senders` processes of `from` send `each` messages of mixed sizes to an inbox.
fn traffic(from: &Node, to: &NodeName, senders: u64, each: u64) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for sender in 0..senders {
        let (process, to) = (from.mailbox().unwrap(), to.clone());
        tasks.spawn(async move {
            let mut rng = Rng::new(sender);
            for i in 0..each {
                let len = rng.pick(&[0, 10, 3000, 65_000, 66_000, 300_000, 1_000_000]);
                process.send(("inbox", &to), &(sender, i, payload(len, i))).await.unwrap();
            }
        });
    }
    tasks
}

/// Receives all of it: nothing lost, nothing twice, each sender's in its order, every byte as it was.
async fn check(inbox: &mut Mailbox, senders: u64, each: u64) {
    let mut next = HashMap::new();
    for _ in 0..senders * each {
        let (sender, i, body): (u64, u64, Binary) = receive(inbox).await;
        let expected = next.entry(sender).or_insert(0);
        assert_eq!(i, *expected, "of sender {sender}");
        assert!(body == payload(body.len(), i), "message {i} of sender {sender} is damaged");
        *expected += 1;
    }
    assert!(inbox.try_recv().is_none());
}

/// When faults have stopped, nothing is left of them.
async fn at_rest(nodes: [&Node; 2]) {
    for node in nodes {
        eventually("all gauges at 0", || {
            let transfer = node.info().peers[0].transfer;
            let bytes = transfer.unconfirmed_bytes + transfer.undelivered_bytes;
            (transfer.unconfirmed, bytes, transfer.entries) == (0, 0, 0)
        })
        .await;
    }
}

/// Where a connection ends at last: early, and late enough that a frame gets through now and then (up to 1 MiB).
fn end_of(opening: &Opening<'_>) -> u64 {
    match Kind::by(opening.first) {
        Kind::Control => 3000,
        Kind::Express | Kind::Bulk => 3_000_000,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_cut_at_any_byte_lose_double_and_reorder_nothing() {
    const SENDERS: u64 = 4;
    const EACH: u64 = 40;
    for seed in 0..3 {
        let (a, b, proxy, _peers) = through_proxy(hasty).await;
        let (mut at_a, mut at_b) = (a.register("inbox").unwrap(), b.register("inbox").unwrap());
        let (mut events_a, mut events_b) = (a.monitor_nodes(), b.monitor_nodes());
        within(a.prime(b.name())).await.unwrap();
        proxy.plan_cuts(seed, end_of);
        proxy.connections().iter().for_each(|connection| connection.cut());
        let there = traffic(&a, b.name(), SENDERS, EACH);
        let back = traffic(&b, a.name(), SENDERS, EACH);
        tokio::join!(check(&mut at_a, SENDERS, EACH), check(&mut at_b, SENDERS, EACH));
        within(there.join_all()).await;
        within(back.join_all()).await;
        proxy.plan_none();
        proxy.connections().iter().for_each(|connection| connection.cut());
        at_rest([&a, &b]).await;
        for events in [&mut events_a, &mut events_b] {
            let events = events_so_far(events).await;
            assert!(matches!(events[..], [NodeEvent::Up { .. }]), "seed {seed}: {events:?}");
        }
        let (struck, transfer) = (proxy.struck(), peer_of(&a, b.name()).unwrap().transfer);
        println!("seed {seed}: {struck} faults, {} frames sent again", transfer.frames_resent);
        assert!(struck > 20, "seed {seed}: only {struck} faults");
        assert!(transfer.frames_resent > 0 && transfer.connections_retired > 5, "seed {seed}: {transfer:?}");
    }
}

/// Something on the way lets a handshake through and nothing after it.
#[tokio::test]
async fn control_connections_that_are_of_no_use_are_not_opened_without_a_pause() {
    let patient = |config: &mut Config| {
        config.net_ticktime = Duration::from_secs(60);
        config.backoff = Backoff { first: Duration::from_millis(20), most: Duration::from_secs(1) };
    };
    let (a, b, proxy, _peers) = through_proxy(patient).await;
    within(a.prime(b.name())).await.unwrap();
    let before = proxy.accepted();
    proxy.plan(|opening| match Kind::by(opening.first) {
        Kind::Control => Faults { to_client: Fault::Cut { at: TO_CLIENT }, ..Faults::default() },
        Kind::Express | Kind::Bulk => Faults::default(),
    });
    let begun = Instant::now();
    Kind::Control.of(&proxy).iter().for_each(|connection| connection.cut());
    eventually("five control connections", || proxy.accepted() >= before + 5).await;
    // The first follows at once, one that was of use; the others after 20, 40, 80 and 160 ms.
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(300), "{took:?}");
    proxy.plan_none();
    let mut at_b = b.register("inbox").unwrap();
    within(a.send(("inbox", b.name()), &1u64)).await.unwrap();
    assert_eq!(receive::<u64>(&mut at_b).await, 1);
    at_rest([&a, &b]).await;
}

#[tokio::test]
async fn a_stalled_pool_connection_is_replaced() {
    let stalling = |config: &mut Config| {
        hasty(config);
        config.stall_timeout = Duration::from_millis(200);
    };
    let (a, b, proxy, _peers) = through_proxy(stalling).await;
    let (mut at_a, mut at_b) = (a.register("inbox").unwrap(), b.register("inbox").unwrap());
    within(a.prime(b.name())).await.unwrap();
    let mut events = a.monitor_nodes();
    for kind in [Kind::Express, Kind::Bulk] {
        for from_a in [true, false] {
            eventually("the whole pool", || {
                Kind::Bulk.of(&proxy).len() == 2 && Kind::Express.of(&proxy).len() == 1
            })
            .await;
            let retired = peer_of(&a, b.name()).unwrap().transfer.connections_retired;
            let stalled = kind.of(&proxy);
            stalled.iter().for_each(|connection| connection.stall());
            let (from, to, inbox) = if from_a { (&a, &b, &mut at_b) } else { (&b, &a, &mut at_a) };
            let len = if kind == Kind::Express { 10 } else { 3_000_000 };
            for i in 0..3 {
                within(from.send(("inbox", to.name()), &payload(len, i))).await.unwrap();
            }
            for i in 0..3 {
                assert!(receive::<Binary>(inbox).await == payload(len, i));
            }
            stalled.iter().for_each(|connection| connection.cut());
            let now = peer_of(&a, b.name()).unwrap().transfer.connections_retired;
            assert!(now > retired, "{kind:?}");
            within(a.prime(b.name())).await.unwrap();
        }
    }
    at_rest([&a, &b]).await;
    assert_none_ended(&mut events).await;
}

#[tokio::test]
async fn a_cut_control_connection_is_resumed_and_the_session_stays() {
    let (a, b, proxy, _peers) = through_proxy(hasty).await;
    let mut inbox = b.register("inbox").unwrap();
    within(a.prime(b.name())).await.unwrap();
    let (mut events_a, mut events_b) = (a.monitor_nodes(), b.monitor_nodes());
    for round in 0..20u64 {
        let before = proxy.accepted();
        let control = Kind::Control.of(&proxy).pop().unwrap();
        if round % 2 == 0 {
            control.cut()
        } else {
            control.reset()
        }
        let body = payload([10, 200_000][round as usize / 2 % 2], round);
        within(a.send(("inbox", b.name()), &body)).await.unwrap();
        assert!(receive::<Binary>(&mut inbox).await == body, "without control too");
        eventually("control again", || {
            let connected = |node: &Node, peer: &Node| peer_of(node, peer.name()).unwrap().control_connected;
            proxy.accepted() > before
                && connected(&a, &b)
                && connected(&b, &a)
                && Kind::Control.of(&proxy).len() == 1
        })
        .await;
    }
    at_rest([&a, &b]).await;
    assert_none_ended(&mut events_a).await;
    assert_none_ended(&mut events_b).await;
}

#[tokio::test]
async fn a_silent_control_connection_is_opened_anew_while_the_pool_is_heard() {
    let short = |config: &mut Config| {
        hasty(config);
        config.net_ticktime = Duration::from_secs(8);
    };
    let (a, b, proxy, _peers) = through_proxy(short).await;
    let (mut at_a, mut at_b) = (a.register("inbox").unwrap(), b.register("inbox").unwrap());
    within(a.prime(b.name())).await.unwrap();
    let mut events = a.monitor_nodes();
    let silent = Kind::Control.of(&proxy).pop().unwrap();
    silent.stall();
    let begin = Instant::now();
    while Kind::Control.of(&proxy).iter().all(|control| control.number() == silent.number()) {
        within(a.send(("inbox", b.name()), &"ping")).await.unwrap();
        receive::<String>(&mut at_b).await;
        within(b.send(("inbox", a.name()), &"pong")).await.unwrap();
        receive::<String>(&mut at_a).await;
        assert!(begin.elapsed() < PATIENCE, "control stays silent");
    }
    at_rest([&a, &b]).await;
    assert_none_ended(&mut events).await;
}

/// As when a switch is away for half a minute: TCP then waits as long again before it tries the same connections.
#[tokio::test]
async fn a_session_of_which_nothing_is_heard_tries_new_connections() {
    let short = |config: &mut Config| {
        hasty(config);
        config.net_ticktime = Duration::from_secs(16);
        config.stall_timeout = Duration::from_millis(300);
    };
    let (a, b, proxy, _peers) = through_proxy(short).await;
    let mut inbox = b.register("inbox").unwrap();
    within(a.prime(b.name())).await.unwrap();
    let (mut events_a, mut events_b) = (a.monitor_nodes(), b.monitor_nodes());
    let silent = Kind::Control.of(&proxy).pop().unwrap();
    proxy.connections().iter().for_each(|connection| connection.stall());
    let is_new = || Kind::Control.of(&proxy).iter().any(|control| control.number() != silent.number());
    eventually("another control connection", is_new).await;
    for len in [10, 200_000] {
        within(a.send(("inbox", b.name()), &payload(len, 1))).await.unwrap();
        assert!(receive::<Binary>(&mut inbox).await == payload(len, 1));
    }
    at_rest([&a, &b]).await;
    assert_none_ended(&mut events_a).await;
    assert_none_ended(&mut events_b).await;
}

#[tokio::test]
async fn a_session_whose_control_does_not_come_back_ends_at_the_deadline() {
    let short = |config: &mut Config| {
        hasty(config);
        config.net_ticktime = Duration::from_secs(4);
    };
    let (a, b, proxy, _peers) = through_proxy(short).await;
    let (mut events_a, mut events_b) = (a.monitor_nodes(), b.monitor_nodes());
    within(a.prime(b.name())).await.unwrap();
    proxy.plan(|_| Faults { to_server: Fault::Stall { at: 0 }, ..Faults::default() });
    proxy.connections().iter().for_each(|connection| connection.stall());
    for events in [&mut events_a, &mut events_b] {
        let down = next_end(events).await;
        assert!(matches!(down, NodeEvent::Down { reason: EndReason::Silent, .. }), "{down:?}");
    }
}

#[tokio::test]
async fn a_bit_flipped_in_the_handshake_is_a_refusal_and_the_next_attempt_succeeds() {
    let (a, b, proxy, _peers) = through_proxy(hasty).await;
    let (mut events_a, mut rng) = (a.monitor_nodes(), Rng::new(5));
    let mut places: Vec<_> = (0..TO_SERVER).step_by(29).map(|at| (true, at)).collect();
    places.extend((0..TO_CLIENT).step_by(23).map(|at| (false, at)));
    for (to_server, at) in places {
        let fault = Fault::Flip { at, bit: rng.below(8) as u8 };
        let before = proxy.accepted();
        proxy.plan(move |opening| match (opening.number == before, to_server) {
            (false, _) => Faults::default(),
            (true, true) => Faults { to_server: fault, ..Faults::default() },
            (true, false) => Faults { to_client: fault, ..Faults::default() },
        });
        let error = within(a.prime(b.name())).await.unwrap_err();
        // What is no handshake at all is closed without a word.
        let is_refusal = matches!(error, ConnectError::Handshake { .. } | ConnectError::Closed { .. });
        assert!(is_refusal, "{fault:?}: {error:?}");
        within(a.prime(b.name())).await.unwrap_or_else(|error| panic!("{fault:?}, then {error}"));
        let up = event(&mut events_a).await;
        assert!(matches!(up, NodeEvent::Up { .. }), "{up:?}");
        a.disconnect(b.name());
        let down = event(&mut events_a).await;
        assert!(matches!(down, NodeEvent::Down { reason: EndReason::Disconnected, .. }), "{down:?}");
        eventually("b has noticed", || b.info().peers.is_empty()).await;
    }
    assert!(proxy.struck() > 40);
}

/// What comes of one bit flipped in the header of the first frame on a connection of that kind.
///
/// The message arrives as it was, or the session ends: never anything else.
async fn flipped(kind: Kind, at: u64, bit: u8) -> &'static str {
    let stalling = |config: &mut Config| {
        hasty(config);
        config.bulk_connections = 1;
        config.stall_timeout = Duration::from_millis(60);
    };
    let (a, b, proxy, _peers) = through_proxy(stalling).await;
    let (mut inbox, mut events_b) = (b.register("inbox").unwrap(), b.monitor_nodes());
    let mut pending = Some(Fault::Flip { at: TO_SERVER + at, bit });
    proxy.plan(move |opening| {
        let fault = if Kind::by(opening.first) == kind { pending.take() } else { None };
        Faults { to_server: fault.unwrap_or_default(), ..Faults::default() }
    });
    let len = if kind == Kind::Express { 100 } else { 3_000_000 };
    for i in 0..2 {
        within(a.send(("inbox", b.name()), &payload(len, i))).await.unwrap();
    }
    assert!(matches!(event(&mut events_b).await, NodeEvent::Up { .. }));
    let both = async {
        for i in 0..2 {
            let message = inbox.recv().await.unwrap();
            assert!(
                message.decode::<Binary>().is_ok_and(|body| body == payload(len, i)),
                "damaged: byte {at}, bit {bit}"
            );
        }
        "intact"
    };
    let outcome = tokio::select! {
        outcome = within(both) => outcome,
        down = events_b.recv() => match down {
            Some(NodeEvent::Down { reason: EndReason::ProtocolError, .. }) => "protocol error",
            other => panic!("byte {at}, bit {bit}: {other:?}"),
        },
    };
    assert_eq!(proxy.struck(), 1);
    outcome
}

#[tokio::test]
async fn a_bit_flipped_in_a_frames_header_costs_the_connection_or_ends_the_session() {
    // What is flipped behind the headers, in payloads above all, nobody can notice without TLS.
    let headers = [(Kind::Express, 8), (Kind::Bulk, 32)];
    let bits = headers.into_iter().flat_map(|(kind, bytes)| (0..8 * bytes).map(move |bit| (kind, bit)));
    let mut outcomes = HashMap::new();
    let mut cases = JoinSet::new();
    for (kind, bit) in bits.step_by(3) {
        if cases.len() == 8 {
            *outcomes.entry(cases.join_next().await.unwrap().unwrap()).or_insert(0) += 1;
        }
        cases.spawn(async move { (kind, flipped(kind, bit / 8, (bit % 8) as u8).await) });
    }
    for outcome in cases.join_all().await {
        *outcomes.entry(outcome).or_insert(0) += 1;
    }
    println!("{outcomes:?}");
    assert!(outcomes[&(Kind::Express, "intact")] > 0 && outcomes[&(Kind::Bulk, "intact")] > 0);
}

/// Sends a message while the next connection of the kind is cut after this many bytes. It has to arrive all the same.
async fn cut_once(
    a: &Node,
    b: &Node,
    proxy: &Proxy,
    inbox: &mut Mailbox,
    kind: Kind,
    at: u64,
    body: &Binary,
) {
    let mut pending = Some(Fault::Cut { at });
    proxy.plan(move |opening| {
        let fault = if Kind::by(opening.first) == kind { pending.take() } else { None };
        Faults { to_server: fault.unwrap_or_default(), ..Faults::default() }
    });
    for connection in kind.of(proxy) {
        connection.cut();
    }
    within(a.send(("inbox", b.name()), body)).await.unwrap();
    assert!(receive::<Binary>(inbox).await == *body, "{kind:?} cut at {at}");
}

#[tokio::test]
async fn connections_cut_at_every_byte_of_a_small_exchange_and_around_every_fragment_lose_nothing() {
    const FRAGMENT: u64 = 16 * 1024;
    let small = |config: &mut Config| {
        hasty(config);
        config.bulk_connections = 1;
        config.fragment_size = FRAGMENT as u32;
    };
    let (a, b, proxy, _peers) = through_proxy(small).await;
    let (mut inbox, mut events) = (b.register("inbox").unwrap(), b.monitor_nodes());
    // A clean exchange first, to learn how long frames are.
    let (short, long) = (payload(20, 1), payload(100_000, 2));
    for body in [&short, &long] {
        within(a.send(("inbox", b.name()), body)).await.unwrap();
        assert!(receive::<Binary>(&mut inbox).await == *body);
    }
    let sent = |kind: Kind| kind.of(&proxy)[0].forwarded() - TO_CLIENT;
    let (batch_end, fragments_end) = (sent(Kind::Express), sent(Kind::Bulk));
    assert!(batch_end < TO_SERVER + 100, "{batch_end}");
    for at in (0..TO_SERVER).step_by(100).chain(TO_SERVER..batch_end) {
        cut_once(&a, &b, &proxy, &mut inbox, Kind::Express, at, &short).await;
    }
    let encoded = long.len() as u64 + 6;
    let fragments = encoded.div_ceil(FRAGMENT);
    let envelope = fragments_end - TO_SERVER - encoded - 32 * fragments;
    let ends = (0..=fragments)
        .map(|n| TO_SERVER + n * 32 + if n > 0 { envelope } else { 0 } + (n * FRAGMENT).min(encoded));
    for end in ends {
        for at in end - 1..=end + 1 {
            cut_once(&a, &b, &proxy, &mut inbox, Kind::Bulk, at, &long).await;
        }
        // And within the next header.
        cut_once(&a, &b, &proxy, &mut inbox, Kind::Bulk, end + 16, &long).await;
    }
    proxy.plan_none();
    at_rest([&a, &b]).await;
    assert_eq!(events_so_far(&mut events).await.len(), 1);
    assert!(proxy.struck() > 50, "{}", proxy.struck());
}

/// Sends a flood of small messages, with large, acknowledged and waiting ones of the same process among them.
async fn flood(mailbox: Mailbox, to: NodeName, sender: u64, each: u64) {
    let process = mailbox.process();
    for i in 0..each {
        let (to, message) = (("inbox", &to), |len: usize| (sender, i, payload(len, i)));
        match i % 211 {
            50 => process.send(to, &message(100_000)).await.unwrap(),
            100 => {
                let options = SendOptions::default().nosuspend();
                // What is refused for want of room is sent as the others are.
                if process.send_with(to, &message(10), options).await.is_err() {
                    process.send(to, &message(10)).await.unwrap();
                }
            }
            150 => drop(process.send_acknowledged(to, &message(10), SendOptions::default()).await.unwrap()),
            _ => process.send(to, &message((i % 40) as usize)).await.unwrap(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_small_messages_keep_the_order_of_each_pair_while_connections_are_severed() {
    const SENDERS: u64 = 4;
    const EACH: u64 = 10_000;
    let (a, b) = pair_with(hasty).await;
    let mut inbox = b.register("inbox").unwrap();
    let mut tasks = JoinSet::new();
    for sender in 0..SENDERS {
        tasks.spawn(flood(a.mailbox().unwrap(), b.name().clone(), sender, EACH));
    }
    let mut next = [0; SENDERS as usize];
    for received in 0..SENDERS * EACH {
        let (sender, i, body): (u64, u64, Binary) = receive(&mut inbox).await;
        assert_eq!(i, std::mem::replace(&mut next[sender as usize], i + 1), "of sender {sender}");
        assert!(body == payload(body.len(), i), "message {i} of sender {sender} is damaged");
        if received % 4000 == 2000 {
            a.sever(b.name(), Sever::Pool(received as usize / 4000));
        }
    }
    within(tasks.join_all()).await;
    assert!(inbox.try_recv().is_none());
    at_rest([&a, &b]).await;
    let transfer = peer_of(&a, b.name()).unwrap().transfer;
    assert!(transfer.connections_retired > 3 && transfer.messages_sent == SENDERS * EACH, "{transfer:?}");
}

#[tokio::test]
async fn nothing_is_dialled_for_a_session_that_has_ended() {
    const PAUSE: Duration = Duration::from_secs(2); // far longer than what comes until the session is ended
    let (a, b, proxy, _peers) =
        through_proxy(|config| config.backoff = teleport::Backoff { first: PAUSE, most: PAUSE }).await;
    proxy.plan(|opening| {
        let fault = if Kind::by(opening.first) == Kind::Control { Fault::Pass } else { Fault::Cut { at: 0 } };
        Faults { to_server: fault, ..Faults::default() }
    });
    within(a.send(("inbox", b.name()), &1)).await.unwrap();
    // It rests then, before it tries once more.
    eventually("a pool connection is lost", || proxy.struck() > 0).await;
    eventually("it is tried again", || peer_of(&a, b.name()).is_some_and(|peer| peer.control_connected))
        .await;
    assert!(a.disconnect(b.name()));
    let before = proxy.accepted();
    tokio::time::sleep(2 * PAUSE).await; // the rest is over by then
    assert_eq!(proxy.accepted(), before);
}
