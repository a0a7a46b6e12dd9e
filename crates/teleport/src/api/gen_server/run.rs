//! A server's life, from `init` to its exit reason.

use super::context::{Complaint, Context};
use super::envelope::Envelope;
use super::{Answer, GenServer};
use crate::api::call::Caller;
use crate::api::mailbox::{Mailbox, Message};
use crate::base::caught::{Panic, caught, text};
use crate::base::error::ReplyError;
use serde::Serialize;
use std::any::Any;
use std::time::Instant;
use teleport_etf::{Atom, Binary, DecodeError, RawTerm, Term};
use tokio::sync::watch;

/// The most bytes of a panic's message that become part of the exit reason.
const PANIC_TEXT: usize = 4096;

/// The process of a server. Dropping it ends the process: if that comes before its time, as when the runtime is shut
/// down, with the reason `killed`.
pub(super) struct Life {
    context: Option<Context>,
    ended: watch::Sender<Option<Term>>,
}

impl Life {
    /// The process, and where its exit reason will be.
    pub(super) fn new(mailbox: Mailbox) -> (Self, watch::Receiver<Option<Term>>) {
        let (ended, reason) = watch::channel(None);
        (Self { context: Some(Context::new(mailbox)), ended }, reason)
    }

    fn end(&mut self, reason: Term) {
        if let Some(context) = self.context.take() {
            context.mailbox.exit(reason.clone());
            self.ended.send_replace(Some(reason));
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.end(Term::atom("killed"));
    }
}

/// Runs a server until it ends. If it is given up in between, the state is dropped before the process ends, too.
pub(super) async fn run<S: GenServer>(mut life: Life, mut server: S) {
    let Some(context) = &mut life.context else { return };
    let panicked = |panic: Panic| reason_of(&*panic);
    let lived = caught(|| live(&mut server, context)).await.map_err(panicked).flatten();
    // The state goes before those who wait for the end are told: what it holds is free then.
    let dropped = caught(|| async move { drop(server) }).await.map_err(panicked);
    let reason = lived.and_then(|reason| dropped.map(|()| reason));
    let reason = reason.unwrap_or_else(|panic| {
        let (node, server) = (context.node().name(), context.pid());
        tracing::error!(%node, %server, name = context.name(), reason = %panic, "a server panicked");
        panic
    });
    life.end(reason);
}

/// The exit reason; that of a panic in `terminate` as an error.
async fn live<S: GenServer>(server: &mut S, context: &mut Context) -> Result<Term, Term> {
    server.init(context).await;
    if let Some(reason) = context.stopping.take() {
        return Ok(reason); // as in OTP, what has not begun is not terminated
    }
    loop {
        let Some(message) = context.mailbox.recv().await else {
            return finish(server, context, Term::atom("shutdown"), None).await;
        };
        let reply = handle(server, context, message).await;
        if let Some(reason) = context.stopping.take() {
            return finish(server, context, reason, reply).await;
        }
        if let Some((caller, reply)) = reply {
            answer(context, &caller, &reply);
        }
    }
}

/// As in OTP a last reply is sent after the cleaning up, even if that goes wrong.
async fn finish<S: GenServer>(
    server: &mut S,
    context: &mut Context,
    reason: Term,
    reply: Option<(Caller, S::Reply)>,
) -> Result<Term, Term> {
    let terminated = caught(|| server.terminate(&reason, context)).await;
    if let Some((caller, reply)) = reply {
        answer(context, &caller, &reply);
    }
    terminated.map(|()| reason).map_err(|panic| reason_of(&*panic))
}

/// Lets the server handle a message. What it answers at once is left to be sent.
async fn handle<S: GenServer>(
    server: &mut S,
    context: &mut Context,
    message: Message,
) -> Option<(Caller, S::Reply)> {
    match Envelope::of(&message) {
        Envelope::Call(caller, request) => match request.and_then(|request| request.decode()) {
            Ok(request) => {
                drop(message); // what the request does not refer to is free
                match server.handle_call(request, &caller, context).await {
                    Answer::Reply(reply) => return Some((caller, reply)),
                    Answer::Later => {}
                }
            }
            Err(error) => reject(context, &caller, &error),
        },
        Envelope::System(caller, request) => match request {
            Ok(request) => handle_system(context, &caller, &request),
            Err(error) => reject(context, &caller, &error),
        },
        Envelope::Cast(cast) => match cast.and_then(|cast| cast.decode()) {
            Ok(cast) => {
                drop(message);
                server.handle_cast(cast, context).await;
            }
            Err(error) => complain_of_cast(context, &message, &error),
        },
        Envelope::Info => server.handle_info(message, context).await,
    }
    None
}

/// What OTP's `sys` can ask of any process; of this one only that it ends.
fn handle_system(context: &mut Context, caller: &Caller, request: &RawTerm) {
    match request.decode::<(Atom, Term)>() {
        Ok((what, reason)) if what == "terminate" => {
            answer(context, caller, &Atom::from_static("ok"));
            context.stop(reason);
        }
        _ => {
            let unknown = (Atom::from_static("unknown_system_msg"), request);
            answer(context, caller, &(Atom::from_static("error"), unknown));
        }
    }
}

fn answer<R: Serialize>(context: &mut Context, caller: &Caller, reply: &R) {
    if let Err(error) = context.process().reply(caller, reply) {
        complain_of_reply(context, caller, &error);
    }
}

fn reject(context: &Context, caller: &Caller, error: &DecodeError) {
    context.process().reject(caller, &format!("the request cannot be read: {error}"));
}

/// The caller has been told; a type's own words may repeat what it was given, which does not belong in a log.
fn complain_of_reply(context: &mut Context, caller: &Caller, error: &ReplyError) {
    let Some(not_said) = context.complaints.note(Complaint::Reply, Instant::now()) else { return };
    let (node, server, caller) = (context.node().name(), context.pid(), caller.pid());
    let error: &dyn std::fmt::Display = match error {
        ReplyError::Encode(_) => &"it has no form in the external term format",
        error => error,
    };
    tracing::warn!(%node, %server, name = context.name(), %caller, %error, not_said = not_said.same, "a reply was not sent");
}

fn complain_of_cast(context: &mut Context, message: &Message, error: &DecodeError) {
    let Some(not_said) = context.complaints.note(Complaint::Cast, Instant::now()) else { return };
    let (node, server, from) = (context.node().name(), context.pid(), message.from());
    let error: &dyn std::fmt::Display = match error {
        DecodeError::Custom(_) => &"its type refuses it",
        error => error,
    };
    tracing::warn!(%node, %server, name = context.name(), %from, %error, not_said = not_said.same, "a cast cannot be read");
}

/// The exit reason that a panic makes.
fn reason_of(panic: &(dyn Any + Send)) -> Term {
    let text = text(panic);
    let text = &text[..text.floor_char_boundary(PANIC_TEXT)];
    Term::tuple([Term::atom("panic"), Binary::from(text.to_owned()).into()])
}
