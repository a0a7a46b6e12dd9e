//! Warnings that a peer, a stranger or a fault would repeat for ever: each is written once a minute.

use rustc_hash::FxHashMap;
use std::hash::Hash;
use std::mem::Discriminant;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use teleport_proto::NodeName;
use teleport_proto::handshake::HandshakeError;

/// The same is said again after so long.
const PAUSE: Duration = Duration::from_secs(60);

/// So many different ones of a kind are told apart; what comes on top in one pause is not said. Strangers cause some of these
/// warnings, so this bounds what they write into a log, and what is remembered of them.
const MOST: usize = 128;

/// Which occasions are worth a warning.
#[derive(Debug)]
pub(crate) struct Seldom<K>(Mutex<FxHashMap<K, Last>>);

#[derive(Debug)]
struct Last {
    said: Instant,
    since: u64,
}

impl<K> Default for Seldom<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Seldom<K> {
    /// Notes one more occasion. If it is to be said: how many were not, since the last that was.
    pub(crate) fn note(&self, key: K, now: Instant) -> Option<u64> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = table.get_mut(&key) {
            if now.saturating_duration_since(last.said) < PAUSE {
                last.since += 1;
                return None;
            }
            let since = last.since;
            *last = Last { said: now, since: 0 };
            return Some(since);
        }
        if table.len() >= MOST {
            table.retain(|_, last| now.saturating_duration_since(last.said) < PAUSE);
        }
        if table.len() >= MOST {
            return None;
        }
        table.insert(key, Last { said: now, since: 0 });
        Some(0)
    }
}

/// What a node warns of again and again, if nothing is done about it. Strangers, peers and the node itself have room of their own.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    strangers: Seldom<(IpAddr, Discriminant<HandshakeError>)>,
    peers: Seldom<(NodeName, OfPeer)>,
    /// Apart, since their names are what senders of this node have made up.
    unreached: Seldom<NodeName>,
    node: Seldom<OfNode>,
}

/// What is said of one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum OfPeer {
    /// A session has ended that nobody wanted to end.
    SessionLost,
    /// A connection that has proved itself was refused.
    Refused,
    /// It does not follow the protocol.
    OutOfStep,
    TickMissed,
    ControlSilent,
    NoPool,
    PoolStalled,
    /// The system does not let a connection be used.
    Unusable,
}

/// What is said of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum OfNode {
    CannotAccept,
    ObserverPanicked,
    HostPanicked,
}

impl Warnings {
    /// [`Seldom::note`], now.
    pub(crate) fn of_stranger(&self, address: IpAddr, what: Discriminant<HandshakeError>) -> Option<u64> {
        self.strangers.note((address, what), Instant::now())
    }

    /// The same, of a peer that has no session: none could be set up.
    pub(crate) fn of_unreached(&self, peer: &NodeName) -> Option<u64> {
        self.unreached.note(peer.clone(), Instant::now())
    }

    /// The same.
    pub(crate) fn of_peer(&self, peer: &NodeName, what: OfPeer) -> Option<u64> {
        self.peers.note((peer.clone(), what), Instant::now())
    }

    /// The same.
    pub(crate) fn of_node(&self, what: OfNode) -> Option<u64> {
        self.node.note(what, Instant::now())
    }
}

/// A field that is left out if it is 0.
pub(crate) fn if_any(times: u64) -> Option<u64> {
    Some(times).filter(|times| *times > 0)
}

/// Writes a warning, with how often it was not said. If it is not to be said it is there for those who debug.
macro_rules! warn_seldom {
    ($noted:expr, parent: $span:expr, $($said:tt)+) => {
        match $noted {
            Some(times) => {
                tracing::warn!(parent: $span, not_said = $crate::base::seldom::if_any(times), $($said)+)
            }
            None => tracing::debug!(parent: $span, $($said)+),
        }
    };
    ($noted:expr, $($said:tt)+) => {
        match $noted {
            Some(times) => tracing::warn!(not_said = $crate::base::seldom::if_any(times), $($said)+),
            None => tracing::debug!($($said)+),
        }
    };
}
pub(crate) use warn_seldom;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_a_minute_and_with_how_often_it_was_not() {
        let (seldom, begin) = (Seldom::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(seldom.note("a", at(0)), Some(0));
        assert_eq!(seldom.note("b", at(1)), Some(0), "something else");
        (1..50).for_each(|second| assert_eq!(seldom.note("a", at(second)), None));
        assert_eq!(seldom.note("a", at(60)), Some(49));
        assert_eq!(seldom.note("a", at(61)), None);
    }

    #[test]
    fn a_crowd_of_strangers_is_not_listed_for_ever() {
        let (seldom, begin) = (Seldom::default(), Instant::now());
        let said = (0..10_000).filter(|stranger| seldom.note(*stranger, begin).is_some()).count();
        assert_eq!(said, MOST);
        assert_eq!(seldom.note(20_000, begin + PAUSE), Some(0), "the old ones make room");
    }
}
