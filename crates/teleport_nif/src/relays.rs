//! The relay processes: they watch the processes that peers call and monitor, and get the replies.

use crate::terms;
use rustler::{LocalPid, OwnedEnv, Resource, ResourceArc, Term};
use std::sync::{Mutex, MutexGuard, PoisonError};
use teleport::embed::{ProcessId, Watch};

#[derive(Default)]
pub(crate) struct Relays {
    relays: Mutex<Vec<Option<Relay>>>,
}

/// A relay process.
#[derive(Clone)]
pub(crate) struct Relay {
    pub(crate) process: LocalPid,
    /// Its alias, encoded: a reply to this comes to it.
    alias: Vec<u8>,
}

impl Relays {
    /// A relay has started, at that place.
    pub(crate) fn add(&self, place: usize, process: LocalPid, alias: Term<'_>) {
        let mut relays = self.lock();
        if relays.len() <= place {
            relays.resize(place + 1, None);
        }
        relays[place] = Some(Relay { process, alias: alias.to_binary().to_vec() });
    }

    /// The relay that watches a process, always the same one: so the process's reply and its end keep their order.
    pub(crate) fn of(&self, process: ProcessId) -> Option<Relay> {
        let relays = self.lock();
        let place = (process.id as usize).checked_rem(relays.len())?;
        relays.get(place).cloned().flatten()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Relay>>> {
        self.relays.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

    /// The watch, once.
    pub(crate) fn take(&self) -> Option<Watch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
