//! Terms that only a scheduler's thread can build: they go to processes that do so, and nobody waits for them.
//!
//! Large ones are built on dirty schedulers. Those can all be busy for long with what has nothing to do with this; small ones are
//! decoded by a process that does nothing else, with `binary_to_term`. What was built comes back to the threads of the node, which
//! deliver it. A builder has few of them at a time; the others wait here, and sessions take turns.

use crate::arriving::places::Places;
use crate::atoms;
use crate::lock::Lock;
use crate::node::running::{self, Running};
use crate::terms::{Atoms, SWELLS, in_place};
use crate::work::turns::{Turn, Turns, Whose};
use bytes::Bytes;
use rustler::env::SavedTerm;
use rustler::{Atom, LocalPid, OwnedEnv, Resource, ResourceArc, Term};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use std::thread::available_parallelism;

/// Larger documents are built on dirty schedulers: no scheduler can interrupt the making of a map, and one of this size, of
/// some 3,000 pairs, takes half a millisecond.
const SMALL: usize = 16 * 1024;

/// A term is given up after builders have ended over it this many times.
const MOST_TRIES: u8 = 3;

/// The builder processes. The first one is for small documents.
static BUILDERS: Places<LocalPid> = Places::new();

/// Which of the others got the last job.
static LAST: AtomicUsize = AtomicUsize::new(0);

/// Small terms that are with the builder at a time: enough that it does not wait for the next.
const AT_ONCE: usize = 4;

/// What no builder has yet.
static SMALL_ONES: LazyLock<Arc<Turns<Work>>> = LazyLock::new(|| Arc::new(Turns::new(AT_ONCE, usize::MAX)));
static OTHERS: LazyLock<Arc<Turns<Work>>> = LazyLock::new(|| {
    // One for each dirty scheduler: so no address has all of these, which others need too.
    let cores = available_parallelism().map_or(1, usize::from);
    Arc::new(Turns::new(cores.max(2), ROOM))
});

/// What those that builders have at a time may take of memory together, in parts of what one term may.
const ROOM: usize = 1 << 20;

/// A term that was built.
pub(crate) type Built = (OwnedEnv, SavedTerm);

/// How a term was to be built: from those atoms, and by the how manieth builder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempts {
    pub(crate) atoms: Atoms,
    pub(crate) tries: u8,
}

/// What becomes of a term that was built, or of none.
type Then = Box<dyn FnOnce(&Arc<Running>, Attempts, Option<Built>) + Send>;

/// A term to be built, and what then becomes of it.
pub(crate) struct Work {
    running: Weak<Running>,
    whose: Whose,
    document: Bytes,
    attempts: Attempts,
    then: Then,
    /// A builder is at it.
    begun: bool,
    /// While it is with a builder, or takes memory.
    turn: Option<Held>,
}

/// A turn, at whose end builders get more.
struct Held(Option<Turn<Work>>);

impl Held {
    /// Ends it, and no builder gets more now.
    fn end_quietly(mut self) {
        self.0 = None;
    }
}

impl Drop for Held {
    /// Wherever that is: the node that the work was for may be over, and others have work that waits.
    fn drop(&mut self) {
        if self.0.take().is_some() {
            hand_out_soon();
        }
    }
}

/// The work in the hands of a builder. If that ends before it is done, another one gets it.
pub(crate) struct BuildJob(Lock<Option<Work>>);

#[rustler::resource_impl(register = false)]
impl Resource for BuildJob {}

/// A builder has started, at that place of this many.
pub(crate) fn add(place: usize, count: usize, builder: LocalPid) {
    BUILDERS.set(place, count, builder);
    hand_out_soon();
}

/// Whether all have started.
pub(crate) fn are_there() -> bool {
    BUILDERS.are_taken()
}

/// What a document of `len` bytes may take of the room, if a term may take `max_term` bytes of memory.
fn share(len: usize, max_term: usize) -> usize {
    let share = len as u128 * SWELLS as u128 * ROOM as u128 / (max_term.max(1) as u128);
    usize::try_from(share).unwrap_or(usize::MAX)
}

