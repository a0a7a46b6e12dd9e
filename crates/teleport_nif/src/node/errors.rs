//! Errors as terms.

use crate::atoms;
use crate::node::address;
use rustler::types::atom::Atom;
use rustler::{Encoder, Env, Term};
use teleport::embed::RequestError;
use teleport::{ConnectError, DeliveryError, ReplyError, SendError, StartError};

/// The reason of an `{error, Reason}`.
pub(crate) fn send_error<'a>(env: Env<'a>, error: &SendError) -> Term<'a> {
    match error {
        SendError::NoConnection(ConnectError::UnknownNode(peer)) => {
            (atoms::not_running(), peer.as_str()).encode(env)
        }
        SendError::NotRunning => atoms::not_running().encode(env),
        SendError::NoConnection(error) => (atoms::connect(), error.to_string()).encode(env),
        SendError::NodeDown { .. } => atoms::nodedown().encode(env),
        SendError::Busy => atoms::busy().encode(env),
        SendError::NotConnected { .. } => atoms::noconnect().encode(env),
        SendError::Timeout(_) => atoms::timeout().encode(env),
        SendError::TooLarge { size, limit } => (atoms::too_large(), size, limit).encode(env),
        SendError::Name(_) | SendError::NameTooLong(_) | SendError::Encode(_) => {
            (atoms::badarg(), error.to_string()).encode(env)
        }
        // The enum may grow.
        _ => (atoms::unexpected(), error.to_string()).encode(env),
    }
}

/// The reason of an `{error, Reason}` in place of an acknowledgement.
pub(crate) fn delivery_error<'a>(env: Env<'a>, error: &DeliveryError) -> Term<'a> {
    match error {
        DeliveryError::NoProcess => atoms::noproc().encode(env),
        DeliveryError::Unconfirmed { .. } => atoms::nodedown().encode(env),
        // The enum may grow.
        _ => (atoms::unexpected(), error.to_string()).encode(env),
    }
}

/// The reason of an `{error, Reason}`: an answer was not sent.
pub(crate) fn reply_error<'a>(env: Env<'a>, error: &ReplyError) -> Term<'a> {
    match error {
        ReplyError::TooLarge { size, limit } => (atoms::too_large(), size, limit).encode(env),
        ReplyError::NotTaken { waiting } => (atoms::not_taken(), waiting).encode(env),
        ReplyError::NotRunning => atoms::not_running().encode(env),
        ReplyError::Name(_) | ReplyError::Encode(_) => (atoms::badarg(), error.to_string()).encode(env),
        // The enum may grow.
        _ => (atoms::unexpected(), error.to_string()).encode(env),
    }
}

/// The reason of an `{error, Reason}`: a call or monitor was not begun.
pub(crate) fn request_error<'a>(env: Env<'a>, error: &RequestError) -> Term<'a> {
    match error {
        RequestError::NoProcess => atoms::noproc().encode(env),
        RequestError::Send(error) => send_error(env, error),
        // The enum may grow.
        _ => (atoms::unexpected(), error.to_string()).encode(env),
    }
}

/// The reason why the carrier has no connection; a peer without teleport is told from everything else.
pub(crate) fn carrier_error<'a>(env: Env<'a>, error: &SendError) -> Term<'a> {
    match error {
        SendError::NoConnection(error) if error.is_foreign() => {
            (atoms::not_teleport(), error.to_string()).encode(env)
        }
        error => send_error(env, error),
    }
}

/// The reason of an `{error, Reason}`: what is wrong, with what if it can be one of many, and a text.
pub(crate) fn start_error<'a>(env: Env<'a>, error: &StartError) -> Term<'a> {
    let text = error.to_string();
    match error {
        StartError::Name(_) => (atoms::bad_node_name(), text).encode(env),
        StartError::Cookie(_) | StartError::NoCookie(_) => (atoms::bad_cookie(), text).encode(env),
        StartError::Config { field, .. } => bad_value(env, field, text),
        StartError::Congestion { .. } => (atoms::no_congestion_control(), text).encode(env),
        StartError::Listen { address, .. } => {
            (atoms::cannot_listen(), address::encode(env, *address), text).encode(env)
        }
        StartError::Tls(error) => (atoms::tls(), error.to_string()).encode(env),
        StartError::System { .. } => (atoms::system_limit(), text).encode(env),
        // The enum may grow.
        _ => (atoms::not_started(), text).encode(env),
    }
}

/// A key of the configuration has no meaning as it is set.
pub(crate) fn bad_value<'a>(env: Env<'a>, key: &str, text: String) -> Term<'a> {
    // Keys are few, so their atoms are.
    let key = Atom::from_str(env, key).unwrap_or_else(|_| atoms::undefined());
    (atoms::bad_value(), key, text).encode(env)
}
