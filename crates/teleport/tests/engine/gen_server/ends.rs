//! How a server ends, and who is told.

use super::desk::{
    Ask, Desk, Event, LONG, Poison, Tell, Trouble, ask, atom, client, desk, exit_reason, is_well, next_down,
    panicked,
};
use crate::common::{MIB, eventually, pair, pair_with, payload, peer_of, within};
use teleport::{Atom, CallError, PeerInfo, RegisterError, SendError, ShutdownReport, Term};

#[tokio::test]
async fn otp_can_stop_it_and_is_told_what_else_is_not_there() {
    let (a, b) = pair().await;
    for node in [&a, &b] {
        let (server, mut events) = desk(node, "desk");
        assert_eq!(events.next().await, Event::Init);
        let mut caller = a.mailbox().unwrap();
        let monitor = caller.monitor(&server).await.unwrap();
        let system = Atom::from_static("system");
        let state = (&system, (caller.pid(), 1), Atom::from_static("get_state"));
        caller.send(server.pid(), &state).await.unwrap();
        let answer: (u8, Result<Term, (Atom, Atom)>) = within(caller.recv()).await.unwrap().decode().unwrap();
        let unknown = (Atom::from_static("unknown_system_msg"), Atom::from_static("get_state"));
        assert_eq!(answer, (1, Err(unknown)));

        let stop =
            (&system, (caller.pid(), 2), (Atom::from_static("terminate"), Atom::from_static("enough")));
        caller.send(server.pid(), &stop).await.unwrap();
        let (mut answers, mut downs) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let message = within(caller.recv()).await.unwrap();
            match message.down() {
                Some(down) => downs.push(down),
                None => answers.push(message.decode::<(u8, Atom)>().unwrap()),
            }
        }
        assert_eq!(answers, [(2, Atom::from_static("ok"))]);
        assert_eq!((&downs[0].reference, &downs[0].reason), (&monitor, &atom("enough")));
        assert_eq!(events.rest().await, [Event::Terminate(atom("enough")), Event::Dropped]);
    }
}

#[tokio::test]
async fn a_last_reply_comes_after_terminate_and_the_name_is_free_then() {
    let (a, b) = pair().await;
    for node in [&a, &b] {
        let (server, mut events) = desk(node, "desk");
        let mut watcher = a.mailbox().unwrap();
        let monitor = watcher.monitor(&server).await.unwrap();
        assert_eq!(events.next().await, Event::Init);
        let reason = Term::tuple([atom("shutdown"), 17.into()]);
        let reply = ask(&server, &watcher.process(), Ask::StopAndReply(reason.clone())).await.unwrap();
        // It is there already: terminate was before the reply.
        assert_eq!((reply, events.0.try_recv()), (atom("bye"), Ok(Event::Terminate(reason.clone()))));
        assert_eq!(within(server.wait()).await, reason);
        let down = next_down(&mut watcher).await;
        assert_eq!((down.reference, down.reason), (monitor, reason));
        assert_eq!(events.rest().await, [Event::Dropped]);
        drop(node.register("desk").expect("the name is free"));
    }
}

#[tokio::test]
async fn the_end_of_a_server_ends_all_calls_that_it_has_not_answered() {
    let (a, b) = pair().await;
    for node in [&a, &b] {
        let (server, _events) = desk(node, "desk");
        let client = client(&a);
        let kept = server.address().send_request(&client, &Ask::Later(1)).await.unwrap();
        let stopping = server.address().send_request(&client, &Ask::Stop(atom("tired"))).await.unwrap();
        let behind = server.address().send_request(&client, &Ask::Echo(1.into())).await.unwrap();
        assert_eq!(exit_reason(within(kept).await), atom("tired"));
        assert_eq!(exit_reason(within(stopping).await), atom("tired"));
        let behind = within(behind).await; // it may have come when nobody was there any more
        assert!(
            matches!(&behind, Err(CallError::Exit(reason)) if *reason == atom("tired"))
                || matches!(behind, Err(CallError::NoProcess)),
            "{behind:?}"
        );
        let dead = ask(&server, &client, Ask::Echo(1.into())).await;
        assert!(matches!(dead, Err(CallError::NoProcess)), "{dead:?}");
        server.cast(&client, &Tell::Note(1.into())).await.expect("vanishes, as in Erlang");
    }
    assert_eq!(a.info().watching, 0);
}

