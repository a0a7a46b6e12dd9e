//! Terms that only a scheduler's thread can build: they go to processes that do so, and nobody waits for them.
//!
//! Large ones are built on dirty schedulers. Those can all be busy for long with what has nothing to do with this; small ones are
//! decoded by a process that does nothing else, with `binary_to_term`, which a scheduler can interrupt. What was built comes back
//! to the threads of the node, which deliver it.

use crate::arriving::places::Places;
use crate::atoms;
use crate::node::running::Running;
use crate::terms::Atoms;
use crate::terms::in_place;
use bytes::Bytes;
use rustler::env::SavedTerm;
use rustler::{LocalPid, OwnedEnv, Resource, ResourceArc, Term};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Larger documents are built on dirty schedulers.
const SMALL: usize = 64 * 1024;

/// A term that so many builders have ended over is none.
const MOST_TRIES: u8 = 3;

/// The builder processes. The first one is for small documents.
static BUILDERS: Places<LocalPid> = Places::new();

/// Which of the others got the last job.
static LAST: AtomicUsize = AtomicUsize::new(0);

/// What nobody builds, since there is no builder just now.
static LEFT: Mutex<Vec<Work>> = Mutex::new(Vec::new());

/// A term that was built.
pub(crate) type Built = (OwnedEnv, SavedTerm);

/// How a term was to be built: from those atoms, and by the how manieth builder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tried {
    pub(crate) atoms: Atoms,
    pub(crate) tries: u8,
}

/// What becomes of a term that was built, or of none.
type Then = Box<dyn FnOnce(&Arc<Running>, Tried, Option<Built>) + Send>;

/// A term to be built, and what then becomes of it.
pub(crate) struct Work {
    running: Weak<Running>,
    document: Bytes,
    tried: Tried,
    then: Then,
    /// A builder is at it.
    begun: bool,
}

/// The work in the hands of a builder. If that ends before it is done, another one gets it.
pub(crate) struct Job(Mutex<Option<Work>>);

#[rustler::resource_impl(register = false)]
impl Resource for Job {}

/// A builder has started, at that place of so many.
pub(crate) fn add(place: usize, count: usize, builder: LocalPid) {
    BUILDERS.set(place, count, builder);
    let left = std::mem::take(&mut *lock(&LEFT));
    left.into_iter().for_each(Work::submit_later);
}

/// Whether all have started.
pub(crate) fn are_there() -> bool {
    BUILDERS.are_taken()
}

/// Has a term built. Not on a scheduler.
pub(crate) fn submit(work: Work) {
    let is_small = work.document.len() <= SMALL;
    let how = if is_small { atoms::teleport_build_small() } else { atoms::teleport_build() };
    // While this is locked a builder that starts cannot miss what is left.
    let mut left = lock(&LEFT);
    let Some(builder) = BUILDERS.get(|count| if is_small { Some(0) } else { next(count) }) else {
        return left.push(work);
    };
    let job = ResourceArc::new(Job(Mutex::new(Some(work))));
    let told = job.clone();
    if OwnedEnv::new().send_and_clear(&builder, |_| (how, told)).is_err() {
        left.extend(job.take()); // it has ended, and its supervisor starts another one
    }
}

/// Each of the others in turn.
fn next(count: usize) -> Option<usize> {
    let others = count.checked_sub(1)?;
    Some(1 + LAST.fetch_add(1, Ordering::Relaxed).checked_rem(others)?)
}

impl Work {
    /// `then` is called on a thread of the node, unless that has ended.
    pub(crate) fn new(
        running: &Arc<Running>,
        document: Bytes,
        tried: Tried,
        then: impl FnOnce(&Arc<Running>, Tried, Option<Built>) + Send + 'static,
    ) -> Self {
        Self { running: Arc::downgrade(running), document, tried, then: Box::new(then), begun: false }
    }

    /// A builder has not done it: another one may.
    fn retry(mut self) {
        self.tried.tries += u8::from(std::mem::take(&mut self.begun));
        if self.tried.tries > MOST_TRIES { self.done(None) } else { self.submit_later() }
    }

    fn submit_later(self) {
        if let Some(running) = self.running.upgrade() {
            running.workers.short(|_| submit(self));
        }
    }

    fn done(self, built: Option<Built>) {
        if let Some(running) = self.running.upgrade() {
            let Self { tried, then, .. } = self;
            running.workers.short(move |running| then(running, tried, built));
        }
    }
}

impl Job {
    /// One that has been done.
    pub(crate) fn nothing() -> Self {
        Self(Mutex::default())
    }

    /// The document, and which atoms there may be in it; `None` if the term has been built.
    pub(crate) fn document(&self) -> Option<(Bytes, Atoms)> {
        self.work().as_mut().map(|work| {
            work.begun = true;
            (work.document.clone(), work.tried.atoms)
        })
    }

    /// The term has been built, or there is none. It is copied.
    pub(crate) fn built(&self, term: Option<Term<'_>>) {
        let Some(work) = self.take() else { return };
        work.done(term.map(|term| {
            let owned = OwnedEnv::new();
            let term = owned.save(term);
            (owned, term)
        }));
    }

    /// Builds the term, once. On a dirty scheduler.
    pub(crate) fn run(&self) {
        let Some(work) = self.take() else { return };
        let Some(running) = work.running.upgrade() else { return };
        let owned = OwnedEnv::new();
        let built = owned.run(|env| {
            let (document, atoms) = (&work.document, work.tried.atoms);
            let term = in_place::build_on_scheduler(env, document, running.terms.limits(), atoms)?;
            Some(owned.save(term))
        });
        work.done(built.map(|term| (owned, term)));
    }

    fn take(&self) -> Option<Work> {
        self.work().take()
    }

    fn work(&self) -> MutexGuard<'_, Option<Work>> {
        lock(&self.0)
    }
}

impl Drop for Job {
    /// Wherever the builder's memory is collected.
    fn drop(&mut self) {
        if let Some(work) = self.take() {
            work.retry();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
