//! The teleport session as pure state machines.
//!
//! No socket, clock, thread or source of randomness in here: time, random bytes and events go in, bytes and actions
//! come out. That makes a cluster of six nodes with failing connections a value that a test can step through thousands
//! of times a second.
//!
//! * [`handshake`]: every connection proves the cookie before anything else.
//! * [`newcomers`]: which connection without a proof has to go when there are too many.
//! * [`membership`]: which peers have a session, whose dial wins, who has been restarted.
//! * [`liveness`]: heartbeats; apart from everything else, since it runs on a thread of its own.
//! * [`absence`]: whether a peer's process is gone.
//! * [`transfer`]: the messages: credit, framing, order, acknowledgement, retirement, resending.
//! * [`watches`]: what processes wait for: the answers to their calls, and the ends of others.
//! * [`wire`]: what the bytes on an established connection mean.

pub mod absence;
#[cfg(feature = "planted-faults")]
mod faults;
pub mod handshake;
pub mod liveness;
pub mod membership;
mod name;
pub mod newcomers;
pub mod transfer;
pub mod watches;
pub mod wire;

#[cfg(feature = "planted-faults")]
pub use faults::Faults;
pub use name::{Incarnation, InvalidNodeName, MAX_NODE_NAME, NodeName, SessionId};

/// A moment: the time since some start, the same one for all moments that meet. Taken from a monotonic clock.
pub type Time = std::time::Duration;

/// Names a pool connection within its session. Given by the session's dialler, ascending, never twice.
pub type ConnectionId = u64;
