//! At which of its addresses a peer was reached, and whether with TLS: tried first for further connections, so that each of them
//! does not meet again what leads nowhere, nor waits for the resolver.

use crate::base::lock::Lock;
use crate::io::stream::Stream;
use std::collections::HashMap;
use std::net::SocketAddr;

use teleport_proto::NodeName;

/// Those of the peers that have a session: what is noted and forgotten is so with the directory locked.
#[derive(Debug, Default)]
pub(crate) struct Reached(Lock<HashMap<NodeName, Way>>);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    pub(crate) encrypted: bool,
}

impl Reached {
    pub(crate) fn of(&self, peer: &NodeName) -> Option<Way> {
        self.0.lock().get(peer).copied()
    }

    /// Its control connection is this one.
    pub(crate) fn note(&self, peer: &NodeName, connection: &Stream) {
        let Ok(address) = connection.peer_addr() else { return };
        let way = Way { address, encrypted: connection.tls().is_some() };
        let mut reached = self.0.lock();
        match reached.get_mut(peer) {
            Some(known) => *known = way,
            None => drop(reached.insert(peer.clone(), way)),
        }
    }

    /// Its session has ended.
    pub(crate) fn forget(&self, peer: &NodeName) {
        self.0.lock().remove(peer);
    }
}
