//! The engine over real sockets and between processes, one module per topic.

#![allow(clippy::unwrap_used, reason = "in a test it is a failure with a place")]

mod absence;
mod allow;
mod answers;
mod bad_input;
mod call_faults;
mod calls;
mod check;
mod common;
mod connect;
mod copies;
mod credit;
mod distribution;
mod embed;
mod every_byte;
mod faults;
mod follow;
mod gen_server;
mod growth;
mod idle;
mod memory;
mod monitor_faults;
mod monitors;
mod operations;
mod shutdown;
mod shutdown_load;
mod stalls;
mod strangers;
mod turns;

/// Not a test: what tests start as processes of their own.
#[test]
fn child_process() {
    match common::child::role().as_deref() {
        None => {}
        Some("peer") => connect::peer_process(),
        Some("leaver") => shutdown::leaver_process(),
        Some("cycles") => shutdown::cycles_process(),
        Some("sender") => memory::sender_process(),
        Some("idle peers") => idle::peers_process(),
        Some("scarce") => bad_input::scarce_process(),
        Some("servers") => common::servers::process(),
        Some("hub") => idle::hub_process(),
        Some("ticking hub") => idle::ticking_hub_process(),
        Some(role) => panic!("no such role: {role}"),
    }
}
