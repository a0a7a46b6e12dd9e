//! Allow-lists: what a peer may reach at a node, and what becomes of the rest.

use crate::common::log::Log;
use crate::common::{COOKIE, assert_says, eventually, name, peer_of, receive, within};
use std::time::Duration;
use teleport::{
    AllowList, CallError, DeliveryError, Down, Mailbox, Node, NotAllowed, Permits, Process, StaticPeers, Term,
};

const LONG: Duration = Duration::from_secs(40);

/// Two nodes, of which the second has a list.
async fn pair(topic: &str, list: AllowList) -> (Node, Node) {
    let peers = StaticPeers::new();
    let builder = |side: &str| {
        Node::builder(&format!("{topic}-{side}@127.0.0.1")).cookie(COOKIE).resolver(peers.clone())
    };
    let (a, b) = (builder("a").start().await.unwrap(), builder("b").allow(list).start().await.unwrap());
    [&a, &b].iter().for_each(|node| peers.insert(node.name().clone(), node.address()));
    (a, b)
}

/// A list with one rule, for everybody.
fn all_may(permits: Permits) -> AllowList {
    AllowList::new().peer("*", permits)
}

async fn acknowledged(from: &Process, to: impl Into<teleport::Address>) -> Result<(), DeliveryError> {
    within(within(from.send_acknowledged(to, &"hello", Default::default())).await.unwrap()).await
}

async fn called(from: &Process, to: (&str, &Node)) -> Result<String, CallError> {
    within(from.call((to.0, to.1.name()), &"question", LONG)).await
}

async fn monitored(watcher: &mut Mailbox, to: impl Into<teleport::Address>) -> Term {
    let monitor = within(watcher.monitor(to)).await.unwrap();
    let Down { reference, reason, .. } = within(watcher.recv()).await.unwrap().down().expect("a DOWN");
    assert_eq!(reference, monitor);
    reason
}

/// Answers the next call.
async fn answer(server: &mut Mailbox) {
    let (caller, _) = within(server.recv()).await.unwrap().call().expect("a call");
    server.process().reply(&caller, &"answer").unwrap();
}

fn refused(node: &Node, peer: &Node) -> [u64; 4] {
    let NotAllowed { messages, calls, monitors, functions, .. } =
        peer_of(node, peer.name()).unwrap().not_allowed;
    [messages, calls, monitors, functions]
}

#[tokio::test]
async fn what_is_not_on_the_list_is_refused_and_each_sender_is_told_in_its_way() {
    let log = Log::collect();
    let (a, b) = pair("refused", all_may(Permits::none().name("open"))).await;
    let (mut open, mut secrets) = (b.register("open").unwrap(), b.register("secrets").unwrap());
    let mut here = a.mailbox().unwrap();
    let sender = here.process();
    for to in [("secrets", b.name()).into(), teleport::Address::from(secrets.pid())] {
        assert_eq!(acknowledged(&sender, &to).await, Err(DeliveryError::NoProcess));
        let error = within(sender.call::<_, Term>(&to, "question", LONG)).await.unwrap_err();
        assert!(matches!(error, CallError::Rejected(_)), "{error:?}");
        assert_says(&error, &["not on the allow-list: ", ", at refused-b@127.0.0.1"]);
        let reason = monitored(&mut here, &to).await;
        let [kind, why] = reason.as_tuple().unwrap() else { panic!("{reason:?}") };
        assert_eq!(kind, &Term::atom("rejected"));
        assert!(why.as_binary().is_some_and(|why| why.starts_with(b"not on the allow-list: ")), "{why:?}");
    }
    assert_says(&called(&sender, ("secrets", &b)).await.unwrap_err(), &["send to the name secrets"]);
    assert_eq!(refused(&b, &a), [2, 3, 2, 0]);
    assert!(secrets.is_empty() && peer_of(&b, a.name()).unwrap().watched == 0);
    // Once for each thing, however often it is tried.
    let said = log.with(&["node=refused-b@127.0.0.1", "the peer may not send to the name secrets"]);
    let warnings = said.iter().filter(|record| record.level == tracing::Level::WARN);
    assert_eq!((warnings.count(), said.len()), (1, 3));
    // What is on it arrives.
    acknowledged(&sender, ("open", b.name())).await.unwrap();
    assert_eq!(receive::<String>(&mut open).await, "hello");
    let (reply, ()) = tokio::join!(called(&sender, ("open", &b)), answer(&mut open));
    assert_eq!(reply.unwrap(), "answer");
    let monitor = within(here.monitor(("open", b.name()))).await.unwrap();
    eventually("it is watched", || peer_of(&b, a.name()).unwrap().watched == 1).await;
    open.exit(Term::atom("tired"));
    let down = within(here.recv()).await.unwrap().down().unwrap();
    assert_eq!((down.reference, down.reason), (monitor, Term::atom("tired")));
    // Who has the list may do what it likes.
    secrets.process().send(here.pid(), &"to you").await.unwrap();
    assert_eq!(receive::<String>(&mut here).await, "to you");
    drop(secrets.try_recv());
}

