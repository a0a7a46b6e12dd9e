//! The native side of the OTP application `teleport`: a node of the crate `teleport`, embedded in an Erlang virtual machine.
//!
//! Erlang processes call the functions in `nifs`, `check` and `logs` (Erlang module `teleport_nif`). What comes from peers is
//! turned into terms by the `host`, on threads of the node, or on dirty schedulers if no other thread can do it (`builders`).
//!
//! A function called by a process only queues, wakes and returns; those that take longer run on dirty schedulers.

mod atoms;
mod budget;
mod builders;
mod calls;
mod check;
mod config;
mod encode;
mod entry;
mod errors;
mod freeing;
mod held;
mod host;
mod ids;
mod iovec;
mod known;
mod lines;
mod logs;
mod naming;
mod nifs;
mod notice;
mod places;
mod questions;
mod received;
mod relays;
mod running;
mod terms;
mod turns;
mod values;
mod watches;
mod workers;
