//! Relays watch processes of this node for those of others, and answer for them.

use crate::arriving::ending::{self, Unwatched};
use crate::arriving::relays::{self, Alias};
use crate::arriving::watches::{Parked, WATCHES};
use crate::leaving::small;
use crate::nifs::shared::MOST_PLACES;
use crate::node::errors::reply_error;
use crate::node::running;
use crate::work::turns::Whose;
use crate::{atoms, ids};
use rustler::types::atom::Atom;
use rustler::{Encoder, Env, Error, LocalPid, NifResult, Term};

#[rustler::nif]
fn relays(env: Env<'_>, place: usize, count: usize) -> NifResult<Atom> {
    if place >= count || count > MOST_PLACES {
        return Err(Error::BadArg);
    }
    let number = relays::add(place, count, env.pid());
    // The relays of one that was there before have ended with it.
    ending::unwatched(Unwatched::At(place, number));
    Ok(atoms::ok())
}

#[rustler::nif]
fn watching(env: Env<'_>, process: LocalPid, alias: Term<'_>) -> NifResult<bool> {
    let parked = WATCHES.monitored(ids::process_of(env, process)?, Alias::new(alias)?);
    let is_asked_for = parked.is_some();
    parked.into_iter().flatten().for_each(Parked::go_on);
    Ok(is_asked_for)
}

#[rustler::nif]
fn unwatched(env: Env<'_>, process: LocalPid) -> NifResult<Atom> {
    let process = ids::process_of(env, process)?;
    ending::unwatched(Unwatched::Process(process));
    Ok(atoms::ok())
}

#[rustler::nif(schedule = "DirtyCpu")]
fn sweep(env: Env<'_>, place: usize) -> Vec<LocalPid> {
    let all = running::all();
    let Some(running) = all.first() else { return Vec::new() };
    let idle = WATCHES.sweep(|process| relays::is_at(place, process));
    idle.into_iter().filter_map(|process| running.identity.pid(env, process)).collect()
}

#[rustler::nif]
fn caller(env: Env<'_>, number: u64) -> Term<'_> {
    match WATCHES.watcher(number) {
        Some((session, process)) => (session, process.id, process.serial).encode(env),
        None => atoms::none().encode(env),
    }
}

#[rustler::nif]
fn reply<'a>(env: Env<'a>, number: u64, body: Term<'a>, by: Term<'a>) -> NifResult<Term<'a>> {
    // A node that is about to stop still takes answers.
    let running = running::current();
    let Some(body) = small::answer(running.as_ref().map(|running| &running.identity), body)? else {
        return Ok(atoms::not_small().encode(env));
    };
    // A process, or an atom for the one that is watched.
    let by = if by.is_atom() { None } else { Some(ids::process_of(env, by.decode()?)?) };
    let answered = WATCHES.take(number).map_or(Ok(()), |watch| {
        let by = by.unwrap_or_else(|| watch.watched());
        watch.reply_from(by, body)
    });
    Ok(match answered {
        Ok(()) => atoms::ok().encode(env),
        Err(error) => (atoms::error(), reply_error(env, &error)).encode(env),
    })
}

#[rustler::nif]
fn reject(number: u64) -> Atom {
    if let Some(watch) = WATCHES.take(number) {
        watch.reject("the reply has no form that can be sent");
    }
    atoms::ok()
}

#[rustler::nif]
fn ended(env: Env<'_>, process: LocalPid) -> NifResult<Atom> {
    WATCHES.ended(ids::process_of(env, process)?).into_iter().for_each(Parked::go_on);
    Ok(atoms::ok())
}

#[rustler::nif]
fn down<'a>(env: Env<'a>, process: LocalPid, reason: Term<'a>) -> NifResult<Atom> {
    // One that drains has to do with it as well.
    let all = running::all();
    let running = all.first();
    let Some(reason) = small::answer(running.map(|running| &running.identity), reason)? else {
        return Ok(atoms::not_small());
    };
    // There may be very many who wait for it.
    if let Some(running) = running {
        let process = ids::process_of(env, process)?;
        running.workers.short(Whose::OWN, move |running| ending::down(running, process, reason));
    }
    Ok(atoms::ok())
}
