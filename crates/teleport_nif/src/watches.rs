//! Who waits for what: requests and monitors of peers at processes of this node.
//!
//! A relay only monitors its process and passes replies on; what belongs to a watch is here. So a relay has nothing in its
//! mailbox but what its process answers, and a watch that ends before its answer costs it nothing.

use crate::host::Parked;
use crate::relays::Alias;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::hash_map::Entry;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use teleport::Segments;
use teleport::embed::{ProcessId, Watch};

/// So many processes are looked at under one lock.
const SWEPT_AT_ONCE: usize = 64;

/// Of this virtual machine: they outlive the node, which may still take answers while it stops.
pub(crate) static WATCHES: LazyLock<Watches> = LazyLock::new(Watches::default);

#[derive(Default)]
pub(crate) struct Watches {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// By their numbers.
    watches: FxHashMap<u64, Watch>,
    processes: FxHashMap<ProcessId, Process>,
    /// Those of them whose last watch has ended, perhaps a while ago.
    idle: FxHashSet<ProcessId>,
}

/// A process of this node that is watched.
#[derive(Default)]
struct Process {
    state: State,
    watches: FxHashSet<u64>,
    /// What goes on when a relay monitors it.
    parked: Vec<Parked>,
    /// Something has come for it since the last sweep.
    is_fresh: bool,
}

#[derive(Default)]
enum State {
    /// A relay is about to monitor it.
    #[default]
    Asked,
    Monitored(Alias),
    /// It has ended. The reason is to come.
    Ended,
}

/// What to do about a process when a watch of it has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begun {
    /// A relay monitors it.
    Monitored,
    /// A relay is about to.
    Asked,
    /// It is the first: a relay has to be started.
    First,
}

impl Watches {
    /// Whether what comes for a process may come at once, since a relay monitors it, and goes on doing so for a while.
    pub(crate) fn is_monitored(&self, process: ProcessId) -> bool {
        match self.lock().processes.get_mut(&process) {
            None | Some(Process { state: State::Asked, .. }) => false,
            Some(process) => {
                process.is_fresh = true;
                true
            }
        }
    }

    /// The alias of the process's relay, if it has one.
    pub(crate) fn alias(&self, process: ProcessId) -> Option<Alias> {
        match &self.lock().processes.get(&process)?.state {
            State::Monitored(alias) => Some(alias.clone()),
            State::Asked | State::Ended => None,
        }
    }

    /// A watch begins.
    pub(crate) fn add(&self, watch: Watch) -> Begun {
        let (number, id) = (watch.id(), watch.watched());
        let mut table = self.lock();
        table.watches.insert(number, watch);
        let (process, begun) = match table.processes.entry(id) {
            Entry::Vacant(entry) => (entry.insert(Process::default()), Begun::First),
            Entry::Occupied(entry) => {
                let process = entry.into_mut();
                let begun =
                    if matches!(process.state, State::Asked) { Begun::Asked } else { Begun::Monitored };
                (process, begun)
            }
        };
        process.watches.insert(number);
        process.is_fresh = true;
        begun
    }

    /// Keeps something until a relay monitors the process, or gives it back if one does, or none ever will.
    pub(crate) fn park(&self, process: ProcessId, parked: Parked) -> Result<(), Parked> {
        match self.lock().processes.get_mut(&process) {
            Some(Process { state: State::Asked, parked: waiting, .. }) => {
                waiting.push(parked);
                Ok(())
            }
            _ => Err(parked),
        }
    }

    /// A relay monitors the process. Returns what may go on. `None` if nobody has asked for it.
    pub(crate) fn monitored(&self, process: ProcessId, alias: Alias) -> Option<Vec<Parked>> {
        self.enter(process, State::Monitored(alias))
    }

    /// The process has ended, and its reason will come by [`Watches::down`]. Returns what may go on, since the process gets
    /// nothing any more.
    pub(crate) fn ended(&self, process: ProcessId) -> Vec<Parked> {
        self.enter(process, State::Ended).unwrap_or_default()
    }

    fn enter(&self, process: ProcessId, state: State) -> Option<Vec<Parked>> {
        let mut table = self.lock();
        let process = table.processes.get_mut(&process)?;
        process.state = state;
        Some(std::mem::take(&mut process.parked))
    }

    /// The watch of that number, for whoever answers it; `None` if nobody waits any more.
    pub(crate) fn take(&self, number: u64) -> Option<Watch> {
        self.lock().take(number)
    }

    /// The reason of a process that has ended, for all who watch it.
    pub(crate) fn down(&self, process: ProcessId, reason: &Segments) {
        let watches =
            self.lock().processes.remove(&process).map(|process| process.watches).unwrap_or_default();
        for number in watches {
            if let Some(watch) = self.take(number) {
                watch.down(reason.clone());
            }
        }
    }

    /// Nobody will monitor these processes, since what was to do so has ended: those who wait are told. Returns what may
    /// go on.
    pub(crate) fn abandon(&self, which: impl Fn(ProcessId) -> bool) -> Vec<Parked> {
        let (mut parked, mut left) = (Vec::new(), Vec::new());
        let mut table = self.lock();
        let gone: Vec<_> =
            table.processes.extract_if(|id, _| which(*id)).map(|(_, process)| process).collect();
        for process in gone {
            parked.extend(process.parked);
            left.extend(process.watches.into_iter().filter_map(|number| table.take(number)));
        }
        drop(table);
        drop(left); // which tells
        parked
    }

    /// Those of these processes that nothing has come for since the last sweep, and that nobody watches: they need no relay any
    /// more. For what comes after this one is started anew.
    pub(crate) fn sweep(&self, which: impl Fn(ProcessId) -> bool) -> Vec<ProcessId> {
        let mut swept = Vec::new();
        let idle: Vec<_> = std::mem::take(&mut self.lock().idle).into_iter().collect();
        // Some at a time: others need the table meanwhile.
        for some in idle.chunks(SWEPT_AT_ONCE) {
            let mut table = self.lock();
            for id in some {
                let Some(process) = table.processes.get_mut(id) else { continue };
                if !process.watches.is_empty() {
                    continue;
                }
                let is_due = which(*id) && matches!(process.state, State::Monitored(_));
                if is_due && !std::mem::take(&mut process.is_fresh) {
                    table.processes.remove(id);
                    swept.push(*id);
                } else {
                    table.idle.insert(*id);
                }
            }
        }
        swept
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn take(&mut self, number: u64) -> Option<Watch> {
        let watch = self.watches.remove(&number)?;
        if let Some(process) = self.processes.get_mut(&watch.watched()) {
            process.watches.remove(&number);
            if process.watches.is_empty() {
                self.idle.insert(watch.watched());
            }
        }
        Some(watch)
    }
}