#[tokio::test]
async fn a_cast_or_its_starter_can_stop_it_after_what_was_sent_before() {
    let (a, b) = pair().await;
    let (server, _events) = desk(&b, "desk");
    server.cast(&client(&a), &Tell::Stop(atom("told"))).await.unwrap();
    assert_eq!(within(server.wait()).await, atom("told"));

    let (server, events) = desk(&a, "desk");
    for number in 0..1000 {
        server.cast(&a.process(), &Tell::Note(number.into())).await.unwrap();
    }
    assert_eq!(within(server.stop(Term::atom("normal"))).await.unwrap(), atom("normal"));
    let events = events.rest().await;
    assert_eq!(events.len(), 1 + 1000 + 2);
    assert_eq!(events[1001], Event::Terminate(atom("normal")));
    let again = within(server.clone().stop(Term::atom("again"))).await.unwrap();
    assert_eq!(again, atom("normal"), "it had ended");
}

#[tokio::test]
async fn a_reason_that_cannot_be_sent_stops_nobody() {
    let (a, _b) = pair_with(|config| config.max_message = (MIB as u64).try_into().unwrap()).await;
    let (server, _events) = desk(&a, "desk");
    let deep = (0..600).fold(Term::atom("deep"), |term, _| Term::tuple([term]));
    let refused = within(server.stop(deep)).await;
    assert!(matches!(&refused, Err(SendError::Encode(_))), "{refused:?}");
    let refused = within(server.stop(payload(2 * MIB, 1))).await;
    assert!(matches!(refused, Err(SendError::TooLarge { .. })), "{refused:?}");
    assert!(is_well(&server, &client(&a)).await);
}

#[tokio::test]
async fn a_server_that_stops_in_init_is_not_terminated() {
    let (a, b) = pair().await;
    let (mut desk, events) = Desk::new();
    desk.init = Some(Trouble::Stop("no_disk"));
    // The request is there before the server begins.
    let mailbox = b.register("desk").unwrap();
    let waiting = client(&a).send_request::<_, Term>(("desk", b.name()), &Ask::Stuck).await.unwrap();
    eventually("the request is there", || mailbox.len() == 1).await;
    let server = mailbox.serve(desk);
    assert_eq!(within(server.wait()).await, atom("no_disk"));
    assert_eq!(exit_reason(within(waiting).await), atom("no_disk"));
    assert_eq!(events.rest().await, [Event::Init, Event::Dropped]);
}

#[tokio::test]
async fn a_panic_in_any_callback_is_the_exit_reason_for_everybody() {
    let (a, b) = pair().await;
    let (other, _events) = desk(&b, "other");
    for text in ["in a call", "in a cast", "on request", "poison"] {
        for node in [&a, &b] {
            let (server, events) = desk(node, "desk");
            let mut watcher = a.mailbox().unwrap();
            let monitor = watcher.monitor(&server).await.unwrap();
            let waiting = server.address().send_request(&watcher.process(), &Ask::Later(1)).await.unwrap();
            let client = watcher.process();
            match text {
                "in a call" => {
                    let result = ask(&server, &client, Ask::Panic(text.into())).await;
                    assert_eq!(exit_reason(result), panicked(text));
                }
                "in a cast" => server.cast(&client, &Tell::Panic(text.into())).await.unwrap(),
                "on request" => client.send(&server, &Atom::from_static("panic")).await.unwrap(),
                _ => server.cast(&client, &Tell::Poisoned(Poison)).await.unwrap(),
            }
            assert_eq!(exit_reason(within(waiting).await), panicked(text));
            assert_eq!(within(server.wait()).await, panicked(text));
            let down = next_down(&mut watcher).await;
            assert_eq!((down.reference, down.reason), (monitor, panicked(text)));
            assert_eq!(events.rest().await, [Event::Init, Event::Dropped], "{text}");
            drop(node.register("desk").expect("the name is free"));
        }
    }
    assert!(is_well(&other, &client(&a)).await);
}

