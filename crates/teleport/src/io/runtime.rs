//! The threads of a node, and what each of them is for.
//!
//! A thread of its own for control connections, so that ticks wait for nothing. Bulk threads for large messages, at a
//! lower priority, so that neither a small message nor the application waits behind a copy of megabytes; each has its
//! own connections and shares nothing with the others, since waking one another would cost more than it brings. And a
//! runtime that spreads everything else over its threads.

use std::convert::Infallible;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use teleport_proto::NodeName;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;
use tokio::time::{Instant, Timeout};

/// How much further back bulk threads stand in the scheduler's line (`nice`).
const BULK_NICE: i32 = 5;

/// For express connections, accepts, handshakes and sessions: a runtime that may be dropped anywhere, also within a
/// task, where waiting for its threads is not allowed.
#[derive(Debug)]
pub(crate) struct Main(Option<Runtime>);

impl Main {
    pub(crate) fn start(name: &NodeName, threads: usize) -> io::Result<(Self, Handle)> {
        rehearse(threads)?;
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(threads).thread_name(format!("io {}", name.name())).enable_all();
        let runtime = builder.build()?;
        let handle = runtime.handle().clone();
        Ok((Self(Some(runtime)), handle))
    }
}

/// Starts so many threads at a time, and ends them: where that fails, tokio would panic.
fn rehearse(threads: usize) -> io::Result<()> {
    let start = |_| {
        let (end, ended) = std::sync::mpsc::channel::<Infallible>();
        let thread = std::thread::Builder::new().spawn(move || ended.recv().is_err())?;
        Ok((end, thread))
    };
    let started: Vec<io::Result<_>> = (0..threads).map(start).collect();
    started.into_iter().try_for_each(|started| {
        let (end, thread) = started?;
        drop(end);
        let _ = thread.join(); // it does not panic
        Ok(())
    })
}

impl Drop for Main {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A thread with a runtime of its own. Ends when this is dropped, and the tasks have ended that it was told to see
/// through.
#[derive(Debug)]
pub(crate) struct Thread {
    handle: Handle,
    in_use: mpsc::Sender<Infallible>,
}

impl Thread {
    fn start(name: String, first: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (in_use, mut unused) = mpsc::channel(1);
        let (started, handle) = std::sync::mpsc::channel();
        // The thread makes its runtime itself: if there is no thread, a runtime would be dropped here, within a task.
        std::thread::Builder::new().name(name).spawn(move || {
            first();
            match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => {
                    let _ = started.send(Ok(runtime.handle().clone()));
                    runtime.block_on(unused.recv()); // nothing is ever sent
                }
                Err(error) => drop(started.send(Err(error))),
            }
        })?;
        let handle = handle.recv().map_err(io::Error::other)??;
        Ok(Self { handle, in_use })
    }

    /// The thread for control connections.
    pub(crate) fn control(node: &NodeName) -> io::Result<Self> {
        Self::start(format!("ctl {}", node.name()), || {})
    }

    /// Runs a task on the thread, to its end.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let in_use = self.in_use.clone();
        self.handle.spawn(async move {
            task.await;
            drop(in_use);
        });
    }

    /// Runs tasks on the thread, while it lasts.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// Limits of time for those who wait on threads that are not the node's, where there may be no timer, or no runtime at all.
#[derive(Debug, Clone)]
pub(crate) struct Timers(Handle);

impl Timers {
    /// So much later, by the clock that these timers go by; `None` if that is beyond what it can tell.
    pub(crate) fn end(&self, limit: Duration) -> Option<Instant> {
        let _entered = self.0.enter();
        Instant::now().checked_add(limit)
    }

    /// As [`tokio::time::timeout`].
    pub(crate) fn timeout<F: Future>(&self, limit: Duration, future: F) -> Timeout<F> {
        let _entered = self.0.enter();
        tokio::time::timeout(limit, future)
    }

    /// As [`tokio::time::timeout_at`].
    pub(crate) fn timeout_at<F: Future>(&self, end: Instant, future: F) -> Timeout<F> {
        let _entered = self.0.enter();
        tokio::time::timeout_at(end, future)
    }
}

