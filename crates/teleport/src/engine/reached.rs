//! At which of its addresses a peer was reached: tried first for further connections, so that each of them does not meet again
//! what leads nowhere.

use crate::base::lock::Lock;
use std::collections::HashMap;
use std::net::SocketAddr;

use teleport_proto::NodeName;
use tokio::net::TcpStream;

/// Those of the peers that have a session: what is noted and forgotten is so with the directory locked.
#[derive(Debug, Default)]
pub(crate) struct Reached(Lock<HashMap<NodeName, SocketAddr>>);

impl Reached {
    pub(crate) fn of(&self, peer: &NodeName) -> Option<SocketAddr> {
        self.0.lock().get(peer).copied()
    }

    /// Its control connection is this one.
    pub(crate) fn note(&self, peer: &NodeName, connection: &TcpStream) {
        let Ok(address) = connection.peer_addr() else { return };
        let mut reached = self.0.lock();
        match reached.get_mut(peer) {
            Some(known) => *known = address,
            None => drop(reached.insert(peer.clone(), address)),
        }
    }

    /// Its session has ended.
    pub(crate) fn forget(&self, peer: &NodeName) {
        self.0.lock().remove(peer);
    }
}
