//! Which reader of small messages is next: addresses that peers come from take turns, however many sessions each has.
//!
//! A reader takes in what it has read at one go, which for full windows takes a millisecond or two. With hundreds of sessions
//! that all send, the last one would wait for all others. A few readers need no turns, and those cost: to be through the
//! runtime's queue wakes another thread.

use super::source::Source;
use crate::base::lock::Lock;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::oneshot;

/// With this many readers or fewer none waits for its turn: each is done in a millisecond or two.
const FEW: usize = 8;

/// Bytes that the readers of one source have between them to read into, beyond what each needs.
const ROOM: usize = 8 * 1024 * 1024;

/// Limits the readers at work to the number of threads.
#[derive(Debug)]
pub(crate) struct Readers {
    /// How many there are, whether or not they have something to read.
    count: AtomicUsize,
    /// Likewise of each source.
    sources: Lock<FxHashMap<Source, Arc<AtomicUsize>>>,
    state: Lock<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// Sources with readers that wait, the next one first.
    order: VecDeque<Source>,
    waiting: FxHashMap<Source, VecDeque<oneshot::Sender<Turn>>>,
}

/// The reader of a connection.
#[derive(Debug)]
pub(crate) struct Reader {
    readers: Arc<Readers>,
    source: Source,
    /// How many there are of its source.
    likes: Arc<AtomicUsize>,
}

/// A reader's turn, until it is dropped.
///
/// All readers with something to read wait in the runtime's queue, in which there are no sources. So a reader that has taken
/// much keeps its turn until it has been through that queue: by then all others have asked for theirs.
#[derive(Debug)]
pub(crate) struct Turn(Option<Arc<Readers>>);

impl Readers {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let (order, waiting) = Default::default();
        let state = Lock::leaf(State { free: most.max(1), order, waiting });
        Arc::new(Self { count: AtomicUsize::new(0), sources: Lock::default(), state })
    }

    /// One more reader, of a connection that comes from that source.
    pub(crate) fn add(self: &Arc<Self>, source: Source) -> Reader {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut sources = self.sources.lock();
        let likes = sources.entry(source).or_default().clone();
        likes.fetch_add(1, Ordering::Relaxed);
        Reader { readers: self.clone(), source, likes }
    }

    /// The next that waits; if nobody does the turn is free.
    fn next(&self) -> Option<oneshot::Sender<Turn>> {
        let state = &mut *self.state.lock();
        let Some((source, queue)) =
            state.order.pop_front().and_then(|source| Some((source, state.waiting.get_mut(&source)?)))
        else {
            state.free += 1;
            return None;
        };
        let next = queue.pop_front();
        if queue.is_empty() {
            state.waiting.remove(&source);
        } else {
            state.order.push_back(source);
        }
        next
    }
}

impl Reader {
    /// The bytes that it may make room for at once.
    pub(crate) fn most_room(&self) -> usize {
        ROOM / self.likes.load(Ordering::Relaxed).max(1)
    }

    /// Waits for its turn.
    pub(crate) async fn turn(&self) -> Turn {
        let readers = &self.readers;
        if readers.count.load(Ordering::Relaxed) <= FEW {
            return Turn(None);
        }
        let given = {
            let mut state = readers.state.lock();
            if state.free > 0 {
                state.free -= 1;
                return Turn(Some(readers.clone()));
            }
            let State { order, waiting, .. } = &mut *state;
            let queue = waiting.entry(self.source).or_default();
            if queue.is_empty() {
                order.push_back(self.source);
            }
            let (giver, given) = oneshot::channel();
            queue.push_back(giver);
            given
        };
        given.await.unwrap_or(Turn(None)) // every one is given
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.readers.count.fetch_sub(1, Ordering::Relaxed);
        let mut sources = self.readers.sources.lock();
        if self.likes.fetch_sub(1, Ordering::Relaxed) == 1 {
            sources.remove(&self.source);
        }
    }
}

impl Turn {
    /// Whether others may wait for it.
    pub(crate) fn is_one_of_many(&self) -> bool {
        self.0.is_some()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(readers) = self.0.take() else { return };
        while let Some(next) = readers.next() {
            match next.send(Turn(Some(readers.clone()))) {
                Ok(()) => return,
                Err(mut turn) => drop(turn.0.take()), // that reader has ended
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn source(number: u8) -> Source {
        Source::of(IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)))
    }

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn one_session_is_next_behind_one_of_many_from_another_address() {
        let readers = Readers::new(1);
        let many: Vec<_> = (0..102).map(|_| readers.add(source(1))).collect();
        let (one, another) = (readers.add(source(2)), readers.add(source(3)));
        let mut first = pin!(many[101].turn());
        let turn = poll(first.as_mut()).expect("nobody waits");
        let mut others: Vec<_> = many[..100].iter().map(|reader| Box::pin(reader.turn())).collect();
        assert!(others.iter_mut().all(|other| poll(other.as_mut()).is_none()));
        let mut alone = pin!(one.turn());
        assert!(poll(alone.as_mut()).is_none());
        drop(turn);
        let second = poll(others[0].as_mut()).expect("one of the many has waited for longest");
        assert!(poll(alone.as_mut()).is_none());
        drop(second);
        let own = poll(alone.as_mut()).expect("it is the other address's turn");
        drop(own);
        // Those that give up do not keep a turn, given or not.
        others.drain(..50);
        assert!(poll(others[0].as_mut()).is_some(), "a turn comes back from a reader that has ended");
        others.clear();
        assert!(poll(pin!(another.turn())).is_some());
        assert!(readers.state.lock().waiting.is_empty());
        assert_eq!(readers.state.lock().free, 1);
    }

    #[test]
    fn readers_of_one_source_share_what_there_is_to_read_into() {
        let readers = Readers::new(1);
        let one = readers.add(source(1));
        let mut many: Vec<_> = (0..1024).map(|_| readers.add(source(2))).collect();
        assert_eq!((one.most_room(), many[0].most_room()), (ROOM, ROOM / 1024));
        many.truncate(1);
        assert_eq!(many[0].most_room(), ROOM);
        drop((one, many));
        assert!(readers.sources.lock().is_empty());
    }

    #[test]
    fn a_few_readers_need_no_turns_and_one_more_has_all_of_them_take_some() {
        let readers = Readers::new(1);
        let mut few: Vec<_> = (0..FEW).map(|_| readers.add(source(1))).collect();
        let turns: Vec<_> =
            few.iter().map(|reader| poll(pin!(reader.turn())).expect("nobody waits")).collect();
        assert!(turns.iter().all(|turn| !turn.is_one_of_many()));
        few.push(readers.add(source(2)));
        let turn = poll(pin!(few[0].turn())).expect("no turn has been given yet");
        assert!(turn.is_one_of_many());
        assert!(poll(pin!(few[1].turn())).is_none());
        drop((few.pop(), turn, turns));
        assert!(poll(pin!(few[0].turn())).is_some_and(|turn| !turn.is_one_of_many()));
    }
}
