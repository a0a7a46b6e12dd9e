//! Under construction.

pub mod handshake;
pub mod liveness;
pub mod membership;
mod name;

pub use name::{Incarnation, InvalidNodeName, MAX_NODE_NAME, NodeName, SessionId};

/// A moment: the time since some start, the same one for all moments that meet. Taken from a monotonic clock.
pub type Time = std::time::Duration;
