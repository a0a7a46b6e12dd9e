//! The relay processes: they monitor the processes that peers call and monitor, and get the replies.

use crate::places::Places;
use crate::terms;
use rustler::{LocalPid, OwnedEnv, Term};
use teleport::embed::ProcessId;

/// The relays of this virtual machine.
static RELAYS: Places<Relay> = Places::new();

/// A relay process.
#[derive(Clone)]
pub(crate) struct Relay {
    process: LocalPid,
    /// Its alias, encoded: a reply to this comes to it.
    alias: Vec<u8>,
}

/// A relay has started, at that place of so many.
pub(crate) fn add(place: usize, count: usize, process: LocalPid, alias: Term<'_>) {
    RELAYS.set(place, count, Relay { process, alias: alias.to_binary().to_vec() });
}

/// The relay of a process, always the same one: so the process's replies and its end keep their order.
pub(crate) fn of(process: ProcessId) -> Option<Relay> {
    RELAYS.get(|count| place_of(process, count))
}

/// Whether the relay at that place is the process's.
pub(crate) fn is_at(place: usize, process: ProcessId) -> bool {
    place_of(process, RELAYS.len()) == Some(place)
}

fn place_of(process: ProcessId, count: usize) -> Option<usize> {
    (process.id as usize).checked_rem(count)
}

impl Relay {
    pub(crate) fn alias<'a>(&self, env: rustler::Env<'a>) -> Option<Term<'a>> {
        terms::existing(env, &self.alias)
    }

    /// Sends it a message; `false` if it has ended. Not on a scheduler.
    pub(crate) fn tell(&self, message: impl rustler::Encoder) -> bool {
        OwnedEnv::new().send_and_clear(&self.process, |_| message).is_ok()
    }
}
