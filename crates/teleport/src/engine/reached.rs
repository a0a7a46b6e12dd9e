//! At which of its addresses a peer was reached: tried first for further connections, so that each of them does not meet again
//! what leads nowhere.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use teleport_proto::NodeName;

/// Those of the peers that have a session.
#[derive(Debug, Default)]
pub(crate) struct Reached(Mutex<HashMap<NodeName, SocketAddr>>);

impl Reached {
    pub(crate) fn of(&self, peer: &NodeName) -> Option<SocketAddr> {
        self.lock().get(peer).copied()
    }

    pub(crate) fn note(&self, peer: &NodeName, address: SocketAddr) {
        let mut reached = self.lock();
        match reached.get_mut(peer) {
            Some(known) => *known = address,
            None => drop(reached.insert(peer.clone(), address)),
        }
    }

    /// Its session has ended.
    pub(crate) fn forget(&self, peer: &NodeName) {
        self.lock().remove(peer);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeName, SocketAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
