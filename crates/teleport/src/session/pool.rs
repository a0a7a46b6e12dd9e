//! The session's pool of connections: how they come, go and fail.

use super::connection::PoolConnection;
use super::{Session, bulk, express, writer};
use crate::base::error::ConnectError;
use crate::io::places::Place;
use crate::io::stream::Stream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use teleport_proto::ConnectionId;
use teleport_proto::membership::EndReason;
use teleport_proto::transfer::Transfer;
use teleport_proto::wire::pool::Class;
use tokio::runtime::Handle;

impl Session {
    /// Opens the whole pool; returns when it is up or the session has ended.
    pub(crate) async fn prime(&self) -> Result<(), ConnectError> {
        self.change(Transfer::prime);
        loop {
            let changed = self.pool_changed.notified();
            {
                let state = self.lock();
                let Some(transfer) = &state.transfer else {
                    let reason = state.ended.unwrap_or(EndReason::Disconnected);
                    return Err(ConnectError::NodeDown { peer: self.peer.clone(), reason });
                };
                if transfer.is_primed() {
                    return Ok(());
                }
            }
            changed.await;
        }
    }

    /// Adds a pool connection that has proved itself. `false` if the session has no use for it.
    pub(crate) fn attach(
        self: &Arc<Self>,
        id: ConnectionId,
        class: Class,
        (stream, place): (Stream, Option<Place>),
        thread: &Handle,
    ) -> bool {
        let connection = Arc::new(PoolConnection::new(id, class, stream, place));
        let up = self.with(|state, after| {
            let up = state.change(after, |transfer| transfer.connection_up(id, class)) == Some(true);
            if up {
                state.connections.insert(id, connection.clone());
            }
            up
        });
        if !up {
            return false;
        }
        match class {
            Class::Express => thread.spawn(express::read_loop(self.clone(), connection.clone())),
            Class::Bulk => thread.spawn(bulk::read_loop(self.clone(), connection.clone())),
        };
        thread.spawn(writer::write_loop(self.clone(), connection));
        self.look_after();
        self.pool_changed.notify_waiters();
        true
    }

    /// Pool connections in a row that could not be opened, or were of no use.
    pub(crate) fn join_failures(&self) -> u32 {
        self.join_failures.load(Ordering::Relaxed)
    }

    /// Notes whether a pool connection could be opened.
    pub(crate) fn joined(&self, success: bool) {
        // One that is open may still turn out to be of no use: then the next one waits all the same.
        let count = |failures: u32| Some(if success { failures.min(1) } else { failures.saturating_add(1) });
        let _ = self.join_failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
    }

    /// Control connections in a row over which the peer has said nothing.
    pub(crate) fn useless_controls(&self) -> u32 {
        self.useless_controls.load(Ordering::Relaxed)
    }

    /// Notes that the peer has said something over a control connection, or that it has ended before that.
    pub(crate) fn note_control_use(&self, useful: bool) {
        let count = |useless: u32| Some(if useful { 0 } else { useless.saturating_add(1) });
        let _ = self.useless_controls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
    }

    /// Notes whether a pool connection that has ended was of use.
    pub(super) fn was_of_use(&self, useful: bool) {
        if useful {
            self.join_failures.store(0, Ordering::Relaxed);
        } else {
            self.joined(false);
        }
    }

    /// A connection that could not be opened.
    pub(crate) fn join_failed(self: &Arc<Self>, id: ConnectionId) {
        self.change(|transfer| transfer.join_failed(id));
    }

    /// Breaks one pool connection as a fault would. `false` if there is none, or it was broken already.
    pub(crate) fn sever(&self, pick: usize) -> bool {
        let state = self.lock();
        let mut ids: Vec<_> = state.connections.keys().copied().collect();
        ids.sort_unstable();
        let connection = ids.get(pick % ids.len().max(1)).and_then(|id| state.connections.get(id));
        connection.is_some_and(|connection| connection.reset())
    }

    /// Whether any pool connection lives.
    pub(crate) fn has_links(&self) -> bool {
        !self.lock().connections.is_empty()
    }
}
