//! Connections of distributed Erlang that sessions carry: what the virtual machine hands over for a peer, and what comes for it.

mod channel;
pub(crate) mod memory;
mod table;

pub(crate) use channel::{Channel, Put, Taken, binary};
pub(crate) use table::{CHANNELS, Handle, connect, set_acceptor};
