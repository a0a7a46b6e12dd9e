//! Processes of this node call and monitor those of others.

use crate::arriving::calls::{CALLS, Mark};
use crate::arriving::told;
use crate::leaving::small;
use crate::nifs::with_node;
use crate::node::errors::request_error;
use crate::node::notice::Notice;
use crate::node::running::Running;
use crate::{atoms, ids, library};
use rustler::{Encoder, Env, Error, NifResult, Term};
use std::sync::Arc;
use teleport::SendOptions;
use teleport::embed::{ProcessId, Recipient, RefId, RequestError, Sent};

/// Integers that are shorter than 64 bits by this take no memory of a process.
const SMALL: u32 = 5;

/// A number that nobody can guess, for a request.
#[rustler::nif]
fn secret() -> u64 {
    teleport::embed::secret() >> SMALL
}

#[rustler::nif]
fn request<'a>(
    env: Env<'a>,
    to: Term<'a>,
    (reference, secret): (Term<'a>, u64),
    mark: Term<'a>,
    body: Term<'a>,
    tag: Term<'a>,
) -> NifResult<Term<'a>> {
    with_node(env, |running, node| {
        let Some(body) = small::body(Some(&running.identity), body)? else {
            return Ok(atoms::not_small().encode(env));
        };
        let (options, notice) = (options(tag), Notice::new(env, tag));
        let reference = ids::ref_id(reference)?;
        let sealed = reference.sealed(secret).ok_or(Error::BadArg)?;
        begin(env, running, to, (reference, sealed, mark), |running, from, to| {
            node.request(from, to, sealed, body, options, move |result| {
                told::not_begun(&running, reference, &result);
                notice.give(Ok(())); // how it ended is told as for any other
            })
        })
    })
}

#[rustler::nif]
fn monitor<'a>(
    env: Env<'a>,
    to: Term<'a>,
    reference: Term<'a>,
    mark: Term<'a>,
    tag: Term<'a>,
) -> NifResult<Term<'a>> {
    with_node(env, |running, node| {
        let (options, notice) = (options(tag), Notice::new(env, tag));
        // The end of a monitor is taken only from who was asked.
        let reference = ids::ref_id(reference)?;
        begin(env, running, to, (reference, reference, mark), |running, from, to| {
            node.monitor(from, to, reference, options, move |result| {
                told::not_begun(&running, reference, &result);
                notice.give(Ok(()));
            })
        })
    })
}

/// Whether what is begun may wait, as its notice says.
fn options(tag: Term<'_>) -> SendOptions {
    let options = SendOptions::default();
    if atoms::nosuspend() == tag { options.nosuspend() } else { options }
}

/// The calling process begins to wait for the end of a call or monitor, which has a reference of its own and one for the node.
fn begin<'a>(
    env: Env<'a>,
    running: &Arc<Running>,
    to: Term<'a>,
    (reference, named, mark): (RefId, RefId, Term<'a>),
    ask: impl FnOnce(Arc<Running>, ProcessId, Recipient) -> Result<Sent, RequestError>,
) -> NifResult<Term<'a>> {
    let to = ids::recipient(to)?;
    let from = ids::process_of(env, env.pid())?;
    let mark = (atoms::down() != mark).then(|| Mark::new(mark));
    CALLS.begin(env, running, from, (reference, named), to.clone(), mark);
    Ok(match ask(running.clone(), from, to) {
        Ok(Sent::Accepted) => atoms::ok().encode(env),
        Ok(Sent::Waiting(waiting)) => match CALLS.note_waiting(running, reference, waiting) {
            true => atoms::waiting().encode(env),
            false => (atoms::error(), atoms::not_running()).encode(env),
        },
        Err(error) => match CALLS.withdraw(reference) {
            true => (atoms::error(), request_error(env, &error)).encode(env),
            // The session, or the node, has ended just now, and has told the process so.
            false => atoms::ok().encode(env),
        },
    })
}

#[rustler::nif]
fn cancel(env: Env<'_>, reference: Term<'_>) -> NifResult<bool> {
    let (id, caller) = (ids::ref_id(reference)?, ids::process_of(env, env.pid())?);
    Ok(CALLS.cancel(id, caller) || library::cancel_before(reference))
}

#[rustler::nif]
fn is_answered(env: Env<'_>, reference: Term<'_>) -> NifResult<bool> {
    Ok(CALLS.is_answered(ids::ref_id(reference)?, ids::process_of(env, env.pid())?))
}
