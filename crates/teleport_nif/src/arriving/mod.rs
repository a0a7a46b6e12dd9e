//! From peers to processes: messages, requests and monitors, and how this virtual machine's own calls end.

pub(crate) mod builders;
pub(crate) mod calls;
pub(crate) mod host;
pub(crate) mod places;
pub(crate) mod relays;
pub(crate) mod watches;
