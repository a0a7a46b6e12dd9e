//! GenServer: what comes to which callback, and what does a server no harm.

mod desk;
mod ends;

use crate::common::{MIB, child, eventually, pair, pair_with, payload, within};
use bytes::Bytes;
use desk::{Ask, Desk, Event, LONG, Plain, Tell, ask, atom, client, desk, is_well};
use std::fmt::{Debug, Write};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use teleport::etf::{Limits, Segments};
use teleport::gen_server::{Answer, Context, GenServer, ServerAddress};
use teleport::{Atom, CallError, Caller, Down, Message, RawTerm, RegisterError, SendOptions, Term};
use tracing_subscriber::layer::{Layer, SubscriberExt};

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
        let mut caller = node.mailbox().unwrap();
        for tag in [atom("tag"), Term::tuple([atom("tag"), 1.into()])] {
            let request = (Atom::from_static("$gen_call"), (caller.pid(), &tag), Ask::Echo(9.into()));
            caller.send(server.pid(), &request).await.unwrap();
            let (answered, reply): (Term, u8) = within(caller.recv()).await.unwrap().decode().unwrap();
            assert_eq!((answered, reply), (tag, 9));
        }
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
async fn a_caller_has_the_limits_of_decoding_too() {
    struct Server(tokio::sync::mpsc::UnboundedSender<usize>);

    impl GenServer for Server {
        type Call = Term;
        type Reply = ();
        type Cast = ();

        async fn handle_call(&mut self, _: Term, _: &Caller, _: &mut Context) -> Answer<()> {
            ().into()
        }

        async fn handle_info(&mut self, message: Message, _: &mut Context) {
            self.0.send(message.body().len()).unwrap();
        }
    }

    let (a, _b) = pair().await;
    let (events, mut infos) = tokio::sync::mpsc::unbounded_channel();
    let server = a.spawn_server(Server(events)).unwrap();
    let client = client(&a);
    // {'$gen_call', {Pid, [[], [], ...]}, 1}: built as a term, the tag would take forty times as many bytes.
    let mut message = vec![131, 104, 3, 119, 9];
    message.extend(b"$gen_call");
    message.extend([104, 2]);
    message.extend(&Term::from(client.pid()).encode().unwrap().into_contiguous()[1..]);
    let count = Limits::default().max_elements as u32;
    message.push(108);
    message.extend(count.to_be_bytes());
    message.resize(message.len() + count as usize + 1, 106);
    message.extend([97, 1]);
    let len = message.len();
    let message = Segments::from(Bytes::from(message));
    within(client.send_encoded(server.pid(), message, SendOptions::default())).await.unwrap();
    assert_eq!(within(infos.recv()).await, Some(len), "it is no call");
    let well: () = within(server.call(&client, &1.into(), LONG)).await.unwrap();
    assert_eq!(well, ());
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
        let caller = node.mailbox().unwrap();
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
    let sending = async {
        for _ in 0..10_000 {
            server.cast(&client, &()).await.unwrap();
        }
    };
    tokio::task::unconstrained(sending).await;
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

/// What was logged on this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Line(String);
        impl tracing::field::Visit for Line {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn Debug) {
                write!(self.0, " {field}={value:?}").unwrap();
            }
        }
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
}

#[test]
fn what_cannot_be_read_is_warned_of_once_and_never_shown() {
    // In a process of its own: whether anybody listens is remembered for all threads.
    const ALONE: &str = "TELEPORT_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return child::run(warn_once());
    }
    let myself = "gen_server::what_cannot_be_read_is_warned_of_once_and_never_shown";
    let mut process = Command::new(std::env::current_exe().unwrap());
    let output = process.args([myself, "--exact"]).env(ALONE, "1").output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && shown.contains("1 passed"), "{shown}");
}

async fn warn_once() {
    let lines = Lines::default();
    // Servers run on this thread.
    let _here = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines.clone()));
    let (a, _b) = pair().await;
    let (server, _events) = desk(&a, "desk");
    let client = client(&a);
    for _ in 0..100 {
        // What serde says of it names the variant.
        client.cast(&server, &(Term::atom("secret"), "secret")).await.unwrap();
        client.cast(&server, &("secret", "secret")).await.unwrap();
    }
    assert!(is_well(&server, &client).await);
    // What a panic says is for the log.
    let _ = ask(&server, &client, Ask::Panic("no such drawer".into())).await.unwrap_err();
    let lines = lines.0.lock().unwrap().clone();
    let of = |level: &str, what: &str| {
        lines.iter().filter(|line| line.starts_with(level) && line.contains(what)).count()
    };
    assert_eq!((of("WARN", "a cast cannot be read"), of("ERROR", "a server panicked")), (1, 1), "{lines:?}");
    assert_eq!(of("ERROR", r#"{panic,<<"no such drawer">>}"#), 1, "{lines:?}");
    assert_eq!(of("", "secret"), 0, "{lines:?}");
}
