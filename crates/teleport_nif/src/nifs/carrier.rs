//! Distributed Erlang's connections are carried: see the Erlang module `teleport_dist`.

use crate::carrier::{self, Channel, Handle, Put, Taken, Taking, memory};
use crate::nifs::with_node;
use crate::node::errors::{carrier_error, send_error};
use crate::node::notice::Notice;
use crate::{atoms, ids};
use bytes::Bytes;
use rustler::types::atom::Atom;
use rustler::{Binary, Encoder, Env, Error, NifResult, ResourceArc, Term};
use std::sync::Arc;

#[rustler::nif]
fn carrier_accept(env: Env<'_>) -> Atom {
    carrier::set_acceptor(env.pid());
    atoms::ok()
}

#[rustler::nif]
fn carrier_connect<'a>(env: Env<'a>, peer: Atom, tag: Term<'a>) -> NifResult<Term<'a>> {
    let peer = ids::node_name(env, peer)?;
    with_node(env, |_, node| {
        let notice = Notice::new(env, tag);
        let told = node.connect(peer, move |origin| {
            notice.tell(|env| match origin {
                Ok(origin) if !origin.carries() => {
                    let why = "it has teleport, and does not carry distributed Erlang";
                    (atoms::error(), (atoms::not_teleport(), why)).encode(env)
                }
                Ok(origin) => {
                    let handle = ResourceArc::new(Handle::new(carrier::connect(origin)));
                    (atoms::ok(), handle).encode(env)
                }
                Err(error) => (atoms::error(), carrier_error(env, &error)).encode(env),
            });
        });
        Ok(match told {
            Ok(()) => atoms::waiting().encode(env),
            Err(error) => (atoms::error(), send_error(env, &error)).encode(env),
        })
    })
}

#[rustler::nif]
fn carrier_own<'a>(env: Env<'a>, handle: ResourceArc<Handle>) -> NifResult<Term<'a>> {
    let (packets, ended) = channel(&handle)?.own(env.pid());
    let packets: Vec<Term<'_>> = packets.iter().map(|packet| copy(env, packet)).collect();
    Ok((packets, ended).encode(env))
}

#[rustler::nif]
fn carrier_packet(handle: ResourceArc<Handle>, packet: Binary<'_>) -> NifResult<Atom> {
    let sent = channel(&handle)?.send_packet(Bytes::copy_from_slice(&packet));
    Ok(if sent.is_ok() { atoms::ok() } else { atoms::closed() })
}

/// Messages of more binaries than that take long: a small binary is copied, a larger one is noted.
const MOST_PIECES: usize = 1024;

/// Each message is a list of binaries, as `dist_ctrl_get_data/1` returns it. `not_small`: it is for `carrier_put_many`.
#[rustler::nif]
fn carrier_put<'a>(env: Env<'a>, handle: ResourceArc<Handle>, messages: Term<'a>) -> NifResult<Atom> {
    let mut pieces = 0;
    for message in messages.into_list_iterator()? {
        pieces += message.into_list_iterator()?.take(MOST_PIECES + 1).count();
        if pieces > MOST_PIECES {
            return Ok(atoms::not_small());
        }
    }
    put(env, &handle, messages)
}

/// Like `carrier_put`, with as many binaries as there are.
#[rustler::nif(schedule = "DirtyCpu")]
fn carrier_put_many<'a>(env: Env<'a>, handle: ResourceArc<Handle>, messages: Term<'a>) -> NifResult<Atom> {
    put(env, &handle, messages)
}

fn put<'a>(env: Env<'a>, handle: &Handle, messages: Term<'a>) -> NifResult<Atom> {
    let channel = channel(handle)?;
    if channel.put(messages.into_list_iterator()?)? == Put::Ended {
        return Ok(atoms::closed());
    }
    Ok(if channel.is_full(env.pid()) { atoms::busy() } else { atoms::ok() })
}

#[rustler::nif]
fn carrier_take<'a>(env: Env<'a>, handle: ResourceArc<Handle>) -> NifResult<Term<'a>> {
    Ok(match channel(&handle)?.take(env.pid()) {
        Taken::Some(takings) => {
            let mut terms = Vec::new();
            for taking in takings {
                match taking {
                    Taking::Large(body) => {
                        terms.push(memory::term(env, body).unwrap_or_else(|body| copy(env, &body)));
                    }
                    Taking::Small(bodies) => bodies.each(|body| terms.push(copy(env, body))),
                }
            }
            terms.encode(env)
        }
        Taken::Nothing => atoms::waiting().encode(env),
        Taken::Ended => atoms::closed().encode(env),
    })
}

/// Has the peer say something.
#[rustler::nif]
fn carrier_tick(handle: ResourceArc<Handle>) -> NifResult<Atom> {
    channel(&handle)?.tick();
    Ok(atoms::ok())
}

/// When the peer was last heard of, and how much was sent.
#[rustler::nif]
fn carrier_stat(handle: ResourceArc<Handle>) -> NifResult<(u64, u64)> {
    let channel = channel(&handle)?;
    Ok((channel.origin().last_heard(), channel.sent()))
}

/// The peer's name.
#[rustler::nif]
fn carrier_peer<'a>(env: Env<'a>, handle: ResourceArc<Handle>) -> NifResult<Term<'a>> {
    Ok(copy(env, channel(&handle)?.origin().peer().as_str().as_bytes()))
}

fn channel(handle: &Handle) -> NifResult<&Arc<Channel>> {
    handle.channel().ok_or(Error::BadArg)
}

fn copy<'a>(env: Env<'a>, bytes: &[u8]) -> Term<'a> {
    carrier::binary(env, bytes)
}
