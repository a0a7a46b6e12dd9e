//! Peers that cannot be reached for a while: losing connections is no nodedown.

use crate::common::{
    assert_none_ended, eventually, name, next_end, payload, peer_of, receive, start_apart, within,
};
use std::time::Duration;
use teleport::{Backoff, Binary, Config, EndReason, Node, NodeEvent, StaticPeers};
use teleport_testkit::proxy::{Connection, Proxy};

/// How long nothing listens. An attempt is made every 20 ms at least.
const AWAY: Duration = Duration::from_millis(300);

fn hasty(config: &mut Config) {
    config.backoff = Backoff { first: Duration::from_millis(2), most: Duration::from_millis(20) };
}

/// `a` and `b`, each of which knows the other by a proxy only.
async fn behind_proxies(change: impl Fn(&mut Config)) -> (Node, Node, [Proxy; 2]) {
    let (known_to_a, known_to_b) = (StaticPeers::new(), StaticPeers::new());
    let a = start_apart("a@127.0.0.1", &known_to_a, &change).await;
    let b = start_apart("b@127.0.0.1", &known_to_b, &change).await;
    let (to_a, to_b) = (Proxy::start(a.address()).await.unwrap(), Proxy::start(b.address()).await.unwrap());
    known_to_a.insert(name("b@127.0.0.1"), to_b.address());
    known_to_b.insert(name("a@127.0.0.1"), to_a.address());
    (a, b, [to_a, to_b])
}

/// Nothing listens any more, on either side, and these connections are reset.
async fn lose(doors: &[Proxy; 2], lost: impl Fn(&[Connection]) -> Vec<Connection>) {
    for door in doors {
        door.shut().await;
        lost(&door.connections()).iter().for_each(Connection::reset);
    }
}

#[tokio::test]
async fn while_nothing_listens_the_session_and_what_was_sent_stay() {
    let (a, b, doors) = behind_proxies(hasty).await;
    let (mut at_a, mut at_b) = (a.register("inbox").unwrap(), b.register("inbox").unwrap());
    within(a.prime(b.name())).await.unwrap();
    // Both sides have credit then, which only the control connection brings.
    for i in 0..2 {
        let body = payload(at(i), i);
        within(a.send(("inbox", b.name()), &body)).await.unwrap();
        within(b.send(("inbox", a.name()), &body)).await.unwrap();
        assert!(receive::<Binary>(&mut at_a).await == body && receive::<Binary>(&mut at_b).await == body);
    }
    let (mut events_a, mut events_b) = (a.monitor_nodes(), b.monitor_nodes());
    // The control connection alone, which is the first; and all of them.
    for control_alone in [true, false] {
        lose(&doors, |all| all.iter().take(if control_alone { 1 } else { all.len() }).cloned().collect())
            .await;
        for i in 0..10 {
            let body = payload(at(i), i);
            within(a.send(("inbox", b.name()), &body)).await.unwrap();
            within(b.send(("inbox", a.name()), &body)).await.unwrap();
        }
        if control_alone {
            for i in 0..10 {
                assert!(receive::<Binary>(&mut at_a).await == payload(at(i), i), "over the pool that lives");
                assert!(receive::<Binary>(&mut at_b).await == payload(at(i), i), "over the pool that lives");
            }
        }
        tokio::time::sleep(AWAY).await; // the fault's length
        for door in &doors {
            door.open().await;
        }
        if !control_alone {
            for i in 0..10 {
                assert!(receive::<Binary>(&mut at_a).await == payload(at(i), i));
                assert!(receive::<Binary>(&mut at_b).await == payload(at(i), i));
            }
        }
        eventually("control again, and all confirmed", || {
            [(&a, &b), (&b, &a)].into_iter().all(|(node, peer)| {
                peer_of(node, peer.name())
                    .is_some_and(|peer| peer.control_connected && peer.transfer.unconfirmed == 0)
            })
        })
        .await;
        assert_none_ended(&mut events_a).await;
        assert_none_ended(&mut events_b).await;
    }
}

fn at(i: u64) -> usize {
    if i.is_multiple_of(2) { 10 } else { 100_000 }
}

#[tokio::test]
async fn a_peer_that_nothing_is_seen_of_for_a_tick_interval_is_gone_on_both_sides() {
    let short = |config: &mut Config| {
        hasty(config);
        config.net_ticktime = Duration::from_secs(20);
        config.tick_interval = Some(Duration::from_millis(500));
    };
    let (a, b, doors) = behind_proxies(short).await;
    within(a.prime(b.name())).await.unwrap();
    let (mut events_a, mut events_b) = (a.monitor_nodes(), b.monitor_nodes());
    lose(&doors, <[Connection]>::to_vec).await;
    for events in [&mut events_a, &mut events_b] {
        let down = next_end(events).await;
        assert!(matches!(down, NodeEvent::Down { reason: EndReason::Gone, .. }), "{down:?}");
    }
}
