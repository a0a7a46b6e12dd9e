//! Warnings that a peer, a stranger or a fault would repeat for ever: each is written once a minute.

use super::error::TlsError;
use super::lock::Lock;
use rustc_hash::FxHashMap;
use std::hash::Hash;
use std::mem::Discriminant;
use std::net::IpAddr;

use std::time::{Duration, Instant};
use teleport_proto::NodeName;
use teleport_proto::handshake::HandshakeError;

/// How long a warning is not repeated.
const PAUSE: Duration = Duration::from_secs(60);

/// The most different warnings of a kind that are told apart; the rest of a pause is counted, and the count is logged. Strangers cause
/// some of these warnings, so this bounds what they write into a log, and what is remembered of them.
const MOST: usize = 128;

/// Which occasions are worth a warning.
#[derive(Debug)]
pub(crate) struct Seldom<K>(Lock<Table<K>>);

#[derive(Debug)]
struct Table<K> {
    last: FxHashMap<K, Last>,
    /// Of those that there was no room for.
    others: u64,
}

#[derive(Debug)]
struct Last {
    said: Instant,
    since: u64,
}

/// What was not said before that which is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NotSaid {
    /// How often the same was not.
    pub(crate) same: u64,
    /// How many others of the kind were not.
    pub(crate) others: u64,
}

impl<K> Default for Seldom<K> {
    fn default() -> Self {
        Self(Lock::leaf(Table { last: FxHashMap::default(), others: 0 }))
    }
}

impl<K: Eq + Hash> Seldom<K> {
    /// Notes one more occasion. If it is to be said: what was not, since the last that was.
    pub(crate) fn note(&self, key: K, now: Instant) -> Option<NotSaid> {
        let mut table = self.0.lock();
        let Table { last, others } = &mut *table;
        let same = match last.get_mut(&key) {
            Some(last) if now.saturating_duration_since(last.said) < PAUSE => {
                last.since += 1;
                return None;
            }
            Some(before) => std::mem::replace(before, Last { said: now, since: 0 }).since,
            None => {
                if last.len() >= MOST {
                    last.retain(|_, last| now.saturating_duration_since(last.said) < PAUSE);
                }
                if last.len() >= MOST {
                    *others += 1;
                    return None;
                }
                last.insert(key, Last { said: now, since: 0 });
                0
            }
        };
        Some(NotSaid { same, others: std::mem::take(others) })
    }
}

/// What a node warns of again and again, if nothing is done about it. Strangers, peers and the node itself have room of their own.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    strangers: Seldom<(IpAddr, OfStranger)>,
    peers: Seldom<(NodeName, OfPeer)>,
    /// Sessions that have ended and that nobody wanted to end: apart, since much else is said before of the same peers.
    lost: Seldom<NodeName>,
    /// Apart, since their names are what senders of this node have made up.
    unreached: Seldom<NodeName>,
    /// What peers may not do: apart, since peers make the names in it up.
    not_allowed: Seldom<(NodeName, String)>,
    node: Seldom<OfNode>,
}

/// Why a stranger's connection was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum OfStranger {
    Handshake(Discriminant<HandshakeError>),
    Tls(Discriminant<TlsError>),
}

/// What is said of one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum OfPeer {
    /// A connection that has proved itself was refused.
    Refused,
    /// It does not follow the protocol.
    OutOfStep,
    TickMissed,
    ControlSilent,
    NoPool,
    PoolStalled,
    /// It has no TLS, which this node has.
    Plain,
    /// The system does not let a connection be used.
    Unusable,
    /// A connection of distributed Erlang was closed for what it did.
    Carried,
}

/// What is said of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum OfNode {
    CannotAccept,
    TooManySessions,
    ObserverPanicked,
    HostPanicked,
}

impl Warnings {
    /// [`Seldom::note`], now.
    pub(crate) fn of_stranger(&self, address: IpAddr, what: OfStranger) -> Option<NotSaid> {
        self.strangers.note((address, what), Instant::now())
    }

    /// Warns of a peer with which no session could be set up.
    pub(crate) fn of_unreached(&self, peer: &NodeName) -> Option<NotSaid> {
        self.unreached.note(peer.clone(), Instant::now())
    }

    /// Warns of a peer that does what it may not.
    pub(crate) fn of_not_allowed(&self, peer: &NodeName, thing: &str) -> Option<NotSaid> {
        self.not_allowed.note((peer.clone(), thing.to_owned()), Instant::now())
    }

    /// Warns of a session that is lost.
    pub(crate) fn of_loss(&self, peer: &NodeName) -> Option<NotSaid> {
        self.lost.note(peer.clone(), Instant::now())
    }

    /// Warns of a peer that has a session.
    pub(crate) fn of_peer(&self, peer: &NodeName, what: OfPeer) -> Option<NotSaid> {
        self.peers.note((peer.clone(), what), Instant::now())
    }

    /// Warns of this node itself.
    pub(crate) fn of_node(&self, what: OfNode) -> Option<NotSaid> {
        self.node.note(what, Instant::now())
    }
}

/// A field that is left out if it is 0.
pub(crate) fn if_any(times: u64) -> Option<u64> {
    Some(times).filter(|times| *times > 0)
}

/// Says something at one level, with what was not said before it; or, if it is not to be said, at another one.
macro_rules! say_seldom {
    ($level:ident or $quiet:ident, $noted:expr, parent: $span:expr, $($said:tt)+) => {
        match $noted {
            Some($crate::base::seldom::NotSaid { same, others }) => tracing::$level!(
                parent: $span,
                not_said = $crate::base::seldom::if_any(same),
                not_said_of_others = $crate::base::seldom::if_any(others),
                $($said)+
            ),
            None => tracing::$quiet!(parent: $span, $($said)+),
        }
    };
    ($level:ident or $quiet:ident, $noted:expr, $($said:tt)+) => {
        $crate::base::seldom::say_seldom!($level or $quiet, $noted, parent: tracing::Span::current(), $($said)+)
    };
}
pub(crate) use say_seldom;

/// Writes a warning. If it is not to be said it is there for those who debug.
macro_rules! warn_seldom {
    ($($said:tt)+) => { $crate::base::seldom::say_seldom!(warn or debug, $($said)+) };
}
pub(crate) use warn_seldom;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said if so much was not.
    fn not_said(same: u64, others: u64) -> Option<NotSaid> {
        Some(NotSaid { same, others })
    }

    #[test]
    fn the_same_is_said_once_a_minute_and_with_how_often_it_was_not() {
        let (seldom, begin) = (Seldom::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(seldom.note("a", at(0)), not_said(0, 0));
        assert_eq!(seldom.note("b", at(1)), not_said(0, 0), "something else");
        (1..50).for_each(|second| assert_eq!(seldom.note("a", at(second)), None));
        assert_eq!(seldom.note("a", at(60)), not_said(49, 0));
        assert_eq!(seldom.note("a", at(61)), None);
    }

    #[test]
    fn a_crowd_of_strangers_is_not_listed_for_ever_but_counted() {
        let (seldom, begin) = (Seldom::default(), Instant::now());
        let said = (0..10_000).filter(|stranger| seldom.note(*stranger, begin).is_some()).count();
        assert_eq!(said, MOST);
        let others = 10_000 - MOST as u64;
        assert_eq!(seldom.note(20_000, begin + PAUSE), not_said(0, others), "the old ones make room");
        assert_eq!(seldom.note(20_001, begin + PAUSE), not_said(0, 0), "once");
    }
}
