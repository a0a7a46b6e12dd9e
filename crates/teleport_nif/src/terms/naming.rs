//! The gate before the virtual machine's decoder, which must not run off its schedulers while it gets another name.
//!
//! For a moment it then has no node that is its own (`erts_this_node` is null in `erts_set_this_node`), and stops only its schedulers
//! for that: another thread that decodes a pid or a reference ends it with a segmentation fault. So `teleport_guard`, which is
//! told before the name goes, closes the gate; the manager opens it when the name has gone.
//!
//! To encode a pid of this node is no better. Atoms have no node, and pass by the gate. Nobody waits at it who holds a lock that a
//! scheduler may want: the process that opens the gate wants the scheduler. Who is called under such a lock only
//! [tries](try_enter). Who takes one, such as by [`while_up`](teleport::embed::Origin::while_up), enters before: a thread that is
//! inside enters again without waiting.

use crate::lock::Lock;
use std::cell::Cell;
use std::marker::PhantomData;
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

thread_local! {
    /// How many times this thread is inside.
    static ENTERED: Cell<usize> = const { Cell::new(0) };
}

/// This thread may decode, and encode pids of this node.
pub(crate) struct Inside {
    counted: bool,
    _of_thread: PhantomData<*const ()>,
}

/// Waits while the gate is closed, on all threads but normal schedulers, which the virtual machine stops itself.
pub(crate) fn enter() -> Inside {
    let mut until = None;
    loop {
        if let Some(inside) = try_enter() {
            return inside;
        }
        // By the time that a thread has woken, the gate may be closed again.
        let until = *until.get_or_insert_with(|| Instant::now() + LONGEST);
        if Instant::now() >= until {
            GATE.inside.fetch_add(1, Ordering::SeqCst);
            return Inside::counted();
        }
        GATE.wait(until);
    }
}

/// `None` while the gate is closed, on threads that [`enter`] would have to wait on.
pub(crate) fn try_enter() -> Option<Inside> {
    if is_scheduler() {
        return Some(Inside { counted: false, _of_thread: PhantomData });
    }
    (ENTERED.get() > 0 || GATE.lets_in()).then(Inside::counted)
}

impl Inside {
    fn counted() -> Self {
        ENTERED.set(ENTERED.get() + 1);
        Self { counted: true, _of_thread: PhantomData }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if self.counted {
            ENTERED.set(ENTERED.get() - 1);
            if ENTERED.get() == 0 {
                GATE.inside.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }
}

impl Gate {
    /// Counts one more inside, unless it is closed.
    fn lets_in(&self) -> bool {
        self.inside.fetch_add(1, Ordering::SeqCst);
        let is_open = !self.closed.load(Ordering::SeqCst);
        if !is_open {
            self.inside.fetch_sub(1, Ordering::SeqCst);
        }
        is_open
    }

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

/// Closes the gate, and waits until nobody is inside.
pub(crate) fn close() {
    GATE.closed.store(true, Ordering::SeqCst);
    let until = Instant::now() + PATIENCE;
    while GATE.inside.load(Ordering::SeqCst) > 0 && Instant::now() < until {
        thread::sleep(LOOK_EVERY);
    }
}

/// Lets all in who wait.
pub(crate) fn open() {
    GATE.closed.store(false, Ordering::SeqCst);
    drop(GATE.turn.lock()); // none is between looking and waiting
    GATE.opened.notify_all();
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
