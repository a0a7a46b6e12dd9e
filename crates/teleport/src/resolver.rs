//! Where peers are.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, RwLock};
use teleport_proto::NodeName;

/// The answer of a [`Resolver`]: addresses to try in turn; none if the node is not known.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = Vec<SocketAddr>> + Send + 'a>>;

/// Finds the address that a node listens on.
///
/// Asked at every attempt to connect, on the node's own threads: an implementation that has to wait should do so
/// without blocking.
pub trait Resolver: Send + Sync {
    /// The addresses of a node.
    fn resolve<'a>(&'a self, node: &'a NodeName) -> Resolving<'a>;
}

/// A table of addresses, which may grow and change while nodes run. A clone is the same table.
///
/// ```
/// let peers = teleport::StaticPeers::new();
/// peers.insert("shop@10.0.0.7".parse()?, "10.0.0.7:4370".parse()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct StaticPeers {
    table: Arc<RwLock<HashMap<NodeName, SocketAddr>>>,
}

impl StaticPeers {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says where a node is, from now on.
    pub fn insert(&self, node: NodeName, address: SocketAddr) {
        self.table.write().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(node, address);
    }

    /// Forgets a node. A session that it has goes on.
    pub fn remove(&self, node: &NodeName) {
        self.table.write().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(node);
    }
}

impl FromIterator<(NodeName, SocketAddr)> for StaticPeers {
    fn from_iter<I: IntoIterator<Item = (NodeName, SocketAddr)>>(peers: I) -> Self {
        Self { table: Arc::new(RwLock::new(peers.into_iter().collect())) }
    }
}

impl Resolver for StaticPeers {
    fn resolve<'a>(&'a self, node: &'a NodeName) -> Resolving<'a> {
        let found = self.table.read().unwrap_or_else(|poisoned| poisoned.into_inner()).get(node).copied();
        Box::pin(std::future::ready(found.into_iter().collect()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in a test it is a failure with a place")]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_clone_is_the_same_table_and_what_is_removed_is_unknown() {
        let (node, address) =
            (NodeName::new("shop@10.0.0.7").unwrap(), SocketAddr::from(([10, 0, 0, 7], 4370)));
        let peers: StaticPeers = [(node.clone(), address)].into_iter().collect();
        let found = |peers: &StaticPeers| peers.resolve(&node).now_or_never().unwrap();
        assert_eq!(found(&peers.clone()), [address]);
        peers.clone().remove(&node);
        assert_eq!(found(&peers), []);
    }
}
