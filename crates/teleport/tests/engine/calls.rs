//! Calls: each ends exactly once, and says how.

use crate::common::{MIB, eventually, name, pair, payload, receive, within};
use std::time::Duration;
use teleport::{Atom, Binary, CallError, Caller, Mailbox, Node, Pid, RawTerm, ReplyError, SendError, Term};

const LONG: Duration = Duration::from_secs(60);

/// Answers every call with what was asked, until the mailbox ends.
fn echo_server(node: &Node, name: &str) -> tokio::task::JoinHandle<()> {
    let mut mailbox = node.register(name).unwrap();
    tokio::spawn(async move {
        while let Some(message) = mailbox.recv().await {
            let (caller, request) = message.call().unwrap();
            mailbox.process().reply(&caller, &request).unwrap();
        }
    })
}

/// The next message, which has to be a call.
async fn next_call(server: &mut Mailbox) -> (Caller, RawTerm) {
    within(server.recv()).await.unwrap().call().unwrap()
}

#[tokio::test]
async fn a_call_is_answered_here_and_there_whatever_its_size() {
    let (a, b) = pair().await;
    let _echo = echo_server(&b, "echo");
    let caller = a.register("caller").unwrap();
    for node in [&a, &b] {
        for size in [0, 64, 100_000, 5 * MIB] {
            let request = payload(size, 7);
            let caller = node.mailbox().unwrap().process();
            let reply: Binary = within(caller.call(("echo", b.name()), &request, LONG)).await.unwrap();
            assert_eq!(reply, request);
        }
    }
    assert!(caller.is_empty(), "replies do not come through the mailbox");
    assert_eq!((a.info().late_replies, b.info().late_replies), (0, 0));
}

/// As `gen_server:call` of old asked: the answer is a message `{Tag, Reply}`.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_a_plain_tag_keeps_its_place() {
    let (a, b) = pair().await;
    let mut caller = a.mailbox().unwrap();
    for node in [&a, &b] {
        let mut server = node.mailbox().unwrap();
        for round in 0..100 {
            let request = (Atom::from_static("$gen_call"), (caller.pid(), "tag"), round);
            caller.send(&server.pid(), &request).await.unwrap();
            let (from, request) = next_call(&mut server).await;
            server.process().reply(&from, &request).unwrap();
            server.send(&caller.pid(), &"next").await.unwrap();
            assert_eq!(receive::<(String, i32)>(&mut caller).await, ("tag".to_owned(), round));
            assert_eq!(receive::<String>(&mut caller).await, "next");
        }
    }
}

#[tokio::test]
async fn the_server_sees_the_shapes_of_otp() {
    let (a, b) = pair().await;
    let mut server = b.register("server").unwrap();
    let caller = a.mailbox().unwrap();
    let response = caller.process().send_request::<_, Term>(("server", b.name()), "question").await.unwrap();
    let message = within(server.recv()).await.unwrap();
    let (kind, (pid, tag), question): (Atom, (Pid, Term), String) = message.decode().unwrap();
    assert_eq!((kind.as_str(), &pid, question.as_str()), ("$gen_call", &caller.pid(), "question"));
    let Term::ImproperList(tag) = tag else { panic!("{tag:?} is not [alias|Ref]") };
    assert_eq!(tag.elements(), [Term::atom("alias")]);
    assert_eq!(tag.tail().as_reference().unwrap().node().as_str(), a.name().as_str());

    caller.process().cast(("server", b.name()), &("hello", 1)).await.unwrap();
    let (kind, what): (Atom, (String, i32)) = receive(&mut server).await;
    assert_eq!((kind.as_str(), what), ("$gen_cast", ("hello".to_owned(), 1)));
    drop(response);
}

