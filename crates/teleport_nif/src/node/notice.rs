//! Telling a process later what has become of something, since a function that it calls must not wait.

use crate::atoms;
use crate::node::errors::{delivery_error, send_error};
use rustler::env::SavedTerm;
use rustler::{Encoder, Env, LocalPid, OwnedEnv, Term};
use std::io;
use teleport::{DeliveryError, SendError};
use tokio::runtime::{Builder, Runtime};

/// Tells the calling process, in `{teleport_sent, Tag, ok | {error, Reason}}`, that what had to wait waits no longer. Without a
/// tag (which is no atom) it tells nothing.
pub(crate) struct Notice(Option<Tagged>);

struct Tagged {
    process: LocalPid,
    env: OwnedEnv,
    tag: SavedTerm,
}

impl Notice {
    pub(crate) fn new(env: Env<'_>, tag: Term<'_>) -> Self {
        let tagged = (!tag.is_atom()).then(|| {
            let own = OwnedEnv::new();
            let tag = own.save(tag);
            Tagged { process: env.pid(), env: own, tag }
        });
        Self(tagged)
    }

    /// Not on a scheduler.
    pub(crate) fn give(mut self, result: Result<(), SendError>) {
        self.tell_once(|env| match result {
            Ok(()) => atoms::ok().encode(env),
            Err(error) => (atoms::error(), send_error(env, &error)).encode(env),
        });
    }

    /// Tells the process any other result.
    pub(crate) fn tell(mut self, result: impl for<'a> FnOnce(Env<'a>) -> Term<'a>) {
        self.tell_once(result);
    }

    fn tell_once(&mut self, result: impl for<'a> FnOnce(Env<'a>) -> Term<'a>) {
        let Some(Tagged { process, env, tag }) = self.0.take() else { return };
        env.run(|env| {
            // The process may have ended.
            let _ = env.send(&process, (atoms::teleport_sent(), tag.load(env), result(env)));
        });
    }
}

impl Drop for Notice {
    /// Gives up a notice that will not come, since the node has stopped. On a scheduler nothing is sent: there, the process is told by what
    /// the function returns.
    fn drop(&mut self) {
        self.tell_once(|env| (atoms::error(), atoms::not_running()).encode(env));
    }
}

/// Begins what may take as long as a connection does. Returns `waiting`, or an error if it cannot be begun.
pub(crate) fn later<'a>(
    env: Env<'a>,
    tag: Term<'a>,
    begin: impl FnOnce(Notice) -> Result<(), SendError>,
) -> Term<'a> {
    match begin(Notice::new(env, tag)) {
        Ok(()) => atoms::waiting().encode(env),
        Err(error) => (atoms::error(), send_error(env, &error)).encode(env),
    }
}

/// For the short time that a thread of the library's waits for the node.
pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_time().build()
}

/// Tells the calling process, in `{teleport, Tag, delivered | {unconfirmed, Reason}}`, what became of its message. Not on a
/// scheduler.
pub(crate) fn acknowledge(
    env: Env<'_>,
    tag: Term<'_>,
) -> impl FnOnce(Result<(), DeliveryError>) + Send + 'static {
    let (process, own) = (env.pid(), OwnedEnv::new());
    let tag = own.save(tag);
    move |result| {
        own.run(|env| {
            let outcome = match result {
                Ok(()) => atoms::delivered().encode(env),
                Err(error) => (atoms::unconfirmed(), delivery_error(env, &error)).encode(env),
            };
            // The process may have ended.
            let _ = env.send(&process, (atoms::teleport(), tag.load(env), outcome));
        });
    }
}
