//! Two nodes with a fault proxy between them.

use super::{name, start_apart, start_with};
use teleport::{Config, Node, StaticPeers};
use teleport_testkit::proxy::{Connection, Proxy};

/// What a connection is for, which its hello says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Control,
    Express,
    Bulk,
}

impl Kind {
    pub(crate) fn by(first: &[u8]) -> Self {
        match first[9] {
            1 | 2 => Self::Control,
            3 => Self::Express,
            _ => Self::Bulk,
        }
    }

    /// The living connections of that kind.
    pub(crate) fn of(self, proxy: &Proxy) -> Vec<Connection> {
        proxy.connections().into_iter().filter(|connection| Self::by(connection.first()) == self).collect()
    }
}

/// `a` and `b`, and the proxy through which `a` opens their connections; `b` does not know where `a` is.
pub(crate) async fn through_proxy(change: impl Fn(&mut Config)) -> (Node, Node, Proxy, StaticPeers) {
    let peers = StaticPeers::new();
    let a = start_with("a@127.0.0.1", &peers, &change).await;
    let b = start_apart("b@127.0.0.1", &StaticPeers::new(), &change).await;
    let proxy = Proxy::start(b.address()).await.unwrap();
    peers.insert(name("b@127.0.0.1"), proxy.address());
    (a, b, proxy, peers)
}
