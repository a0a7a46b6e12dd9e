//! Whether the virtual machine lives. The engine's threads are not its own: they go on while it writes its crash dump, and when none of
//! its schedulers runs, and peers would see a node that is up.
//!
//! A process holds a port at one end of a pair of sockets, and answers what comes there. The virtual machine closes its ports before it
//! writes a crash dump. If it answers nothing for a ticktime it hangs: over a connection of its own, peers would have missed its ticks
//! for as long.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// How often in a ticktime the virtual machine is asked for an answer, as ticks are.
const ASKED: u32 = 4;

/// The least time for an answer: what takes no longer than a few of these is busy, and does not hang.
const LEAST: Duration = Duration::from_secs(1);

/// The engine's end of the pair.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    end: OnceLock<UnixStream>,
    ticktime: AtomicU64,
}

impl Pulse {
    pub(crate) fn set_ticktime(&self, seconds: u64) {
        self.ticktime.store(seconds, Ordering::Relaxed);
    }

    /// The node is over: so is the process that answers.
    pub(crate) fn end(&self) {
        if let Some(end) = self.end.get() {
            let _ = end.shutdown(Shutdown::Both); // it may have gone already
        }
    }

    fn step(&self) -> Duration {
        (Duration::from_secs(self.ticktime.load(Ordering::Relaxed)) / ASKED).max(LEAST)
    }
}

/// How it has shown that nothing answers any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// The port is closed: the virtual machine halts or crashes, or the process has ended.
    Closed,
    /// Nothing has answered for too long.
    Silent,
}

/// The end for the process that answers. When that does not any more, `gone` is called, once. It is waited for only when the first
/// byte has come: there may be no port to be had.
pub(crate) fn begin(pulse: &Arc<Pulse>, gone: impl FnOnce(Gone) + Send + 'static) -> io::Result<OwnedFd> {
    let (ours, theirs) = UnixStream::pair()?;
    theirs.set_nonblocking(true)?;
    let _ = pulse.end.set(ours.try_clone()?); // nobody else begins it
    let pulse = pulse.clone();
    thread::Builder::new().name("teleport pulse".to_owned()).spawn(move || {
        if let Some(how) = watch(ours, || pulse.step()) {
            gone(how);
        }
    })?;
    Ok(theirs.into())
}

/// Returns when nothing answers any more; `None` if nothing ever has.
fn watch(mut end: UnixStream, step: impl Fn() -> Duration) -> Option<Gone> {
    let mut byte = [0];
    if !end.read(&mut byte).is_ok_and(|len| len > 0) {
        return None;
    }
    let mut missed = 0;
    // Steps are counted, and not time: a program that was stopped has not been waiting meanwhile.
    while missed <= ASKED {
        let Some(answered) = ask(&mut end, step()) else { return Some(Gone::Closed) };
        missed = if answered { 0 } else { missed + 1 };
    }
    Some(Gone::Silent)
}

/// Whether an answer comes within the time, all of which it waits; `None` if there will be none.
fn ask(end: &mut UnixStream, limit: Duration) -> Option<bool> {
    end.write_all(&[0]).ok()?;
    let (begun, mut answered) = (Instant::now(), false);
    while let left = limit.saturating_sub(begun.elapsed())
        && !left.is_zero()
    {
        end.set_read_timeout(Some(left)).ok()?;
        match end.read(&mut [0; 8]) {
            Ok(0) => return None,
            Ok(_) => answered = true,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                _ => return None,
            },
        }
    }
    Some(answered)
}
