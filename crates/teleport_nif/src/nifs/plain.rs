//! Connections of distributed Erlang that are not carried, and where those that are lead to.

use crate::carrier::{Handle, Plain};
use crate::nifs::with_node;
use crate::node::address;
use crate::node::notice::Notice;
use crate::{atoms, carrier};
use rustler::types::atom::Atom;
use rustler::{Encoder, Env, Error, NifResult, ResourceArc, Term};

#[rustler::nif]
fn plain_descriptor(plain: ResourceArc<Plain>) -> NifResult<i32> {
    plain.descriptor().ok_or(Error::BadArg)
}

#[rustler::nif]
fn plain_close(plain: ResourceArc<Plain>) -> Atom {
    plain.close();
    atoms::ok()
}

#[rustler::nif]
fn plain_proved(plain: ResourceArc<Plain>) -> Atom {
    plain.proved();
    atoms::ok()
}

/// Nothing is accepted any more.
#[rustler::nif]
fn carrier_refuse() -> Atom {
    carrier::set_no_acceptor();
    atoms::ok()
}

/// The session that carries it ends.
#[rustler::nif]
fn carrier_end<'a>(env: Env<'a>, handle: ResourceArc<Handle>, tag: Term<'a>) -> NifResult<Term<'a>> {
    let channel = handle.channel().ok_or(Error::BadArg)?.clone();
    with_node(env, |_, node| {
        let notice = Notice::new(env, tag);
        node.end(channel.origin(), move || notice.tell(|env| atoms::ok().encode(env)));
        Ok(atoms::waiting().encode(env))
    })
}

/// Where the peer's end of the session is.
#[rustler::nif]
fn carrier_address<'a>(env: Env<'a>, handle: ResourceArc<Handle>) -> NifResult<Term<'a>> {
    let channel = handle.channel().ok_or(Error::BadArg)?;
    Ok(match channel.origin().address() {
        Some(at) => address::encode(env, at),
        None => atoms::undefined().encode(env),
    })
}
