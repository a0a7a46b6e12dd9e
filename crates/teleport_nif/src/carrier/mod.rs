//! Connections of distributed Erlang that sessions carry: what the virtual machine hands over for a peer, and what comes for it.

mod channel;
pub(crate) mod memory;
mod plain;
mod pulled;
mod table;

pub(crate) use channel::{Channel, Put, Taken, Taking, binary};
pub(crate) use plain::{Plain, hand_on};
pub(crate) use table::{CHANNELS, Handle, accepts, connect, set_acceptor, set_no_acceptor};
