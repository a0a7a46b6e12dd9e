//! The processes that start relays. A relay monitors one process that peers call or monitor, and gets its replies: so replies
//! wait for nothing but what the same process has answered before.

use crate::arriving::places::Places;
use crate::ids::{self, Identity};
use rustler::{Env, LocalPid, NifResult, OwnedEnv, Term};
use std::sync::atomic::{AtomicU64, Ordering};
use teleport::embed::{ProcessId, RefId};

/// Those of this virtual machine.
static STARTERS: Places<LocalPid> = Places::new();

/// How many there have been.
static LAST: AtomicU64 = AtomicU64::new(0);

/// A relay's alias: a reply to this comes to it. Without a node's name, which may change while the relay lives.
#[derive(Clone, Copy)]
pub(crate) struct Alias(RefId);

/// One has started, at that place of this many. Returns its number: what has a lower one was asked of those before it.
pub(crate) fn add(place: usize, count: usize, starter: LocalPid) -> u64 {
    let number = LAST.fetch_add(1, Ordering::AcqRel) + 1;
    STARTERS.set(place, count, starter);
    number
}

/// Whether all have started.
pub(crate) fn are_there() -> bool {
    STARTERS.are_taken()
}

/// The number of the one that has started last.
pub(crate) fn last() -> u64 {
    LAST.load(Ordering::Acquire)
}

/// Has a relay started for a process; `false` if there is nobody to do that. Not on a scheduler.
pub(crate) fn start(process: ProcessId, message: impl rustler::Encoder) -> bool {
    let starter = STARTERS.get(|count| place_of(process, count));
    starter.is_some_and(|starter| OwnedEnv::new().send_and_clear(&starter, |_| message).is_ok())
}

/// Whether the process belongs to that place.
pub(crate) fn is_at(place: usize, process: ProcessId) -> bool {
    place_of(process, STARTERS.len()) == Some(place)
}

fn place_of(process: ProcessId, count: usize) -> Option<usize> {
    (process.id as usize).checked_rem(count)
}

impl Alias {
    pub(crate) fn new(alias: Term<'_>) -> NifResult<Self> {
        ids::ref_id(alias).map(Self)
    }

    pub(crate) fn term<'a>(self, env: Env<'a>, identity: &Identity) -> Option<Term<'a>> {
        identity.reference(env, self.0)
    }
}
