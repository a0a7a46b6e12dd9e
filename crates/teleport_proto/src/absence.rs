//! Whether a peer's process is gone: nothing listens where it was, and nothing else is seen of it.
//!
//! Lost connections say nothing about a peer, and neither does one refused attempt: a forwarder restarts, a firewall
//! is reloaded. Only when that is all there is for a while is the process taken for gone, before it has been silent for
//! as long as [`liveness`](crate::liveness) waits.

use std::time::Duration;

use crate::Time;

/// Watches the attempts to connect to the peer of one session.
///
/// ```
/// use std::time::Duration;
/// use teleport_proto::absence::Absence;
///
/// let second = Duration::from_secs(1);
/// let (mut absence, patience) = (Absence::default(), 15 * second);
/// for refused in [20, 25, 30] {
///     assert!(!absence.refused(refused * second, 19 * second, false, patience));
/// }
/// assert!(absence.refused(35 * second, 19 * second, false, patience));
/// ```
#[derive(Debug, Default)]
pub struct Absence {
    /// The last of the refusals between which there was no sign of life.
    last: Option<Time>,
    /// How long they have gone on.
    absent: Duration,
    #[cfg(feature = "planted-faults")]
    faults: crate::Faults,
}

impl Absence {
    /// Plants faults.
    #[cfg(feature = "planted-faults")]
    pub fn plant(&mut self, faults: crate::Faults) {
        self.faults = faults;
    }

    /// All of the peer's addresses have refused a connection. Says whether the peer is gone: there was no sign of it for
    /// `patience`, the tick interval that holds now.
    ///
    /// `last_heard` is when the last byte came from it, `connected` whether a connection of the session lives.
    pub fn refused(&mut self, now: Time, last_heard: Time, connected: bool, patience: Duration) -> bool {
        if connected {
            self.alive();
            return false;
        }
        match self.last.replace(now) {
            Some(last) if last_heard <= last => {
                // One attempt speaks for half of it at most: an observer that was stopped has not seen what was between.
                let most = patience - patience / 2;
                self.absent += now.saturating_sub(last).min(most);
            }
            _ => self.absent = Duration::ZERO,
        }
        #[cfg(feature = "planted-faults")]
        if self.faults.gone_at_once {
            return true;
        }
        self.absent >= patience
    }

    /// A connection came about, or an attempt had another outcome: something is there, or nobody knows.
    pub fn alive(&mut self) {
        (self.last, self.absent) = (None, Duration::ZERO);
    }
}
