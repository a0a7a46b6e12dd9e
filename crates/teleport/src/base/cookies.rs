//! Which cookie is shared with a peer.

use super::caught::{caught, text};
use super::lock::SharedLock;
use super::seldom::{NotSaid, Seldom};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use teleport_proto::NodeName;
use teleport_proto::handshake::Cookie;

/// The answer of [`Cookies`]: the cookie, or `None` if there is none, and so no session.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Option<Vec<u8>>> + Send + 'a>>;

/// Says which cookie is shared with a peer, for cookies that change while the node runs.
///
/// Asked at every handshake for a new session: by the side that dials once it is connected, by the side that accepts once the
/// other has said who it is, which anybody can. So an answer should come soon, and cost little. On the node's own threads: an
/// implementation that has to wait should do so without blocking.
pub trait Cookies: Send + Sync {
    /// The cookie shared with a peer.
    fn cookie<'a>(&'a self, peer: &'a NodeName) -> Asking<'a>;
}

/// What a node knows about cookies.
pub(crate) struct KnownCookies {
    /// Whose they are.
    node: NodeName,
    /// The cluster's, unless somebody is asked.
    default: Cookie,
    /// Those of single peers, which go before all others.
    peers: SharedLock<HashMap<NodeName, Cookie>>,
    /// Asked for all other cookies, if there is one.
    asked: Option<Arc<dyn Cookies>>,
    panics: Seldom<()>,
    /// A weak cookie has been warned of.
    warned: AtomicBool,
}

impl KnownCookies {
    pub(crate) fn new(
        node: NodeName,
        default: Cookie,
        peers: HashMap<NodeName, Cookie>,
        asked: Option<Arc<dyn Cookies>>,
    ) -> Self {
        let (peers, panics, warned) = (SharedLock::new(peers), Seldom::default(), AtomicBool::new(false));
        let known = Self { node, default, peers, asked, panics, warned };
        known.warn_if_weak(&known.default);
        known
    }

    /// The cookie for a handshake that is under way.
    pub(crate) async fn of(&self, peer: &NodeName) -> Option<Cookie> {
        if let Some(own) = self.peers.read().get(peer) {
            return Some(own.clone());
        }
        let Some(asked) = &self.asked else { return Some(self.default.clone()) };
        let answer = caught(|| asked.cookie(peer)).await.unwrap_or_else(|panic| {
            // Strangers have it asked.
            if let Some(NotSaid { same, .. }) = self.panics.note((), Instant::now()) {
                let (node, panic) = (&self.node, text(&*panic));
                tracing::error!(%node, %peer, panic, not_said = same, "asking for the cookie panicked, so there is none");
            }
            None
        });
        let cookie = Cookie::new(&answer?).ok()?;
        self.warn_if_weak(&cookie);
        Some(cookie)
    }

    /// In place of all others; `None`: no more.
    pub(crate) fn set(&self, peer: &NodeName, cookie: Option<Cookie>) {
        let mut peers = self.peers.write();
        match cookie {
            Some(cookie) => drop(peers.insert(peer.clone(), cookie)),
            None => drop(peers.remove(peer)),
        }
    }

    /// Once is enough.
    fn warn_if_weak(&self, cookie: &Cookie) {
        let Some(why) = cookie.weakness() else { return };
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(node = %self.node, why, "the cookie is weak, and who guesses it is a node of the cluster: set a random one");
        }
    }
}
