//! The node in this virtual machine: how it is configured, what it asks and logs, and how its errors are told.

pub(crate) mod address;
pub(crate) mod allow;
pub(crate) mod ask;
pub(crate) mod config;
pub(crate) mod errors;
pub(crate) mod halting;
pub(crate) mod logs;
pub(crate) mod notice;
pub(crate) mod pulse;
pub(crate) mod questions;
pub(crate) mod running;
pub(crate) mod tls;
