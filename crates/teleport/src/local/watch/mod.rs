//! Watches: one process is told of another, once. Calls and monitors are the two kinds.
//!
//! The *watcher's* node keeps who waits for what ([`Watching`]); the *watched* process's node keeps by whom it is watched
//! ([`Watched`], and the process's own list). A watch has a reference that the watcher's node made, so a reply or DOWN
//! finds its waiter from wherever it comes, and finds nobody once the waiter has given up.
//!
//! Whoever takes a watch out of a table is the one to act on it: that is how a call ends exactly once.

mod watched;
mod watcher;

pub(crate) use watched::{Purpose, Refused, Subject, WatchLimit, Watched, Watchers};
pub(crate) use watcher::{Answer, Ended, Outcome, Watching};

use crate::SendError;
use crate::engine::Engine;
use crate::session::Session;
use std::sync::{Arc, Weak};
use teleport_etf::{Atom, Segments, Term};
use teleport_proto::wire::envelope::{Destination, Kind, ProcessId};

/// The other side of a watch.
#[derive(Debug, Clone)]
pub(crate) enum Via {
    /// Both processes are on this node.
    Here(Weak<Engine>),
    /// It is the peer of a session.
    There(Arc<Session>),
}

impl Via {
    /// The table of the processes here that are watched from there.
    fn watched<R>(&self, use_it: impl FnOnce(&Watched) -> R) -> Option<R> {
        match self {
            Self::Here(engine) => engine.upgrade().map(|engine| use_it(&engine.watched)),
            Self::There(session) => Some(use_it(session.watched_processes())),
        }
    }

    /// Tells a watcher there that what it watches has ended.
    pub(crate) fn down(&self, from: ProcessId, to: ProcessId, kind: Kind, reason: Segments) {
        match self {
            Self::Here(engine) => {
                if let (Some(engine), Kind::Down(reference)) = (engine.upgrade(), kind) {
                    let told = engine.watching.down(reference, reason.into_contiguous(), self);
                    told.into_iter().for_each(|answer| answer.give(&engine.watching));
                }
            }
            Self::There(session) => {
                let tell = |reason| session.send_exempt(from, Destination::Process(to), kind, reason);
                // If the session has ended, its watches have too.
                let instead = match tell(reason) {
                    Err(SendError::TooLarge { .. }) => reason::too_large(),
                    Err(SendError::AnswersNotTaken { .. }) => reason::system_limit(),
                    _ => return,
                };
                let _ = tell(instead);
            }
        }
    }

    /// Tells apart where watchers are; never used as an address.
    fn key(&self) -> usize {
        match self {
            Self::Here(_) => 0,
            Self::There(session) => Arc::as_ptr(session).addr(),
        }
    }
}

/// Reasons that nodes give themselves.
pub(crate) mod reason {
    use super::{Atom, Segments, Term};

    /// There is no such process.
    pub(crate) fn noproc() -> Segments {
        atom("noproc")
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
