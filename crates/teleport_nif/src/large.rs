//! A thread for what takes long, so that the node's own threads do not wait for it: building large terms, and delivering
//! what was held back.
//!
//! Order is kept by the receipts: what has to come behind a large message comes when its receipt is dropped.

use crate::host;
use crate::running::Running;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use teleport::embed::{Inbound, ProcessId};

/// The way to the thread, which ends when this is dropped.
pub(crate) struct Large(Sender<Job>);

enum Job {
    Deliver(Inbound),
    Release(ProcessId),
}

/// What comes out at the other end.
pub(crate) struct Jobs(Receiver<Job>);

impl Large {
    pub(crate) fn new() -> (Self, Jobs) {
        let (sender, inbox) = channel();
        (Self(sender), Jobs(inbox))
    }

    /// Delivers it, when its turn comes.
    pub(crate) fn deliver(&self, inbound: Inbound) {
        self.add(Job::Deliver(inbound));
    }

    /// Delivers what was held back for a process.
    pub(crate) fn release(&self, process: ProcessId) {
        self.add(Job::Release(process));
    }

    fn add(&self, job: Job) {
        let _ = self.0.send(job); // without a thread the node is not running
    }
}

impl Jobs {
    /// Starts the thread.
    pub(crate) fn start(self, running: &Arc<Running>) -> std::io::Result<()> {
        let builder = std::thread::Builder::new().name(format!("terms {}", running.identity.node.as_str()));
        // The thread must not keep alive what it ends with.
        let running = Arc::downgrade(running);
        builder.spawn(move || self.0.into_iter().for_each(|job| work(&running, job)))?;
        Ok(())
    }
}

fn work(running: &Weak<Running>, job: Job) {
    let Some(running) = running.upgrade() else { return };
    match job {
        Job::Deliver(inbound) => host::deliver(&running, inbound),
        Job::Release(process) => host::release(&running, process),
    }
}
