//! What the bytes on a connection mean, after its handshake.
//!
//! [`batch`] describes the frames of express connections, [`pool`] those of bulk connections, [`envelope`] the head of a
//! message inside them, and [`control`] the frames of the control connection. `docs/protocol.md` has the same layouts in
//! tables.

pub mod batch;
pub mod control;
pub mod envelope;
pub mod pool;
mod varint;

pub(crate) use varint::{put_varint, take_varint};

/// Bytes that do not follow the protocol. The connection they came from is of no further use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The bytes end inside a field.
    #[error("a {0} ends in the middle of a field; the connection is out of step and has to be replaced")]
    Truncated(&'static str),
    /// A number that no sender of this protocol version writes.
    #[error(
        "{field} is {value}, which this protocol version does not know; the connection has to be replaced"
    )]
    Unknown {
        /// The field.
        field: &'static str,
        /// What stood there.
        value: u64,
    },
    /// Two fields that contradict each other, or a length over its limit.
    #[error("{field} is {value}, allowed is {allowed}; the connection has to be replaced")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// What stood there.
        value: u64,
        /// The largest (or only) value that would have been right.
        allowed: u64,
    },
    /// A registered name that is not UTF-8.
    #[error("a registered name is not UTF-8; the connection has to be replaced")]
    NameNotUtf8,
}
