//! Under construction.

pub mod handshake;
mod name;

pub use name::{Incarnation, InvalidNodeName, MAX_NODE_NAME, NodeName, SessionId};
