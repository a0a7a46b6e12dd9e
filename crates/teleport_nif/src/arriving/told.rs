//! How calls and monitors of this virtual machine's processes end, told to those that wait.

use crate::arriving::calls::{Asked, CALLS};
use crate::atoms;
use crate::node::errors::request_error;
use crate::node::running::Running;
use rustler::env::SavedTerm;
use rustler::{Encoder, Env, OwnedEnv, Term};
use std::sync::Arc;
use teleport::SendError;
use teleport::embed::{RefId, RequestError};

/// Why a reply, or the reason of an end, cannot be told.
pub(super) const UNREADABLE: &str = "it is no term, has more new atoms than this node takes (max_new_atoms), or takes more memory \
    than one message may (max_term)";

/// A call of a process of this node has been answered. `false` if it does not wait any more.
pub(super) fn reply(
    running: &Running,
    env: &mut OwnedEnv,
    reference: RefId,
    term: Option<SavedTerm>,
) -> bool {
    CALLS.tell(env, reference, |env, asked| {
        let Some(reply) = term else {
            // There is an answer, though not one that can be read.
            let reason = (atoms::unreadable_reply(), UNREADABLE).encode(env);
            return down(running, env, reference, asked, reason);
        };
        let tag = running.identity.reference(env, reference)?.list_prepend(atoms::alias());
        let tag = asked.mark.as_ref().map_or(tag, |mark| mark.term(env).list_prepend(tag));
        Some((tag, reply.load(env)).encode(env))
    })
}

pub(super) fn count_if_late(running: &Running, is_awaited: bool) {
    if !is_awaited && let Some(node) = running.node() {
        node.count_late();
    }
}

/// A call or a monitor of a process of this node has ended, for a reason.
pub(super) fn end(
    running: &Running,
    env: &mut OwnedEnv,
    reference: RefId,
    reason: impl for<'a> FnOnce(Env<'a>) -> Term<'a>,
) {
    CALLS.tell(env, reference, |env, asked| down(running, env, reference, asked, reason(env)));
}

/// It has ended with its session.
pub(super) fn no_connection(running: &Running, env: &mut OwnedEnv, reference: RefId) {
    end(running, env, reference, |env| atoms::noconnection().encode(env));
    env.clear();
}

/// A call or a monitor that had to wait: if nothing came of it, that is its end.
pub(crate) fn not_begun(running: &Running, reference: RefId, result: &Result<(), RequestError>) {
    let Err(error) = result else { return };
    end(running, &mut OwnedEnv::new(), reference, |env| match error {
        RequestError::Send(
            SendError::NoConnection(_) | SendError::NodeDown { .. } | SendError::NotRunning,
        ) => atoms::noconnection().encode(env),
        error => request_error(env, error),
    });
}

/// The node is over: what still waits on it has no connection. Not on a scheduler.
pub(crate) fn over(running: &Arc<Running>) {
    CALLS.end_all(running, |env, reference, asked| {
        down(running, env, reference, asked, atoms::noconnection().encode(env))
    });
}

/// `{'DOWN', Ref, process, Object, Reason}`, or with the mark in place of the atom.
fn down<'a>(
    running: &Running,
    env: Env<'a>,
    reference: RefId,
    asked: &Asked<'_>,
    reason: Term<'a>,
) -> Option<Term<'a>> {
    let reference = running.identity.reference(env, reference)?;
    let object = running.identity.object(env, &asked.recipient()?)?;
    let mark = asked.mark.as_ref().map_or_else(|| atoms::down().encode(env), |mark| mark.term(env));
    Some((mark, reference, atoms::process(), object, reason).encode(env))
}
