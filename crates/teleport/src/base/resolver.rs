//! Where peers are.

use super::caught::{Panic, caught, text};
use super::lock::SharedLock;
use super::seldom::{NotSaid, Seldom};
use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;
use teleport_proto::NodeName;

/// The answer of a [`Resolver`]: addresses to try in turn; none if the node is not known.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = Vec<SocketAddr>> + Send + 'a>>;

/// The answer to [`Resolver::call_back`].
pub type CallingBack<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// Finds the address that a node listens on.
///
/// Asked at every attempt to connect, on the node's own threads: an implementation that has to wait should do so
/// without blocking.
pub trait Resolver: Send + Sync {
    /// The addresses of a node.
    fn resolve<'a>(&'a self, node: &'a NodeName) -> Resolving<'a>;

    /// Asks a node that is not reached at its addresses to connect to this one, if there is another way to ask it. The answer is
    /// whether it has. By default there is no other way.
    fn call_back<'a>(&'a self, _node: &'a NodeName) -> CallingBack<'a> {
        Box::pin(std::future::ready(false))
    }
}

/// One that an application brings along: a panic of it is no answer, and the next attempt asks again.
pub(crate) struct Careful {
    resolver: Arc<dyn Resolver>,
    panics: Seldom<()>,
}

impl Careful {
    pub(crate) fn new(resolver: Arc<dyn Resolver>) -> Self {
        Self { resolver, panics: Seldom::default() }
    }

    fn panicked(&self, node: &NodeName, panic: &Panic) {
        if let Some(NotSaid { same, .. }) = self.panics.note((), Instant::now()) {
            tracing::error!(%node, panic = text(&**panic), not_said = same, "the resolver panicked, which is no answer");
        }
    }
}

impl Resolver for Careful {
    fn resolve<'a>(&'a self, node: &'a NodeName) -> Resolving<'a> {
        Box::pin(async move {
            caught(|| self.resolver.resolve(node)).await.unwrap_or_else(|panic| {
                self.panicked(node, &panic);
                Vec::new()
            })
        })
    }

    fn call_back<'a>(&'a self, node: &'a NodeName) -> CallingBack<'a> {
        Box::pin(async move {
            caught(|| self.resolver.call_back(node)).await.unwrap_or_else(|panic| {
                self.panicked(node, &panic);
                false
            })
        })
    }
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
    table: Arc<SharedLock<HashMap<NodeName, Place>>>,
}

/// Where a node is.
#[derive(Debug, Clone)]
enum Place {
    At(Vec<SocketAddr>),
    Host(Arc<str>, u16),
}

impl StaticPeers {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says where a node is, from now on.
    pub fn insert(&self, node: NodeName, address: SocketAddr) {
        self.set(node, Place::At(vec![address]));
    }

    /// Adds a node that can be reached at several addresses, which are tried in this order.
    pub fn insert_all(&self, node: NodeName, addresses: impl IntoIterator<Item = SocketAddr>) {
        self.set(node, Place::At(addresses.into_iter().collect()));
    }

    /// Adds a node on a host of that name, which is looked up at each attempt. While the lookup fails the node is unknown.
    pub fn insert_host(&self, node: NodeName, host: &str, port: u16) {
        self.set(node, Place::Host(host.into(), port));
    }

    /// Forgets a node. A session that it has goes on.
    pub fn remove(&self, node: &NodeName) {
        self.table.write().remove(node);
    }

    fn set(&self, node: NodeName, place: Place) {
        self.table.write().insert(node, place);
    }
}

impl FromIterator<(NodeName, SocketAddr)> for StaticPeers {
    fn from_iter<I: IntoIterator<Item = (NodeName, SocketAddr)>>(peers: I) -> Self {
        let table = peers.into_iter().map(|(node, address)| (node, Place::At(vec![address])));
        Self { table: Arc::new(SharedLock::new(table.collect())) }
    }
}

impl Resolver for StaticPeers {
    fn resolve<'a>(&'a self, node: &'a NodeName) -> Resolving<'a> {
        let found = self.table.read().get(node).cloned();
        Box::pin(async move {
            match found {
                None => Vec::new(),
                Some(Place::At(addresses)) => addresses,
                Some(Place::Host(host, port)) => match tokio::net::lookup_host((&*host, port)).await {
                    Ok(addresses) => addresses.collect(),
                    Err(error) => {
                        tracing::debug!(%node, %host, %error, "the host's name cannot be looked up");
                        Vec::new()
                    }
                },
            }
        })
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
        let other = SocketAddr::from(([10, 0, 0, 8], 4371));
        peers.insert_all(node.clone(), [other, address]);
        assert_eq!(found(&peers), [other, address]);
    }

    #[tokio::test]
    async fn a_host_is_looked_up_when_it_is_needed() {
        let (node, peers) = (NodeName::new("shop@shop.example").unwrap(), StaticPeers::new());
        peers.insert_host(node.clone(), "localhost", 4370);
        let found = peers.resolve(&node).await;
        assert!(
            !found.is_empty() && found.iter().all(|at| at.ip().is_loopback() && at.port() == 4370),
            "{found:?}"
        );
        peers.insert_host(node.clone(), "no-such-host.invalid", 4370);
        assert_eq!(peers.resolve(&node).await, []);
    }
}
