//! Calls while connections are cut, peers are restarted, servers and sessions end: each ends exactly once.

use crate::common::child::Child;
use crate::common::faulty::Kind;
use crate::common::servers::{self, KILLED, Reply, Request, SERVERS, WORKER, Wish, body, hasty, watched};
use crate::common::{
    MIB, eventually, eventually_async, name, pair, pair_with, payload, peer_of, receive, start_apart,
    start_with, within,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use teleport::{
    Address, Binary, CallError, Mailbox, Message, Node, NodeName, SendError, Sever, StaticPeers, Term,
};
use teleport_testkit::cluster::Rng;
use teleport_testkit::proxy::{Opening, Proxy};
use tokio::task::JoinSet;

const LONG: Duration = Duration::from_secs(60);

const CALLS: u64 = 100_000;
const CALLERS: u64 = 64;

const STEADY: &str = WORKER.1;
const DROPPED: &str = "dropped@127.0.0.1";

/// A call, and how it may end.
struct Call {
    number: u64,
    /// Only one of the three peers stays for the whole test.
    peer: &'static str,
    server: String,
    wish: Wish,
    asked: u64,
    sent: u64,
    timeout: Duration,
}

impl Call {
    fn random(number: u64, rng: &mut Rng) -> Self {
        let mut len = || match rng.below(2000) {
            0 | 1 => 3 * MIB as u64,
            2..20 => 100_000,
            _ => rng.below(200),
        };
        let (asked, sent) = (len(), len());
        let wish = match rng.below(1000) {
            0 => Wish::Exit,
            1..20 => Wish::Reject,
            20..40 => Wish::Ignore,
            40..100 => Wish::HandOn,
            _ => Wish::Answer,
        };
        let timeout = match wish {
            Wish::Ignore => Duration::from_millis(rng.below(4)),
            _ if rng.chance(60) => Duration::from_millis(rng.below(4)),
            _ => LONG,
        };
        // Servers are gone for moments only, so now and then a call is for one that never was.
        let server = match number % 1000 {
            0 => "nobody".to_owned(),
            _ => format!("server{}", rng.below(SERVERS)),
        };
        let peer = rng.pick(&[STEADY, DROPPED, KILLED]);
        Self { number, peer, server, wish, asked, sent, timeout }
    }

    async fn make(&self, caller: &Mailbox) -> Result<Reply, CallError> {
        let request: Request = (self.number, self.wish, self.asked, body(self.number, self.sent));
        caller.process().call((&*self.server, name(self.peer)), &request, self.timeout).await
    }

    /// Names the end, which has to be one that was possible.
    fn judge(&self, end: Result<Reply, CallError>) -> &'static str {
        let stays = self.peer == STEADY;
        let answered = matches!(self.wish, Wish::Answer | Wish::HandOn);
        match end {
            Ok((number, fine, reply)) => {
                assert!(answered, "{:?} was answered", self.wish);
                assert_eq!((number, fine), (self.number, true));
                assert!(reply == body(self.number, self.asked), "the reply to {number} is damaged");
                if self.wish == Wish::HandOn { "reply of another" } else { "reply" }
            }
            Err(CallError::Timeout(limit)) if limit == self.timeout && limit < LONG => "timeout",
            Err(CallError::NoProcess) => "no process",
            Err(CallError::Exit(Term::Tuple(_))) => "exit",
            Err(CallError::Exit(reason)) if !stays && reason == Term::atom("normal") => "normal exit",
            Err(CallError::Rejected(_)) if self.wish == Wish::Reject => "rejected",
            Err(CallError::Rejected(_)) if self.wish == Wish::HandOn && !stays => "not handed on",
            Err(CallError::NodeDown { peer, .. }) if !stays && peer.as_str() == self.peer => "node down",
            Err(CallError::Send(SendError::NoConnection(_))) if !stays => "no connection",
            Err(CallError::Send(SendError::NodeDown { .. })) if !stays => "down before it was sent",
            other => panic!("call {} to {}, {:?}: {other:?}", self.number, self.peer, self.wish),
        }
    }
}

