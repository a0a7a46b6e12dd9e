//! The messages of a session: in a virtual cluster, step by step, and byte by byte.

#![allow(clippy::print_stdout)] // the table of what was reached

mod bytes;
mod cluster;
mod isolation;
mod misbehaviour;
mod support;
