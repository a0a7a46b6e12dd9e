//! Mutexes that a panic does not make unusable.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A value behind a mutex. What it protects is changed in single steps, so a panic under it leaves nothing half done.
#[derive(Debug, Default)]
pub(crate) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the lock up until there is a change.
    pub(crate) fn wait<'a>(held: MutexGuard<'a, T>, change: &Condvar) -> MutexGuard<'a, T> {
        change.wait(held).unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the lock up until there is a change, or for that long.
    pub(crate) fn wait_for<'a>(
        held: MutexGuard<'a, T>,
        change: &Condvar,
        limit: Duration,
    ) -> MutexGuard<'a, T> {
        change.wait_timeout(held, limit).unwrap_or_else(PoisonError::into_inner).0
    }
}
