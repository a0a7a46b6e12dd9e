//! Threads for what the node's own threads do not wait for.
//!
//! Some are for what takes long; one is for all that is short but has waited for a process. So neither holds up the other. Both do
//! what comes from each address and session in turn. Order is kept by receipts and [lines](crate::work::lines).

use crate::work::turns::{Turn, Turns, Whose};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::{io, thread};
use teleport::embed::stand_back;

/// The most threads for what takes long. There are at least three, and an address has all but one of them at the most.
const MOST_THREADS: usize = 4;

/// What is done for a node.
pub(crate) type Job<N> = Box<dyn FnOnce(&Arc<N>) + Send>;

/// The way to the threads of a node, which end when this is dropped.
pub(crate) struct Workers<N> {
    large: Arc<Turns<Job<N>>>,
    short: Arc<Turns<Job<N>>>,
}

/// What comes out at the other end.
pub(crate) struct Jobs<N> {
    large: Arc<Turns<Job<N>>>,
    short: Arc<Turns<Job<N>>>,
}

impl<N: Send + Sync + 'static> Workers<N> {
    /// As many large jobs are done at a time as take this much memory together, or one.
    pub(crate) fn new(room: usize) -> (Self, Jobs<N>) {
        let count = thread::available_parallelism().map_or(3, usize::from).clamp(3, MOST_THREADS);
        let (large, short) = (Arc::new(Turns::new(count, room)), Arc::new(Turns::new(1, usize::MAX)));
        (Self { large: large.clone(), short: short.clone() }, Jobs { large, short })
    }

    /// Does what takes long, and this many bytes of memory.
    pub(crate) fn large(&self, whose: Whose, bytes: usize, job: impl FnOnce(&Arc<N>) + Send + 'static) {
        self.large.push(whose, Box::new(job), bytes);
    }

    /// Does what is short. In the order of the calls, as far as they are of the same.
    pub(crate) fn short(&self, whose: Whose, job: impl FnOnce(&Arc<N>) + Send + 'static) {
        self.short.push(whose, Box::new(job), 0);
    }
}

impl<N> Drop for Workers<N> {
    fn drop(&mut self) {
        self.large.close();
        self.short.close();
    }
}

impl<N: Send + Sync + 'static> Jobs<N> {
    /// Starts the threads of a node of that name. They do not keep it alive: they end with it.
    pub(crate) fn start(self, node: &Arc<N>, name: &str) -> io::Result<()> {
        let Self { large, short } = self;
        let start = |kind: &str, work: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(format!("{kind} {name}")).spawn(work).map(drop)
        };
        for _ in 0..large.threads() {
            let (large, node) = (large.clone(), Arc::downgrade(node));
            start(
                "terms",
                Box::new(move || {
                    stand_back();
                    work(&node, || large.next());
                }),
            )?;
        }
        let node = Arc::downgrade(node);
        start("short", Box::new(move || work(&node, || short.next())))
    }
}

/// Until there is nothing to work for any more. A turn ends when its job has been done.
fn work<N>(node: &Weak<N>, next: impl Fn() -> Option<(Job<N>, Turn<Job<N>>)>) {
    while let Some((job, _turn)) = next()
        && let Some(node) = node.upgrade()
    {
        // A job that panics is the only one that is not done.
        if catch_unwind(AssertUnwindSafe(|| job(&node))).is_err() {
            tracing::error!("a thread of the library panicked; it goes on with the next term");
        }
    }
}
