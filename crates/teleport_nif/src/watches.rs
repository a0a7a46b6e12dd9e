//! Who waits for what: requests and monitors of peers at processes of this node.
//!
//! Relays only monitor processes and pass replies on; what belongs to a watch is here. So a relay's mailbox has at most one
//! message for each process that it begins to monitor, and a watch that ends before its answer costs it nothing.
//!
//! Answers of one process to another keep their order: one that is still being encoded, by a process of its own, has its place
//! in front of those that come after it, the process's end included.

use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;
use std::collections::hash_map::Entry as MapEntry;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use teleport::embed::{Origin, ProcessId, Watch};
use teleport::{Segments, SendError};

use crate::host::Parked;

/// Of this virtual machine: they outlive the node, which may still take answers while it stops.
pub(crate) static WATCHES: LazyLock<Watches> = LazyLock::new(Watches::default);

#[derive(Default)]
pub(crate) struct Watches {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// By their numbers.
    watches: FxHashMap<u64, Entry>,
    processes: FxHashMap<ProcessId, Process>,
    /// Answers that wait for one in front of them.
    answers: FxHashMap<Pair, VecDeque<Answer>>,
}

enum Entry {
    /// For an answer, or the end of its process.
    Waiting(Watch),
    /// Its answer is being encoded.
    Answering(Pair),
}

/// The process that answers, and the one that is answered, over a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Pair {
    from: ProcessId,
    session: u64,
    to: ProcessId,
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

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A relay is about to monitor it.
    #[default]
    Asked,
    Monitored,
    /// It has ended. The reason is to come.
    Ended,
}

/// An answer in its place.
struct Answer {
    number: u64,
    watch: Option<Watch>,
    /// `None` while it is being encoded, and again while it is being sent.
    what: Option<What>,
}

/// What a watch is told.
pub(crate) enum What {
    Reply(Segments),
    Down(Segments),
    Reject(&'static str),
}

/// What to do about a process when a watch of it has begun.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// A relay monitors it.
    Monitored,
    /// A relay is about to.
    Asked,
    /// It is the first: a relay has to be asked to.
    First,
}

impl Watches {
    /// Whether what comes for a process may come at once, since a relay monitors it, and goes on doing so for a while.
    pub(crate) fn is_monitored(&self, process: ProcessId) -> bool {
        match self.lock().processes.get_mut(&process) {
            Some(process) if process.state != State::Asked => {
                process.is_fresh = true;
                true
            }
            _ => false,
        }
    }

    /// A watch begins.
    pub(crate) fn add(&self, watch: Watch) -> Begun {
        let (number, id) = (watch.id(), watch.watched());
        let mut table = self.lock();
        table.watches.insert(number, Entry::Waiting(watch));
        let (process, first) = match table.processes.entry(id) {
            MapEntry::Occupied(entry) => (entry.into_mut(), false),
            MapEntry::Vacant(entry) => (entry.insert(Process::default()), true),
        };
        process.watches.insert(number);
        process.is_fresh = true;
        match process.state {
            State::Asked if first => Begun::First,
            State::Asked => Begun::Asked,
            State::Monitored | State::Ended => Begun::Monitored,
        }
    }

    /// Keeps something until a relay monitors the process, or gives it back if one does, or none ever will.
    pub(crate) fn park(&self, process: ProcessId, parked: Parked) -> Result<(), Parked> {
        match self.lock().processes.get_mut(&process) {
            Some(process) if process.state == State::Asked => {
                process.parked.push(parked);
                Ok(())
            }
            _ => Err(parked),
        }
    }

    /// A relay monitors the process. Returns what may go on.
    pub(crate) fn monitored(&self, process: ProcessId) -> Vec<Parked> {
        self.enter(process, State::Monitored)
    }

    /// The process has ended, and its reason will come by [`Watches::down`]. Returns what may go on, since the process gets
    /// nothing any more.
    pub(crate) fn ended(&self, process: ProcessId) -> Vec<Parked> {
        self.enter(process, State::Ended)
    }

    fn enter(&self, process: ProcessId, state: State) -> Vec<Parked> {
        let mut table = self.lock();
        let Some(process) = table.processes.get_mut(&process) else { return Vec::new() };
        process.state = state;
        std::mem::take(&mut process.parked)
    }

    /// Nobody waits for that any more.
    pub(crate) fn remove(&self, number: u64) {
        let watch = self.lock().take(number);
        drop(watch); // it may answer
    }

