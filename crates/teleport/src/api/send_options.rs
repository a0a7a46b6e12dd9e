//! How messages are sent: in order or not, waiting or not.

use crate::engine::Engine;
use crate::io::runtime::Timers;
use crate::session::{Patience, Session};
use crate::{NodeName, SendError};
use std::sync::Arc;
use std::time::Duration;
use teleport_etf::Segments;
use teleport_proto::transfer::Outgoing;
use teleport_proto::wire::envelope::{Destination, Kind, ProcessId};

/// How a message is sent. The default is Erlang's `!`: in order, and waiting while the way is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SendOptions {
    pub(super) unordered: bool,
    pub(super) nosuspend: bool,
    noconnect: bool,
    timeout: Option<Duration>,
}

impl SendOptions {
    /// Neither wait for earlier messages of the same pair of processes, nor be waited for by later ones.
    pub fn unordered(self) -> Self {
        Self { unordered: true, ..self }
    }

    /// Answer [`SendError::Busy`] rather than wait: for room in a window, or for the first session to be set up (which
    /// is begun).
    pub fn nosuspend(self) -> Self {
        Self { nosuspend: true, ..self }
    }

    /// Answer [`SendError::NotConnected`] rather than set up a session with the peer.
    pub fn noconnect(self) -> Self {
        Self { noconnect: true, ..self }
    }

    /// Wait no longer than that, for the session and for room together: then [`SendError::Timeout`] is the answer, and nothing
    /// was sent.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// The session with a peer, if what is sent need not wait for it. `None`: it may, for one to be set up.
    pub(crate) fn session_now(
        self,
        engine: &Arc<Engine>,
        peer: &NodeName,
    ) -> Result<Option<Arc<Session>>, SendError> {
        match engine.peers.session(peer) {
            None if self.noconnect => Err(SendError::NotConnected { peer: peer.clone() }),
            None if self.nosuspend => engine.session_now(peer).map(Some),
            session => Ok(session),
        }
    }

    /// How long something waits that is offered now.
    pub(crate) fn patience(self, timers: &Timers) -> Patience {
        Patience::new(self.timeout, timers)
    }

    /// The message, sent like that.
    pub(crate) fn outgoing(self, kind: Kind, from: ProcessId, to: Destination, body: Segments) -> Outgoing {
        let mut message = Outgoing::of_kind(kind, from, to, body);
        (message.unordered, message.nosuspend) = (self.unordered, self.nosuspend);
        message
    }
}
