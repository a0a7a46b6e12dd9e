//! Sends messages.

use crate::leaving::iovec::Gathered;
use crate::leaving::small;
use crate::nifs::shared::{ASYNC, NOCONNECT, NOSUSPEND, UNORDERED};
use crate::nifs::with_node;
use crate::node::errors::send_error;
use crate::node::notice::{Notice, acknowledge};
use crate::node::running;
use crate::{atoms, ids};
use rustler::{Encoder, Env, NifResult, ResourceArc, Term};
use std::time::Duration;
use teleport::embed::Sent;
use teleport::{SendError, SendOptions};

#[rustler::nif(schedule = "DirtyCpu")]
fn gather(list: Term<'_>) -> NifResult<ResourceArc<Gathered>> {
    Gathered::new(list).map(ResourceArc::new)
}

/// `not_small`: it is left to `term_to_iovec`.
#[rustler::nif(schedule = "DirtyCpu")]
fn encode<'a>(env: Env<'a>, term: Term<'a>) -> Term<'a> {
    match running::current().and_then(|running| small::whole(&running.identity, term)) {
        Some(message) => (atoms::ok(), ResourceArc::new(Gathered::of(message))).encode(env),
        None => atoms::not_small().encode(env),
    }
}

#[rustler::nif]
fn send<'a>(env: Env<'a>, to: Term<'a>, body: Term<'a>, how: Term<'a>, tag: Term<'a>) -> NifResult<Term<'a>> {
    with_node(env, |running, node| {
        let Some(body) = small::body(Some(&running.identity), body)? else {
            return Ok(atoms::not_small().encode(env));
        };
        let to = ids::recipient(to)?;
        let from = ids::process_of(env, env.pid())?;
        let options = options(how)?;
        if how.decode::<u32>().is_ok_and(|flags| flags & ASYNC != 0) {
            let result = node.send_behind(from, to, body, options).map(|()| Sent::Accepted);
            return Ok(sent(env, result));
        }
        let notice = Notice::new(env, tag);
        Ok(sent(env, node.send(from, to, body, options, move |result| notice.give(result))))
    })
}

/// The result of a send so far.
fn sent(env: Env<'_>, result: Result<Sent, SendError>) -> Term<'_> {
    match result {
        Ok(Sent::Accepted) => atoms::ok().encode(env),
        Ok(Sent::Waiting(_)) => atoms::waiting().encode(env),
        Err(error) => (atoms::error(), send_error(env, &error)).encode(env),
    }
}

/// Takes flags, or flags and a limit in milliseconds for the waiting.
fn options(how: Term<'_>) -> NifResult<SendOptions> {
    let mut options = SendOptions::default();
    let flags = match how.decode::<(u32, u64)>() {
        Ok((flags, timeout)) => {
            options = options.timeout(Duration::from_millis(timeout));
            flags
        }
        Err(_) => how.decode::<u32>()?,
    };
    if flags & UNORDERED != 0 {
        options = options.unordered();
    }
    if flags & NOSUSPEND != 0 {
        options = options.nosuspend();
    }
    if flags & NOCONNECT != 0 {
        options = options.noconnect();
    }
    Ok(options)
}

#[rustler::nif]
fn send_acknowledged<'a>(
    env: Env<'a>,
    to: Term<'a>,
    body: Term<'a>,
    how: Term<'a>,
    tag: Term<'a>,
    acknowledgement: Term<'a>,
) -> NifResult<Term<'a>> {
    with_node(env, |running, node| {
        let Some(body) = small::body(Some(&running.identity), body)? else {
            return Ok(atoms::not_small().encode(env));
        };
        let to = ids::recipient(to)?;
        let from = ids::process_of(env, env.pid())?;
        let notice = Notice::new(env, tag);
        let (accepted, told) = (move |result| notice.give(result), acknowledge(env, acknowledgement));
        Ok(sent(env, node.send_acknowledged(from, to, body, options(how)?, accepted, told)))
    })
}
