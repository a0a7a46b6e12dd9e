//! Ends of what peers watch here: a process has ended, or its relay has without a word.

use crate::arriving::relays;
use crate::arriving::watches::{Left, Parked, WATCHES};
use crate::node::running::{self, Running};
use crate::work::turns::Whose;
use std::sync::Arc;
use teleport::Segments;
use teleport::embed::ProcessId;

/// Watches that end at a time.
const ENDED_AT_ONCE: usize = 64;

/// Relays that have ended without a word.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unwatched {
    /// The relay of a process.
    Process(ProcessId),
    /// The relays at a place, since another process, of that number, starts them there now.
    At(usize, u64),
}

/// A process has ended, for that reason. Not on a scheduler: very many may wait for it.
pub(crate) fn down(running: &Arc<Running>, process: ProcessId, reason: Segments) {
    end(running, WATCHES.remove(process), Some(reason));
}

/// The relays of these processes have ended. Told on a thread of the node, or of one that drains; without any there is nobody to
/// be told.
pub(crate) fn unwatched(which: Unwatched) {
    match running::all().first() {
        Some(running) => running.workers.short(Whose::OWN, move |running| unwatched_by(running, which)),
        None => remove(which).watches.into_iter().for_each(|number| drop(WATCHES.take(number))),
    }
}

/// Ends the watches on a thread of the engine.
pub(super) fn unwatched_by(running: &Arc<Running>, which: Unwatched) {
    end(running, remove(which), None);
}

fn remove(which: Unwatched) -> Left {
    match which {
        Unwatched::Process(process) => WATCHES.remove(process),
        Unwatched::At(place, starter) => WATCHES.remove_all(|process| relays::is_at(place, process), starter),
    }
}

fn end(running: &Arc<Running>, left: Left, reason: Option<Segments>) {
    left.parked.into_iter().for_each(Parked::go_on);
    end_watches(running, left.watches, reason);
}

/// Some at a time, however many there are: others wait for their turn.
fn end_watches(running: &Arc<Running>, mut rest: Vec<u64>, reason: Option<Segments>) {
    // From the end: nothing that remains is moved.
    let watches = rest.split_off(rest.len().saturating_sub(ENDED_AT_ONCE));
    for watch in watches.into_iter().filter_map(|number| WATCHES.take(number)) {
        match &reason {
            Some(reason) => watch.down(reason.clone()),
            None => drop(watch), // which tells
        }
    }
    if !rest.is_empty() {
        running.workers.short(Whose::OWN, |running| end_watches(running, rest, reason));
    }
}
