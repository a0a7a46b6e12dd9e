//! `Node::check` names the step at which the way to a peer ends.

use crate::common::faulty::{Kind, through_proxy};
use crate::common::{
    assert_says, event, eventually, eventually_async, name, nobodys_address, pair, peer_of, start, within,
};
use std::io::ErrorKind;
use std::time::Duration;
use teleport::ConnectionKind::{Bulk, Control, Express};
use teleport::{
    ConnectError, ConnectionKind, HandshakeError, Incarnation, Node, NodeEvent, PeerCheck, StaticPeers,
};

async fn check(node: &Node, peer: &str) -> PeerCheck {
    within(node.check(&name(peer))).await
}

#[tokio::test]
async fn a_peer_that_the_resolver_does_not_know() {
    let node = start("a@127.0.0.1", &StaticPeers::new()).await;
    let check = check(&node, "b@127.0.0.1").await;
    assert!(check.addresses.is_empty());
    let error = check.session.unwrap_err();
    assert!(matches!(error, ConnectError::UnknownNode(_)), "{error:?}");
}

#[tokio::test]
async fn a_port_at_which_nobody_listens() {
    let (_socket, address) = nobodys_address();
    let peers: StaticPeers = [(name("b@127.0.0.1"), address)].into_iter().collect();
    let node = start("a@127.0.0.1", &peers).await;
    let check = check(&node, "b@127.0.0.1").await;
    assert_eq!(check.addresses[0].address, address);
    assert_eq!(check.addresses[0].connected.as_ref().unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_says(&check.session.unwrap_err(), &["b@127.0.0.1", &address.to_string(), "is the node running"]);
}

#[tokio::test]
async fn another_cookie_until_the_peers_own_is_set() {
    let peers = StaticPeers::new();
    let a = start("a@127.0.0.1", &peers).await;
    let theirs = "BnR6wZq0uJ1mKe84TyXh";
    let b = Node::builder("b@127.0.0.1").cookie(theirs).resolver(peers.clone()).start().await.unwrap();
    peers.insert(b.name().clone(), b.address());
    let before = check(&a, "b@127.0.0.1").await;
    assert!(before.addresses[0].connected.is_ok(), "the way there is open");
    let error = before.session.unwrap_err();
    assert!(
        matches!(&error, ConnectError::Handshake { cause: HandshakeError::Cookie { .. }, .. }),
        "{error:?}"
    );
    // The cookie of one peer, on the side that dials; and then on the one that accepts.
    a.set_peer_cookie(b.name(), Some(theirs.as_bytes())).unwrap();
    assert!(check(&a, "b@127.0.0.1").await.session.is_ok());
    let c =
        Node::builder("c@127.0.0.1").cookie("Zf2sWc9LpD4vNg7QeUaM").resolver(peers).start().await.unwrap();
    assert!(check(&c, "b@127.0.0.1").await.session.is_err());
    b.set_peer_cookie(c.name(), Some(b"Zf2sWc9LpD4vNg7QeUaM")).unwrap();
    assert!(check(&c, "b@127.0.0.1").await.session.is_ok());
    assert!(a.set_peer_cookie(c.name(), Some(b"")).is_err(), "an empty one is none");
}

#[tokio::test]
async fn a_way_that_is_open_has_a_session_and_a_pool_at_its_end() {
    let (a, b) = pair().await;
    let first = check(&a, b.name().as_str()).await;
    assert!(!first.was_up);
    assert!(first.addresses[0].connected.is_ok());
    let info = first.session.unwrap();
    assert_eq!((&info.name, info.incarnation), (b.name(), b.incarnation()));
    assert!(info.transfer.express_connections > 0 && info.transfer.bulk_connections > 0, "{info:?}");
    // Either side asks, and is answered over each.
    for (node, peer) in [(&a, &b), (&b, &a), (&a, &b)] {
        let again = check(node, peer.name().as_str()).await;
        assert!(again.was_up && again.is_well(), "{again:?}");
        let kinds = |kind| again.connections.iter().filter(|check| check.kind == kind).count();
        let stats = again.session.unwrap().transfer;
        let all = [1, stats.express_connections, stats.bulk_connections];
        assert_eq!([Control, Express, Bulk].map(kinds), all);
    }
    // That it looked does not disturb the session.
    eventually("both sides agree", || peer_of(&b, a.name()).is_some_and(|peer| peer.control_connected)).await;
}

#[tokio::test]
async fn a_peer_that_has_a_session_but_no_address_any_more() {
    let peers = StaticPeers::new();
    let (a, b) = (start("a@127.0.0.1", &peers).await, start("b@127.0.0.1", &peers).await);
    within(a.prime(b.name())).await.unwrap();
    peers.remove(b.name());
    let check = check(&a, b.name().as_str()).await;
    assert!(check.was_up && check.addresses.is_empty() && check.session.is_ok());
}

/// A firewall that drops what goes to the port, say: nothing is closed, the session stands, and nothing gets through.
#[tokio::test]
async fn a_session_through_which_nothing_passes_any_more() {
    let (a, b, proxy, _peers) = through_proxy(|config| {
        config.setup_timeout = Duration::from_millis(500);
        config.stall_timeout = Duration::from_secs(600); // nothing takes the place of what stands still
    })
    .await;
    eventually_async("the whole pool", async || within(a.prime(b.name())).await.is_ok()).await;
    eventually_async("it is well", async || check(&a, b.name().as_str()).await.is_well()).await;
    // Of each kind alone, and then all.
    for (kind, unanswered) in [(Kind::Bulk, Bulk), (Kind::Express, Express), (Kind::Control, Control)] {
        kind.of(&proxy).iter().for_each(|connection| connection.stall());
        let others: &[ConnectionKind] = if unanswered == Bulk { &[Control, Express] } else { &[] };
        // Half a second may be too short for those that answer; never for those that do not.
        eventually_async("the others answer", async || {
            let check = check(&a, b.name().as_str()).await;
            assert!(!check.is_well(), "{check:?}");
            let answered = |kind: ConnectionKind| {
                check.connections.iter().filter(|one| one.kind == kind && one.answered.is_some()).count()
            };
            assert_eq!(answered(unanswered), 0, "{check:?}");
            others.iter().all(|&kind| answered(kind) == 1)
        })
        .await;
    }
    let heard = check(&a, b.name().as_str()).await.session.unwrap().last_heard;
    assert!(heard >= Duration::from_millis(500), "{heard:?}: for as long as it waited for an answer");
}

/// The life that ended is not always the one that there is a session with.
#[tokio::test]
async fn a_session_ends_only_with_the_life_that_it_is_with() {
    use crate::embed::pair;
    let (a, b) = pair().await;
    let mut events = a.node.monitor_nodes();
    let (told, primed) = tokio::sync::oneshot::channel();
    a.node.prime(b.name().clone(), |result| told.send(result).unwrap()).unwrap();
    within(primed).await.unwrap().unwrap();
    assert!(matches!(event(&mut events).await, NodeEvent::Up { .. }));
    let life = b.incarnation();
    let earlier = Incarnation::new(life.as_u32() ^ 4).unwrap();
    assert!(!a.node.disconnect_if(b.name(), |ended| ended == earlier));
    assert!(matches!(&a.node.peers()[..], [origin] if origin.peer() == b.name()));
    assert!(a.node.peer(b.name()).is_some_and(|peer| peer.incarnation == life));
    assert!(a.node.peer(a.node.name()).is_none());
    assert!(a.node.disconnect_if(b.name(), |ended| ended == life));
    assert!(matches!(event(&mut events).await, NodeEvent::Down { .. }));
}
