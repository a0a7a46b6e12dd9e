//! A server that does what it is told, and tells what came to it.

use crate::common::{payload, within};
use serde::{Deserialize, Deserializer, Serialize};
use std::time::Duration;
use teleport::gen_server::{Answer, Context, GenServer, ServerRef};
use teleport::{
    Atom, Binary, CallError, Caller, Down, Mailbox, Message, Node, Pid, Process, Reference, Term,
};
use tokio::sync::mpsc;

pub(super) const LONG: Duration = Duration::from_secs(60);

/// What came to a desk.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    Init,
    Told(Term),
    Info(Term),
    Down(Down),
    Terminate(Term),
    Dropped,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Ask {
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
pub(super) enum Tell {
    Note(Term),
    Stop(Term),
    Panic(String),
    Poisoned(Poison),
}

/// Its decoding panics.
#[derive(Serialize)]
pub(super) struct Poison;

impl<'de> Deserialize<'de> for Poison {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("poison")
    }
}

pub(super) struct Desk {
    events: mpsc::UnboundedSender<Event>,
    waiting: Vec<(Caller, u64)>,
    pub(super) init: Option<Trouble>,
    pub(super) terminate: Option<Trouble>,
    pub(super) drop: Option<Trouble>,
}

#[derive(Clone)]
pub(super) enum Trouble {
    Panic(&'static str),
    Stop(&'static str),
}

impl Desk {
    pub(super) fn new() -> (Self, Events) {
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
pub(super) struct Plain;

impl GenServer for Plain {
    type Call = ();
    type Reply = ();
    type Cast = ();

    async fn handle_call(&mut self, _: (), _: &Caller, _: &mut Context) -> Answer<()> {
        ().into()
    }
}

pub(super) struct Events(pub(super) mpsc::UnboundedReceiver<Event>);

impl Events {
    pub(super) async fn next(&mut self) -> Event {
        within(self.0.recv()).await.expect("the server lives")
    }

    /// All that are left, when the server is gone.
    pub(super) async fn rest(mut self) -> Vec<Event> {
        let mut rest = Vec::new();
        while let Some(event) = within(self.0.recv()).await {
            rest.push(event);
        }
        rest
    }
}

pub(super) fn atom(name: &'static str) -> Term {
    Term::atom(name)
}

pub(super) fn panicked(text: &'static str) -> Term {
    Term::tuple([atom("panic"), Binary::from(text.to_owned()).into()])
}

/// A server without troubles of its own.
pub(super) fn desk(node: &Node, name: &str) -> (ServerRef<Desk>, Events) {
    let (desk, events) = Desk::new();
    (node.register_server(name, desk).unwrap(), events)
}

pub(super) fn client(node: &Node) -> Process {
    node.mailbox().unwrap().process()
}

pub(super) async fn ask(server: &ServerRef<Desk>, from: &Process, request: Ask) -> Result<Term, CallError> {
    within(server.call(from, &request, LONG)).await
}

pub(super) async fn is_well(server: &ServerRef<Desk>, from: &Process) -> bool {
    ask(server, from, Ask::Echo(atom("well"))).await.is_ok_and(|reply| reply == atom("well"))
}

pub(super) fn exit_reason<T: std::fmt::Debug>(result: Result<T, CallError>) -> Term {
    match result {
        Err(CallError::Exit(reason)) => reason,
        other => panic!("not an exit reason: {other:?}"),
    }
}

pub(super) async fn next_down(mailbox: &mut Mailbox) -> Down {
    within(mailbox.recv()).await.unwrap().down().expect("a DOWN")
}
