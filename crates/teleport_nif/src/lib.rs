//! The native side of the OTP application `teleport`: a node of the crate `teleport`, embedded in an Erlang virtual machine.
//!
//! The folders are rooms, each with what it is for in its first line. Erlang processes call the functions in `nifs` (Erlang module
//! `teleport_nif`); what they send becomes encoded messages in `leaving`. What comes from peers is delivered by `arriving`, as
//! the terms that `terms` builds. `node` is the node itself, `work` the threads.
//!
//! A function called by a process only queues, wakes and returns; those that take longer run on dirty schedulers.

mod arriving;
mod atoms;
mod carrier;
mod entry;
mod ids;
mod leaving;
mod library;
mod lock;
mod nifs;
mod node;
mod terms;
mod work;
