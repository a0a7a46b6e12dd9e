//! What every layer may use, and what uses none of them: addresses, configuration, errors, locks, metrics.

pub(crate) mod address;
pub(crate) mod allow;
pub(crate) mod caught;
pub(crate) mod config;
pub(crate) mod cookies;
pub(crate) mod down;
pub(crate) mod encoding;
pub(crate) mod error;
pub(crate) mod info;
pub(crate) mod lock;
pub(crate) mod meter;
pub mod metrics;
pub(crate) mod random;
pub(crate) mod recorder;
pub(crate) mod resolver;
pub(crate) mod seldom;
#[cfg(feature = "tls")]
pub(crate) mod tls;
