//! Requests and monitors of peers at processes of this node.
//!
//! A relay only monitors its process and passes replies on; what belongs to a watch is here. So a relay has nothing in its
//! mailbox but what its process answers, and a watch that ends before its answer costs it nothing.

use crate::arriving::relays::{self, Alias};
use crate::lock::Lock;
use crate::node::running::Running;
use crate::work::turns::Whose;
use crate::work::workers::Job;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::hash_map::Entry;
use std::sync::{Arc, LazyLock, Weak};
use teleport::embed::{ProcessId, Watch};
use teleport::etf::Pid;

const PARTS: usize = 64;

/// Of this virtual machine: they outlive the node, which may still take answers while it stops.
pub(crate) static WATCHES: LazyLock<Watches> = LazyLock::new(Watches::default);

#[derive(Default)]
pub(crate) struct Watches {
    table: Lock<Table>,
}

impl Default for Table {
    fn default() -> Self {
        let processes = std::array::from_fn(|_| Processes::default());
        Self { watches: FxHashMap::default(), processes }
    }
}

struct Table {
    /// By their numbers.
    watches: FxHashMap<u64, Watch>,
    /// In parts, so that looking through one takes a moment.
    processes: [Processes; PARTS],
}

#[derive(Default)]
struct Processes {
    known: FxHashMap<ProcessId, Process>,
    /// Those of them whose last watch has ended, perhaps a while ago.
    idle: FxHashSet<ProcessId>,
}

/// What was taken out, to be gone on with, and to be told, when the table is not locked.
#[derive(Default)]
pub(crate) struct Left {
    pub(crate) parked: Vec<Parked>,
    /// The numbers of watches.
    pub(crate) watches: Vec<u64>,
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
    /// The number of the process that was asked to start its relay.
    starter: u64,
}

/// What waits until a relay monitors a process; and the node that it has come to, which may drain by then.
pub(crate) struct Parked {
    running: Weak<Running>,
    whose: Whose,
    go_on: Job<Running>,
}

impl Parked {
    pub(crate) fn new(
        running: &Arc<Running>,
        whose: Whose,
        go_on: impl FnOnce(&Arc<Running>) + Send + 'static,
    ) -> Self {
        Self { running: Arc::downgrade(running), whose, go_on: Box::new(go_on) }
    }

    /// On a thread of its node; not at all if that is over.
    pub(crate) fn go_on(self) {
        if let Some(running) = self.running.upgrade() {
            running.workers.short(self.whose, self.go_on);
        }
    }
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
        match self.table.lock().process_mut(process) {
            None | Some(Process { state: State::Asked, .. }) => false,
            Some(process) => {
                process.is_fresh = true;
                true
            }
        }
    }

    /// The alias of the process's relay, if it has one.
    pub(crate) fn alias(&self, process: ProcessId) -> Option<Alias> {
        match &self.table.lock().part(process).known.get(&process)?.state {
            State::Monitored(alias) => Some(*alias),
            State::Asked | State::Ended => None,
        }
    }

    /// A watch begins.
    pub(crate) fn add(&self, watch: Watch) -> Begun {
        let (number, id) = (watch.id(), watch.watched());
        let mut table = self.table.lock();
        table.watches.insert(number, watch);
        let (process, begun) = match table.part_mut(id).known.entry(id) {
            Entry::Vacant(entry) => {
                (entry.insert(Process { starter: relays::last(), ..Process::default() }), Begun::First)
            }
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

    /// Goes on with something when a relay monitors the process: at once if one does, or none ever will.
    pub(crate) fn park(&self, process: ProcessId, parked: Parked) {
        if let Some(Process { state: State::Asked, parked: waiting, .. }) =
            self.table.lock().process_mut(process)
        {
            return waiting.push(parked);
        }
        parked.go_on();
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
        let mut table = self.table.lock();
        let process = table.process_mut(process)?;
        process.state = state;
        Some(std::mem::take(&mut process.parked))
    }

    /// Who waits for the watch of that number: the session, and the process there.
    pub(crate) fn watcher(&self, number: u64) -> Option<(u64, ProcessId)> {
        let table = self.table.lock();
        let watch = table.watches.get(&number)?;
        let Pid { id, serial, .. } = watch.watcher();
        Some((watch.origin().id(), ProcessId { id, serial }))
    }

    /// The watch of that number, for the one that answers it; `None` if no process waits any more.
    pub(crate) fn take(&self, number: u64) -> Option<Watch> {
        self.table.lock().take(number)
    }

    /// Takes a process out: it has ended, or nobody monitors it. Those who watch it remain to be told.
    pub(crate) fn remove(&self, process: ProcessId) -> Left {
        let mut left = Left::default();
        let removed = self.table.lock().part_mut(process).known.remove(&process);
        removed.into_iter().for_each(|process| left.add(process));
        left
    }

    /// Removes the processes of a place where another process starts relays by now: what earlier ones were asked for
    /// has ended with them.
    pub(crate) fn remove_all(&self, is_at: impl Fn(ProcessId) -> bool, starter: u64) -> Left {
        let mut left = Left::default();
        for part in 0..PARTS {
            let mut table = self.table.lock();
            let of_it = |id: &ProcessId, process: &mut Process| is_at(*id) && process.starter < starter;
            let gone = table.processes[part].known.extract_if(of_it);
            gone.for_each(|(_, process)| left.add(process));
        }
        left
    }

    /// Those processes of a place that nothing has come for since the last sweep, and that nobody watches: they need no relay
    /// any more. For what comes after this one is started anew.
    pub(crate) fn sweep(&self, is_at: impl Fn(ProcessId) -> bool) -> Vec<ProcessId> {
        let mut swept = Vec::new();
        for part in 0..PARTS {
            let mut table = self.table.lock();
            let Processes { known, idle } = &mut table.processes[part];
            idle.retain(|id| {
                let Some(process) = known.get_mut(id).filter(|process| process.watches.is_empty()) else {
                    return false;
                };
                if !is_at(*id)
                    || !matches!(process.state, State::Monitored(_))
                    || std::mem::take(&mut process.is_fresh)
                {
                    return true;
                }
                known.remove(id);
                swept.push(*id);
                false
            });
        }
        swept
    }
}

impl Table {
    fn part(&self, process: ProcessId) -> &Processes {
        &self.processes[process.id as usize % PARTS]
    }

    fn part_mut(&mut self, process: ProcessId) -> &mut Processes {
        &mut self.processes[process.id as usize % PARTS]
    }

    fn process_mut(&mut self, process: ProcessId) -> Option<&mut Process> {
        self.part_mut(process).known.get_mut(&process)
    }

    fn take(&mut self, number: u64) -> Option<Watch> {
        let watch = self.watches.remove(&number)?;
        let id = watch.watched();
        let Processes { known, idle } = self.part_mut(id);
        if let Some(process) = known.get_mut(&id) {
            process.watches.remove(&number);
            if process.watches.is_empty() {
                idle.insert(id);
            }
        }
        Some(watch)
    }
}

impl Left {
    fn add(&mut self, process: Process) {
        self.parked.extend(process.parked);
        self.watches.extend(process.watches);
    }
}
