//! Watches: one process is told of another, once. Calls and monitors are the two kinds.
//!
//! The *watcher's* node keeps who waits for what ([`Watching`]); the *watched* process's node keeps by whom it is watched
//! ([`Watched`], and the process's own list). A watch has a reference that the watcher's node made, so a reply or DOWN
//! finds its waiter from wherever it comes, and finds nobody once the waiter has given up.
//!
//! The thread that takes a watch out of a table acts on it: that is how a call ends exactly once.

mod watched;
mod watcher;

pub(crate) use teleport_proto::watches::{HERE, Purpose};
pub(crate) use watched::{Subject, WatchLimit, WatchRefused, Watched, Watchers};
pub(crate) use watcher::{Ending, HostedWaiters, Over, Path, Waiter, Watching};

use super::{Peer, Unsent};
use crate::base::meter::Tally;
use bytes::Bytes;
use std::sync::Arc;
use teleport_etf::{Atom, Segments, Term};
use teleport_proto::membership::EndReason;
use teleport_proto::transfer::Outgoing;
use teleport_proto::wire::envelope::{Destination, Kind, ProcessId};

/// How a call or monitor ended.
#[derive(Debug)]
pub enum End {
    /// The reply: an encoded term.
    Reply(Bytes),
    /// The process ended, or was not there: the reason, an encoded term. One that is compressed counts as `undefined`.
    Down(Bytes),
    /// Only of a call: nobody is going to answer, though the process goes on. The text, an encoded binary.
    Rejected(Bytes),
    /// The session with its node ended.
    NodeDown(EndReason),
}

impl End {
    /// The encoded term that comes with it.
    pub(crate) fn body(&self) -> Bytes {
        match self {
            Self::Reply(body) | Self::Down(body) | Self::Rejected(body) => body.clone(),
            Self::NodeDown(_) => Bytes::new(),
        }
    }
}

/// The watches of this node's processes.
pub(crate) struct Watches {
    /// What they wait for.
    pub(crate) watching: Watching,
    /// Which of them wait for each other.
    watched: Watched,
}

impl Watches {
    /// There are none. Late replies are also counted by the meter; what a host's processes wait for is told to `host`.
    pub(crate) fn new(late: Arc<Tally>, host: Option<Arc<dyn HostedWaiters>>) -> Arc<Self> {
        Arc::new(Self { watching: Watching::new(late, host), watched: Watched::new(None) })
    }
}

/// The other side of a watch.
#[derive(Clone)]
pub(crate) enum Via {
    /// Both processes are on this node.
    Here(Arc<Watches>),
    /// It is the peer of a session.
    There(Arc<dyn Peer>),
}

impl Via {
    /// The table of the processes here that are watched from there.
    fn watched(&self) -> &Watched {
        match self {
            Self::Here(watches) => &watches.watched,
            Self::There(peer) => peer.watched(),
        }
    }

    /// Tells a watcher there that what it watches has ended.
    pub(crate) fn down(&self, from: ProcessId, to: ProcessId, kind: Kind, reason: Segments) {
        match self {
            Self::Here(watches) => {
                if let Kind::Down(reference) = kind {
                    let ending = watches.watching.down(reference, reason.into_contiguous(), HERE);
                    if let Some(ending) = ending {
                        ending.give(&watches.watching);
                    }
                }
            }
            Self::There(peer) => {
                let to = Destination::Process(to);
                let tell = |reason| peer.send_exempt(Outgoing::of_kind(kind, from, to.clone(), reason));
                // If the session has ended, its watches have too.
                let instead = match tell(reason) {
                    Err(Unsent::TooLarge { .. }) => reason::too_large(),
                    Err(Unsent::NotTaken { .. }) => reason::system_limit(),
                    _ => return,
                };
                let _ = tell(instead);
            }
        }
    }

    /// The number of the session, or [`HERE`].
    fn number(&self) -> u64 {
        match self {
            Self::Here(_) => HERE,
            Self::There(peer) => peer.number(),
        }
    }
}

/// Reasons that nodes give themselves.
pub(crate) mod reason {
    use super::{Atom, Segments, Term};
    use bytes::Bytes;

    /// Peers make a node say this as often as they like: it takes no memory.
    const NOPROC: Bytes = Bytes::from_static(b"\x83w\x06noproc");

    /// There is no such process.
    pub(crate) fn noproc() -> Segments {
        NOPROC.into()
    }

    /// Its node went down, or cannot be reached.
    pub(crate) fn no_connection() -> Segments {
        atom("noconnection")
    }

    /// The process ended without saying why.
    pub(crate) fn normal() -> Term {
        Atom::from_static("normal").into()
    }

    /// More watches than a node takes, or a reason larger than what a node keeps for a watcher whose node takes nothing.
    pub(crate) fn system_limit() -> Segments {
        atom("system_limit")
    }

    /// In place of a reason that is larger than any message.
    pub(crate) fn too_large() -> Segments {
        atom("too_large")
    }

    pub(crate) fn encode(reason: &Term) -> Segments {
        // A term that has a form is encoded; what has none (it is too large for the format) is at least an end.
        reason.encode().unwrap_or_else(|_| atom("normal"))
    }

    fn atom(name: &'static str) -> Segments {
        Term::from(Atom::from_static(name)).encode().unwrap_or_default()
    }
}
