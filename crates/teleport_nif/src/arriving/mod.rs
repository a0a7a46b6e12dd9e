//! From peers to processes: messages, requests and monitors, and how this virtual machine's own calls end.

pub(crate) mod builders;
pub(crate) mod calls;
mod deliver;
pub(crate) mod ending;
pub(crate) mod host;
mod places;
pub(crate) mod relays;
pub(crate) mod told;
pub(crate) mod watches;
