//! The processes of this node: their names and pids, their mailboxes, and what they watch and are watched by.

pub(crate) mod inbox;
pub(crate) mod registry;
mod room;
pub(crate) mod watch;
