//! The face for Rust: what applications call. The crate's root re-exports what is public of it.

pub(crate) mod builder;
pub(crate) mod call;
pub(crate) mod check;
#[cfg(feature = "embed")]
pub mod embed;
pub mod gen_server;
pub(crate) mod mailbox;
mod monitor;
pub(crate) mod node;
pub(crate) mod process;
pub(crate) mod send_options;
#[cfg(feature = "test-util")]
pub(crate) mod test_util;
