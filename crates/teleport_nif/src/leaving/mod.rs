//! From processes to peers: terms and binaries as encoded messages.

pub(crate) mod iovec;
pub(crate) mod small;
