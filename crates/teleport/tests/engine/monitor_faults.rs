//! Monitors while processes, peers and sessions end, connections are cut and peers lie: each tells once.

use crate::common::script::{Script, batch};
use crate::common::servers::{body, hasty, watched};
use crate::common::{eventually, name, pair, pair_with, peer_of, receive, start_with, within};
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;
use teleport::etf::{Limits, from_bytes_with};
use teleport::{Atom, Binary, Mailbox, Node, NodeName, Pid, Reference, Sever, StaticPeers, Term};
use teleport_proto::handshake::Opening;
use teleport_proto::wire::envelope::{Destination, Envelope, Kind, ProcessId, RefId};
use teleport_testkit::cluster::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

const TARGETS: u64 = 12;
const WATCHERS: u64 = 16;
const ROUNDS: u64 = 1500;

/// Watches, and knows what it has not been told yet.
struct Watcher {
    mailbox: Mailbox,
    open: HashSet<Vec<u32>>,
    reasons: BTreeMap<String, u64>,
}

impl Watcher {
    fn note(&mut self, message: &teleport::Message) {
        let down = message.down().expect("nothing but DOWN comes");
        // Not twice, not of another, not after demonitor.
        assert!(self.open.remove(down.reference.words()), "{down:?} was not to come");
        *self.reasons.entry(down.reason.to_string()).or_insert(0) += 1;
    }

    async fn watch(&mut self, rng: &mut Rng, nodes: &[NodeName]) {
        let node = &nodes[rng.below(nodes.len() as u64) as usize];
        let target = format!("target{}", rng.below(TARGETS + 1)); // the last is not there
        let monitor = within(self.mailbox.monitor((&*target, node))).await.unwrap();
        assert!(self.open.insert(monitor.words().to_vec()), "a reference is used again");
        if rng.chance(400) {
            // At once, or after it may have fired.
            if rng.chance(500) {
                tokio::task::yield_now().await;
            }
            self.mailbox.demonitor(&monitor);
            self.open.remove(monitor.words());
        }
        while let Some(message) = self.mailbox.try_recv() {
            self.note(&message);
        }
        while self.open.len() > 30 {
            let message = within(self.mailbox.recv()).await.unwrap();
            self.note(&message);
        }
    }
}

