//! Question the engine asks is fetched, and answered.

use crate::atoms;
use crate::node::address;
use crate::node::questions::Question;
use crate::node::running::{self, Running};
use rustler::types::atom::Atom;
use rustler::{Binary, Encoder, Env, Error, NifResult, Term};

#[rustler::nif]
fn resolved(node: &str, addresses: Term<'_>) -> NifResult<Atom> {
    addresses.list_length()?; // of an improper one there is none
    let addresses = addresses.into_list_iterator()?.map(address::decode).collect::<NifResult<Vec<_>>>()?;
    let node = node.parse().map_err(|_| Error::BadArg)?;
    Ok(with_all(|running| running.questions.located(&node, &addresses)))
}

#[rustler::nif]
fn cookie_is(node: &str, cookie: Binary<'_>) -> NifResult<Atom> {
    let node = node.parse().map_err(|_| Error::BadArg)?;
    let cookie = cookie.to_vec();
    Ok(with_all(|running| running.questions.cookie_is(&node, &cookie)))
}

#[rustler::nif]
fn called_back(node: &str, has: bool) -> NifResult<Atom> {
    let node = node.parse().map_err(|_| Error::BadArg)?;
    Ok(with_all(|running| running.questions.called_back(&node, has)))
}

#[rustler::nif]
fn questions(env: Env<'_>) -> Term<'_> {
    let (mut questions, mut more) = (Vec::new(), false);
    for running in running::all() {
        let (some, are_more) = running.questions.fetch();
        questions.extend(some);
        more |= are_more;
    }
    let questions: Vec<_> = questions.iter().map(|(what, peer)| (name(*what), peer.as_str())).collect();
    (questions, more).encode(env)
}

fn name(what: Question) -> Atom {
    match what {
        Question::Addresses => atoms::addresses(),
        Question::Cookie => atoms::cookie(),
        Question::CallBack => atoms::call_back(),
    }
}

/// For the one that runs and those that still drain. Returns whether there is any.
fn with_all(tell: impl Fn(&Running)) -> Atom {
    let all = running::all();
    all.iter().for_each(|running| tell(running));
    if all.is_empty() { atoms::not_running() } else { atoms::ok() }
}
