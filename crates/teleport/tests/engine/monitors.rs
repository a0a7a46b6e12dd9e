//! Monitors: DOWN comes once, with the reason, behind what the process sent before.

use crate::common::{COOKIE, MIB, eventually, name, pair, payload, peer_of, receive, start_with, within};
use teleport::{Address, Binary, Down, Mailbox, Node, Sever, StaticPeers, Term};

async fn next_down(mailbox: &mut Mailbox) -> Down {
    within(mailbox.recv()).await.unwrap().down().expect("a DOWN")
}

fn atom(name: &'static str) -> Term {
    Term::atom(name)
}

#[tokio::test]
async fn down_tells_how_a_process_ended() {
    let (a, b) = pair().await;
    let mut watcher = a.mailbox().unwrap();
    for node in [&a, &b] {
        let server = node.register("server").unwrap();
        let by_pid = watcher.monitor(server.pid()).await.unwrap();
        let by_name = watcher.monitor(("server", node.name())).await.unwrap();
        // Behind both monitors, so that they are there.
        let told =
            watcher.process().send_acknowledged(server.pid(), "hello", Default::default()).await.unwrap();
        within(told).await.unwrap();
        let told =
            watcher.process().send_acknowledged(("server", node.name()), "hello", Default::default()).await;
        within(told.unwrap()).await.unwrap();
        let pid = server.pid();
        server.exit(atom("tired"));
        let mut downs = [next_down(&mut watcher).await, next_down(&mut watcher).await];
        if downs[0].reference != by_pid {
            downs.reverse();
        }
        assert_eq!(downs[0], Down { reference: by_pid, object: pid.into(), reason: atom("tired") });
        let name = Term::tuple([atom("server"), downs[1].object.as_tuple().unwrap()[1].clone()]);
        assert_eq!(downs[1], Down { reference: by_name, object: name, reason: atom("tired") });
        assert_eq!(downs[1].object.as_tuple().unwrap()[1].as_atom().unwrap().as_str(), node.name().as_str());
    }
    assert!(watcher.is_empty());
}

#[tokio::test]
async fn what_is_not_there_is_down_at_once() {
    let (a, b) = pair().await;
    let mut watcher = a.mailbox().unwrap();
    let gone = b.mailbox().unwrap().pid();
    let nobody: [(Address, &str); 4] = [
        ("nobody".into(), "noproc"),
        (("nobody", b.name()).into(), "noproc"),
        (gone.into(), "noproc"),
        (("nobody", name("nobody@nowhere")).into(), "noconnection"),
    ];
    for (to, reason) in nobody {
        let monitor = watcher.monitor(&to).await.unwrap();
        let down = next_down(&mut watcher).await;
        assert_eq!((down.reference, down.reason.as_atom().unwrap().as_str()), (monitor, reason), "{to}");
    }
}

#[tokio::test]
async fn down_keeps_its_place_behind_what_the_process_sent() {
    let (a, b) = pair().await;
    b.prime(a.name()).await.unwrap();
    for round in 0..20 {
        let mut watcher = a.mailbox().unwrap();
        let server = b.mailbox().unwrap();
        let monitor = watcher.monitor(server.pid()).await.unwrap();
        eventually("the monitor is there", || b.info().peers[0].watched == 1).await;
        // The large one takes the longer way, and its connection may die meanwhile.
        server.send(watcher.pid(), &payload(2 * MIB, round)).await.unwrap();
        server.send(watcher.pid(), &payload(10, round)).await.unwrap();
        b.sever(a.name(), Sever::Pool(round as usize));
        drop(server);
        for size in [2 * MIB, 10] {
            let message = within(watcher.recv()).await.unwrap();
            assert_eq!(message.decode::<Binary>().unwrap(), payload(size, round));
        }
        assert_eq!(next_down(&mut watcher).await.reference, monitor);
    }
}

#[tokio::test]
async fn down_of_a_process_that_has_ended_keeps_its_place_behind_what_it_sent() {
    let (a, b) = pair().await;
    b.prime(a.name()).await.unwrap();
    for round in 0..20 {
        let mut watcher = a.mailbox().unwrap();
        let server = b.mailbox().unwrap();
        server.send(watcher.pid(), &payload(2 * MIB, round)).await.unwrap();
        server.send(watcher.pid(), &payload(10, round)).await.unwrap();
        let ended = server.pid();
        drop(server);
        let monitor = watcher.monitor(ended).await.unwrap();
        b.sever(a.name(), Sever::Pool(round as usize));
        for size in [2 * MIB, 10] {
            let message = within(watcher.recv()).await.unwrap();
            assert_eq!(message.decode::<Binary>().unwrap(), payload(size, round));
        }
        assert_eq!(next_down(&mut watcher).await.reference, monitor);
    }
}