/// Makes its share of the calls, one after the other.
async fn call_on(
    caller: Mailbox,
    share: u64,
    done: Arc<AtomicU64>,
) -> (Mailbox, BTreeMap<&'static str, u64>) {
    let (mut rng, mut ends) = (Rng::new(share), BTreeMap::new());
    for i in 0..CALLS / CALLERS {
        let call = Call::random(share * CALLS + i, &mut rng);
        let end = within(call.make(&caller)).await;
        let end = call.judge(end);
        *ends.entry(end).or_insert(0) += 1;
        done.fetch_add(1, Ordering::Relaxed);
        if end == "no connection" {
            // A caller that finds no server comes back later; the rest of the calls are not for the same gap.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    (caller, ends)
}

/// Severs connections of nodes to peers, one at a time.
struct Severing<'a> {
    nodes: &'a [(&'a Node, &'a NodeName)],
    rng: Rng,
    severed: u64,
}

impl<'a> Severing<'a> {
    fn new(nodes: &'a [(&'a Node, &'a NodeName)]) -> Self {
        Self { nodes, rng: Rng::new(9), severed: 0 }
    }

    fn strike(&mut self) {
        let (node, peer) = self.rng.pick(self.nodes);
        let what =
            if self.rng.chance(200) { Sever::Control } else { Sever::Pool(self.rng.below(8) as usize) };
        self.severed += u64::from(node.sever(peer, what));
    }

    /// Until the future is ready.
    async fn during<F: Future>(&mut self, every: Duration, work: F) -> F::Output {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                output = &mut work => return output,
                () = tokio::time::sleep(every) => self.strike(),
            }
        }
    }
}

/// Replaces the child by another one of the same name.
async fn restart_child(child: Option<Child>, worker: &Node, peers: &StaticPeers) -> Child {
    if let Some(child) = child {
        child.signal(rustix::process::Signal::KILL);
    }
    let mut child = Child::start("servers");
    child.say(&worker.address().to_string()).await;
    peers.insert(name(KILLED), child.hear().await.parse().unwrap());
    child
}

/// Replaces a node and its servers by another one of the same name.
async fn restart_node(
    old: Option<(Node, JoinSet<()>)>,
    worker: &Node,
    peers: &StaticPeers,
) -> (Node, JoinSet<()>) {
    if let Some((node, mut servers)) = old {
        servers.shutdown().await;
        drop(node);
    }
    let known = StaticPeers::new();
    known.insert(name(STEADY), worker.address());
    let node = start_with(DROPPED, &known, hasty).await;
    let servers = servers::serve(&node);
    peers.insert(name(DROPPED), node.address());
    (node, servers)
}

