//! GenServer: what comes to which callback, how a server ends, and what does not end it.

use crate::common::{MIB, eventually, pair, pair_with, payload, within};
use serde::{Deserialize, Deserializer, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use teleport::etf::Limits;
use teleport::{
    Answer, Atom, Binary, CallError, Caller, Context, Down, GenServer, Mailbox, Message, Node, Pid, Process,
    RawTerm, Reference, RegisterError, SendError, ServerAddress, ServerRef, Term,
};
use tokio::sync::mpsc;

const LONG: Duration = Duration::from_secs(60);

/// What came to a desk.
#[derive(Debug, Clone, PartialEq)]
enum Event {
    Init,
    Told(Term),
    Info(Term),
    Down(Down),
    Terminate(Term),
    Dropped,
}

#[derive(Serialize, Deserialize)]
enum Ask {
    Echo(Term),
    Large(usize),
    /// Answered when `AnswerAll` comes.
    Later(u64),
    /// Answers all that wait, the last one first.
    AnswerAll,
    /// Never returns.
    Stuck,
    Stop(Term),
    StopAndReply(Term),
    Panic(String),
    Watch(Pid),
    Unwatch(Reference),
    CallYourself,
}

#[derive(Serialize, Deserialize)]
enum Tell {
    Note(Term),
    Stop(Term),
    Panic(String),
    Poisoned(Poison),
}

/// Its decoding panics.
#[derive(Serialize)]
struct Poison;

impl<'de> Deserialize<'de> for Poison {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("poison")
    }
}

struct Desk {
    events: mpsc::UnboundedSender<Event>,
    waiting: Vec<(Caller, u64)>,
    init: Option<Trouble>,
    terminate: Option<Trouble>,
    drop: Option<Trouble>,
}

