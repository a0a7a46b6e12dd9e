//! The functions of the Erlang module `teleport_nif`, which says what they are for.

mod answers;
mod build;
mod carrier;
mod check;
mod gate;
mod info;
pub(crate) mod node;
mod plain;
mod send;
mod shared;
mod watch;
mod watched;
mod weigh;

use crate::atoms;
use crate::node::running::{self, Running};
use rustler::{Encoder, Env, NifResult, Term};
use std::sync::Arc;
use teleport::embed::Embedded;

fn with_node<'a>(
    env: Env<'a>,
    use_it: impl FnOnce(&Arc<Running>, &Embedded) -> NifResult<Term<'a>>,
) -> NifResult<Term<'a>> {
    let running = running::current();
    match running.as_ref().and_then(|running| running.node().map(|node| (running, node))) {
        Some((running, node)) => use_it(running, node),
        None => Ok((atoms::error(), atoms::not_running()).encode(env)),
    }
}