/// Connections to the steady peer end at a random byte, late enough that what is large gets through now and then.
fn cuts(opening: &Opening<'_>) -> u64 {
    if Kind::by(opening.first) == Kind::Control { 20_000 } else { 6_000_000 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_calls_end_once_each_while_connections_are_cut_and_peers_restart() {
    let peers = StaticPeers::new();
    let a = start_apart("a@127.0.0.1", &peers, hasty).await;
    let steady = start_apart(STEADY, &StaticPeers::new(), hasty).await;
    let _servers = servers::serve(&steady);
    let _worker = tokio::spawn(servers::work(steady.clone()));
    let proxy = Proxy::start(steady.address()).await.unwrap();
    proxy.plan_cuts(3, cuts);
    peers.insert(name(STEADY), proxy.address());
    let mut child = restart_child(None, &steady, &peers).await;
    let mut dropped = restart_node(None, &steady, &peers).await;

    let done = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for share in 0..CALLERS {
        callers.spawn(call_on(a.mailbox().unwrap(), share, done.clone()));
    }
    let mut restarts = 0;
    let restarting = async {
        // At shares of the work rather than of time: so that it is as often on every machine.
        for at in (1..32).map(|part| part * CALLS / 32) {
            eventually("calls end", || done.load(Ordering::Relaxed) >= at).await;
            if restarts % 2 == 0 {
                child = restart_child(Some(child), &steady, &peers).await;
            } else {
                dropped = restart_node(Some(dropped), &steady, &peers).await;
            }
            restarts += 1;
        }
        (child, dropped)
    };
    let names = [STEADY, DROPPED, KILLED].map(name);
    let severable = names.each_ref().map(|peer| (&a, peer));
    let work = async { tokio::join!(callers.join_all(), restarting) };
    let mut severing = Severing::new(&severable);
    let (callers, (mut child, dropped)) = severing.during(Duration::from_millis(2), work).await;
    let severed = severing.severed;
    proxy.plan_none();

    let (mailboxes, counts): (Vec<_>, Vec<_>) = callers.into_iter().unzip();
    let mut ends = BTreeMap::new();
    counts.into_iter().flatten().for_each(|(end, count)| *ends.entry(end).or_insert(0) += count);
    let resent = peer_of(&a, &names[0]).unwrap().transfer.frames_resent;
    println!("{ends:?}; severed {severed}, struck {}, resent {resent}, restarts {restarts}", proxy.struck());
    assert_eq!(ends.values().sum::<u64>(), CALLS / CALLERS * CALLERS);
    let every = ["reply", "reply of another", "timeout", "exit", "rejected", "no process", "node down"];
    every.iter().for_each(|end| assert!(ends.contains_key(end), "no call ended so: {end}"));
    assert!(ends["reply"] > CALLS / 2 && severed > 100 && proxy.struck() > 20 && resent > 0);

    // Nothing is left of them, once what is late has come.
    eventually("nobody waits", || a.info().watching == 0).await;
    eventually("nobody is watched", || watched(&steady) + watched(&dropped.0) == 0).await;
    eventually_async("nobody is watched in the child", async || child.ask("watched?").await == "0").await;
    eventually("nothing is under way", || {
        let at_rest = |node: &Node| node.info().peers.iter().all(|peer| peer.transfer.unconfirmed == 0);
        at_rest(&steady) && at_rest(&dropped.0) && at_rest(&a)
    })
    .await;
    assert!(a.info().late_replies > 0);
    assert!(mailboxes.iter().all(Mailbox::is_empty), "replies got into mailboxes");
}

/// What a server hears, as it was said: by a send, a cast or a call, which is answered with the number.
fn number_in(message: &Message, server: &Mailbox) -> (u64, u64) {
    if let Some((caller, request)) = message.call() {
        let (who, number, _): (u64, u64, Binary) = request.decode().unwrap();
        server.process().reply(&caller, &number).unwrap();
        return (who, number);
    }
    let (who, number, _): (u64, u64, Binary) =
        message.cast().map_or_else(|| message.decode(), |cast| cast.decode()).unwrap();
    (who, number)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_casts_and_sends_of_a_pair_keep_their_order_while_connections_are_severed() {
    const SENDERS: u64 = 6;
    const EACH: u64 = 250;
    let (a, b) = pair_with(hasty).await;
    within(a.prime(b.name())).await.unwrap();
    let mut server = b.register("server").unwrap();
    let mut senders = JoinSet::new();
    for who in 0..SENDERS {
        let (mailbox, to) = (a.mailbox().unwrap(), Address::from(("server", name("b@127.0.0.1"))));
        senders.spawn(async move {
            let (process, mut rng, mut calls) = (mailbox.process(), Rng::new(who), Vec::new());
            for number in 0..EACH {
                let len = rng.pick(&[0, 10, 3000, 65_000, 70_000, 300_000, 1_500_000]);
                let message = (who, number, body(number, len));
                match rng.below(3) {
                    0 => process.send(&to, &message).await.unwrap(),
                    1 => process.cast(&to, &message).await.unwrap(),
                    _ => calls.push((number, process.send_request::<_, u64>(&to, &message).await.unwrap())),
                }
            }
            for (number, call) in calls {
                assert_eq!(within(call).await.unwrap(), number);
            }
            mailbox
        });
    }
    let severable = [(&a, b.name())];
    let mut severing = Severing::new(&severable);
    let mailboxes = {
        let mut next = HashMap::new();
        for heard in 0..SENDERS * EACH {
            // As often on every machine.
            if heard % 4 == 0 {
                severing.strike();
            }
            let message = within(server.recv()).await.unwrap();
            let (who, number) = number_in(&message, &server);
            let expected = next.entry(who).or_insert(0);
            assert_eq!(number, *expected, "of sender {who}");
            *expected += 1;
        }
        within(senders.join_all()).await
    };
    let severed = severing.severed;
    assert!(mailboxes.iter().all(Mailbox::is_empty) && server.is_empty());
    let transfer = peer_of(&a, b.name()).unwrap().transfer;
    assert!(severed > 2 && transfer.frames_resent > 0, "{severed} severed, {transfer:?}");
    eventually("nothing is left", || a.info().watching + watched(&b) == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_comes_behind_the_large_messages_that_its_server_sent_before() {
    let (a, b) = pair_with(hasty).await;
    within(a.prime(b.name())).await.unwrap();
    let mut server = b.register("server").unwrap();
    let serving = tokio::spawn(async move {
        while let Some(message) = server.recv().await {
            let (caller, request) = message.call().unwrap();
            let lens: Vec<u64> = request.decode().unwrap();
            for len in lens {
                server.send(caller.pid(), &body(len, len)).await.unwrap();
            }
            server.process().reply(&caller, "sent").unwrap();
        }
    });
    let severable = [(&a, b.name())];
    let mut severing = Severing::new(&severable);
    let calling = async {
        let mut rng = Rng::new(2);
        for _ in 0..60 {
            let mut caller = a.mailbox().unwrap();
            let lens: Vec<_> = (0..4).map(|_| rng.pick(&[0, 100, 70_000, 1_000_000, 3_000_000])).collect();
            let process = caller.process();
            let reply = process.call::<_, String>(("server", b.name()), &lens, LONG);
            assert_eq!(within(reply).await.unwrap(), "sent");
            assert_eq!(caller.len(), lens.len(), "all that came before is there");
            for len in lens {
                assert!(receive::<Binary>(&mut caller).await == body(len, len));
            }
        }
    };
    severing.during(Duration::from_millis(2), calling).await;
    let severed = severing.severed;
    let transfer = peer_of(&b, a.name()).unwrap().transfer;
    assert!(severed > 2 && transfer.frames_resent > 0, "{severed} severed, {transfer:?}");
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_meets_its_timeout_is_given_or_counted() {
    const CALLERS: u64 = 20;
    const ROUNDS: u64 = 150;
    let (a, b) = pair().await;
    for node in [&a, &b] {
        let before = a.info().late_replies;
        let mut server = node.register("server").unwrap();
        let serving = tokio::spawn(async move {
            for _ in 0..CALLERS * ROUNDS {
                let (caller, _) = server.recv().await.unwrap().call().unwrap();
                server.process().reply(&caller, &1).unwrap();
            }
            server
        });
        let mut callers = JoinSet::new();
        for seed in 0..CALLERS {
            let (mailbox, to) = (a.mailbox().unwrap(), node.name().clone());
            callers.spawn(async move {
                let (mut rng, mut answered) = (Rng::new(seed), 0);
                for _ in 0..ROUNDS {
                    let mut call =
                        mailbox.process().send_request::<_, u8>(("server", &to), &()).await.unwrap();
                    // Given up after this many turns: about as many as the reply takes.
                    let turns = rng.below(60);
                    let patience = async {
                        for _ in 0..turns {
                            tokio::task::yield_now().await;
                        }
                    };
                    tokio::select! {
                        biased;
                        () = patience => {}
                        reply = &mut call => answered += u64::from(reply.unwrap()),
                    }
                }
                assert!(mailbox.is_empty());
                answered
            });
        }
        let answered: u64 = within(callers.join_all()).await.into_iter().sum();
        let server = within(serving).await.unwrap();
        // Each reply had one of the two ends.
        let late = CALLERS * ROUNDS - answered;
        eventually("the late ones are counted", || a.info().late_replies - before >= late).await;
        assert_eq!(a.info().late_replies - before, late);
        assert!(answered > 0 && late > 0, "{answered} answered, {late} late: no race");
        eventually("nothing is left", || a.info().watching + watched(&b) == 0).await;
        drop(server);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_or_monitor_outlives_a_session_that_ends_as_it_begins() {
    let (a, b) = pair_with(hasty).await;
    let mut server = b.register("server").unwrap();
    let serving = tokio::spawn(async move {
        while let Some(message) = server.recv().await {
            let (caller, request) = message.call().unwrap();
            server.process().reply(&caller, &request).unwrap();
        }
    });
    let stop = Arc::new(AtomicBool::new(false));
    let mut workers = JoinSet::new();
    for seed in 0..16u64 {
        let (mut mailbox, stop, to) =
            (a.mailbox().unwrap(), stop.clone(), Address::from(("server", name("b@127.0.0.1"))));
        workers.spawn(async move {
            let (mut rng, mut ends) = (Rng::new(seed), [0u64; 3]);
            while !stop.load(Ordering::Relaxed) {
                let request = body(seed, rng.pick(&[0, 1000, 100_000]));
                // Which always tells: the server itself does not end.
                let monitor = within(mailbox.monitor(&to)).await.unwrap();
                match within(mailbox.process().call::<_, Binary>(&to, &request, LONG)).await {
                    Ok(reply) => {
                        assert!(reply == request);
                        ends[0] += 1;
                    }
                    Err(CallError::NodeDown { .. }) => ends[1] += 1,
                    Err(CallError::Send(SendError::NodeDown { .. } | SendError::NoConnection(_))) => {
                        ends[2] += 1
                    }
                    other => panic!("{other:?}"),
                }
                if rng.chance(500) {
                    mailbox.demonitor(&monitor);
                    assert!(mailbox.is_empty());
                    continue;
                }
                let down = within(mailbox.recv()).await.unwrap().down().unwrap();
                assert_eq!((down.reference, down.reason), (monitor, Term::atom("noconnection")));
            }
            ends
        });
    }
    let (mut ends, mut disconnected) = ([0; 3], 0);
    while let Some(worker) = {
        // Also at the end: it gives those who wait for a DOWN theirs.
        let (node, peer) = if disconnected % 2 == 0 { (&a, &b) } else { (&b, &a) };
        disconnected += u64::from(node.disconnect(peer.name()));
        stop.store(disconnected > 300, Ordering::Relaxed);
        tokio::time::timeout(Duration::from_millis(3), workers.join_next()).await.unwrap_or(Some(Ok([0; 3])))
    } {
        ends.iter_mut().zip(worker.unwrap()).for_each(|(sum, count)| *sum += count);
    }
    println!("{ends:?} with reply, broken off, not sent");
    assert!(ends[0] > 0 && ends[1] > 0, "{ends:?}");
    eventually("nothing is left", || a.info().watching + watched(&a) + watched(&b) == 0).await;
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_while_requests_arrive_leaves_nobody_waiting() {
    let (a, b) = pair().await;
    let (mut refused, mut told) = (0, 0);
    for round in 0..40u64 {
        let node = if round % 4 == 0 { &a } else { &b };
        let mut server = node.register("server").unwrap();
        let mut callers = JoinSet::new();
        for caller in 0..100u64 {
            let (mailbox, to) = (a.mailbox().unwrap(), node.name().clone());
            callers.spawn(async move {
                let request = body(caller, if caller % 25 == 0 { 70_000 } else { 10 });
                let end = mailbox.process().call::<_, u64>(("server", &to), &request, LONG).await;
                assert!(mailbox.is_empty());
                end
            });
        }
        for answer in 0..round {
            let (caller, _) = within(server.recv()).await.unwrap().call().unwrap();
            server.process().reply(&caller, &answer).unwrap();
        }
        server.exit(round as i64);
        let mut answered = 0;
        for end in within(callers.join_all()).await {
            match end {
                Ok(_) => answered += 1,
                Err(CallError::NoProcess) => refused += 1,
                Err(CallError::Exit(reason)) if reason == Term::from(round as i64) => told += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(answered, round);
        eventually("nothing is left", || a.info().watching + watched(&b) == 0).await;
    }
    assert!(refused > 0 && told > 0, "{refused} refused, {told} told");
}

#[tokio::test]
async fn a_request_that_is_handed_on_leaves_no_watch_with_the_server_that_had_it_first() {
    let (a, b) = pair().await;
    let mut front = b.register("front").unwrap();
    let workers = [a.mailbox().unwrap(), b.mailbox().unwrap()];
    for worker in &workers {
        let worker = worker.process();
        let call = a.process().send_request::<_, u8>(("front", b.name()), &1).await.unwrap();
        let (caller, _) = within(front.recv()).await.unwrap().call().unwrap();
        worker.reply(&caller, &7).unwrap();
        assert_eq!(within(call).await.unwrap(), 7);
        eventually("the watch has ended", || a.info().watching + watched(&b) == 0).await;

        let call = a.process().send_request::<_, u8>(("front", b.name()), &1).await.unwrap();
        let (caller, _) = within(front.recv()).await.unwrap().call().unwrap();
        worker.reject(&caller, "not by me either");
        let end = within(call).await;
        assert!(matches!(&end, Err(CallError::Rejected(why)) if why == "not by me either"), "{end:?}");
        eventually("the watch has ended", || a.info().watching + watched(&b) == 0).await;
    }
    assert_eq!(a.info().late_replies, 0);
}

#[tokio::test]
async fn an_exit_reason_larger_than_any_message_is_told_as_such() {
    let (a, b) = pair_with(|config| config.max_message = (MIB as u64).try_into().unwrap()).await;
    let mut server = b.register("server").unwrap();
    let mut watcher = a.mailbox().unwrap();
    let monitor = watcher.monitor(("server", b.name())).await.unwrap();
    let call = watcher.process().send_request::<_, u8>(("server", b.name()), &1).await.unwrap();
    within(server.recv()).await.unwrap();
    server.exit(payload(2 * MIB, 1));
    let end = within(call).await;
    assert!(matches!(&end, Err(CallError::Exit(why)) if *why == Term::atom("too_large")), "{end:?}");
    let down = within(watcher.recv()).await.unwrap().down().unwrap();
    assert_eq!((down.reference, down.reason), (monitor, Term::atom("too_large")));
}