/// Has a term built. Not on a scheduler.
pub(crate) fn submit(work: Work) {
    work.push();
    hand_out();
}

/// Like [`hand_out`], on a thread of each node.
fn hand_out_soon() {
    running::all().iter().for_each(|running| running.workers.short(Whose::OWN, |_| hand_out()));
}

/// Gives builders what they may have now. Not on a scheduler.
fn hand_out() {
    hand(&SMALL_ONES, atoms::teleport_build_small(), |_| Some(0));
    hand(&OTHERS, atoms::teleport_build(), next);
}

fn hand(turns: &Arc<Turns<Work>>, how: Atom, place: fn(usize) -> Option<usize>) {
    // Without a builder it waits until one has started.
    while let Some(builder) = BUILDERS.get(place)
        && let Some((work, turn)) = turns.try_next()
    {
        let turn = Some(Held(Some(turn)));
        let job = ResourceArc::new(BuildJob(Lock::new(Some(Work { turn, ..work }))));
        let told = job.clone();
        if OwnedEnv::new().send_and_clear(&builder, |_| (how, told)).is_err() {
            // It has ended, and its supervisor starts another one.
            if let Some(mut work) = job.take() {
                if let Some(turn) = work.turn.take() {
                    turn.end_quietly();
                }
                work.push();
            }
            // One that has started meanwhile found nothing to do, and is given it now.
            if BUILDERS.has(&builder) {
                return;
            }
        }
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
        whose: Whose,
        document: Bytes,
        attempts: Attempts,
        then: impl FnOnce(&Arc<Running>, Attempts, Option<Built>) + Send + 'static,
    ) -> Self {
        let (running, then) = (Arc::downgrade(running), Box::new(then));
        Self { running, whose, document, attempts, then, begun: false, turn: None }
    }

    /// Lines it up for the builders.
    fn push(self) {
        let (whose, len) = (self.whose, self.document.len());
        if len <= SMALL {
            SMALL_ONES.push(whose, self, 0);
        } else {
            let share =
                self.running.upgrade().map_or(0, |running| share(len, running.terms.limits().max_heap));
            OTHERS.push(whose, self, share);
        }
    }

    /// A builder has not done it: another one may.
    fn retry(mut self) {
        self.turn = None;
        self.attempts.tries += u8::from(std::mem::take(&mut self.begun));
        if self.attempts.tries > MOST_TRIES { self.done(None) } else { self.submit_later() }
    }

    fn submit_later(self) {
        if let Some(running) = self.running.upgrade() {
            running.workers.short(self.whose, |_| submit(self));
        }
    }

    fn done(self, built: Option<Built>) {
        let Self { running, whose, attempts, then, turn, document, .. } = self;
        // What takes memory has its share until it is delivered.
        let turn = turn.filter(|_| document.len() > SMALL);
        if let Some(running) = running.upgrade() {
            running.workers.short(whose, move |running| {
                then(running, attempts, built);
                drop(turn);
            });
        }
    }
}

impl BuildJob {
    /// One that has been done.
    pub(crate) fn nothing() -> Self {
        Self(Lock::default())
    }

    /// The document, and which atoms there may be in it; `None` if the term has been built.
    pub(crate) fn document(&self) -> Option<(Bytes, Atoms)> {
        self.0.lock().as_mut().map(|work| {
            work.begun = true;
            (work.document.clone(), work.attempts.atoms)
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
            let (document, atoms) = (&work.document, work.attempts.atoms);
            let term = in_place::build_on_scheduler(env, document, running.terms.limits(), atoms)?;
            Some(owned.save(term))
        });
        work.done(built.map(|term| (owned, term)));
    }

    fn take(&self) -> Option<Work> {
        self.0.lock().take()
    }
}

impl Drop for BuildJob {
    /// Wherever the builder's memory is collected.
    fn drop(&mut self) {
        if let Some(work) = self.take() {
            work.retry();
        }
    }
}
