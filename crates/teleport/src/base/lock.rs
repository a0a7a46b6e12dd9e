//! Locks that know their place: debug builds check the order in which a thread takes them.
//!
//! What a lock protects is changed under it and nothing else happens: no socket is read or written, nobody is waited for
//! or called who may wait. Two locks are only taken by threads of the node: [`Rank::Directory`], under which sessions begin
//! and end, and [`Rank::Turn`], in which a host is called. A thread that must not wait, such as a scheduler of the Erlang
//! virtual machine, never meets them: see [`must_not_wait`].

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

/// The order in which one thread may take locks: each must be higher than those that it holds. The first two are taken
/// by a thread that holds none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// Which sessions there are.
    Directory,
    /// The turn to hand over to the host.
    Turn,
    /// A session's machine.
    Session,
    /// Messages that senders have laid down for a session.
    Tray,
    /// Watches of this node's processes.
    Watching,
    /// Watches of peers.
    Watched,
    /// One mailbox.
    Inbox,
    /// Anything under which no other lock is taken, but to free memory.
    Leaf,
    /// The pool of buffers: memory may be freed under any lock.
    Buffers,
}

/// A value behind a lock. A panic while it was held does not make it unusable.
pub(crate) struct Lock<T> {
    rank: Rank,
    value: Mutex<T>,
}

/// A value behind a lock that many threads read at a time, and few change. Under it no other lock is taken.
#[derive(Debug, Default)]
pub(crate) struct SharedLock<T>(RwLock<T>);

/// A lock that is held.
pub(crate) type Held<'a, T> = Guarded<MutexGuard<'a, T>>;

/// What holds a lock, and knows its place.
pub(crate) struct Guarded<G> {
    guard: G,
    _place: order::Place,
}

impl<G> Guarded<G> {
    fn new(rank: Rank, guard: G) -> Self {
        Self { guard, _place: order::Place::take(rank) }
    }
}

impl<T> Lock<T> {
    /// One under which no other is taken.
    pub(crate) fn leaf(value: T) -> Self {
        Self::new(Rank::Leaf, value)
    }

    pub(crate) fn new(rank: Rank, value: T) -> Self {
        Self { rank, value: Mutex::new(value) }
    }

    pub(crate) fn lock(&self) -> Held<'_, T> {
        order::check(self.rank);
        Held::new(self.rank, self.value.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the lock unless another thread holds it. Never waits, so it may be taken out of order.
    pub(crate) fn try_lock(&self) -> Option<Held<'_, T>> {
        match self.value.try_lock() {
            Ok(guard) => Some(Held::new(self.rank, guard)),
            Err(TryLockError::Poisoned(error)) => Some(Held::new(self.rank, error.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl<T> SharedLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(RwLock::new(value))
    }

    pub(crate) fn read(&self) -> Guarded<RwLockReadGuard<'_, T>> {
        order::check(Rank::Leaf);
        Guarded::new(Rank::Leaf, self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn write(&self) -> Guarded<RwLockWriteGuard<'_, T>> {
        order::check(Rank::Leaf);
        Guarded::new(Rank::Leaf, self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T: Default> Default for Lock<T> {
    fn default() -> Self {
        Self::leaf(T::default())
    }
}

impl<G: Deref> Deref for Guarded<G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.guard
    }
}

impl<G: DerefMut> DerefMut for Guarded<G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.guard
    }
}

impl<T> std::fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lock").field("rank", &self.rank).finish_non_exhaustive()
    }
}

/// Until the result is dropped, this thread must not wait for the node: debug builds panic if it takes the directory's lock
/// or the turn to hand over.
pub(crate) fn must_not_wait() -> order::Hurry {
    order::Hurry::begin()
}

/// The node is about to call what is not its own: debug builds panic if that happens under a lock other than the turn.
pub(crate) fn assert_may_call_out() {
    order::assert_free();
}

