//! Figures of the node and its peers.

use crate::arriving::calls::CALLS;
use crate::atoms;
use crate::nifs::with_node;
use crate::node::address;
use crate::terms::budget::Used;
use rustler::types::atom::Atom;
use rustler::{Encoder, Env, NifResult, Term};
use std::collections::HashMap;
use teleport::{EndReason, NodeInfo, NodeName, PeerInfo};

/// Where the engine listens.
#[rustler::nif(name = "address")]
fn listens_at(env: Env<'_>) -> NifResult<Term<'_>> {
    with_node(env, |_, node| Ok((atoms::ok(), address::encode(env, node.address())).encode(env)))
}

/// The names of the peers with a session: as many as there are, so not on a scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn peers(env: Env<'_>) -> NifResult<Term<'_>> {
    with_node(env, |running, node| {
        let peers = node.peers();
        Ok(peers.iter().map(|origin| running.terms.node(env, origin)).collect::<Vec<_>>().encode(env))
    })
}

/// The figures of one peer; `none` if there is no session with it.
#[rustler::nif]
fn peer<'a>(env: Env<'a>, name: &str) -> NifResult<Term<'a>> {
    with_node(env, |running, node| {
        let peer = NodeName::new(name).ok().and_then(|name| node.peer(&name));
        match peer {
            Some(peer) => with_atoms(env, peer_info(env, &peer), running.terms.budget().used_by(&peer.name)),
            None => Ok(atoms::none().encode(env)),
        }
    })
}

/// Those of the node and of all its peers: too many for a scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn info(env: Env<'_>) -> NifResult<Term<'_>> {
    with_node(env, |running, node| {
        let (info, origins) = (node.info(), node.peers());
        let names = origins.iter().map(|origin| (origin.peer(), running.terms.node(env, origin)));
        let names: HashMap<_, _> = names.collect();
        let budget = running.terms.budget();
        let peers = info.peers.iter().map(|peer| {
            let info = with_atoms(env, peer_info(env, peer), budget.used_by(&peer.name))?;
            let name = names.get(&peer.name).copied(); // unless its session has just ended
            Ok((name.unwrap_or_else(|| peer.name.as_str().encode(env)), info))
        });
        let peers = peers.collect::<NifResult<Vec<_>>>()?;
        let address = address::encode(env, info.address);
        let pairs = [
            (atoms::name(), Atom::from_str(env, info.name.as_str())?.encode(env)),
            (atoms::creation(), info.incarnation.as_u32().encode(env)),
            (atoms::address(), address),
            (atoms::net_ticktime(), info.net_ticktime.as_secs().encode(env)),
            (atoms::bytes_in_flight(), info.bytes_in_flight.encode(env)),
            (atoms::waiting_for(), CALLS.len().encode(env)),
            (atoms::late_replies(), info.late_replies.encode(env)),
            (atoms::sessions_ended(), sessions_ended(env, &info)?),
            (atoms::sessions_refused(), info.sessions_refused.encode(env)),
            (atoms::handshakes_refused(), info.handshakes_refused.encode(env)),
            (atoms::newcomers_dropped(), newcomers_dropped(env, &info)?),
            (atoms::unreadable(), running.terms.unreadable().encode(env)),
            (atoms::unconfirmed(), info.unconfirmed.encode(env)),
            (atoms::peers(), Term::map_from_pairs(env, &peers)?),
        ];
        with_atoms(env, Term::map_from_pairs(env, &pairs)?, budget.used())
    })
}

/// The map, and what has been used of the budget for atoms.
fn with_atoms<'a>(env: Env<'a>, info: Term<'a>, used: Used) -> NifResult<Term<'a>> {
    info.map_put(atoms::new_atoms().encode(env), used.atoms.encode(env))?
        .map_put(atoms::atoms_refused().encode(env), used.refused.encode(env))
}

