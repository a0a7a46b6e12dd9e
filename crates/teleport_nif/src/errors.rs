//! Errors as terms.

use crate::atoms;
use rustler::{Encoder, Env, Term};
use teleport::{ConnectError, SendError, StartError};

/// The reason of an `{error, Reason}`.
pub(crate) fn send_error<'a>(env: Env<'a>, error: &SendError) -> Term<'a> {
    match error {
        SendError::NoConnection(ConnectError::UnknownNode(peer)) => {
            (atoms::not_running(), peer.as_str()).encode(env)
        }
        SendError::NoConnection(ConnectError::NotRunning) | SendError::NotRunning => {
            atoms::not_running().encode(env)
        }
        SendError::NoConnection(error) => (atoms::connect(), error.to_string()).encode(env),
        SendError::NodeDown { .. } | SendError::Unconfirmed { .. } => atoms::nodedown().encode(env),
        SendError::Busy => atoms::busy().encode(env),
        SendError::TooLarge { size, limit } => (atoms::too_large(), size, limit).encode(env),
        SendError::NoProcess => atoms::noproc().encode(env),
        SendError::Name(_) | SendError::NameTooLong(_) | SendError::Encode(_) => {
            (atoms::badarg(), error.to_string()).encode(env)
        }
        // The enum may grow.
        _ => (atoms::error(), error.to_string()).encode(env),
    }
}

/// The reason of an `{error, Reason}`.
pub(crate) fn start_error<'a>(env: Env<'a>, error: &StartError) -> Term<'a> {
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        text = format!("{text}: {source}");
    }
    (atoms::bad_config(), text).encode(env)
}