    /// The answer of a watch will come by [`Watches::answer`]; meanwhile it has its place. `false` if nobody waits for it.
    pub(crate) fn answering(&self, number: u64) -> bool {
        let mut table = self.lock();
        let Some(watch) = table.take(number) else { return false };
        let pair = Pair::of(&watch);
        table.watches.insert(number, Entry::Answering(pair));
        table.answers.entry(pair).or_default().push_back(Answer { number, watch: Some(watch), what: None });
        true
    }

    /// Answers a watch, if it waits, when its turn comes.
    pub(crate) fn answer(&self, number: u64, what: What) -> Result<(), SendError> {
        let mut table = self.lock();
        if let Some(Entry::Answering(pair)) = table.watches.get(&number) {
            let pair = *pair;
            let place =
                table.answers.get_mut(&pair).and_then(|line| line.iter_mut().find(|a| a.number == number));
            if let Some(place) = place {
                place.what = Some(what);
            }
            table.watches.remove(&number);
            drop(table);
            self.advance(pair);
            return Ok(());
        }
        let Some(watch) = table.take(number) else { return Ok(()) };
        let pair = Pair::of(&watch);
        match table.answers.get_mut(&pair) {
            Some(line) => {
                line.push_back(Answer { number, watch: Some(watch), what: Some(what) });
                drop(table);
                self.advance(pair);
                Ok(())
            }
            None => {
                drop(table);
                what.tell(watch)
            }
        }
    }

    /// The reason of a process that has ended, for all who watch it.
    pub(crate) fn down(&self, process: ProcessId, reason: &Segments) {
        let watches =
            self.lock().processes.remove(&process).map(|process| process.watches).unwrap_or_default();
        for number in watches {
            let _ = self.answer(number, What::Down(reason.clone())); // what is too large is told as such
        }
    }

    /// Nobody will watch the processes that belong to a relay which has ended: those who wait are told. Returns what may
    /// go on.
    pub(crate) fn abandon(&self, of_it: impl Fn(ProcessId) -> bool) -> Vec<Parked> {
        let (mut parked, mut left) = (Vec::new(), Vec::new());
        let mut table = self.lock();
        let gone: Vec<_> =
            table.processes.extract_if(|id, _| of_it(*id)).map(|(_, process)| process).collect();
        for process in gone {
            parked.extend(process.parked);
            left.extend(process.watches.into_iter().filter_map(|number| table.take(number)));
        }
        drop(table);
        drop(left); // which tells
        parked
    }

    /// The processes of a relay that nothing has come for since the last sweep, and that nobody watches: it need not monitor
    /// them any more. What begins after this asks it anew.
    pub(crate) fn sweep(&self, of_it: impl Fn(ProcessId) -> bool) -> Vec<ProcessId> {
        let mut idle = Vec::new();
        self.lock().processes.retain(|id, process| {
            let of_use = process.state != State::Monitored || !process.watches.is_empty() || process.is_fresh;
            let keep = !of_it(*id) || of_use;
            if !keep {
                idle.push(*id);
            } else if of_it(*id) {
                process.is_fresh = false;
            }
            keep
        });
        idle
    }

    /// Sends the answers in front that are ready, one behind the other.
    fn advance(&self, pair: Pair) {
        loop {
            let mut table = self.lock();
            let Some(line) = table.answers.get_mut(&pair) else { return };
            let Some(first) = line.front_mut() else {
                table.answers.remove(&pair);
                return;
            };
            // It stays in its place while it is sent, without what it was; so it does while it is being encoded.
            let Some(what) = first.what.take() else { return };
            let Some(watch) = first.watch.take() else { return };
            drop(table);
            let _ = what.tell(watch); // the caller has been told
            if let Some(line) = self.lock().answers.get_mut(&pair) {
                line.pop_front();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Takes a watch out that is not being answered.
    fn take(&mut self, number: u64) -> Option<Watch> {
        let MapEntry::Occupied(entry) = self.watches.entry(number) else { return None };
        if matches!(entry.get(), Entry::Answering(_)) {
            return None;
        }
        let Entry::Waiting(watch) = entry.remove() else { return None };
        if let Some(process) = self.processes.get_mut(&watch.watched()) {
            process.watches.remove(&number);
        }
        Some(watch)
    }
}

impl Pair {
    fn of(watch: &Watch) -> Self {
        let origin: Origin = watch.origin();
        Self { from: watch.watched(), session: origin.id(), to: watch.watcher_id() }
    }
}

impl What {
    fn tell(self, watch: Watch) -> Result<(), SendError> {
        match self {
            Self::Reply(body) => watch.reply(body),
            Self::Down(reason) => {
                watch.down(reason);
                Ok(())
            }
            Self::Reject(why) => {
                watch.reject(why);
                Ok(())
            }
        }
    }
}
