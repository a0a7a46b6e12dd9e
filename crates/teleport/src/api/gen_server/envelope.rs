//! What a message is to a server, told by OTP's shapes.

use crate::api::call::{CALL, CAST, Caller};
use crate::api::mailbox::Message;
use serde::de::{DeserializeOwned, IgnoredAny};
use teleport_etf::{Atom, DecodeError, Limits, RawTerm, from_bytes_with};

/// A message to a server. If what is asked or said is over the limits of decoding, it is known all the same what it was
/// meant to be, and who asks.
#[derive(Debug)]
pub(super) enum Envelope {
    /// `{'$gen_call', From, Request}`.
    Call(Caller, Result<RawTerm, DecodeError>),
    /// `{system, From, Request}`: what OTP's `sys` sends, and so `gen_server:stop`.
    System(Caller, Result<RawTerm, DecodeError>),
    /// `{'$gen_cast', Message}`.
    Cast(Result<RawTerm, DecodeError>),
    /// Anything else.
    Info,
}

impl Envelope {
    pub(super) fn of(message: &Message) -> Self {
        match message.decode::<(Atom, Caller, RawTerm)>() {
            Ok((kind, caller, request)) => return Self::with_caller(&kind, caller, Ok(request)),
            Err(error) if is_limit(&error) => {
                // The caller is kept, and has the usual limits.
                if let Ok((kind, from, _)) = unlimited::<(Atom, RawTerm, IgnoredAny)>(message)
                    && let Ok(caller) = from.decode()
                {
                    return Self::with_caller(&kind, caller, Err(error));
                }
            }
            Err(_) => {}
        }
        let (kind, cast) = match message.decode::<(Atom, RawTerm)>() {
            Ok((kind, cast)) => (kind, Ok(cast)),
            Err(error) if is_limit(&error) => match unlimited::<(Atom, IgnoredAny)>(message) {
                Ok((kind, _)) => (kind, Err(error)),
                Err(_) => return Self::Info,
            },
            Err(_) => return Self::Info,
        };
        if kind == CAST { Self::Cast(cast) } else { Self::Info }
    }

    fn with_caller(kind: &Atom, caller: Caller, request: Result<RawTerm, DecodeError>) -> Self {
        match kind {
            kind if *kind == CALL => Self::Call(caller, request),
            kind if *kind == "system" => Self::System(caller, request),
            _ => Self::Info,
        }
    }
}

fn is_limit(error: &DecodeError) -> bool {
    matches!(error, DecodeError::TooDeep { .. } | DecodeError::TooManyElements { .. })
}

/// Decodes with as many terms as there are: for types that build nothing of them. What is ignored may be of any depth, too.
fn unlimited<T: DeserializeOwned>(message: &Message) -> Result<T, DecodeError> {
    from_bytes_with(message.body(), &Limits { max_elements: usize::MAX, ..Limits::default() })
}
