//! What peers may reach, from a list that the Erlang module `teleport_allow` makes.

use crate::atoms;
use crate::node::address::number;
use rustler::types::atom::Atom;
use rustler::types::tuple::get_tuple;
use rustler::{Error, ListIterator, NifResult, Term};
use teleport::{AllowList, Permits};

pub(crate) fn decode(settings: Term<'_>) -> NifResult<AllowList> {
    let (mode, rules): (Atom, ListIterator<'_>) = settings.decode()?;
    let mut list = AllowList::new();
    for rule in rules {
        let (peers, items): (&str, Term<'_>) = rule.decode()?;
        list = list.peer(peers, permits(items)?);
    }
    match mode {
        mode if mode == atoms::enforce() => Ok(list),
        mode if mode == atoms::log() => Ok(list.only_log()),
        _ => Err(Error::BadArg),
    }
}

fn permits(items: Term<'_>) -> NifResult<Permits> {
    if atoms::all() == items {
        return Ok(Permits::all());
    }
    items.decode::<ListIterator<'_>>()?.try_fold(Permits::none(), add)
}

fn add(permits: Permits, item: Term<'_>) -> NifResult<Permits> {
    if atoms::pids() == item {
        return Ok(permits.pids());
    }
    if atoms::system() == item {
        return Ok(permits.system());
    }
    match get_tuple(item)?[..] {
        [what, name] if atoms::name() == what => Ok(permits.name(name.decode()?)),
        [what, name] if atoms::monitor() == what => Ok(permits.monitor(name.decode()?)),
        [what, module, function, arity] if atoms::apply() == what => {
            let arity = if atoms::any() == arity { None } else { Some(number(arity)?) };
            Ok(permits.apply(module.decode()?, function.decode()?, arity))
        }
        _ => Err(Error::BadArg),
    }
}
