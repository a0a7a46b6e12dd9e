//! What the tests and the fuzz targets share.

#![allow(dead_code, unreachable_pub, reason = "not every test uses all of it")]
#![allow(clippy::unwrap_used, reason = "tests")]

pub mod apart;
pub mod generate;
pub mod properties;
