//! Terms and documents from a seed, and what has to hold for any.

#![allow(clippy::unwrap_used, reason = "only tests run this")]

pub mod apart;
pub mod generate;
pub mod properties;