#[tokio::test]
async fn no_down_after_demonitor() {
    let (a, b) = pair().await;
    for node in [&a, &b] {
        let mut watcher = a.mailbox().unwrap();
        let (first, second) = (node.mailbox().unwrap(), node.mailbox().unwrap());
        // One ends before and one after; the third tells that both would have come.
        let (early, late) =
            (watcher.monitor(first.pid()).await.unwrap(), watcher.monitor(second.pid()).await.unwrap());
        let third = node.mailbox().unwrap();
        let last = watcher.monitor(third.pid()).await.unwrap();
        // What is read first leaves the DOWN as the next to be read.
        a.send(watcher.pid(), &"first").await.unwrap();
        drop(first);
        eventually("DOWN is there", || watcher.len() == 2).await;
        assert_eq!(receive::<String>(&mut watcher).await, "first");
        assert_eq!(watcher.len(), 1);
        watcher.demonitor(&early);
        assert!(watcher.is_empty());
        watcher.demonitor(&late);
        drop((second, third));
        assert_eq!(next_down(&mut watcher).await.reference, last);
        assert!(watcher.is_empty());
    }
}

#[tokio::test]
async fn the_end_of_the_session_is_no_connection() {
    let (a, b) = pair().await;
    let mut watcher = a.mailbox().unwrap();
    let server = b.mailbox().unwrap();
    let monitor = watcher.monitor(server.pid()).await.unwrap();
    a.disconnect(b.name());
    let down = next_down(&mut watcher).await;
    assert_eq!((down.reference, down.reason), (monitor, atom("noconnection")));
    drop(server);
    assert!(watcher.is_empty());
}

#[tokio::test]
async fn watches_leave_nothing_behind() {
    let (a, b) = pair().await;
    let server = b.register("server").unwrap();
    let watched = |node: &Node| node.info().peers.iter().map(|peer| peer.watched).sum::<usize>();
    for _ in 0..100 {
        let watcher = a.mailbox().unwrap();
        watcher.monitor(server.pid()).await.unwrap();
        let _given_up = watcher.process().send_request::<_, Term>(("server", b.name()), "?").await.unwrap();
    }
    eventually("all requests are there", || server.len() == 100).await;
    eventually("all watches are gone", || watched(&b) == 0 && a.info().watching == 0).await;
}

#[tokio::test]
async fn peers_at_one_address_leave_watches_to_those_at_others() {
    const MOST: usize = 64;
    let peers = StaticPeers::new();
    let b = start_with("b@127.0.0.1", &peers, |config| config.max_watches = MOST).await;
    let _server = b.register("server").unwrap();
    let (to, mut hostile) = (Address::from(("server", b.name())), Vec::new());
    for i in 0..6 {
        let a = start_with(&format!("a{i}@127.0.0.1"), &peers, |_| {}).await;
        let watcher = a.mailbox().unwrap();
        for _ in 0..MOST {
            within(watcher.monitor(&to)).await.unwrap();
        }
        let counted = || peer_of(&b, a.name()).map_or(0, |peer| peer.watched + peer.watches_refused as usize);
        eventually("all are there or refused", || counted() == MOST).await;
        hostile.push((a, watcher));
    }
    // Its connection comes from where it listens: from another address.
    let builder = Node::builder("c@127.0.0.2").cookie(COOKIE).resolver(peers.clone());
    let c = builder.listen("127.0.0.2:0".parse().unwrap()).start().await.unwrap();
    peers.insert(c.name().clone(), c.address());
    within(b.prime(c.name())).await.unwrap();
    let watcher = c.mailbox().unwrap();
    for _ in 0..MOST / 16 {
        within(watcher.monitor(&to)).await.unwrap();
    }
    let peer = || peer_of(&b, c.name()).unwrap();
    eventually("all are there", || peer().watched + peer().watches_refused as usize == MOST / 16).await;
    assert_eq!(peer().watches_refused, 0);
}
