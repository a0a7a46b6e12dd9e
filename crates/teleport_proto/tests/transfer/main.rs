//! The messages of a session: in a virtual cluster, step by step, and byte by byte.

#![allow(clippy::print_stdout)] // the table of what was reached
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod answers;
mod bytes;
mod hostile;
mod isolation;
mod misbehaviour;
mod probe;
mod progress;
mod sealing;
mod support;
mod trays;
