//! The relay processes: they watch the processes that peers call and monitor, and get the replies.

use crate::terms;
use rustler::{LocalPid, OwnedEnv, Resource, ResourceArc, Term};
use std::sync::{Mutex, MutexGuard, PoisonError};
use teleport::embed::{ProcessId, Watch};

pub(crate) struct Relays {
    relays: Mutex<Vec<Option<Relay>>>,
}

/// The relays of this virtual machine. They are there before a node listens, so that what comes first finds them.
pub(crate) static RELAYS: Relays = Relays { relays: Mutex::new(Vec::new()) };

/// A relay process.
#[derive(Clone)]
pub(crate) struct Relay {
    pub(crate) process: LocalPid,
    /// Its alias, encoded: a reply to this comes to it.
    alias: Vec<u8>,
}

impl Relays {
    /// A relay has started, at that place of so many.
    pub(crate) fn add(&self, place: usize, count: usize, process: LocalPid, alias: Term<'_>) {
        let mut relays = self.lock();
        relays.resize(count, None);
        let Some(relay) = relays.get_mut(place) else { return };
        *relay = Some(Relay { process, alias: alias.to_binary().to_vec() });
    }

    /// The relay that watches a process, always the same one: so the process's reply and its end keep their order.
    pub(crate) fn of(&self, process: ProcessId) -> Option<Relay> {
        let relays = self.lock();
        relays.get(place_of(process, relays.len())?).cloned().flatten()
    }

    /// Whether the relay at that place watches the process, if anyone does.
    pub(crate) fn is_at(&self, place: usize, process: ProcessId) -> bool {
        place_of(process, self.lock().len()) == Some(place)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Relay>>> {
        self.relays.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place_of(process: ProcessId, count: usize) -> Option<usize> {
    (process.id as usize).checked_rem(count)
}

impl Relay {
    pub(crate) fn alias<'a>(&self, env: rustler::Env<'a>) -> Option<Term<'a>> {
        terms::existing(env, &self.alias)
    }

    /// Sends it a message; `false` if it has ended.
    pub(crate) fn tell(&self, env: &mut OwnedEnv, message: impl rustler::Encoder) -> bool {
        env.send_and_clear(&self.process, |_| message).is_ok()
    }
}

/// A watch in the hands of a relay, until it answers. If the relay ends, whoever waits is told that nobody will answer.
pub(crate) struct WatchHandle(Mutex<Option<Watch>>);

#[rustler::resource_impl]
impl Resource for WatchHandle {}

impl WatchHandle {
    pub(crate) fn new(watch: Watch) -> ResourceArc<Self> {
        ResourceArc::new(Self(Mutex::new(Some(watch))))
    }

    /// One whose watch was taken.
    pub(crate) fn ended() -> ResourceArc<Self> {
        ResourceArc::new(Self(Mutex::default()))
    }

    /// The watch, once.
    pub(crate) fn take(&self) -> Option<Watch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
