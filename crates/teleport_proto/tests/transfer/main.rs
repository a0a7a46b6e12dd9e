//! The messages of a session: in a virtual cluster, step by step, and byte by byte.

#![allow(clippy::print_stdout)] // the table of what was reached

mod cluster;
mod isolation;
mod support;
