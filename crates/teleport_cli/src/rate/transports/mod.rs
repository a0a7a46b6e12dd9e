//! One module per transport.

pub(crate) mod raw;
pub(crate) mod teleport;