#[tokio::test]
async fn a_panic_at_the_begin_or_the_end_is_an_exit_reason_too() {
    let (a, _b) = pair().await;
    let client = client(&a);
    let (mut desk, events) = Desk::new();
    desk.init = Some(Trouble::Panic("at the begin"));
    let server = a.spawn_server(desk).unwrap();
    assert_eq!(within(server.wait()).await, panicked("at the begin"));
    assert_eq!(events.rest().await, [Event::Init, Event::Dropped]);

    let (mut desk, _events) = Desk::new();
    desk.terminate = Some(Trouble::Panic("at the end"));
    let server = a.spawn_server(desk).unwrap();
    let reply = ask(&server, &client, Ask::StopAndReply(atom("normal"))).await;
    assert_eq!(reply.unwrap(), atom("bye"), "the last reply is sent all the same");
    assert_eq!(within(server.wait()).await, panicked("at the end"));

    let (mut desk, _events) = Desk::new();
    desk.drop = Some(Trouble::Panic("in drop"));
    let server = a.spawn_server(desk).unwrap();
    assert_eq!(within(server.stop(Term::atom("normal"))).await.unwrap(), panicked("in drop"));

    let (desk, _events) = Desk::new();
    let server = a.spawn_server(desk).unwrap();
    let long = "ä".repeat(10_000);
    let reason = exit_reason(ask(&server, &client, Ask::Panic(format!("a{long}"))).await);
    let text = reason.as_tuple().unwrap()[1].as_binary().unwrap().clone();
    assert_eq!(text.len(), 4095, "cut between characters");
}

#[tokio::test]
async fn the_end_of_the_node_ends_its_servers_in_order() {
    let (a, b) = pair().await;
    let (server, mut events) = desk(&b, "desk");
    assert!(is_well(&server, &client(&a)).await);
    assert_eq!(events.next().await, Event::Init);
    for number in 0..1000 {
        server.cast(&b.process(), &Tell::Note(number.into())).await.unwrap();
    }
    let _report = within(b.shutdown(LONG)).await;
    assert_eq!(within(server.wait()).await, atom("shutdown"));
    for number in 0..1000 {
        assert_eq!(events.next().await, Event::Told(number.into()), "what was there is done");
    }
    assert_eq!(events.rest().await, [Event::Terminate(atom("shutdown")), Event::Dropped]);
    assert_eq!(within(server.stop(Term::atom("late"))).await.unwrap(), atom("shutdown"));
    let (late, _events) = Desk::new();
    assert_eq!(b.spawn_server(late).unwrap_err(), RegisterError::NotRunning);
}

/// The recipe: what was asked before is answered, and the answers arrive.
#[tokio::test]
async fn a_server_that_is_stopped_before_its_node_has_answered_everybody() {
    let (a, b) = pair().await;
    let (server, _events) = desk(&b, "desk");
    let client = client(&a);
    let mut asked = Vec::new();
    for number in 0..200u64 {
        asked.push(server.address().send_request(&client, &Ask::Echo(number.into())).await.unwrap());
    }
    let received = |peer: PeerInfo| peer.transfer.messages_received == 200;
    eventually("all are there", || peer_of(&b, a.name()).is_some_and(received)).await;
    let _reason = within(server.stop(Term::atom("normal"))).await.unwrap();
    assert_eq!(within(b.shutdown(LONG)).await, ShutdownReport::default());
    for (number, asked) in asked.into_iter().enumerate() {
        assert_eq!(within(asked).await.unwrap(), Term::from(number as u64));
    }
}

#[tokio::test]
async fn a_stuck_server_can_be_killed() {
    let (a, b) = pair().await;
    for node in [&a, &b] {
        let (server, events) = desk(node, "desk");
        let watcher = a.mailbox().unwrap();
        watcher.monitor(&server).await.unwrap();
        let stuck = server.address().send_request(&watcher.process(), &Ask::Stuck).await.unwrap();
        eventually("it has begun", || !events.0.is_empty()).await;
        server.kill();
        assert_eq!(within(server.wait()).await, atom("killed"));
        let stuck = within(stuck).await;
        // From elsewhere the request may have come too late.
        assert!(matches!(stuck, Err(CallError::Exit(_) | CallError::NoProcess)), "{stuck:?}");
        assert_eq!(events.rest().await, [Event::Init, Event::Dropped]);
        drop(node.register("desk").expect("the name is free"));
    }
}

#[test]
fn a_server_runs_on_the_runtime_it_was_started_on_or_on_the_node_s() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (outer, inner) = (runtime(), runtime());
    let (a, _b) = outer.block_on(pair());
    let (desk, events) = Desk::new();
    let server = inner.block_on(async { a.spawn_server(desk).unwrap() });
    drop(inner);
    assert_eq!(outer.block_on(server.wait()), atom("killed"));
    assert_eq!(outer.block_on(events.rest()).last(), Some(&Event::Dropped));

    let (desk, _events) = Desk::new();
    let server = a.spawn_server(desk).unwrap();
    assert!(outer.block_on(is_well(&server, &client(&a))));
    assert_eq!(outer.block_on(server.stop(Term::atom("normal"))).unwrap(), atom("normal"));
}
