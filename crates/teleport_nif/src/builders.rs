//! Terms that only a scheduler's thread can build: they go to processes that do so.
//!
//! Large ones are built on dirty schedulers. Those can all be busy for long with what has nothing to do with this, and for small
//! ones the node's own threads wait: these are decoded by a process that does nothing else, with `binary_to_term`, which a
//! scheduler can interrupt.
//!
//! On a thread that is no scheduler the virtual machine crashes when it makes a map of more than 128 pairs, before OTP 27.3 and
//! where older releases were not mended (erlang/otp#8208).

use crate::terms::Atoms;
use crate::{atoms, received};
use bytes::Bytes;
use rustler::env::SavedTerm;
use rustler::{Env, LocalPid, OwnedEnv, Resource, ResourceArc, Term};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use teleport::etf::Limits;

/// A map of at most so many pairs can be made on any thread.
pub(crate) const MAX_MAP: usize = 128;

/// No node's own thread waits for a document that is larger.
const SMALL: usize = 64 * 1024;

/// If there is no builder for so long, the application is not running any more.
const PATIENCE: Duration = Duration::from_secs(10);

/// The builder processes. They outlive the node.
static BUILDERS: Mutex<Builders> = Mutex::new(Builders { places: Vec::new(), last: 0, started: 0 });

/// Another one has started.
static STARTED: Condvar = Condvar::new();

struct Builders {
    /// The first one is for small documents.
    places: Vec<Option<LocalPid>>,
    /// Who of the others got the last job.
    last: usize,
    /// How many have started.
    started: u64,
}

/// A term to be built. If nobody does, since its process ends, that is noticed when this is dropped.
pub(crate) struct Job(Mutex<Option<Work>>);

struct Work {
    document: Bytes,
    limits: Limits,
    atoms: Atoms,
    done: SyncSender<Option<Built>>,
}

type Built = (OwnedEnv, SavedTerm);

#[rustler::resource_impl]
impl Resource for Job {}

/// A builder has started, at that place of so many.
pub(crate) fn add(place: usize, count: usize, builder: LocalPid) {
    let mut builders = lock();
    builders.places.resize(count, None);
    if let Some(entry) = builders.places.get_mut(place) {
        *entry = Some(builder);
    }
    builders.started += 1;
    STARTED.notify_all();
}

/// Has the term built, and waits for it. Not on a scheduler.
pub(crate) fn build<'a>(env: Env<'a>, document: &Bytes, limits: &Limits, atoms: Atoms) -> Option<Term<'a>> {
    let end = Instant::now() + PATIENCE;
    loop {
        let started = lock().started;
        let (done, built) = sync_channel(1);
        let is_small = document.len() <= SMALL;
        let work = Work { document: document.clone(), limits: limits.clone(), atoms, done };
        tell(ResourceArc::new(Job(Mutex::new(Some(work)))), is_small);
        if let Ok(built) = built.recv() {
            let (owned, term) = built?;
            return Some(owned.run(|other| term.load(other).in_env(env)));
        }
        // The builder has ended. Its supervisor starts another, unless the application has ended too.
        let left = end.saturating_duration_since(Instant::now());
        let waited = STARTED.wait_timeout_while(lock(), left, |builders| builders.started == started);
        if waited.unwrap_or_else(PoisonError::into_inner).1.timed_out() {
            return None;
        }
    }
}

fn tell(job: ResourceArc<Job>, is_small: bool) {
    let builder = if is_small { lock().first() } else { lock().next() };
    if let Some(builder) = builder {
        let how = if is_small { atoms::teleport_build_small() } else { atoms::teleport_build() };
        let _ = OwnedEnv::new().send_and_clear(&builder, |_| (how, job));
    }
}

impl Builders {
    fn first(&self) -> Option<LocalPid> {
        *self.places.first()?
    }

    /// Each of the others in turn.
    fn next(&mut self) -> Option<LocalPid> {
        let others = self.places.get(1..)?;
        self.last = (self.last + 1).checked_rem(others.len())?;
        others[self.last]
    }
}

impl Job {
    /// One that has been run.
    pub(crate) fn done() -> ResourceArc<Self> {
        ResourceArc::new(Self(Mutex::default()))
    }

    /// The document, and which atoms there may be in it; `None` if the term has been built.
    pub(crate) fn document(&self) -> Option<(Bytes, Atoms)> {
        self.work().as_ref().map(|work| (work.document.clone(), work.atoms))
    }

    /// The term has been built, or there is none. It is copied.
    pub(crate) fn built(&self, term: Option<Term<'_>>) {
        let Some(Work { done, .. }) = self.work().take() else { return };
        let built = term.map(|term| {
            let owned = OwnedEnv::new();
            let term = owned.save(term);
            (owned, term)
        });
        let _ = done.send(built); // as below
    }

    /// Builds the term, once. On a dirty scheduler.
    pub(crate) fn run(&self) {
        let Some(Work { document, limits, atoms, done }) = self.work().take() else { return };
        let owned = OwnedEnv::new();
        let built = owned.run(|env| {
            let term = received::build_on_scheduler(env, &document, &limits, atoms)?;
            Some(owned.save(term))
        });
        let _ = done.send(built.map(|term| (owned, term))); // whoever waits does not go away
    }

    fn work(&self) -> MutexGuard<'_, Option<Work>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock() -> MutexGuard<'static, Builders> {
    BUILDERS.lock().unwrap_or_else(PoisonError::into_inner)
}