#[cfg(debug_assertions)]
mod order {
    use super::Rank;
    use std::cell::{Cell, RefCell};
    use std::marker::PhantomData;

    thread_local! {
        static HELD: RefCell<Vec<Rank>> = const { RefCell::new(Vec::new()) };
        static HURRY: Cell<u32> = const { Cell::new(0) };
    }

    /// A proof that this thread holds a lock of that rank.
    pub(super) struct Place(Rank);

    impl Place {
        pub(super) fn take(rank: Rank) -> Self {
            HELD.with_borrow_mut(|held| held.push(rank));
            Self(rank)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            HELD.with_borrow_mut(|held| {
                let at = held.iter().rposition(|rank| *rank == self.0);
                at.map(|at| held.remove(at))
            });
        }
    }

    /// That this thread must not wait. It stays on the thread.
    pub(crate) struct Hurry(PhantomData<*const ()>);

    impl Hurry {
        pub(super) fn begin() -> Self {
            HURRY.set(HURRY.get() + 1);
            Self(PhantomData)
        }
    }

    impl Drop for Hurry {
        fn drop(&mut self) {
            HURRY.set(HURRY.get() - 1);
        }
    }

    pub(super) fn check(rank: Rank) {
        HELD.with_borrow(|held| {
            let outermost = rank <= Rank::Turn;
            let in_order = held.iter().all(|other| *other < rank && !outermost);
            assert!(in_order, "the lock {rank:?} is taken under {held:?}");
        });
        assert!(
            rank > Rank::Turn || HURRY.get() == 0,
            "the lock {rank:?} is taken by a thread that must not wait"
        );
    }

    pub(super) fn assert_free() {
        HELD.with_borrow(|held| {
            assert!(held.iter().all(|rank| *rank == Rank::Turn), "the host is called under {held:?}");
        });
    }
}

#[cfg(not(debug_assertions))]
mod order {
    use super::Rank;

    pub(super) struct Place;

    impl Place {
        pub(super) fn take(_: Rank) -> Self {
            Self
        }
    }

    pub(crate) struct Hurry;

    impl Hurry {
        pub(super) fn begin() -> Self {
            Self
        }
    }

    pub(super) fn check(_: Rank) {}

    pub(super) fn assert_free() {}
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn panics(act: impl FnOnce()) -> bool {
        catch_unwind(AssertUnwindSafe(act)).is_err()
    }

    #[test]
    fn locks_are_taken_upwards_only() {
        let [session, table, leaf] =
            [Rank::Session, Rank::Watching, Rank::Leaf].map(|rank| Lock::new(rank, ()));
        {
            let _session = session.lock();
            let _table = table.lock();
            let _leaf = leaf.lock();
        }
        let _table = table.lock();
        assert!(panics(|| drop(session.lock())));
        assert!(!panics(|| drop(leaf.lock())));
    }

    #[test]
    fn two_locks_are_only_taken_by_a_thread_that_holds_none_and_may_wait() {
        for outermost in [Rank::Directory, Rank::Turn] {
            let (outer, leaf) = (Lock::new(outermost, ()), Lock::new(Rank::Leaf, ()));
            let turn = Lock::new(Rank::Turn, ());
            drop(outer.lock());
            {
                let _leaf = leaf.lock();
                assert!(panics(|| drop(outer.lock())));
            }
            {
                let _outer = outer.lock();
                assert!(panics(|| drop(turn.lock())));
            }
            let _hurry = must_not_wait();
            assert!(panics(|| drop(outer.lock())));
            assert!(!panics(|| drop(leaf.lock())));
        }
    }

    #[test]
    fn the_host_is_called_under_no_lock_but_the_turn() {
        let (turn, session) = (Lock::new(Rank::Turn, ()), Lock::new(Rank::Session, ()));
        let _turn = turn.lock();
        assert_may_call_out();
        let _session = session.lock();
        assert!(panics(assert_may_call_out));
    }
}
