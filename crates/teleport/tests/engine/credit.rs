//! Bounded memory: windows per mailbox, peer and node, and what happens to sends that do not fit.

use crate::common::faulty::Kind;
use crate::common::{
    MIB, event, eventually, pair_with, payload, peer_of, receive, start_apart, start_with, within,
};
use std::num::NonZeroU64;
use std::time::Duration;
use teleport::{Binary, Config, DeliveryError, Node, NodeEvent, SendError, SendOptions, StaticPeers};
use teleport_testkit::cluster::Rng;
use teleport_testkit::proxy::{Fault, Faults, Proxy};
use tokio::task::JoinSet;

const PEER_WINDOW: u64 = 4 << 20;
const MAILBOX_WINDOW: u64 = 2 << 20;
/// Three quarters of a window are for messages of this size.
const BULK_SHARE: u64 = MAILBOX_WINDOW / 4 * 3;
const LARGE: usize = 200_000;

fn small_windows(config: &mut Config) {
    config.peer_window = NonZeroU64::new(PEER_WINDOW).unwrap();
    config.mailbox_window = NonZeroU64::new(MAILBOX_WINDOW).unwrap();
}

/// Large messages for a mailbox until it takes no more; how many it took.
async fn fill(from: &Node, to: &Node, name: &str) -> usize {
    within(from.prime(to.name())).await.unwrap();
    let body = payload(LARGE, 1);
    for accepted in 0.. {
        let options = SendOptions::default().nosuspend();
        match from.process().send_with((name, to.name()), &body, options).await {
            Ok(()) => assert!(accepted < 1000, "the window never fills"),
            Err(SendError::Busy) => {
                // The peer's window may have been what was full; the mailbox's is, once everything is in it.
                let settled = || peer_of(from, to.name()).unwrap().transfer.unconfirmed == 0;
                if settled() {
                    return accepted;
                }
                eventually("all in the mailbox", settled).await;
                let again = from.process().send_with((name, to.name()), &body, options).await;
                assert!(matches!(again, Err(SendError::Busy)));
                return accepted;
            }
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!()
}

/// After all is said and done nothing is held or remembered.
async fn at_rest(nodes: [&Node; 2]) {
    for node in nodes {
        eventually("all gauges at 0", || {
            let info = node.info();
            let transfer = info.peers[0].transfer;
            let bytes = transfer.unconfirmed_bytes + transfer.undelivered_bytes + info.bytes_in_flight;
            (transfer.unconfirmed, bytes, transfer.waiting, transfer.entries) == (0, 0, 0, 0)
        })
        .await;
    }
}

#[tokio::test]
async fn a_flood_to_slow_mailboxes_stays_within_the_windows_and_arrives() {
    const EACH: usize = 40;
    let (a, b) = pair_with(small_windows).await;
    let mut slow: Vec<_> = (0..3).map(|i| b.register(&format!("slow{i}")).unwrap()).collect();
    let mut senders = JoinSet::new();
    for i in 0..6 {
        let (from, to, name) = (a.mailbox().unwrap(), b.name().clone(), format!("slow{}", i % 3));
        senders.spawn(async move {
            for message in 0..EACH {
                from.send((&*name, &to), &(message as u64, payload(LARGE, i))).await.unwrap();
            }
        });
    }
    let within_windows = || {
        let (at_a, at_b) = (a.info(), b.info());
        let (Some(sent), Some(received)) = (at_a.peers.first(), at_b.peers.first()) else { return };
        assert!(sent.transfer.unconfirmed_bytes <= PEER_WINDOW, "{sent:?}");
        assert!(received.transfer.undelivered_bytes <= PEER_WINDOW, "{received:?}");
        assert!(at_a.bytes_in_flight <= PEER_WINDOW, "{at_a:?}");
    };
    eventually("all senders wait", || {
        within_windows();
        let peer = peer_of(&a, b.name());
        peer.is_some_and(|peer| peer.transfer.waiting == 6 && peer.transfer.unconfirmed == 0)
    })
    .await;
    for mailbox in &slow {
        let waiting = (mailbox.len() * LARGE) as u64;
        assert!(waiting > 0 && waiting <= BULK_SHARE, "{waiting}");
    }
    for _ in 0..2 * EACH {
        for mailbox in &mut slow {
            let (_, body): (u64, Binary) = receive(mailbox).await;
            assert_eq!(body.len(), LARGE);
            within_windows();
        }
    }
    within(senders.join_all()).await;
    at_rest([&a, &b]).await;
}

#[tokio::test]
async fn nosuspend_answers_busy_and_leaves_no_trace() {
    let (a, b) = pair_with(small_windows).await;
    let mut slow = b.register("slow").unwrap();
    let accepted = fill(&a, &b, "slow").await;
    assert_eq!(accepted as u64, BULK_SHARE / (LARGE as u64 + 128 + 6));
    let before = peer_of(&a, b.name()).unwrap().transfer;
    for _ in 0..100 {
        let options = SendOptions::default().nosuspend();
        let error = a.process().send_with(("slow", b.name()), &payload(LARGE, 1), options).await.unwrap_err();
        assert!(matches!(error, SendError::Busy));
        crate::common::assert_says(&error, &["full", "try again later"]);
    }
    let after = peer_of(&a, b.name()).unwrap().transfer;
    assert_eq!(
        (after.waiting, after.entries, after.messages_sent),
        (0, before.entries, before.messages_sent)
    );
    for _ in 0..accepted {
        receive::<Binary>(&mut slow).await;
    }
    assert!(slow.try_recv().is_none());
    at_rest([&a, &b]).await;
}

#[tokio::test]
async fn a_send_waits_no_longer_than_it_is_told_to_and_leaves_no_trace() {
    let (a, b) = pair_with(small_windows).await;
    let mut slow = b.register("slow").unwrap();
    let accepted = fill(&a, &b, "slow").await;
    let before = peer_of(&a, b.name()).unwrap().transfer;
    let options = SendOptions::default().timeout(Duration::from_millis(20));
    for _ in 0..5 {
        let message = payload(LARGE, 1);
        let error = within(a.process().send_with(("slow", b.name()), &message, options)).await.unwrap_err();
        assert!(matches!(error, SendError::Timeout(time) if time == Duration::from_millis(20)), "{error:?}");
    }
    let after = peer_of(&a, b.name()).unwrap().transfer;
    assert_eq!(
        (after.waiting, after.entries, after.messages_sent),
        (0, before.entries, before.messages_sent)
    );
    // Where there is room in time it is accepted.
    let options = options.timeout(Duration::from_secs(3600));
    let (sender, to) = (a.process(), b.name().clone());
    let waiting =
        tokio::spawn(async move { sender.send_with(("slow", &to), &payload(LARGE, 1), options).await });
    for _ in 0..accepted + 1 {
        receive::<Binary>(&mut slow).await;
    }
    within(waiting).await.unwrap().unwrap();
    assert!(slow.try_recv().is_none());
    at_rest([&a, &b]).await;
}

#[tokio::test]
async fn small_messages_have_room_of_their_own_and_wait_only_behind_their_own_pair() {
    let (a, b) = pair_with(small_windows).await;
    let mut slow = b.register("slow").unwrap();
    let accepted = fill(&a, &b, "slow").await;
    // A large one waits, and behind it a small one of the same pair; others pass.
    let (first, other) = (a.mailbox().unwrap(), a.mailbox().unwrap());
    let (sender, to) = (first.process(), b.name().clone());
    let large = tokio::spawn(async move { sender.send(("slow", &to), &("large", payload(LARGE, 1))).await });
    let waits = async |count| {
        eventually("a send that waits", || peer_of(&a, b.name()).unwrap().transfer.waiting == count).await
    };
    waits(1).await;
    let (sender, to) = (first.process(), b.name().clone());
    let small = tokio::spawn(async move { sender.send(("slow", &to), &("small", Binary::default())).await });
    waits(2).await;
    within(other.send(("slow", b.name()), &("other", Binary::default()))).await.unwrap();
    let unordered = SendOptions::default().unordered();
    let passing = ("unordered", Binary::default());
    within(first.process().send_with(("slow", b.name()), &passing, unordered)).await.unwrap();
    assert!(!large.is_finished() && !small.is_finished());
    // What is taken makes room, and the large one goes by another connection.
    eventually("both have passed", || slow.len() == accepted + 2).await;
    for _ in 0..accepted {
        receive::<Binary>(&mut slow).await;
    }
    let mut order = Vec::new();
    for _ in 0..4 {
        order.push(receive::<(String, Binary)>(&mut slow).await.0);
    }
    // Two pairs' small messages: each of its own sender, in no order between them.
    order[..2].sort();
    assert_eq!(order, ["other", "unordered", "large", "small"]);
    within(large).await.unwrap().unwrap();
    within(small).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_dropped_send_that_waits_leaves_no_trace() {
    let (a, b) = pair_with(small_windows).await;
    let mut slow = b.register("slow").unwrap();
    let accepted = fill(&a, &b, "slow").await;
    let entries = || peer_of(&a, b.name()).unwrap().transfer.entries;
    let before = entries();
    let (plain, acknowledged) = (a.process(), a.process());
    for _ in 0..20 {
        let body = payload(LARGE, 2);
        let plain = plain.send(("slow", b.name()), &body);
        let acknowledged = acknowledged.send_acknowledged(("slow", b.name()), &body, SendOptions::default());
        tokio::select! {
            biased;
            result = plain => panic!("{result:?}"),
            result = acknowledged => panic!("{result:?}"),
            () = eventually("two waiting", || peer_of(&a, b.name()).unwrap().transfer.waiting == 2) => {}
        }
        let transfer = peer_of(&a, b.name()).unwrap().transfer;
        assert_eq!((transfer.waiting, entries()), (0, before));
    }
    for _ in 0..accepted {
        assert_eq!(receive::<Binary>(&mut slow).await, payload(LARGE, 1));
    }
    within(a.send(("slow", b.name()), &"last")).await.unwrap();
    assert_eq!(receive::<String>(&mut slow).await, "last");
    at_rest([&a, &b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_send_dropped_at_any_time_was_accepted_or_never_was() {
    let (a, b) = pair_with(small_windows).await;
    let mut slow = b.register("slow").unwrap();
    let mut rng = Rng::new(11);
    let (mut sends, mut tasks) = (Vec::new(), Vec::new());
    for i in 0..300u64 {
        let (from, to) = (a.clone(), b.name().clone());
        sends.push(tokio::spawn(async move { from.send(("slow", &to), &(i, payload(90_000, i))).await }));
        if rng.chance(500) {
            let victim = rng.below(sends.len() as u64) as usize;
            tasks.push(sends[victim].abort_handle());
        }
        if rng.chance(300) {
            tasks.drain(..).for_each(|task| task.abort());
            tokio::task::yield_now().await;
        }
    }
    tasks.drain(..).for_each(|task| task.abort());
    let mut seen = vec![false; sends.len()];
    let ended = async { futures_all(&mut sends).await };
    tokio::pin!(ended);
    let mut results = None;
    // In this order: what is confirmed is in the mailbox.
    while results.is_none()
        || peer_of(&a, b.name()).is_some_and(|peer| peer.transfer.unconfirmed > 0)
        || !slow.is_empty()
    {
        tokio::select! {
            all = &mut ended, if results.is_none() => results = Some(all),
            message = slow.recv() => {
                let (i, body): (u64, Binary) = message.unwrap().decode().unwrap();
                assert_eq!(body, payload(90_000, i));
                assert!(!std::mem::replace(&mut seen[i as usize], true), "{i} came twice");
            }
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
    }
    for (i, accepted) in results.unwrap().into_iter().enumerate() {
        assert!(seen[i] || !accepted, "{i} was accepted and is lost");
    }
    at_rest([&a, &b]).await;
}

/// Whether each send returned that it was accepted.
async fn futures_all(sends: &mut [tokio::task::JoinHandle<Result<(), SendError>>]) -> Vec<bool> {
    let mut accepted = Vec::new();
    for send in sends {
        accepted.push(matches!(within(send).await, Ok(Ok(()))));
    }
    accepted
}

#[tokio::test]
async fn a_dropped_mailbox_gives_its_credit_back_and_frees_those_who_wait() {
    let (a, b) = pair_with(small_windows).await;
    for _ in 0..3 {
        let slow = b.register("slow").unwrap();
        fill(&a, &b, "slow").await;
        let mut waiting = JoinSet::new();
        for _ in 0..20 {
            let (from, to) = (a.clone(), b.name().clone());
            waiting.spawn(async move { from.send(("slow", &to), &payload(LARGE, 2)).await });
        }
        eventually("all wait", || peer_of(&a, b.name()).unwrap().transfer.waiting == 20).await;
        drop(slow);
        within(waiting.join_all()).await.into_iter().for_each(|result| result.unwrap());
        at_rest([&a, &b]).await;
    }
}

#[tokio::test]
async fn sends_within_a_node_are_bounded_too() {
    let (a, _b) = pair_with(small_windows).await;
    let mut slow = a.register("slow").unwrap();
    let body = payload(LARGE, 1);
    let options = SendOptions::default().nosuspend();
    let mut accepted = 0;
    while a.process().send_with("slow", &body, options).await.is_ok() {
        accepted += 1;
        assert!(accepted as u64 * (LARGE as u64) <= MAILBOX_WINDOW);
    }
    assert_eq!(slow.len(), accepted);
    let sender = a.clone();
    let waiting = tokio::spawn(async move { sender.send("slow", &"last").await });
    for _ in 0..accepted {
        assert_eq!(receive::<Binary>(&mut slow).await, body);
    }
    assert_eq!(receive::<String>(&mut slow).await, "last");
    within(waiting).await.unwrap().unwrap();
    // One that is larger than the window enters an empty mailbox.
    let huge = payload(2 * MAILBOX_WINDOW as usize, 2);
    a.send("slow", &huge).await.unwrap();
    let sender = a.clone();
    let waiting = tokio::spawn(async move { sender.send("slow", &"behind").await });
    assert_eq!(receive::<Binary>(&mut slow).await, huge);
    assert_eq!(receive::<String>(&mut slow).await, "behind");
    within(waiting).await.unwrap().unwrap();
    // Its end frees those who wait.
    a.send("slow", &huge).await.unwrap();
    let sender = a.clone();
    let waiting = tokio::spawn(async move { sender.send("slow", &"too late").await });
    tokio::task::yield_now().await;
    drop(slow);
    within(waiting).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_message_larger_than_every_window_goes_alone() {
    let (a, b) = pair_with(|config| {
        small_windows(config);
        config.node_window = NonZeroU64::new(1 << 20).unwrap();
    })
    .await;
    let mut inbox = b.register("inbox").unwrap();
    for i in 0..3 {
        let (from, to) = (a.clone(), b.name().clone());
        let send =
            tokio::spawn(
                async move { from.send(("inbox", &to), &payload(3 * PEER_WINDOW as usize, i)).await },
            );
        assert_eq!(receive::<Binary>(&mut inbox).await, payload(3 * PEER_WINDOW as usize, i));
        within(send).await.unwrap().unwrap();
    }
    at_rest([&a, &b]).await;
}

#[tokio::test]
async fn peers_that_stand_still_keep_nothing_from_another() {
    const CAP: u64 = 2 << 20;
    let small = |config: &mut Config| {
        small_windows(config);
        config.node_window = NonZeroU64::new(CAP).unwrap();
        config.bulk_connections = 1;
    };
    let peers = StaticPeers::new();
    let a = start_with("a@127.0.0.1", &peers, small).await;
    let healthy = start_with("healthy@127.0.0.1", &peers, small).await;
    let (body, options) = (payload(LARGE, 1), SendOptions::default().nosuspend());
    let (mut still, mut proxies) = (Vec::new(), Vec::new());
    for i in 0..4 {
        let node = start_apart(&format!("still{i}@127.0.0.1"), &StaticPeers::new(), small).await;
        let proxy = Proxy::start(node.address()).await.unwrap();
        proxy.plan(|opening| {
            let at = if Kind::by(opening.first) == Kind::Control { u64::MAX } else { 10_000 };
            Faults { to_server: Fault::Stall { at }, ..Faults::default() }
        });
        peers.insert(node.name().clone(), proxy.address());
        within(a.prime(node.name())).await.unwrap();
        let inbox = node.register("inbox").unwrap(); // before: some of it passes
        let mut accepted = [0; 2];
        for (count, body) in accepted.iter_mut().zip([&payload(1000, 1), &body]) {
            while a.process().send_with(("inbox", node.name()), body, options).await.is_ok() {
                *count += 1;
            }
        }
        still.push((node, inbox, accepted));
        proxies.push(proxy);
    }
    // Each peer has a share on top: an eighth of its window.
    let most = CAP + 5 * PEER_WINDOW / 8;
    assert!(a.info().bytes_in_flight <= most, "{}", a.info().bytes_in_flight);
    let mut inbox = healthy.register("inbox").unwrap();
    let sender = a.clone();
    let to = healthy.name().clone();
    let sending = tokio::spawn(async move {
        for i in 0..30 {
            sender.send(("inbox", &to), &(i, payload(LARGE, i))).await.unwrap();
            for j in 0..50 {
                sender.send(("inbox", &to), &(i, payload(1000, j))).await.unwrap();
            }
        }
    });
    for i in 0..30u64 {
        assert_eq!(receive::<(u64, Binary)>(&mut inbox).await, (i, payload(LARGE, i)));
        for j in 0..50 {
            assert_eq!(receive::<(u64, Binary)>(&mut inbox).await, (i, payload(1000, j)));
            assert!(a.info().bytes_in_flight <= most);
        }
    }
    within(sending).await.unwrap();
    for (node, ..) in &still {
        assert!(peer_of(&a, node.name()).unwrap().transfer.unconfirmed > 0, "{} moves", node.name());
    }
    for proxy in &proxies {
        proxy.plan_none();
        proxy.connections().iter().for_each(|connection| connection.release());
    }
    for (node, inbox, [few, many]) in &mut still {
        assert!(*few > 50 && *many > 0, "{}: {few} small, {many} large", node.name());
        for _ in 0..*few + *many {
            within(inbox.recv()).await.unwrap();
        }
    }
    eventually("nothing in flight", || a.info().bytes_in_flight == 0).await;
}

#[tokio::test]
async fn a_peer_that_comes_back_finds_what_it_left_in_a_mailbox() {
    const ROUNDS: u64 = 20;
    let (a, b) = pair_with(small_windows).await;
    let mut slow = b.register("slow").unwrap();
    let mut events = a.monitor_nodes();
    let options = SendOptions::default().nosuspend();
    let (mut accepted, mut reported) = (Vec::new(), 0);
    for round in 0..ROUNDS {
        within(a.prime(b.name())).await.unwrap();
        assert!(matches!(event(&mut events).await, NodeEvent::Up { .. }));
        // As much as there is credit for, which is a window for each session.
        loop {
            let number = accepted.len() as u64;
            let body = (number, payload([100, LARGE][number as usize % 2], number));
            if a.process().send_with(("slow", b.name()), &body, options).await.is_err() {
                break;
            }
            accepted.push(round);
        }
        let held = || {
            let transfer = peer_of(&b, a.name()).unwrap().transfer;
            transfer.messages_received == accepted.iter().filter(|&&r| r == round).count() as u64
        };
        eventually("everything has come", held).await;
        let transfer = peer_of(&b, a.name()).unwrap().transfer;
        assert_eq!(transfer.undelivered_bytes > 0, round > 0, "round {round}: {transfer:?}");
        if round < ROUNDS - 1 {
            a.disconnect(b.name());
            let NodeEvent::Down { unconfirmed, .. } = event(&mut events).await else { panic!("it is up") };
            reported += unconfirmed;
            eventually("the session has ended there", || b.info().peers.is_empty()).await;
            // Of the large ones those are left that there is room for.
            let most = BULK_SHARE / (LARGE as u64) + 1 + 8 * (round + 1);
            eventually("the rest goes with its session", || slow.len() as u64 <= most).await;
        }
    }
    // Each number comes at most once, and in order; of the last session's all do.
    let mut received = Vec::new();
    while !slow.is_empty() {
        let (number, body): (u64, Binary) = receive(&mut slow).await;
        assert!(received.last() < Some(&number), "{number} behind {:?}", received.last());
        assert_eq!(body, payload([100, LARGE][number as usize % 2], number));
        received.push(number);
    }
    let latest = accepted.iter().filter(|&&round| round == ROUNDS - 1).count();
    assert_eq!(received[received.len() - latest], (accepted.len() - latest) as u64);
    assert!(received.len() as u64 + reported >= accepted.len() as u64, "{reported} of {}", accepted.len());
    at_rest([&a, &b]).await;
}

/// A large message for which there is no room goes with its session, and so do small ones of the same pair that came after it:
/// they do not count as delivered before it does, whatever room there is for them.
#[tokio::test]
async fn what_a_session_leaves_in_a_mailbox_has_no_holes() {
    let peers = StaticPeers::new();
    let b = start_with("b@127.0.0.1", &peers, small_windows).await;
    let mut slow = b.register("slow").unwrap();
    let (mut others, mut filled) = (Vec::new(), 0);
    for i in 0..3 {
        let other = start_with(&format!("other{i}@127.0.0.1"), &peers, small_windows).await;
        within(other.prime(b.name())).await.unwrap();
        let (large, options) = (payload(LARGE, 1), SendOptions::default().nosuspend());
        while other.process().send_with(("slow", b.name()), &large, options).await.is_ok() {
            filled += 1;
        }
        others.push(other);
    }
    eventually("the mailbox is full of large ones", || slow.len() == filled).await;

    let a = start_with("a@127.0.0.1", &peers, small_windows).await;
    let (sender, mut events) = (a.process(), b.monitor_nodes());
    let to = ("slow", b.name());
    sender.send(to, &payload(MIB, 7)).await.unwrap();
    let undelivered = || peer_of(&b, a.name()).map_or(0, |peer| peer.transfer.undelivered_bytes);
    eventually("it is there without room", || slow.len() == filled + 1 && undelivered() > MIB as u64).await;
    let behind = sender.send_acknowledged(to, &"behind", SendOptions::default()).await.unwrap();
    eventually("both have come", || slow.len() == filled + 2).await;
    a.disconnect(b.name());
    assert!(matches!(within(behind).await, Err(DeliveryError::Unconfirmed { .. })));
    while !matches!(event(&mut events).await, NodeEvent::Down { .. }) {}
    for _ in 0..filled {
        assert_eq!(receive::<Binary>(&mut slow).await, payload(LARGE, 1));
    }
    assert!(slow.is_empty(), "what came behind a message that is gone");
}

#[tokio::test]
async fn a_mailbox_without_room_for_more_peers_takes_their_messages_as_it_is_read() {
    const PEERS: usize = 6;
    let peers = StaticPeers::new();
    let b = start_with("b@127.0.0.1", &peers, small_windows).await;
    let mut slow = b.register("slow").unwrap();
    let mut senders = Vec::new();
    let (mut accepted, mut room) = ([0u64; PEERS], 0);
    for (i, accepted) in accepted.iter_mut().enumerate() {
        let a = start_with(&format!("a{i}@127.0.0.1"), &peers, small_windows).await;
        let options = SendOptions::default().nosuspend();
        within(a.prime(b.name())).await.unwrap();
        loop {
            let body = (i as u64, *accepted, payload(3000, i as u64));
            if a.process().send_with(("slow", b.name()), &body, options).await.is_err() {
                break;
            }
            *accepted += 1;
        }
        let came = || peer_of(&b, a.name()).unwrap().transfer.messages_received == *accepted;
        eventually("everything has come", came).await;
        let transfer = peer_of(&b, a.name()).unwrap().transfer;
        room += *accepted * 3000 - transfer.undelivered_bytes.min(*accepted * 3000);
        senders.push(a);
    }
    // A quarter for small messages, of four windows.
    assert!(room <= MAILBOX_WINDOW, "{room}");
    assert_eq!(slow.len() as u64, accepted.iter().sum::<u64>());
    // The sender is told that it is delivered when there is room.
    let (last, to) = (senders[PEERS - 1].process(), b.name().clone());
    let waits = tokio::spawn(async move {
        let end = (PEERS as u64, 0u64, payload(1, 1));
        last.send_acknowledged(("slow", &to), &end, SendOptions::default()).await.unwrap().await
    });
    let mut next = [0u64; PEERS];
    for _ in 0..accepted.iter().sum() {
        let (peer, number, body): (u64, u64, Binary) = receive(&mut slow).await;
        assert_eq!((number, body), (next[peer as usize], payload(3000, peer)));
        next[peer as usize] += 1;
    }
    assert_eq!(next, accepted);
    within(waits).await.unwrap().unwrap();
    receive::<(u64, u64, Binary)>(&mut slow).await;
    for a in &senders {
        eventually("everything is confirmed", || a.info().bytes_in_flight == 0).await;
    }
    // Mailboxes that are dropped, or lose their bounds, let go of what they had no room for.
    for unbounded in [false, true] {
        let full = b.register("full").unwrap();
        for a in &senders {
            let options = SendOptions::default().nosuspend();
            while a.process().send_with(("full", b.name()), &payload(3000, 1), options).await.is_ok() {}
        }
        let beyond = || b.info().peers.iter().map(|peer| peer.transfer.undelivered_bytes).sum::<u64>();
        eventually("some are placed", || beyond() > MAILBOX_WINDOW / 4).await;
        let kept = unbounded.then(|| full.unbounded()); // or it is dropped
        eventually("none are", || beyond() == 0).await;
        drop(kept);
        for a in &senders {
            eventually("nothing is left", || peer_of(a, b.name()).unwrap().transfer.entries == 0).await;
        }
    }
}

#[tokio::test]
async fn many_small_messages_to_a_slow_mailbox_are_bounded_by_what_they_cost() {
    let (a, b) = pair_with(small_windows).await;
    let mut slow = b.register("slow").unwrap();
    within(a.prime(b.name())).await.unwrap();
    let options = SendOptions::default().nosuspend();
    let mut accepted = 0u64;
    while a.process().send_with(("slow", b.name()), &accepted, options).await.is_ok() {
        accepted += 1;
        assert!(accepted * 128 <= MAILBOX_WINDOW / 4, "messages without bytes cost something too");
    }
    for i in 0..accepted {
        assert_eq!(receive::<u64>(&mut slow).await, i);
    }
    at_rest([&a, &b]).await;
}

#[tokio::test]
async fn a_mailbox_without_bounds_makes_nobody_wait() {
    let (a, b) = pair_with(|config| config.mailbox_window = (MIB as u64).try_into().unwrap()).await;
    let mut sink = b.register("sink").unwrap().unbounded();
    let sender = a.mailbox().unwrap();
    for round in 0..10 {
        for size in [10, 60_000, MIB] {
            within(sender.send(("sink", b.name()), &payload(size, round))).await.unwrap();
            within(b.send("sink", &payload(size, round))).await.unwrap();
        }
    }
    eventually("everything is there", || sink.len() == 60).await;
    for _ in 0..60 {
        within(sink.recv()).await.unwrap();
    }
    drop(sink);
    eventually("no credit is out", || a.info().peers[0].transfer.entries == 0).await;
}

#[tokio::test]
async fn waiting_for_room_ends_when_the_bounds_go() {
    let (a, b) = pair_with(|config| config.mailbox_window = (MIB as u64).try_into().unwrap()).await;
    let sink = b.register("sink").unwrap();
    b.send("sink", &payload(MIB, 1)).await.unwrap();
    let here = tokio::spawn({
        let b = b.clone();
        async move { b.send("sink", &payload(MIB, 2)).await }
    });
    a.send(("sink", b.name()), &payload(MIB, 3)).await.unwrap();
    let there = tokio::spawn({
        let (a, b) = (a.clone(), b.name().clone());
        async move { a.send(("sink", &b), &payload(MIB, 4)).await }
    });
    eventually("one waits over there", || a.info().peers[0].transfer.waiting == 1).await;
    let mut sink = sink.unbounded();
    within(here).await.unwrap().unwrap();
    // What came before keeps its room until it is read.
    for _ in 0..4 {
        within(sink.recv()).await.unwrap();
    }
    within(there).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_mailbox_that_is_dropped_half_read_returns_all_of_its_credit() {
    let (a, b) = pair_with(small_windows).await;
    let (mut first, second) = (b.register("first").unwrap(), b.register("second").unwrap());
    for i in 0..2000u64 {
        a.send((["first", "second"][i as usize % 2], b.name()), &(i, payload(100, 1))).await.unwrap();
    }
    eventually("all are there", || first.len() + second.len() == 2000).await;
    for i in 0..300u64 {
        let (number, _): (u64, Binary) = receive(&mut first).await;
        assert_eq!((number, first.len() as u64), (2 * i, 999 - i));
    }
    drop((first, second));
    at_rest([&a, &b]).await;
}