#[tokio::test]
async fn a_peer_that_may_reach_nothing_answers_all_the_same() {
    let (a, b) = pair("answers", AllowList::new()).await;
    let mut server = a.register("server").unwrap();
    let mut asker = b.mailbox().unwrap();
    within(b.prime(a.name())).await.unwrap();
    let process = asker.process();
    let (reply, ()) = tokio::join!(called(&process, ("server", &a)), answer(&mut server));
    assert_eq!(reply.unwrap(), "answer");
    acknowledged(&asker.process(), ("server", a.name())).await.unwrap();
    let gone = monitored(&mut asker, ("nobody", a.name())).await;
    assert_eq!(gone, Term::atom("noproc"));
    server.exit(Term::atom("tired"));
    assert_eq!(acknowledged(&a.process(), asker.pid()).await, Err(DeliveryError::NoProcess));
    assert_eq!(refused(&b, &a), [1, 0, 0, 0]);
}

#[tokio::test]
async fn a_large_message_is_refused_like_a_small_one_and_its_room_comes_back() {
    let (a, b) = pair("large", all_may(Permits::none().name("open"))).await;
    let mut open = b.register("open").unwrap();
    let _secrets = b.register("secrets").unwrap();
    let (sender, large) = (a.process(), crate::common::payload(20 << 20, 1));
    for to in ["secrets", "secrets", "secrets", "open"] {
        within(sender.send((to, b.name()), &large)).await.unwrap();
    }
    assert_eq!(receive::<teleport::Binary>(&mut open).await.len(), 20 << 20);
    eventually("all are judged", || refused(&b, &a) == [3, 0, 0, 0]).await;
    eventually("nothing waits", || peer_of(&b, a.name()).unwrap().transfer.undelivered_bytes == 0).await;
}

#[tokio::test]
async fn another_list_holds_at_once_in_sessions_that_stand() {
    let (a, b) = pair("changed", AllowList::new()).await;
    let mut server = b.register("server").unwrap();
    let sender = a.process();
    let to = ("server", b.name());
    assert_eq!(acknowledged(&sender, to).await, Err(DeliveryError::NoProcess));
    b.set_allow(AllowList::new().peer("changed-a@*", Permits::none().name("ser*")));
    acknowledged(&sender, to).await.unwrap();
    b.set_allow(AllowList::new().peer("changed-a@*", Permits::none().pids()).peer("*", Permits::all()));
    assert_eq!(acknowledged(&sender, to).await, Err(DeliveryError::NoProcess));
    acknowledged(&sender, server.pid()).await.unwrap();
    b.set_allow(all_may(Permits::all()));
    acknowledged(&sender, to).await.unwrap();
    for _ in 0..3 {
        assert_eq!(receive::<String>(&mut server).await, "hello");
    }
    assert_eq!(refused(&b, &a), [2, 0, 0, 0]);
}

#[tokio::test]
async fn a_list_that_only_logs_lets_everything_in_and_tells_what_it_would_refuse() {
    let log = Log::collect();
    let (a, b) = pair("logs", AllowList::new().only_log()).await;
    let (mut server, sender) = (b.register("server").unwrap(), a.process());
    acknowledged(&sender, ("server", b.name())).await.unwrap();
    assert_eq!(receive::<String>(&mut server).await, "hello");
    let (reply, ()) = tokio::join!(called(&sender, ("server", &b)), answer(&mut server));
    assert_eq!(reply.unwrap(), "answer");
    let mut watcher = a.mailbox().unwrap();
    assert_eq!(monitored(&mut watcher, ("nobody", b.name())).await, Term::atom("noproc"));
    assert_eq!(refused(&b, &a), [1, 1, 1, 0]);
    let said = log.levels(&["node=logs-b@127.0.0.1", "refused=false", "send to the name server"]);
    assert_eq!(said, [tracing::Level::WARN, tracing::Level::DEBUG]);
}

#[tokio::test]
async fn a_server_is_stopped_by_a_peer_that_may_send_system_messages_only() {
    let (a, b) = pair("system", all_may(Permits::none().name("server"))).await;
    let server = b.register("server").unwrap();
    let sender = a.process();
    let stop = (teleport::Atom::from_static("system"), "from", teleport::Atom::from_static("get_state"));
    let to = ("server", b.name());
    let send = || async {
        within(within(sender.send_acknowledged(to, &stop, Default::default())).await.unwrap()).await
    };
    assert_eq!(send().await, Err(DeliveryError::NoProcess));
    assert_eq!(refused(&b, &a), [1, 0, 0, 0]);
    b.set_allow(all_may(Permits::none().name("server").system()));
    assert_eq!(send().await, Ok(()));
    drop(server);
}

#[tokio::test]
async fn order_is_kept_between_what_is_refused_and_what_is_not() {
    let (a, b) = pair("order", all_may(Permits::none().name("open"))).await;
    let mut open = b.register("open").unwrap();
    let sender = a.process();
    for number in 0..2000_u32 {
        for to in ["open", "secrets"] {
            within(sender.send((to, b.name()), &number)).await.unwrap();
        }
    }
    for number in 0..2000_u32 {
        assert_eq!(receive::<u32>(&mut open).await, number);
    }
    eventually("all are judged", || refused(&b, &a) == [2000, 0, 0, 0]).await;
    assert_eq!(name("order-a@127.0.0.1"), *a.name());
}