#[tokio::test]
async fn a_call_can_be_answered_from_another_node() {
    let peers = teleport::StaticPeers::new();
    let a = crate::common::start("a@127.0.0.1", &peers).await;
    let b = crate::common::start("b@127.0.0.1", &peers).await;
    let c = crate::common::start("c@127.0.0.1", &peers).await;
    let (mut front, mut worker) = (b.register("front").unwrap(), c.register("worker").unwrap());
    let calling = tokio::spawn(async move {
        a.process()
            .call::<_, String>(("front", name("b@127.0.0.1")), "work", LONG)
            .await
            .map(|reply| (reply, a))
    });
    let (caller, request) = next_call(&mut front).await;
    front.send(("worker", c.name()), &(caller, request)).await.unwrap();
    let (caller, request): (Caller, String) = receive(&mut worker).await;
    worker.process().reply(&caller, &format!("{request} done")).unwrap();
    let (reply, a) = within(calling).await.unwrap().unwrap();
    assert_eq!(reply, "work done");
    // The server's end after that is nothing to the caller.
    drop(front);
    assert_eq!(a.info().late_replies, 0);
}

#[tokio::test]
async fn a_call_to_nobody_says_so() {
    let (a, b) = pair().await;
    let gone = b.mailbox().unwrap().pid();
    let gone_here = a.mailbox().unwrap().pid();
    for (name, pid) in [(("nobody", b.name()), gone), (("nobody", a.name()), gone_here)] {
        for to in [name.into(), pid.into()] {
            let to: teleport::Address = to;
            let result: Result<Term, _> = within(a.process().call(&to, "?", LONG)).await;
            assert!(matches!(result, Err(CallError::NoProcess)), "{to}: {result:?}");
        }
    }
    let unknown: Result<Term, _> = a.process().call(("x", name("nobody@nowhere")), "?", LONG).await;
    assert!(matches!(unknown, Err(CallError::Send(SendError::NoConnection(_)))), "{unknown:?}");
    let stale = Pid { creation: b.incarnation().as_u32() ^ 1, ..b.process().pid() };
    let stale: Result<Term, _> = a.process().call(stale, "?", LONG).await;
    assert!(matches!(stale, Err(CallError::NoProcess)), "{stale:?}");
}

#[tokio::test]
async fn a_process_that_calls_itself_is_told() {
    let (a, _b) = pair().await;
    let selfish = a.register("selfish").unwrap();
    let process = selfish.process();
    for to in ["selfish".into(), ("selfish", a.name()).into(), selfish.pid().into()] {
        let to: teleport::Address = to;
        let result: Result<Term, _> = process.call(to, "?", LONG).await;
        assert!(matches!(result, Err(CallError::CallingSelf)), "{result:?}");
    }
    assert!(selfish.is_empty());
}

#[tokio::test]
async fn the_server_s_end_ends_its_calls_with_its_reason() {
    let (a, b) = pair().await;
    for node in [&a, &b] {
        for taken in [false, true] {
            let mut server = node.register("server").unwrap();
            let call = a.process().send_request::<_, Term>(("server", node.name()), "?").await.unwrap();
            eventually("the request is there", || server.len() == 1).await;
            if taken {
                next_call(&mut server).await;
            }
            server.exit(Term::tuple([Term::atom("shutdown"), 17.into()]));
            let result = within(call).await;
            assert!(
                matches!(&result, Err(CallError::Exit(Term::Tuple(reason))) if reason[1] == 17.into()),
                "{result:?}"
            );
        }
    }
}

#[tokio::test]
async fn after_a_timeout_the_late_reply_is_dropped_and_counted() {
    let (a, b) = pair().await;
    within(a.prime(b.name())).await.unwrap(); // what is cut short is the wait for the answer
    for node in [&a, &b] {
        let late = a.info().late_replies;
        let caller = a.mailbox().unwrap();
        let mut server = node.register("slow").unwrap();
        let timeout = Duration::from_millis(20);
        let result: Result<Term, _> =
            within(caller.process().call(("slow", node.name()), "?", timeout)).await;
        assert!(matches!(result, Err(CallError::Timeout(limit)) if limit == timeout), "{result:?}");
        let (from, _) = next_call(&mut server).await;
        server.process().reply(&from, "late").unwrap();
        eventually("the late reply is counted", || a.info().late_replies == late + 1).await;
        assert!(caller.is_empty());
        // The server's end comes later still.
        drop(server);
        let again = a.process().call::<_, Term>(("slow", node.name()), "?", LONG).await;
        assert!(matches!(again, Err(CallError::NoProcess)), "{again:?}");
    }
}

