//! Send flags and limits that Erlang has too: `erlang/src/teleport_nif.hrl` has the same names and values.

// Flags of a send, which Erlang passes as their sum.
pub(crate) const UNORDERED: u32 = 1;
pub(crate) const NOSUSPEND: u32 = 2;
pub(crate) const ASYNC: u32 = 4;
pub(crate) const NOCONNECT: u32 = 8;

/// The largest number of processes that start relays, and of builders.
pub(crate) const MOST_PLACES: usize = 1024;
