//! Messages, and the names of nodes in them, as terms.

use serde::Serialize;
use std::cell::RefCell;
use teleport_etf::{Atom, EncodeError, Encoder, Segments};
use teleport_proto::NodeName;

thread_local! {
    static ENCODER: RefCell<Encoder> = RefCell::default();
}

/// What has become of a message that was to be posted or encoded.
pub(crate) enum Encoded {
    /// It was taken as it had just been written.
    Posted,
    Body(Segments),
}

/// Encodes a message to be sent, as good as without an allocation if it is small.
pub(crate) fn encode<M: Serialize + ?Sized>(message: &M) -> Result<Segments, EncodeError> {
    ENCODER.with(|encoder| match encoder.try_borrow_mut() {
        Ok(mut encoder) => Ok(encoder.encode(message)?.into_segments()),
        Err(_) => teleport_etf::to_segments(message), // within the encoding of another one
    })
}

/// Offers a message to `post` if it is small, as it has just been written; its encoded form if that does not take it.
pub(crate) fn post_or_encode<M: Serialize + ?Sized>(
    message: &M,
    post: impl FnOnce(&[u8]) -> bool,
) -> Result<Encoded, EncodeError> {
    ENCODER.with(|encoder| match encoder.try_borrow_mut() {
        Ok(mut encoder) => {
            let encoded = encoder.encode(message)?;
            if encoded.as_small().is_some_and(post) {
                return Ok(Encoded::Posted);
            }
            Ok(Encoded::Body(encoded.into_segments()))
        }
        Err(_) => teleport_etf::to_segments(message).map(Encoded::Body), // within the encoding of another one
    })
}

/// A node's name as the atom that it is in pids.
pub(crate) fn atom_of(name: &NodeName) -> Atom {
    // A node name has at most 255 bytes, an atom 255 characters.
    Atom::new(name.as_str()).unwrap_or_else(|_| Atom::from_static("nonode@nohost"))
}
