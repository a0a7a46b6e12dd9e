//! Threads for what the node's own threads do not wait for.
//!
//! Some for terms that take long to build, of each session in turn; one for all that is short but has waited for a process: so neither holds up the
//! other. And one that frees memory. Order is kept by receipts and [lines](crate::work::lines).

use crate::arriving::builders::{self, Built};
use crate::arriving::calls::CALLS;
use crate::arriving::host::{self, Parcel, Parked};
use crate::arriving::relays;
use crate::arriving::watches::{Left, WATCHES};
use crate::node::running::{self, Running};
use crate::work::lines::Key;
use crate::work::turns::Turns;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SendError, Sender, channel};
use std::sync::{Arc, Weak};
use std::{io, thread};
use teleport::Segments;
use teleport::embed::{End, Inbound, Origin, ProcessId, RefId};

/// At most so many threads build terms, and at least two: a term that takes long is not to hold up all others.
const MOST_THREADS: usize = 4;

/// So many watches end at a time.
const ENDED_AT_ONCE: usize = 64;

/// Something to be dropped, and nothing else.
pub(crate) type Garbage = Box<dyn Send>;

/// The way to the threads, which end when this is dropped.
pub(crate) struct Workers {
    large: Arc<Turns<Large>>,
    /// The most that a term may take.
    max_term: usize,
    short: Sender<Short>,
    garbage: Sender<Garbage>,
}

/// What takes long.
pub(crate) enum Large {
    Inbound(Inbound),
    /// A request that waited for its relay.
    Parcel(Box<Parcel>),
}

/// What is short.
pub(crate) enum Short {
    /// What was parked goes on.
    Resume(Parked),
    /// A builder has built a term, or found that it is none.
    Built(Box<Parcel>, builders::Tried, Option<Built>),
    /// A term is to be built, by a process.
    Build(builders::Work),
    /// A process has ended, for that reason.
    Down(ProcessId, Segments),
    /// Relays have ended without a word.
    Unwatched(Unwatched),
    /// These watches end: for that reason, or since nobody can tell one.
    End(Vec<u64>, Option<Segments>),
    /// A line moves on.
    Advance(Key),
    /// A process has ended that waited for these.
    Forget(Vec<RefId>),
}

/// Whose relays have ended without a word.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unwatched {
    /// That of a process.
    Process(ProcessId),
    /// Those at a place, since what starts them there is another process, of that number.
    At(usize, u64),
}

/// What a term takes for its bytes, at a guess: an empty list in a list is one byte and two words, sixteen times as much, but hardly
/// any term is made of those.
const SWELLS: usize = 8;

impl Large {
    /// The session that it came over, and how much it is.
    fn measure(&self) -> (u64, usize) {
        let (origin, body) = match self {
            Self::Parcel(parcel) => (parcel.origin().id(), parcel.body.len()),
            Self::Inbound(Inbound::Message { origin, body, .. } | Inbound::Request { origin, body, .. }) => {
                (origin.id(), body.len())
            }
            Self::Inbound(Inbound::Ended { origin, end, .. }) => {
                let body = match end {
                    End::Reply(body) | End::Down(body) | End::Rejected(body) => body.len(),
                    End::NodeDown(_) => 0,
                };
                (origin.as_ref().map_or(0, Origin::id), body)
            }
            Self::Inbound(_) => (0, 0),
        };
        (origin, body)
    }
}

/// What comes out at the other end.
pub(crate) struct Jobs {
    large: Arc<Turns<Large>>,
    short: Receiver<Short>,
    garbage: Receiver<Garbage>,
}

impl Workers {
    /// Of terms as many are built at a time as take `max_term` together, or one.
    pub(crate) fn new(max_term: usize) -> (Self, Jobs) {
        let count = thread::available_parallelism().map_or(3, usize::from).clamp(3, MOST_THREADS);
        let large = Arc::new(Turns::new(count, max_term));
        let (short, short_jobs) = channel();
        let (garbage, garbage_jobs) = channel();
        let jobs = Jobs { large: large.clone(), short: short_jobs, garbage: garbage_jobs };
        (Self { large, max_term, short, garbage }, jobs)
    }

