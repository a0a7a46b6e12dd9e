//! Messages, and the names of nodes in them, as terms.

use serde::Serialize;
use std::cell::RefCell;
use teleport_etf::{Atom, EncodeError, Encoder, Segments};
use teleport_proto::NodeName;

thread_local! {
    static ENCODER: RefCell<Encoder> = RefCell::default();
}

/// Encodes a message to be sent, as good as without an allocation if it is small.
pub(crate) fn encode<M: Serialize + ?Sized>(message: &M) -> Result<Segments, EncodeError> {
    Ok(encode_unless(message, |_| false)?.unwrap_or_default())
}

/// Like [`encode`], unless the message is small and `take` takes it as it has just been written: then `None`.
pub(crate) fn encode_unless<M: Serialize + ?Sized>(
    message: &M,
    take: impl FnOnce(&[u8]) -> bool,
) -> Result<Option<Segments>, EncodeError> {
    ENCODER.with(|encoder| match encoder.try_borrow_mut() {
        Ok(mut encoder) => {
            let encoded = encoder.encode(message)?;
            let taken = encoded.as_small().is_some_and(take);
            Ok((!taken).then(|| encoded.into_segments()))
        }
        Err(_) => teleport_etf::to_segments(message).map(Some), // within the encoding of another one
    })
}

/// A node's name as the atom that it is in pids.
pub(crate) fn atom_of(name: &NodeName) -> Atom {
    // A node name has at most 255 bytes, an atom 255 characters.
    Atom::new(name.as_str()).unwrap_or_else(|_| Atom::from_static("nonode@nohost"))
}
