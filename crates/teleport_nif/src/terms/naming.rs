//! The gate before the virtual machine's decoder, which must not run off its schedulers while it gets another name.
//!
//! For a moment it then has no node that is its own (`erts_this_node` is null in `erts_set_this_node`), and stops only its schedulers
//! for that: another thread that decodes a pid or a reference ends it with a segmentation fault. So `teleport_guard`, which is
//! told before the name goes, closes the gate; the manager opens it when the name has gone.

use crate::atoms;
use crate::lock::Lock;
use rustler::types::atom::Atom;
use std::sync::Condvar;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// No name takes as long to go. A gate that was forgotten must not hold threads up for ever.
const LONGEST: Duration = Duration::from_secs(10);

/// How often to look whether those who are inside have come out, and for how long.
const LOOK_EVERY: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(5);

struct Gate {
    closed: AtomicBool,
    inside: AtomicUsize,
    turn: Lock<()>,
    opened: Condvar,
}

static GATE: Gate = Gate {
    closed: AtomicBool::new(false),
    inside: AtomicUsize::new(0),
    turn: Lock::new(()),
    opened: Condvar::new(),
};

/// A thread may decode.
pub(crate) struct Inside {
    counted: bool,
}

/// Waits while the gate is closed, on all threads but normal schedulers, which the virtual machine stops itself.
pub(crate) fn enter() -> Inside {
    if is_scheduler() {
        return Inside { counted: false };
    }
    let mut until = None;
    loop {
        GATE.inside.fetch_add(1, Ordering::SeqCst);
        // By the time that a thread has woken, the gate may be closed again.
        if !GATE.closed.load(Ordering::SeqCst) || until.is_some_and(|until| Instant::now() >= until) {
            return Inside { counted: true };
        }
        GATE.inside.fetch_sub(1, Ordering::SeqCst);
        GATE.wait(*until.get_or_insert_with(|| Instant::now() + LONGEST));
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if self.counted {
            GATE.inside.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Gate {
    fn wait(&self, until: Instant) {
        let mut turn = self.turn.lock();
        while self.closed.load(Ordering::SeqCst) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            turn = Lock::wait_for(turn, &self.opened, left);
        }
    }
}

#[rustler::nif(schedule = "DirtyIo")]
fn close_gate() -> Atom {
    GATE.closed.store(true, Ordering::SeqCst);
    let until = Instant::now() + PATIENCE;
    while GATE.inside.load(Ordering::SeqCst) > 0 && Instant::now() < until {
        thread::sleep(LOOK_EVERY);
    }
    atoms::ok()
}

#[rustler::nif]
fn open_gate() -> Atom {
    GATE.closed.store(false, Ordering::SeqCst);
    drop(GATE.turn.lock()); // none is between looking and waiting
    GATE.opened.notify_all();
    atoms::ok()
}

fn is_scheduler() -> bool {
    #![allow(
        unsafe_code,
        reason = "rustler tells schedulers from other threads, but not those that are dirty"
    )]
    // SAFETY: it only looks at what the thread is.
    unsafe { rustler::sys::enif_thread_type() == NORMAL_SCHEDULER }
}

/// `ERL_NIF_THR_NORMAL_SCHEDULER`.
const NORMAL_SCHEDULER: i32 = 1;