    /// Delivers something large.
    pub(crate) fn deliver(&self, job: Large) {
        let (session, bytes) = job.measure();
        self.large.push(session, job, bytes.saturating_mul(SWELLS).min(self.max_term));
    }

    /// Does what is short. In the order of the calls.
    pub(crate) fn short(&self, job: Short) {
        let _ = self.short.send(job); // as above
    }

    /// Drops it, or gives it back if there is no thread for that any more.
    pub(crate) fn free(&self, garbage: Garbage) -> Option<Garbage> {
        self.garbage.send(garbage).err().map(|SendError(garbage)| garbage)
    }
}

impl Jobs {
    /// Starts the threads.
    pub(crate) fn start(self, running: &Arc<Running>) -> io::Result<()> {
        let Self { large, short, garbage } = self;
        let name = running.identity.node.as_str();
        let start = |kind: &str, work: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(format!("{kind} {name}")).spawn(work).map(drop)
        };
        for _ in 0..large.threads() {
            // The threads must not keep alive what they end with.
            let (large, running) = (large.clone(), Arc::downgrade(running));
            let next = move || large.next();
            start("terms", Box::new(move || work(&running, next, host::deliver_large)))?;
        }
        let weak = Arc::downgrade(running);
        start("short", Box::new(move || work(&weak, || Some((short.recv().ok()?, ())), do_short)))?;
        start("free", Box::new(move || garbage.into_iter().for_each(drop)))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.large.close();
    }
}

/// Until there is nothing to work for any more. What comes with a job is dropped when that is done.
fn work<J, T>(running: &Weak<Running>, next: impl Fn() -> Option<(J, T)>, act: impl Fn(&Arc<Running>, J)) {
    while let Some((job, _turn)) = next()
        && let Some(running) = running.upgrade()
    {
        // A job that panics is the only one that is not done.
        if catch_unwind(AssertUnwindSafe(|| act(&running, job))).is_err() {
            tracing::error!("a thread of the library panicked; it goes on with the next term");
        }
    }
}

/// The relays of these processes have ended without a word. Told on a thread of the node, or of one that drains; without any
/// there is nobody to be told.
pub(crate) fn unwatched(which: Unwatched) {
    match running::all().first() {
        Some(running) => running.workers.short(Short::Unwatched(which)),
        None => remove(which).watches.into_iter().for_each(|number| drop(WATCHES.take(number))),
    }
}

fn remove(which: Unwatched) -> Left {
    match which {
        Unwatched::Process(process) => WATCHES.remove(process),
        Unwatched::At(place, starter) => WATCHES.remove_all(|process| relays::is_at(place, process), starter),
    }
}

fn do_short(running: &Arc<Running>, job: Short) {
    match job {
        Short::Resume(parked) => host::resume(running, parked),
        Short::Built(parcel, tried, built) => host::built(running, parcel, tried, built),
        Short::Build(work) => builders::submit(running, work),
        Short::Down(process, reason) => end(running, WATCHES.remove(process), Some(reason)),
        Short::Unwatched(which) => end(running, remove(which), None),
        Short::End(watches, reason) => end_watches(running, watches, reason),
        Short::Advance(line) => host::advance(running, line),
        Short::Forget(references) => CALLS.forget(&references),
    }
}

fn end(running: &Arc<Running>, left: Left, reason: Option<Segments>) {
    host::go_on(left.parked);
    end_watches(running, left.watches, reason);
}

/// Some at a time, however many there are: others wait for their turn.
fn end_watches(running: &Arc<Running>, mut watches: Vec<u64>, reason: Option<Segments>) {
    let rest = watches.split_off(watches.len().min(ENDED_AT_ONCE));
    for watch in watches.into_iter().filter_map(|number| WATCHES.take(number)) {
        match &reason {
            Some(reason) => watch.down(reason.clone()),
            None => drop(watch), // which tells
        }
    }
    if !rest.is_empty() {
        running.workers.short(Short::End(rest, reason));
    }
}
