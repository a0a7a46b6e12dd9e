//! Jobs in turns: however many come from one address, the next of every other one is begun before its second; and so it is with
//! the sessions of an address.

use crate::lock::Lock;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Condvar};

/// Whose job it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Whose {
    /// The address that its session comes from. One holder of the cookie has as many sessions as it likes, but no more addresses.
    pub(crate) place: IpAddr,
    pub(crate) session: u64,
}

impl Whose {
    /// The virtual machine's own: it takes turns like an address.
    pub(crate) const OWN: Self = Self { place: IpAddr::V4(Ipv4Addr::UNSPECIFIED), session: 0 };
}

/// Jobs by the session that they came over, for this many threads or processes.
///
/// What jobs may take of memory while they are done is bounded: one is begun if it is the only one, or if there is room for it
/// beside the others; while one waits for room no other passes it. No address has all of the threads, or more than three quarters of the
/// room with more than one job.
pub(crate) struct Turns<J> {
    state: Lock<State<J>>,
    more: Condvar,
    threads: usize,
    room: usize,
}

struct State<J> {
    /// Addresses with jobs, the next one first.
    order: VecDeque<IpAddr>,
    places: FxHashMap<IpAddr, Place<J>>,
    /// What is being done, for each address and in all.
    busy: FxHashMap<IpAddr, Busy>,
    all: Busy,
    closed: bool,
}

/// The jobs of an address.
struct Place<J> {
    /// Sessions with jobs, the next one first.
    order: VecDeque<u64>,
    jobs: FxHashMap<u64, VecDeque<(J, usize)>>,
}

/// How many jobs are being done, and how much memory they may take.
#[derive(Debug, Clone, Copy, Default)]
struct Busy {
    jobs: usize,
    bytes: usize,
}

/// A job that is being done.
pub(crate) struct Turn<J> {
    turns: Arc<Turns<J>>,
    place: IpAddr,
    bytes: usize,
}

impl<J> Turns<J> {
    /// For `threads` threads, and `room` bytes of memory.
    pub(crate) fn new(threads: usize, room: usize) -> Self {
        let (order, places, busy, all) = Default::default();
        let state = State { order, places, busy, all, closed: false };
        Self { state: Lock::new(state), more: Condvar::new(), threads, room }
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// One more job of a session, which may take this many bytes.
    pub(crate) fn push(&self, whose: Whose, job: J, bytes: usize) {
        let mut state = self.state.lock();
        if state.closed {
            return; // there is no node any more
        }
        let Whose { place, session } = whose;
        let State { order, places, .. } = &mut *state;
        let entry = places.entry(place).or_insert_with(|| {
            order.push_back(place);
            Place { order: VecDeque::new(), jobs: FxHashMap::default() }
        });
        entry.push(session, job, bytes);
        drop(state);
        self.more.notify_one();
    }

    /// Waits for the next job. `None` when there will be none.
    pub(crate) fn next(self: &Arc<Self>) -> Option<(J, Turn<J>)> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(next) = self.take(&mut state) {
                return Some(next);
            }
            state = Lock::wait(state, &self.more);
        }
    }

    /// The next job, if one may be begun now.
    pub(crate) fn try_next(self: &Arc<Self>) -> Option<(J, Turn<J>)> {
        self.take(&mut self.state.lock())
    }

    /// No more jobs are done. Those that are left are dropped.
    pub(crate) fn close(&self) {
        let left = {
            let mut state = self.state.lock();
            state.closed = true;
            state.order.clear();
            std::mem::take(&mut state.places)
        };
        self.more.notify_all();
        drop(left);
    }

    fn take(self: &Arc<Self>, state: &mut State<J>) -> Option<(J, Turn<J>)> {
        let State { order, places, busy, all, .. } = state;
        if all.jobs >= self.threads {
            return None;
        }
        let next = order.iter().position(|place| {
            let bytes = places.get(place).and_then(Place::peek);
            busy.get(place).zip(bytes).is_none_or(|(busy, bytes)| self.has_a_share_left(*busy, bytes))
        })?;
        let place = *order.get(next)?;
        let jobs = places.get_mut(&place)?;
        if all.bytes > 0 && all.bytes + jobs.peek()? > self.room {
            return None;
        }
        let (job, bytes) = jobs.pop()?;
        order.remove(next);
        if jobs.order.is_empty() {
            places.remove(&place);
        } else {
            order.push_back(place);
        }
        for busy in [busy.entry(place).or_default(), all] {
            busy.jobs += 1;
            busy.bytes += bytes;
        }
        Some((job, Turn { turns: self.clone(), place, bytes }))
    }

    /// Whether an address with that under way may have a job of `bytes` more.
    fn has_a_share_left(&self, busy: Busy, bytes: usize) -> bool {
        let most = (self.threads - 1).max(1);
        busy.jobs < most && busy.bytes.saturating_add(bytes) <= self.room / 4 * 3
    }
}

impl<J> Place<J> {
    fn push(&mut self, session: u64, job: J, bytes: usize) {
        let jobs = self.jobs.entry(session).or_default();
        if jobs.is_empty() {
            self.order.push_back(session);
        }
        jobs.push_back((job, bytes));
    }

    /// What its next job may take.
    fn peek(&self) -> Option<usize> {
        self.jobs.get(self.order.front()?)?.front().map(|(_, bytes)| *bytes)
    }

    fn pop(&mut self) -> Option<(J, usize)> {
        let session = self.order.pop_front()?;
        let jobs = self.jobs.get_mut(&session)?;
        let next = jobs.pop_front();
        if jobs.is_empty() {
            self.jobs.remove(&session);
        } else {
            self.order.push_back(session);
        }
        next
    }
}

impl<J> Drop for Turn<J> {
    fn drop(&mut self) {
        let others_wait = {
            let mut state = self.turns.state.lock();
            let State { order, busy, all, .. } = &mut *state;
            all.jobs -= 1;
            all.bytes -= self.bytes;
            if let Some(of_place) = busy.get_mut(&self.place) {
                of_place.jobs -= 1;
                of_place.bytes -= self.bytes;
                if of_place.jobs == 0 {
                    busy.remove(&self.place);
                }
            }
            !order.is_empty()
        };
        // Threads that wait for nothing but more jobs are woken by those.
        if others_wait {
            self.turns.more.notify_all();
        }
    }
}