fn targets(node: &Node) -> Vec<Option<Mailbox>> {
    (0..TARGETS).map(|i| Some(node.register(&format!("target{i}")).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_monitor_tells_once_however_processes_peers_and_sessions_end() {
    let peers = StaticPeers::new();
    let a = start_with("a@127.0.0.1", &peers, hasty).await;
    let mut b = start_with("b@127.0.0.1", &peers, hasty).await;
    let c = start_with("c@127.0.0.1", &peers, hasty).await;
    let mut all = [targets(&a), targets(&b), targets(&c)];
    let names = [a.name().clone(), b.name().clone(), c.name().clone()];

    let mut watchers = JoinSet::new();
    for seed in 0..WATCHERS {
        let (mailbox, names) = (a.mailbox().unwrap(), names.clone());
        watchers.spawn(async move {
            let mut watcher = Watcher { mailbox, open: HashSet::new(), reasons: BTreeMap::new() };
            let mut rng = Rng::new(seed);
            for _ in 0..ROUNDS {
                watcher.watch(&mut rng, &names).await;
            }
            watcher
        });
    }
    let (mut rng, mut done, mut restarts, mut disconnected) = (Rng::new(77), Vec::new(), 0, 0);
    while done.len() < WATCHERS as usize {
        match rng.below(100) {
            0 => {
                all[1].clear();
                drop(b);
                b = start_with("b@127.0.0.1", &peers, hasty).await;
                all[1] = targets(&b);
                restarts += 1;
            }
            1..4 => disconnected += u64::from(a.disconnect(&names[2])),
            4..20 => drop(a.sever(&names[1 + rng.below(2) as usize], Sever::Pool(rng.below(4) as usize))),
            _ => {
                let (node, i) = (rng.below(3) as usize, rng.below(TARGETS) as usize);
                let ended = all[node][i].take().expect("each is there");
                if rng.chance(500) {
                    ended.exit(Term::atom("ended"));
                } else {
                    drop(ended);
                }
                all[node][i] = Some([&a, &b, &c][node].register(&format!("target{i}")).unwrap());
            }
        }
        let next = tokio::time::timeout(Duration::from_micros(300), watchers.join_next()).await;
        done.extend(next.ok().flatten().map(Result::unwrap));
    }
    drop(all);
    let mut reasons = BTreeMap::new();
    for watcher in &mut done {
        while !watcher.open.is_empty() {
            let message = within(watcher.mailbox.recv()).await.unwrap();
            watcher.note(&message);
        }
        watcher.reasons.iter().for_each(|(reason, n)| *reasons.entry(reason.clone()).or_insert(0) += n);
    }
    println!("{reasons:?}; {restarts} restarts, {disconnected} disconnects");
    eventually("nothing is left", || a.info().watching + watched(&a) + watched(&b) + watched(&c) == 0).await;
    assert!(done.iter().all(|watcher| watcher.mailbox.is_empty()), "a DOWN too many");
    for reason in ["ended", "normal", "noproc", "noconnection"] {
        assert!(reasons.contains_key(reason), "none told {reason}: {reasons:?}");
    }
    assert!(restarts > 0 && disconnected > 0, "{restarts} restarts, {disconnected} disconnects");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn down_comes_behind_large_messages_while_connections_are_severed() {
    let (a, b) = pair_with(hasty).await;
    within(a.prime(b.name())).await.unwrap();
    let (mut rng, mut severed) = (Rng::new(4), 0);
    let resent = || peer_of(&b, a.name()).unwrap().transfer.frames_resent;
    // How often a connection is cut with something on it depends on how fast all goes.
    for _ in 0..20 {
        let mut processes = JoinSet::new();
        for process in 0..8u64 {
            let (a, b) = (a.clone(), b.clone());
            processes.spawn(async move {
                let mut rng = Rng::new(process);
                for _ in 0..8 {
                    let mut watcher = a.mailbox().unwrap();
                    let server = b.mailbox().unwrap();
                    let monitor = watcher.monitor(server.pid()).await.unwrap();
                    // Behind the monitor, so that it is there.
                    let ack = watcher
                        .process()
                        .send_acknowledged(server.pid(), &(), Default::default())
                        .await
                        .unwrap();
                    within(ack).await.unwrap();
                    let lens: Vec<_> = (0..3).map(|_| rng.pick(&[0, 100, 70_000, 1_500_000])).collect();
                    for &len in &lens {
                        server.send(watcher.pid(), &body(len, len)).await.unwrap();
                    }
                    server.exit(process as i64);
                    for len in lens {
                        assert!(receive::<Binary>(&mut watcher).await == body(len, len));
                    }
                    let down = within(watcher.recv()).await.unwrap().down().unwrap();
                    assert_eq!((down.reference, down.reason), (monitor, Term::from(process as i64)));
                    assert!(watcher.is_empty());
                }
            });
        }
        loop {
            match tokio::time::timeout(Duration::from_millis(2), processes.join_next()).await {
                Ok(None) => break,
                Ok(Some(process)) => process.unwrap(),
                Err(_) => severed += u64::from(a.sever(b.name(), Sever::Pool(rng.below(4) as usize))),
            }
        }
        if severed > 5 && resent() > 0 {
            break;
        }
    }
    assert!(severed > 5 && resent() > 0, "{severed} severed, {} resent", resent());
    eventually("nothing is left", || a.info().watching + watched(&b) == 0).await;
}

#[tokio::test]
async fn demonitor_ends_nothing_but_monitors_of_ones_own() {
    let (a, b) = pair().await;
    let (mut mine, mut other) = (a.mailbox().unwrap(), a.mailbox().unwrap());
    let mut server = b.register("server").unwrap();
    let to = ("server", b.name());
    let monitor = mine.monitor(to).await.unwrap();
    let call = mine.process().send_request::<_, u8>(to, &1).await.unwrap();
    let (caller, _) = within(server.recv()).await.unwrap().call().unwrap();
    // Another process's; a call's; another node's, another life's of the same number.
    other.demonitor(&monitor);
    let (_, tag): (Pid, Term) = teleport_etf::from_bytes(&encoded(&caller)).unwrap();
    let Term::ImproperList(tag) = tag else { panic!("{tag:?}") };
    mine.demonitor(tag.tail().as_reference().unwrap());
    let with =
        |node: &str, creation| Reference::new(Atom::new(node).unwrap(), creation, monitor.words()).unwrap();
    mine.demonitor(&with(b.name().as_str(), monitor.creation()));
    mine.demonitor(&with(a.name().as_str(), monitor.creation() ^ 1));
    assert_eq!(a.info().watching, 2);
    server.process().reply(&caller, &9).unwrap();
    assert_eq!(within(call).await.unwrap(), 9);
    drop(server);
    assert_eq!(within(mine.recv()).await.unwrap().down().unwrap().reference, monitor);
    assert!(other.is_empty());
}

fn encoded(value: &impl serde::Serialize) -> bytes::Bytes {
    teleport_etf::to_segments(value).unwrap().into_contiguous()
}

fn process_of(pid: &Pid) -> ProcessId {
    ProcessId { id: pid.id, serial: pid.serial }
}

fn id_of(reference: &Reference) -> RefId {
    RefId::new(reference.words()).unwrap()
}

#[tokio::test]
async fn a_peer_that_forges_replies_and_ends_of_others_harms_nobody() {
    let peers = StaticPeers::new();
    let a = start_with("a@127.0.0.1", &peers, |_| {}).await;
    let b = start_with("b@127.0.0.1", &peers, |_| {}).await;
    let mut marks = a.register("marks").unwrap();
    // A call and a monitor of a's at b, a monitor of a's at home, and one of b's at a.
    let mut server = b.register("server").unwrap();
    let (mut watcher, mut target) = (a.mailbox().unwrap(), a.mailbox().unwrap());
    let monitor = watcher.monitor(("server", b.name())).await.unwrap();
    let at_home = watcher.monitor(target.pid()).await.unwrap();
    let call = watcher.process().send_request::<_, u8>(("server", b.name()), &1).await.unwrap();
    let (caller, _) = within(server.recv()).await.unwrap().call().unwrap();
    let (_, tag): (Pid, Term) = teleport_etf::from_bytes(&encoded(&caller)).unwrap();
    let Term::ImproperList(tag) = tag else { panic!("{tag:?}") };
    let call_id = id_of(tag.tail().as_reference().unwrap());
    let theirs = server.monitor(target.pid()).await.unwrap();
    eventually("b watches", || watched(&a) == 1).await;

    let mut liar = Script::new("x@127.0.0.1", a.name(), a.address());
    let (_control, session) = liar.session().await;
    let (id, key) = (session.session, session.key.clone());
    let (mut express, _) = liar.open(Opening::Express { session: id, key, connection: 1 }).await.unwrap();
    let (to_watcher, to_target) = (process_of(&watcher.pid()), process_of(&target.pid()));
    let (unknown, own) = (RefId::new(&[9, 9, 9, 9, 9]).unwrap(), RefId::new(&[4]).unwrap());
    let (reason, nothing) = (encoded(&Atom::new("forged").unwrap()), Default::default());
    let lies = [
        (Kind::Reply(unknown), to_watcher, &reason),
        (Kind::Reply(id_of(&monitor)), to_watcher, &reason),
        (Kind::Reply(id_of(&at_home)), to_watcher, &reason),
        (Kind::Down(unknown), to_watcher, &reason),
        (Kind::Down(id_of(&monitor)), to_watcher, &reason),
        (Kind::Down(id_of(&at_home)), to_watcher, &reason),
        (Kind::Down(call_id), to_watcher, &reason),
        (Kind::Demonitor(unknown), to_target, &nothing),
        (Kind::Demonitor(id_of(&theirs)), to_target, &nothing),
        // Of its own it may have what it likes, once; also under a number that b uses.
        (Kind::Monitor(own), to_target, &nothing),
        (Kind::Monitor(own), to_target, &nothing),
        (Kind::Monitor(id_of(&theirs)), to_target, &nothing),
        (Kind::Demonitor(id_of(&theirs)), to_target, &nothing),
        (Kind::Request(unknown), to_target, &reason),
    ];
    let from = ProcessId { id: 1, serial: 0 };
    let envelope = |seq, kind, to| {
        let (predecessor, account, acknowledge) = (None, 0, false);
        Envelope { seq, predecessor, behind_all: false, account, kind, acknowledge, from, to }
    };
    let (mut out, mut seq) = (bytes::BytesMut::new(), 0);
    for (kind, to, body) in lies {
        seq += 1;
        out.extend_from_slice(&batch(&envelope(seq, kind, Destination::Process(to)), body));
    }
    out.extend_from_slice(&batch(
        &envelope(seq + 1, Kind::Data, Destination::Name("marks".into())),
        &encoded(&0),
    ));
    express.write_all(&out).await.unwrap();
    receive::<u8>(&mut marks).await;

    assert_eq!(a.info().late_replies, 3, "what was no reply to a call is counted");
    assert!(watcher.is_empty());
    assert_eq!(a.info().watching, 3);
    let of_peer = |node: &str| peer_of(&a, &name(node)).unwrap().watched;
    assert_eq!((of_peer("b@127.0.0.1"), of_peer("x@127.0.0.1")), (1, 2));
    assert!(within(target.recv()).await.unwrap().call().is_none(), "a request that is no call");
    // The second watch of one reference is refused.
    let mut said = Vec::new();
    while !said.windows(12).any(|bytes| bytes == b"system_limit") {
        assert_ne!(within(express.read_buf(&mut said)).await.unwrap(), 0, "the session has ended");
    }

    // All watchers are told the truth.
    server.process().reply(&caller, &1).unwrap();
    assert_eq!(within(call).await.unwrap(), 1);
    target.exit(Term::atom("done"));
    let down = within(watcher.recv()).await.unwrap().down().unwrap();
    assert_eq!((down.reference, down.reason), (at_home, Term::atom("done")));
    let down = within(server.recv()).await.unwrap().down().unwrap();
    assert_eq!((down.reference, down.reason), (theirs, Term::atom("done")));
    drop(server);
    let down = within(watcher.recv()).await.unwrap().down().unwrap();
    assert_eq!((down.reference, down.reason), (monitor, Term::atom("normal")));
    eventually("nothing is left", || a.info().watching + watched(&a) + watched(&b) == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_ends_no_monitor_of_another_whatever_it_names() {
    let (a, b) = pair().await;
    let (mut watcher, stranger) = (a.mailbox().unwrap(), b.mailbox().unwrap());
    let (near, far) = (a.mailbox().unwrap(), b.mailbox().unwrap());
    let monitors = [watcher.monitor(near.pid()).await.unwrap(), watcher.monitor(far.pid()).await.unwrap()];
    eventually("b knows of its monitor", || watched(&b) == 1).await;

    // A request names who is to be answered, and nobody can check it: here it is the monitors.
    for node in [&a, &b] {
        let mut server = node.register("server").unwrap();
        for monitor in &monitors {
            let alias = Term::improper_list([Term::atom("alias")], monitor.clone().into());
            let from = Term::tuple([watcher.pid().into(), alias]);
            let request = Term::tuple([Term::atom("$gen_call"), from, 1.into()]);
            stranger.send(("server", node.name()), &request).await.unwrap();
            let (caller, _) = within(server.recv()).await.unwrap().call().unwrap();
            server.process().reject(&caller, "no");
            server.process().reply(&caller, &1).unwrap();
        }
        server.send(watcher.pid(), &"behind all answers").await.unwrap();
        assert_eq!(receive::<String>(&mut watcher).await, "behind all answers");
    }

    // The monitors go on, and tell the truth.
    for (target, monitor, reason) in [(near, &monitors[0], "near"), (far, &monitors[1], "far")] {
        target.exit(Term::atom(reason));
        let down = within(watcher.recv()).await.unwrap().down().unwrap();
        assert_eq!((&down.reference, down.reason), (monitor, Term::atom(reason)));
    }
    eventually("nothing is left", || a.info().watching + watched(&a) + watched(&b) == 0).await;
}

#[tokio::test]
async fn a_reason_does_not_become_larger_than_it_came() {
    let a = start_with("a@127.0.0.1", &StaticPeers::new(), |_| {}).await;
    let mut peer = Script::new("x@127.0.0.1", a.name(), a.address());
    let (_control, session) = peer.session().await;
    let (session, key) = (session.session, session.key.clone());
    let (mut express, _) = peer.open(Opening::Express { session, key, connection: 1 }).await.unwrap();
    let mut watcher = a.mailbox().unwrap();
    let monitor = watcher.monitor(("target", name("x@127.0.0.1"))).await.unwrap();

    // A binary of 100 zeros in 22 bytes; it might as well be 64 MiB in 64 KiB.
    let compressed = [&[131, 80, 0, 0, 0, 105][..], &COMPRESSED].concat();
    let inflating = Limits { max_inflated: 105, ..Limits::default() };
    assert!(from_bytes_with::<Binary>(&compressed.clone().into(), &inflating).is_ok());
    let (seq, kind) = (1, Kind::Down(id_of(&monitor)));
    let (from, to) = (ProcessId::NOBODY, Destination::Process(process_of(&watcher.pid())));
    let (predecessor, account, acknowledge) = (None, 0, false);
    let envelope = Envelope { seq, predecessor, behind_all: false, account, kind, acknowledge, from, to };
    express.write_all(&batch(&envelope, &compressed)).await.unwrap();
    let down = within(watcher.recv()).await.unwrap().down().unwrap();
    assert_eq!((down.reference, down.reason), (monitor, Term::atom("undefined")));
}

const COMPRESSED: [u8; 16] = [120, 218, 203, 101, 96, 96, 72, 97, 160, 3, 0, 0, 84, 146, 0, 210];