#[tokio::test]
async fn only_the_first_of_several_replies_counts() {
    let (a, b) = pair().await;
    let mut server = b.register("server").unwrap();
    let response = a.process().send_request::<_, i32>(("server", b.name()), "?").await.unwrap();
    let (caller, _) = next_call(&mut server).await;
    (1..=3).for_each(|reply| server.process().reply(&caller, &reply).unwrap());
    assert_eq!(within(response).await.unwrap(), 1);
    eventually("the others are counted", || a.info().late_replies == 2).await;
}

#[tokio::test]
async fn a_reply_of_another_type_is_an_error_of_the_caller_s_alone() {
    let (a, b) = pair().await;
    let _echo = echo_server(&b, "echo");
    let wrong: Result<u32, _> = within(a.process().call(("echo", b.name()), "text", LONG)).await;
    assert!(matches!(wrong, Err(CallError::Reply(_))), "{wrong:?}");
    let right: String = within(a.process().call(("echo", b.name()), "text", LONG)).await.unwrap();
    assert_eq!(right, "text");
}

#[tokio::test]
async fn a_reply_that_is_too_large_is_an_error_for_both() {
    let (a, b) =
        crate::common::pair_with(|config| config.max_message = (MIB as u64).try_into().unwrap()).await;
    for node in [&a, &b] {
        let mut server = node.register("server").unwrap();
        let response = a.process().send_request::<_, Binary>(("server", node.name()), "?").await.unwrap();
        let (caller, _) = next_call(&mut server).await;
        let refused = server.process().reply(&caller, &payload(2 * MIB, 1));
        assert!(matches!(refused, Err(ReplyError::TooLarge { .. })), "{refused:?}");
        let result = within(response).await;
        assert!(matches!(&result, Err(CallError::Rejected(why)) if why.contains("1048576")), "{result:?}");
    }
}

#[tokio::test]
async fn the_end_of_the_session_ends_its_calls() {
    let (a, b) = pair().await;
    let mut server = b.register("server").unwrap();
    let response = a.process().send_request::<_, Term>(("server", b.name()), "?").await.unwrap();
    let (caller, _) = next_call(&mut server).await;
    a.disconnect(b.name());
    let result = within(response).await;
    assert!(matches!(&result, Err(CallError::NodeDown { peer, .. }) if peer == b.name()), "{result:?}");
    // Answering is harmless: the reply finds nobody.
    server.process().reply(&caller, "too late").unwrap();
}

#[tokio::test]
async fn several_servers_are_called_at_once() {
    let (a, b) = pair().await;
    let (_one, _two) = (echo_server(&a, "echo"), echo_server(&b, "echo"));
    let nodes = [a.name().clone(), b.name().clone(), crate::common::name("nobody@nowhere")];
    let caller = a.mailbox().unwrap().process();
    let all = within(caller.multi_call::<_, String>(nodes.clone(), "echo", "hello", LONG)).await;
    assert_eq!(all.replies, [(nodes[0].clone(), "hello".to_owned()), (nodes[1].clone(), "hello".to_owned())]);
    assert!(matches!(&all.failures[..], [(node, CallError::Send(_))] if *node == nodes[2]), "{all:?}");

    let (mut one, mut two) = (a.register("sink").unwrap(), b.register("sink").unwrap());
    let failures = within(caller.abcast(nodes.clone(), "sink", &1)).await.unwrap();
    assert!(matches!(&failures[..], [(node, _)] if *node == nodes[2]), "{failures:?}");
    for mailbox in [&mut one, &mut two] {
        assert_eq!(within(mailbox.recv()).await.unwrap().cast().unwrap().decode::<i32>().unwrap(), 1);
    }
}