/// The threads for bulk connections.
#[derive(Debug)]
pub(crate) struct BulkThreads {
    threads: Vec<Thread>,
    next: AtomicUsize,
}

impl BulkThreads {
    pub(crate) fn start(node: &NodeName, count: usize) -> io::Result<Self> {
        let thread = |i| Thread::start(format!("bulk{i} {}", node.name()), stand_back);
        let threads = (0..count).map(thread).collect::<io::Result<_>>()?;
        Ok(Self { threads, next: AtomicUsize::new(0) })
    }

    /// They last as long as their node. All who wait are woken on this thread, so it is not that of the control connections, where
    /// ticks wait for nothing.
    pub(crate) fn timers(&self) -> Timers {
        Timers(self.threads[0].handle.clone()) // there is at least one
    }

    /// The thread for the next connection: one after the other.
    pub(crate) fn next(&self) -> &Handle {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.threads[next % self.threads.len()].handle()
    }
}

/// Below this many bytes it costs more to hand them over than to free them.
const WORTH_A_THREAD: u64 = 1024 * 1024;

/// Frees something of this many bytes: [elsewhere](free_elsewhere) if it is large, since what took gigabytes takes a second, for
/// which nobody should wait.
pub(crate) fn free(bytes: u64, garbage: impl Send + 'static) {
    if bytes >= WORTH_A_THREAD {
        free_elsewhere(Box::new(garbage));
    }
}

/// Drops it on a thread that does nothing else, one for all nodes of the process. Where no thread can be had, it is dropped here.
pub fn free_elsewhere(garbage: Box<dyn Send>) {
    match thread_that_frees() {
        Ok(thread) => drop(thread.send(garbage)), // what it does not take comes back, and is dropped
        Err(error) => tracing::debug!(%error, "no thread to free memory on"),
    }
}

/// The way to it. It outlives nodes, as garbage does.
fn thread_that_frees() -> io::Result<&'static Sender<Box<dyn Send>>> {
    static THREAD: OnceLock<Sender<Box<dyn Send>>> = OnceLock::new();
    if let Some(thread) = THREAD.get() {
        return Ok(thread);
    }
    let (sender, garbage) = channel::<Box<dyn Send>>();
    let thread = std::thread::Builder::new().name("teleport free".to_owned());
    thread.spawn(move || garbage.into_iter().for_each(free_here))?;
    Ok(THREAD.get_or_init(|| sender)) // if two were started at once, the other one ends
}

/// What an application has given may panic: that ends nothing else.
fn free_here(garbage: Box<dyn Send>) {
    if catch_unwind(AssertUnwindSafe(|| drop(garbage))).is_err() {
        tracing::error!("memory could not be freed: what is to be done then has panicked");
    }
}

/// Lowers the priority of the calling thread, as that of threads for large messages is. On Linux that is what `setpriority` does
/// for process 0.
pub fn stand_back() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, BULK_NICE) {
        tracing::debug!(%error, "cannot lower the priority of a thread");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in a test it is a failure with a place")]
mod tests {
    use super::*;
    use std::thread::{self, ThreadId};

    /// Tells which thread has freed it.
    struct Garbage(Sender<ThreadId>);

    impl Drop for Garbage {
        fn drop(&mut self) {
            let _ = self.0.send(thread::current().id());
        }
    }

    #[test]
    fn what_is_large_is_freed_by_one_thread() {
        let (freed, by) = channel();
        for bytes in [WORTH_A_THREAD, 10 * WORTH_A_THREAD, WORTH_A_THREAD - 1] {
            free(bytes, Garbage(freed.clone()));
        }
        let here = thread::current().id();
        let by: Vec<_> = (0..3).map(|_| by.recv().unwrap()).collect();
        let elsewhere: Vec<_> = by.into_iter().filter(|thread| *thread != here).collect();
        assert!(matches!(elsewhere[..], [one, other] if one == other), "{elsewhere:?}");
    }
}