/// How many, by reason.
fn sessions_ended<'a>(env: Env<'a>, info: &NodeInfo) -> NifResult<Term<'a>> {
    let pair = |(reason, count): &(EndReason, u64)| Ok((Atom::from_str(env, reason.as_str())?, *count));
    Term::map_from_pairs(env, &info.sessions_ended.iter().map(pair).collect::<NifResult<Vec<_>>>()?)
}

/// How many, by reason.
fn newcomers_dropped<'a>(env: Env<'a>, info: &NodeInfo) -> NifResult<Term<'a>> {
    let (full, slow) = info.newcomers_dropped;
    Term::map_from_pairs(env, &[(atoms::full(), full), (atoms::slow(), slow)])
}

/// What distributed Erlang has had carried.
fn carried<'a>(env: Env<'a>, peer: &PeerInfo) -> Term<'a> {
    let carried = &peer.carried;
    let pairs = [
        (atoms::messages_sent(), carried.messages_sent),
        (atoms::messages_received(), carried.messages_received),
        (atoms::bytes_sent(), carried.bytes_sent),
        (atoms::bytes_received(), carried.bytes_received),
    ];
    Term::map_from_pairs(env, &pairs).unwrap_or_else(|_| rustler::types::map::map_new(env))
}

/// What the allow-list refuses.
fn not_allowed<'a>(env: Env<'a>, peer: &PeerInfo) -> Term<'a> {
    let refused = &peer.not_allowed;
    let pairs = [
        (atoms::messages(), refused.messages),
        (atoms::calls(), refused.calls),
        (atoms::monitors(), refused.monitors),
        (atoms::functions(), refused.functions),
    ];
    Term::map_from_pairs(env, &pairs).unwrap_or_else(|_| rustler::types::map::map_new(env))
}

pub(super) fn peer_info<'a>(env: Env<'a>, peer: &PeerInfo) -> Term<'a> {
    let transfer = &peer.transfer;
    let round_trip = peer.tick_round_trip.map(|time| time.as_micros() as u64);
    let pairs = [
        (atoms::creation(), peer.incarnation.as_u32().encode(env)),
        (atoms::dialled(), peer.dialled.encode(env)),
        (atoms::control_connected(), peer.control_connected.encode(env)),
        (atoms::encrypted(), peer.encrypted.encode(env)),
        (atoms::last_heard_ms(), (peer.last_heard.as_millis() as u64).encode(env)),
        (atoms::tick_round_trip_us(), round_trip.map_or(atoms::undefined().encode(env), |us| us.encode(env))),
        (atoms::ticks_missed(), peer.ticks_missed.encode(env)),
        (atoms::control_lost(), peer.control_lost.encode(env)),
        (atoms::connections_stalled(), peer.connections_stalled.encode(env)),
        (atoms::connections_retired(), transfer.connections_retired.encode(env)),
        (atoms::answers_refused(), transfer.answers_refused.encode(env)),
        (atoms::watched(), peer.watched.encode(env)),
        (atoms::watches_refused(), peer.watches_refused.encode(env)),
        (atoms::carried(), carried(env, peer)),
        (atoms::not_allowed(), not_allowed(env, peer)),
        (atoms::unconfirmed(), transfer.unconfirmed.encode(env)),
        (atoms::bytes_in_flight(), transfer.unconfirmed_bytes.encode(env)),
        (atoms::undelivered_bytes(), transfer.undelivered_bytes.encode(env)),
        (atoms::waiting(), transfer.waiting.encode(env)),
        (atoms::express_connections(), transfer.express_connections.encode(env)),
        (atoms::bulk_connections(), transfer.bulk_connections.encode(env)),
        (atoms::messages_sent(), transfer.messages_sent.encode(env)),
        (atoms::messages_received(), transfer.messages_received.encode(env)),
        (atoms::bytes_sent(), transfer.bytes_sent.encode(env)),
        (atoms::bytes_received(), transfer.bytes_received.encode(env)),
        (atoms::no_process(), transfer.no_process.encode(env)),
        (atoms::frames_resent(), transfer.frames_resent.encode(env)),
    ];
    Term::map_from_pairs(env, &pairs).unwrap_or_else(|_| rustler::types::map::map_new(env))
}
