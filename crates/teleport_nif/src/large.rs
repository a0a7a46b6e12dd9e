//! Threads for what takes long, so that the node's own threads do not wait for it: building large terms, delivering what
//! was held back, and freeing.
//!
//! Order is kept by the receipts: what has to come behind a large message comes when its receipt is dropped. So any number
//! of threads can work at once. What was held back for one process is delivered by one of them; see `holds`.

use crate::freeing::Garbage;
use crate::host;
use crate::running::Running;
use std::sync::mpsc::{Receiver, SendError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::{io, thread};
use teleport::embed::{Inbound, ProcessId};

/// At most so many threads build terms, and at least two: a term that takes long is not to hold up all others.
const MOST_THREADS: usize = 4;

/// The way to the threads, which end when this is dropped.
pub(crate) struct Large {
    jobs: Sender<Job>,
    garbage: Sender<Garbage>,
}

enum Job {
    Deliver(Inbound),
    Release(ProcessId),
}

/// What comes out at the other end.
pub(crate) struct Jobs {
    jobs: Receiver<Job>,
    garbage: Receiver<Garbage>,
}

impl Large {
    pub(crate) fn new() -> (Self, Jobs) {
        let (to_work, jobs) = channel();
        let (to_free, garbage) = channel();
        (Self { jobs: to_work, garbage: to_free }, Jobs { jobs, garbage })
    }

    /// Delivers it, when its turn comes.
    pub(crate) fn deliver(&self, inbound: Inbound) {
        self.add(Job::Deliver(inbound));
    }

    /// Delivers what was held back for a process.
    pub(crate) fn release(&self, process: ProcessId) {
        self.add(Job::Release(process));
    }

    /// Drops it, or gives it back if there is no thread for that any more.
    pub(crate) fn free(&self, garbage: Garbage) -> Option<Garbage> {
        self.garbage.send(garbage).err().map(|SendError(garbage)| garbage)
    }

    fn add(&self, job: Job) {
        let _ = self.jobs.send(job); // without a thread the node is not running
    }
}

impl Jobs {
    /// Starts the threads.
    pub(crate) fn start(self, running: &Arc<Running>) -> io::Result<()> {
        let Self { jobs, garbage } = self;
        let name = running.identity.node.as_str();
        let jobs = Arc::new(Mutex::new(jobs));
        let count = thread::available_parallelism().map_or(2, usize::from).clamp(2, MOST_THREADS);
        for _ in 0..count {
            // The threads must not keep alive what they end with.
            let (jobs, running) = (jobs.clone(), Arc::downgrade(running));
            let work = move || while next(&jobs).is_some_and(|job| work(&running, job)) {};
            thread::Builder::new().name(format!("terms {name}")).spawn(work)?;
        }
        thread::Builder::new()
            .name(format!("free {name}"))
            .spawn(move || garbage.into_iter().for_each(drop))?;
        Ok(())
    }
}

/// Waits for a job; the others wait for the lock meanwhile.
fn next(jobs: &Mutex<Receiver<Job>>) -> Option<Job> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// `false` if there is nothing to work for any more.
fn work(running: &Weak<Running>, job: Job) -> bool {
    let Some(running) = running.upgrade() else { return false };
    match job {
        Job::Deliver(inbound) => host::deliver(&running, inbound),
        Job::Release(process) => host::release(&running, process),
    }
    true
}
