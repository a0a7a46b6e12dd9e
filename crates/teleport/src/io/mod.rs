//! What a node has of the system: threads, sockets, memory and time. Knows nothing of sessions.

pub(crate) mod budget;
pub(crate) mod buffers;
pub(crate) mod clock;
pub(crate) mod options;
pub(crate) mod places;
pub(crate) mod readers;
pub(crate) mod runtime;
pub(crate) mod socket;
pub(crate) mod source;
pub(crate) mod stream;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
pub(crate) mod tls;