#[derive(Clone)]
enum Trouble {
    Panic(&'static str),
    Stop(&'static str),
}

impl Desk {
    fn new() -> (Self, Events) {
        let (events, seen) = mpsc::unbounded_channel();
        (Self { events, waiting: Vec::new(), init: None, terminate: None, drop: None }, Events(seen))
    }

    fn saw(&self, event: Event) {
        let _ = self.events.send(event); // a test may not look
    }
}

impl Trouble {
    fn make(trouble: &Option<Self>, context: Option<&mut Context>) {
        match trouble {
            None => {}
            Some(Self::Panic(text)) => panic!("{text}"),
            Some(Self::Stop(reason)) => context.unwrap().stop(Term::atom(reason)),
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.saw(Event::Dropped);
        Trouble::make(&self.drop, None);
    }
}

impl GenServer for Desk {
    type Call = Ask;
    type Reply = Term;
    type Cast = Tell;

    async fn init(&mut self, context: &mut Context) {
        self.saw(Event::Init);
        Trouble::make(&self.init, Some(context));
    }

    async fn handle_call(&mut self, request: Ask, caller: &Caller, context: &mut Context) -> Answer<Term> {
        match request {
            Ask::Echo(term) => term.into(),
            Ask::Large(size) => Term::from(payload(size, 1)).into(),
            Ask::Later(number) => {
                self.waiting.push((caller.clone(), number));
                Answer::Later
            }
            Ask::AnswerAll => {
                for (caller, number) in self.waiting.drain(..).rev() {
                    context.process().reply(&caller, &number).unwrap();
                }
                atom("ok").into()
            }
            Ask::Stuck => std::future::pending().await,
            Ask::Stop(reason) => {
                context.stop(reason);
                Answer::Later
            }
            Ask::StopAndReply(reason) => {
                context.stop(reason);
                atom("bye").into()
            }
            Ask::Panic(text) => panic!("{text}"),
            Ask::Watch(pid) => {
                let monitor = context.monitor(&pid).await.unwrap();
                // The answer to what comes behind it says that the monitor is there.
                let () = context.process().call(&pid, &(), LONG).await.unwrap();
                Term::from(monitor).into()
            }
            Ask::Unwatch(monitor) => {
                context.demonitor(&monitor);
                atom("ok").into()
            }
            Ask::CallYourself => {
                let result: Result<Term, _> = context.process().call(context.pid(), "?", LONG).await;
                Term::from(matches!(result, Err(CallError::CallingSelf))).into()
            }
        }
    }

    async fn handle_cast(&mut self, message: Tell, context: &mut Context) {
        match message {
            Tell::Note(term) => self.saw(Event::Told(term)),
            Tell::Stop(reason) => context.stop(reason),
            Tell::Panic(text) => panic!("{text}"),
            Tell::Poisoned(_) => unreachable!(),
        }
    }

    async fn handle_info(&mut self, message: Message, _: &mut Context) {
        match message.down() {
            Some(down) => self.saw(Event::Down(down)),
            None if message.decode::<Atom>().is_ok_and(|atom| atom == "panic") => panic!("on request"),
            None => self.saw(Event::Info(message.decode().unwrap())),
        }
    }

    async fn terminate(&mut self, reason: &Term, _: &mut Context) {
        self.saw(Event::Terminate(reason.clone()));
        Trouble::make(&self.terminate, None);
    }
}

/// Does as little as a server can.
struct Plain;

impl GenServer for Plain {
    type Call = ();
    type Reply = ();
    type Cast = ();

    async fn handle_call(&mut self, _: (), _: &Caller, _: &mut Context) -> Answer<()> {
        ().into()
    }
}

struct Events(mpsc::UnboundedReceiver<Event>);

impl Events {
    async fn next(&mut self) -> Event {
        within(self.0.recv()).await.expect("the server lives")
    }

    /// All that are left, when the server is gone.
    async fn rest(mut self) -> Vec<Event> {
        let mut rest = Vec::new();
        while let Some(event) = within(self.0.recv()).await {
            rest.push(event);
        }
        rest
    }
}

fn atom(name: &'static str) -> Term {
    Term::atom(name)
}

fn panicked(text: &'static str) -> Term {
    Term::tuple([atom("panic"), Binary::from(text.to_owned()).into()])
}

/// A server without troubles of its own.
fn desk(node: &Node, name: &str) -> (ServerRef<Desk>, Events) {
    let (desk, events) = Desk::new();
    (node.register_server(name, desk).unwrap(), events)
}

fn client(node: &Node) -> Process {
    node.spawn_mailbox().unwrap().process()
}

async fn ask(server: &ServerRef<Desk>, from: &Process, request: Ask) -> Result<Term, CallError> {
    within(server.call(from, &request, LONG)).await
}

async fn is_well(server: &ServerRef<Desk>, from: &Process) -> bool {
    ask(server, from, Ask::Echo(atom("well"))).await.is_ok_and(|reply| reply == atom("well"))
}

fn exit_reason<T: std::fmt::Debug>(result: Result<T, CallError>) -> Term {
    match result {
        Err(CallError::Exit(reason)) => reason,
        other => panic!("not an exit reason: {other:?}"),
    }
}

async fn next_down(mailbox: &mut Mailbox) -> Down {
    within(mailbox.recv()).await.unwrap().down().expect("a DOWN")
}

/// No limits.
fn all() -> Limits {
    Limits { max_elements: usize::MAX, max_depth: usize::MAX, ..Limits::default() }
}

/// A list of strings, each of as many integers as a string can have.
fn strings(count: u32) -> RawTerm {
    let mut document = vec![131, 108];
    document.extend(count.to_be_bytes());
    (0..count).for_each(|_| {
        document.extend([107, 0xff, 0xff]);
        document.resize(document.len() + 0xffff, 1);
    });
    document.push(106);
    RawTerm::from_bytes_with(document.into(), &all()).unwrap()
}

#[tokio::test]
async fn everything_comes_to_its_callback_in_the_order_in_which_it_was_sent() {
    let (a, b) = pair().await;
    let (server, mut events) = desk(&b, "desk");
    assert_eq!((server.name(), events.next().await), (Some("desk"), Event::Init));
    for node in [&a, &b] {
        let client = client(node);
        for number in 0..100 {
            let number = Term::from(number);
            server.cast(&client, &Tell::Note(number.clone())).await.unwrap();
            client.send(server.pid(), &number).await.unwrap();
            assert_eq!(ask(&server, &client, Ask::Echo(number.clone())).await.unwrap(), number);
            assert_eq!(events.next().await, Event::Told(number.clone()));
            assert_eq!(events.next().await, Event::Info(number));
        }
    }
}

#[tokio::test]
async fn a_server_anywhere_is_addressed_with_its_types() {
    let (a, b) = pair().await;
    let (server, _events) = desk(&b, "desk");
    let there = ServerAddress::<Desk>::new(("desk", b.name()));
    for node in [&a, &b] {
        let client = client(node);
        let request = Ask::Echo(payload(3 * MIB, 1).into());
        let reply = within(there.call(&client, &request, LONG)).await.unwrap();
        assert_eq!(reply, payload(3 * MIB, 1).into());
        let response = there.send_request(&client, &Ask::Echo(7.into())).await.unwrap();
        assert_eq!(within(response).await.unwrap(), 7.into());
        // Both are addresses where no types are known.
        let untyped: Term = within(client.call(&there, &Ask::Echo(8.into()), LONG)).await.unwrap();
        let by_pid: Term = within(client.call(&server, &Ask::Echo(8.into()), LONG)).await.unwrap();
        assert_eq!((untyped, by_pid), (8.into(), 8.into()));
    }
}

#[tokio::test]
async fn what_waits_in_a_mailbox_is_the_server_s_first_work() {
    let (a, _b) = pair().await;
    let mailbox = a.register("desk").unwrap();
    for number in 0..3 {
        a.send("desk", &number).await.unwrap();
    }
    let (desk, mut events) = Desk::new();
    let server = mailbox.serve(desk);
    assert_eq!(events.next().await, Event::Init);
    for number in 0..3 {
        assert_eq!(events.next().await, Event::Info(number.into()));
    }
    assert!(is_well(&server, &client(&a)).await);
}

#[tokio::test]
async fn callers_with_older_tags_are_answered_in_their_mailbox() {
    let (a, b) = pair().await;
    let (server, _events) = desk(&b, "desk");
    for node in [&a, &b] {
        let mut caller = node.spawn_mailbox().unwrap();
        for tag in [atom("tag"), Term::tuple([atom("tag"), 1.into()])] {
            let request = (Atom::from_static("$gen_call"), (caller.pid(), &tag), Ask::Echo(9.into()));
            caller.send(server.pid(), &request).await.unwrap();
            let (answered, reply): (Term, u8) = within(caller.recv()).await.unwrap().decode().unwrap();
            assert_eq!((answered, reply), (tag, 9));
        }
    }
}

#[tokio::test]
async fn otp_can_stop_it_and_is_told_what_else_is_not_there() {
    let (a, b) = pair().await;
    for node in [&a, &b] {
        let (server, mut events) = desk(node, "desk");
        assert_eq!(events.next().await, Event::Init);
        let mut caller = a.spawn_mailbox().unwrap();
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
async fn answers_may_come_later_and_in_another_order() {
    let (a, b) = pair().await;
    let (server, _events) = desk(&b, "desk");
    for node in [&a, &b] {
        let client = client(node);
        let mut responses = Vec::new();
        for number in 0..10 {
            responses.push(server.address().send_request(&client, &Ask::Later(number)).await.unwrap());
        }
        assert_eq!(ask(&server, &client, Ask::AnswerAll).await.unwrap(), atom("ok"));
        for (number, response) in responses.into_iter().enumerate().rev() {
            assert_eq!(within(response).await.unwrap(), (number as i64).into());
        }
    }
    assert_eq!((a.info().late_replies, a.info().watching, b.info().watching), (0, 0, 0));
}

#[tokio::test]
async fn a_last_reply_comes_after_terminate_and_the_name_is_free_then() {
    let (a, b) = pair().await;
    for node in [&a, &b] {
        let (server, mut events) = desk(node, "desk");
        let mut watcher = a.spawn_mailbox().unwrap();
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
async fn a_cast_can_stop_it_and_so_can_whoever_started_it_after_what_was_sent_before() {
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
            let mut watcher = a.spawn_mailbox().unwrap();
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
async fn what_cannot_be_read_is_refused_and_the_server_goes_on() {
    let (a, b) = pair().await;
    let (server, mut events) = desk(&b, "desk");
    assert_eq!(events.next().await, Event::Init);
    // Deeper than what is decoded, and more.
    let deep = (0..600).fold(Term::from(1), |inner, _| Term::tuple([inner]));
    let many = strings(257);
    for node in [&a, &b] {
        let client = client(node);
        let wrong = [Term::from(1), Term::tuple([atom("NoSuchRequest"), 1.into()]), deep.clone()];
        let wrong =
            wrong.map(|term| RawTerm::from_bytes_with(term.encode().unwrap().into_contiguous(), &all()));
        for wrong in wrong.into_iter().map(Result::unwrap).chain([many.clone()]) {
            let result: Result<Term, _> = within(client.call(&server, &wrong, LONG)).await;
            let why = "the request cannot be read";
            assert!(matches!(&result, Err(CallError::Rejected(text)) if text.contains(why)), "{result:?}");
            client.cast(&server, &wrong).await.unwrap();
        }
        server.cast(&client, &Tell::Note(1.into())).await.unwrap();
        assert_eq!(events.next().await, Event::Told(1.into()), "nothing of it came to a callback");
        assert!(is_well(&server, &client).await);
    }
}

#[tokio::test]
async fn a_reply_that_is_too_large_is_refused_and_the_server_goes_on() {
    let (a, b) = pair_with(|config| config.max_message = (MIB as u64).try_into().unwrap()).await;
    let (server, _events) = desk(&b, "desk");
    for node in [&a, &b] {
        let client = client(node);
        let result = ask(&server, &client, Ask::Large(2 * MIB)).await;
        assert!(matches!(&result, Err(CallError::Rejected(why)) if why.contains("1048576")), "{result:?}");
        assert!(is_well(&server, &client).await);
    }
}

#[tokio::test]
async fn a_reply_of_another_type_is_the_caller_s_error() {
    let (a, b) = pair().await;
    let (server, _events) = desk(&b, "desk");
    for node in [&a, &b] {
        let client = client(node);
        let wrong: Result<u32, _> = within(client.call(&server, &Ask::Echo(atom("text")), LONG)).await;
        assert!(matches!(wrong, Err(CallError::Reply(_))), "{wrong:?}");
        assert!(is_well(&server, &client).await);
    }
}

#[tokio::test]
async fn a_name_is_taken_once() {
    let (a, _b) = pair().await;
    let (server, _events) = desk(&a, "desk");
    let (second, seen) = Desk::new();
    let taken = a.register_server("desk", second).unwrap_err();
    assert_eq!(taken, RegisterError::Taken("desk".into()));
    assert_eq!(seen.rest().await, [Event::Dropped], "it has not begun");
    assert_eq!(a.register_server("", Plain).unwrap_err(), RegisterError::Length(String::new()));
    assert!(is_well(&server, &client(&a)).await);
}

#[tokio::test]
async fn a_server_that_calls_itself_is_told() {
    let (a, _b) = pair().await;
    let (server, _events) = desk(&a, "desk");
    let client = client(&a);
    assert_eq!(ask(&server, &client, Ask::CallYourself).await.unwrap(), true.into());
    assert!(is_well(&server, &client).await);
}

#[tokio::test]
async fn a_caller_that_has_given_up_is_nothing_to_the_server() {
    let (a, b) = pair().await;
    let (server, _events) = desk(&b, "desk");
    for node in [&a, &b] {
        let late = node.info().late_replies;
        let caller = node.spawn_mailbox().unwrap();
        assert!(is_well(&server, &caller.process()).await, "so that the request is sent at once");
        let short = Duration::from_millis(1);
        let result = within(server.call(&caller.process(), &Ask::Later(1), short)).await;
        assert!(matches!(result, Err(CallError::Timeout(limit)) if limit == short), "{result:?}");
        assert_eq!(ask(&server, &caller.process(), Ask::AnswerAll).await.unwrap(), atom("ok"));
        eventually("the late reply is counted", || node.info().late_replies == late + 1).await;
        assert!(caller.is_empty());
    }
}

#[tokio::test]
async fn a_thousand_callers_at_once_get_their_own_answers() {
    let (a, b) = pair().await;
    let (server, _events) = desk(&b, "desk");
    for node in [&a, &b] {
        let calls = (0..1000).map(|number| {
            let (server, client) = (server.clone(), client(node));
            tokio::spawn(async move {
                let reply = ask(&server, &client, Ask::Echo(number.into())).await.unwrap();
                assert_eq!(reply, number.into());
            })
        });
        for call in calls.collect::<Vec<_>>() {
            within(call).await.unwrap();
        }
    }
    assert_eq!((a.info().watching, b.info().watching, a.info().late_replies), (0, 0, 0));
}

#[tokio::test]
async fn down_is_a_message_of_the_server_s() {
    let (a, b) = pair().await;
    let (server, mut events) = desk(&a, "desk");
    assert_eq!(events.next().await, Event::Init);
    let client = client(&a);
    for node in [&a, &b] {
        let (watched, unwatched) = (node.spawn_server(Plain).unwrap(), node.spawn_server(Plain).unwrap());
        let monitor = ask(&server, &client, Ask::Watch(watched.pid().clone())).await.unwrap();
        let other = ask(&server, &client, Ask::Watch(unwatched.pid().clone())).await.unwrap();
        let other = other.as_reference().unwrap().clone();
        assert_eq!(ask(&server, &client, Ask::Unwatch(other)).await.unwrap(), atom("ok"));
        within(unwatched.stop(Term::atom("normal"))).await.unwrap();
        within(watched.stop(Term::atom("done"))).await.unwrap();
        let reference = monitor.as_reference().unwrap().clone();
        let object = watched.pid().clone().into();
        let down = Down { reference, object, reason: atom("done") };
        assert_eq!(events.next().await, Event::Down(down));
    }
    assert!(is_well(&server, &client).await);
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

#[tokio::test]
async fn a_stuck_server_can_be_killed() {
    let (a, b) = pair().await;
    for node in [&a, &b] {
        let (server, events) = desk(node, "desk");
        let watcher = a.spawn_mailbox().unwrap();
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

#[tokio::test]
async fn a_server_with_much_to_do_lets_others_run() {
    /// Counts what it is told while another task has not run.
    struct Busy(Arc<AtomicBool>, u64);

    impl GenServer for Busy {
        type Call = ();
        type Reply = u64;
        type Cast = ();

        async fn handle_call(&mut self, (): (), _: &Caller, _: &mut Context) -> Answer<u64> {
            self.1.into()
        }

        async fn handle_cast(&mut self, (): (), _: &mut Context) {
            self.1 += u64::from(!self.0.load(Ordering::SeqCst));
        }
    }

    let (a, _b) = pair().await;
    let ran = Arc::new(AtomicBool::new(false));
    // One thread, on which nothing else runs until this test waits.
    let server = a.spawn_server(Busy(ran.clone(), 0)).unwrap();
    let client = client(&a);
    for _ in 0..10_000 {
        server.cast(&client, &()).await.unwrap();
    }
    tokio::spawn(async move { ran.store(true, Ordering::SeqCst) });
    let before = within(server.call(&client, &(), LONG)).await.unwrap();
    assert!(before < 1000, "the other task had to wait for {before} messages");
}

#[tokio::test]
async fn what_a_server_does_not_handle_is_dropped() {
    let (a, b) = pair().await;
    let server = b.spawn_server(Plain).unwrap();
    for node in [&a, &b] {
        let client = client(node);
        client.send(&server, "anything").await.unwrap();
        server.cast(&client, &()).await.unwrap();
        within(server.call(&client, &(), LONG)).await.unwrap();
    }
}
