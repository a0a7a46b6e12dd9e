//! For tests and benchmarks of programs that are built on a node: breaks connections and observes ticks.

use crate::base::lock::assert_may_call_out;
use crate::session::Command;
use crate::{Node, NodeBuilder, NodeName, Tick};
use std::sync::Arc;
use std::time::Duration;

/// A connection to break; see [`Node::sever`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sever {
    /// The session's control connection.
    Control,
    /// One of its pool connections: the one at this position, counted around.
    Pool(usize),
}

/// For what a test is told of on threads of a node, such as that memory is freed.
///
/// # Panics
///
/// In debug builds, if this thread holds a lock of a node for which others may wait.
pub fn assert_no_lock_is_held() {
    assert_may_call_out();
}

impl NodeBuilder {
    /// Calls a function for every tick that came back. It runs on the thread that sends ticks and must not block.
    pub fn on_tick(mut self, observer: impl Fn(&Tick) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }
}

impl Node {
    /// Breaks a connection as a fault of the network would. `false` if there is none. No message is lost by it.
    pub fn sever(&self, peer: &NodeName, what: Sever) -> bool {
        let Some(session) = self.engine().peers.session(peer) else { return false };
        match what {
            Sever::Pool(pick) => session.sever(pick),
            Sever::Control => {
                session.command(Command::Sever);
                true
            }
        }
    }

    /// Ticks at another cadence with all peers that have a session now. This does not change when a peer is declared down, as
    /// [`set_net_ticktime`](Self::set_net_ticktime) does, and later sessions tick as configured.
    pub fn set_tick_interval(&self, interval: Duration) {
        for session in self.engine().peers.sessions() {
            session.command(Command::TickInterval(interval));
        }
    }
}
