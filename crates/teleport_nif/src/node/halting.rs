//! What is accepted is seen through when the virtual machine halts.
//!
//! `erlang:halt/0` stops no application. It waits for what ports have to write, so what was sent over distributed Erlang is on its way
//! then; here the same is done as when the application stops. A virtual machine that is killed or writes a crash dump does not come here,
//! nor, from OTP 27 on, one that halts without flushing.

#![allow(unsafe_code, reason = "a function is registered with the C library")]

use crate::node::notice::runtime;
use crate::node::running::{self, Running};
use std::ffi::c_int;
use std::io::{self, Write};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// Peers have so long to confirm what is on its way. With the goodbyes no more than `heart` waits for a machine to halt: 5 s.
pub(crate) const DEADLINE: Duration = Duration::from_secs(4);

/// The same when nothing of the virtual machine is closed: its processes run on meanwhile.
const DEADLINE_WITHOUT_FLUSH: Duration = Duration::from_secs(1);

/// The goodbyes take at most this long besides.
const PARTING: Duration = Duration::from_millis(800);

/// The process of the virtual machine. What it forks may end, too, and has none of its threads.
static PROCESS: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" {
    fn atexit(function: extern "C" fn()) -> c_int;
}

/// Sees to it, once for this library.
pub(crate) fn prepare() {
    if PROCESS.swap(process::id(), Ordering::Relaxed) == 0 {
        // SAFETY: the function takes nothing and does not unwind, and its library stays mapped (`build.rs`). Without room for one more
        // it is not called, and the virtual machine ends as it would without it.
        unsafe { atexit(at_exit) };
    }
}

extern "C" fn at_exit() {
    if process::id() != PROCESS.load(Ordering::Relaxed) {
        return;
    }
    let nodes = running::all();
    if nodes.is_empty() {
        return;
    }
    // One that runs has not heard of it: its pulse's port is open.
    let deadline = if running::stop().is_some() { DEADLINE_WITHOUT_FLUSH } else { DEADLINE };
    let (done, end) = channel::<()>();
    // What belongs to the thread that exits is gone already, and waiting for the node needs that.
    let ending = a_thread().spawn(move || {
        // Side by side: a peer that does not answer takes no time from those of another node.
        thread::scope(|scope| {
            for running in &nodes {
                if a_thread().spawn_scoped(scope, move || see_through(running, deadline)).is_err() {
                    see_through(running, deadline);
                }
            }
        });
        drop(done);
    });
    if ending.is_ok() {
        let _ = end.recv_timeout(deadline + PARTING); // it is over, or takes too long
    }
}

fn a_thread() -> thread::Builder {
    thread::Builder::new().name("teleport halt".to_owned())
}

/// Ends a node when what it has accepted has arrived, or the time is over.
fn see_through(running: &Running, deadline: Duration) {
    let Some(node) = running.node() else { return };
    let Ok(runtime) = runtime() else { return };
    node.take_nothing_in();
    let report = runtime.block_on(node.shutdown(deadline));
    for (peer, count) in report.unconfirmed {
        // Nothing else is left to tell it.
        let what = format!("{count} messages to {peer} are not confirmed");
        let _ = writeln!(io::stderr(), "teleport: the virtual machine halts, and {what}");
    }
}
