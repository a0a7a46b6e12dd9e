//! What takes long, in turns: however much of it comes over one session, the next of every other one is begun before its second.

use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Jobs by the session that they came over, for so many threads or processes.
///
/// What jobs may take of memory while they are done is bounded: one is begun if it is the only one, or if there is room for it
/// beside the others; while one waits for room no other passes it. A session never has all of the threads.
pub(crate) struct Turns<J> {
    state: Mutex<State<J>>,
    more: Condvar,
    threads: usize,
    room: usize,
}

struct State<J> {
    /// Sessions with jobs, the next one first.
    order: VecDeque<u64>,
    jobs: FxHashMap<u64, VecDeque<(J, usize)>>,
    /// How many jobs of each session are being done, how many in all, and what they may take.
    busy: FxHashMap<u64, usize>,
    begun: usize,
    taken: usize,
    closed: bool,
}

/// A job that is being done.
pub(crate) struct Turn<J> {
    turns: Arc<Turns<J>>,
    session: u64,
    bytes: usize,
}

impl<J> Turns<J> {
    /// For so many threads, and so many bytes of memory.
    pub(crate) fn new(threads: usize, room: usize) -> Self {
        let (order, jobs, busy) = Default::default();
        let state = State { order, jobs, busy, begun: 0, taken: 0, closed: false };
        Self { state: Mutex::new(state), more: Condvar::new(), threads, room }
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// One more job of a session, which may take so many bytes.
    pub(crate) fn push(&self, session: u64, job: J, bytes: usize) {
        let mut state = self.lock();
        if state.closed {
            return; // there is no node any more
        }
        let jobs = state.jobs.entry(session).or_default();
        let first = jobs.is_empty();
        jobs.push_back((job, bytes));
        if first {
            state.order.push_back(session);
        }
        drop(state);
        self.more.notify_one();
    }

    /// Waits for the next job. `None` when there will be none.
    pub(crate) fn next(self: &Arc<Self>) -> Option<(J, Turn<J>)> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(next) = self.take(&mut state) {
                return Some(next);
            }
            state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next job, if one may be begun now.
    pub(crate) fn try_next(self: &Arc<Self>) -> Option<(J, Turn<J>)> {
        self.take(&mut self.lock())
    }

    /// No more jobs are done. Those that are left are dropped.
    pub(crate) fn close(&self) {
        let left = {
            let mut state = self.lock();
            state.closed = true;
            state.order.clear();
            std::mem::take(&mut state.jobs)
        };
        self.more.notify_all();
        drop(left);
    }

    fn take(self: &Arc<Self>, state: &mut State<J>) -> Option<(J, Turn<J>)> {
        let most = (self.threads - 1).max(1);
        let State { order, jobs, busy, begun, taken, .. } = state;
        if *begun >= self.threads {
            return None;
        }
        let next = order.iter().position(|session| busy.get(session).is_none_or(|&busy| busy < most))?;
        let session = *order.get(next)?;
        let waiting = jobs.get_mut(&session)?;
        let (_, bytes) = waiting.front()?;
        if *taken > 0 && *taken + *bytes > self.room {
            return None;
        }
        let (job, bytes) = waiting.pop_front()?;
        order.remove(next);
        if waiting.is_empty() {
            jobs.remove(&session);
        } else {
            order.push_back(session);
        }
        *busy.entry(session).or_default() += 1;
        *begun += 1;
        *taken += bytes;
        Some((job, Turn { turns: self.clone(), session, bytes }))
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J> Drop for Turn<J> {
    fn drop(&mut self) {
        {
            let mut state = self.turns.lock();
            state.begun -= 1;
            state.taken -= self.bytes;
            if let Some(busy) = state.busy.get_mut(&self.session) {
                *busy -= 1;
                if *busy == 0 {
                    state.busy.remove(&self.session);
                }
            }
        }
        self.turns.more.notify_all();
    }
}
