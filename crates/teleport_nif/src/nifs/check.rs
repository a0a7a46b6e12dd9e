//! Why there is a session with a peer or none, as terms.

use crate::nifs::info::peer_info;
use crate::nifs::with_node;
use crate::node::address;
use crate::node::notice::later;
use crate::{atoms, ids};
use rustler::types::atom::Atom;
use rustler::{Encoder, Env, NifResult, Term};
use std::io;
use teleport::{
    AddressCheck, AddressError, ConnectError, ConnectionCheck, ConnectionKind, HandshakeError, PeerCheck,
    Tried,
};

#[rustler::nif]
fn check<'a>(env: Env<'a>, peer: Atom, tag: Term<'a>) -> NifResult<Term<'a>> {
    let peer = ids::node_name(env, peer)?;
    with_node(env, |_, node| {
        Ok(later(env, tag, |notice| {
            node.check(peer, move |check| notice.tell(|env| (atoms::ok(), report(env, &check)).encode(env)))
        }))
    })
}

/// `{Addresses, WasUp, {ok, Info, Connections} | {error, Reason, Text}}`.
fn report<'a>(env: Env<'a>, check: &PeerCheck) -> Term<'a> {
    let addresses: Vec<_> = check.addresses.iter().map(|address| connected(env, address)).collect();
    let session = match &check.session {
        Ok(info) => {
            let connections: Vec<_> = check.connections.iter().map(|check| answered(env, check)).collect();
            (atoms::ok(), peer_info(env, info), connections).encode(env)
        }
        Err(error) => (atoms::error(), reason(error), error.to_string()).encode(env),
    };
    (addresses, check.was_up, session).encode(env)
}

/// `{Address, {ok, Microseconds} | {error, Reason, Text}}`.
fn connected<'a>(env: Env<'a>, check: &AddressCheck) -> Term<'a> {
    let connected = match &check.connected {
        Ok(time) => (atoms::ok(), time.as_micros() as u64).encode(env),
        Err(error) => (atoms::error(), posix(error), error.to_string()).encode(env),
    };
    (address::encode(env, check.address), connected).encode(env)
}

/// `{control | express | bulk, {ok, Microseconds} | no_answer}`.
fn answered<'a>(env: Env<'a>, check: &ConnectionCheck) -> Term<'a> {
    let kind = match check.kind {
        ConnectionKind::Control => atoms::control(),
        ConnectionKind::Express => atoms::express(),
        ConnectionKind::Bulk => atoms::bulk(),
    };
    let answered = match check.answered {
        Some(time) => (atoms::ok(), time.as_micros() as u64).encode(env),
        None => atoms::no_answer().encode(env),
    };
    (kind, answered).encode(env)
}

fn reason(error: &ConnectError) -> Atom {
    match error {
        ConnectError::UnknownNode(_) => atoms::not_running(),
        ConnectError::Connect { cause, .. } => posix(cause),
        ConnectError::Closed { .. } => atoms::closed(),
        ConnectError::Timeout { .. } => atoms::timeout(),
        ConnectError::Nowhere { tried, .. } => {
            // A node that answers says more than one that does not.
            let said =
                |tried: &&Tried| matches!(tried.error, AddressError::Handshake(_) | AddressError::Tls(_));
            let answered = tried.iter().find(said);
            answered.or(tried.first()).map_or_else(atoms::connect, |tried| address_error(&tried.error))
        }
        ConnectError::OwnName(_) => atoms::own_name(),
        ConnectError::NoCookie(_) => atoms::cookie(),
        ConnectError::Handshake { cause, .. } => handshake(cause),
        ConnectError::Tls { .. } => atoms::tls(),
        ConnectError::NotRunning => atoms::not_running(),
        ConnectError::NodeDown { .. } => atoms::nodedown(),
        // The enums may grow.
        _ => atoms::connect(),
    }
}

fn address_error(error: &AddressError) -> Atom {
    match error {
        AddressError::Failed(cause) => posix(cause),
        AddressError::Closed => atoms::closed(),
        AddressError::Handshake(cause) => handshake(cause),
        AddressError::Tls(_) => atoms::tls(),
        AddressError::Unanswered | AddressError::Mute => atoms::timeout(),
        // The enum may grow.
        _ => atoms::connect(),
    }
}

fn handshake(error: &HandshakeError) -> Atom {
    match error {
        HandshakeError::NotTeleport { .. } => atoms::not_teleport(),
        HandshakeError::Version { .. } => atoms::version(),
        HandshakeError::WrongNode { .. } => atoms::wrong_node(),
        HandshakeError::OwnName { .. } => atoms::own_name(),
        HandshakeError::Cookie { .. } => atoms::cookie(),
        HandshakeError::Unproven { .. } => atoms::unproven(),
        HandshakeError::Refused { .. } | HandshakeError::RefusedUnknown { .. } => atoms::refused(),
        _ => atoms::handshake(),
    }
}

/// As `inet` has it, for what is common.
fn posix(error: &io::Error) -> Atom {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => atoms::econnrefused(),
        io::ErrorKind::ConnectionReset => atoms::econnreset(),
        io::ErrorKind::TimedOut => atoms::etimedout(),
        io::ErrorKind::HostUnreachable => atoms::ehostunreach(),
        io::ErrorKind::NetworkUnreachable => atoms::enetunreach(),
        _ => atoms::connect(),
    }
}
