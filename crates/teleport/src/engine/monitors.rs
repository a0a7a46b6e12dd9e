//! Monitors of nodes: events when sessions begin and end.

use super::peers::make_room;
use crate::base::lock::Lock;
use futures_util::Stream;
use std::pin::Pin;
use std::task::{Context, Poll};
use teleport_proto::membership::EndReason;
use teleport_proto::{Incarnation, NodeName};
use tokio::sync::mpsc;

/// A session began or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeEvent {
    /// Erlang's `nodeup`.
    Up {
        /// The peer.
        peer: NodeName,
        /// Its present life.
        incarnation: Incarnation,
    },
    /// Erlang's `nodedown`.
    Down {
        /// The peer.
        peer: NodeName,
        /// The life that the session was with.
        incarnation: Incarnation,
        /// Why the session ended.
        reason: EndReason,
        /// Messages that were accepted and not confirmed as delivered; each may or may not have been.
        unconfirmed: u64,
    },
}

/// Sees every [`NodeEvent`] that is told from the moment on that it was made. Sessions that are up by then are not reported,
/// unless they have only just begun: [`Node::info`](crate::Node::info) lists them. Events wait, however many, until they are
/// taken, by [`recv`](Self::recv) or from the stream that this is. So take them all the time: how many there are is up to
/// peers, which may begin and end sessions as they like.
#[derive(Debug)]
#[must_use = "what is not received is of no use"]
pub struct NodeMonitor {
    events: mpsc::UnboundedReceiver<NodeEvent>,
}

impl NodeMonitor {
    /// Waits for the next event; `None` once the node has been shut down.
    ///
    /// A dropped future has taken nothing.
    pub async fn recv(&mut self) -> Option<NodeEvent> {
        self.events.recv().await
    }
}

impl Stream for NodeMonitor {
    type Item = NodeEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<NodeEvent>> {
        self.events.poll_recv(context)
    }
}

/// All monitors of a node; `None` once it has been shut down.
#[derive(Debug)]
pub(crate) struct Monitors {
    senders: Lock<Option<Vec<mpsc::UnboundedSender<NodeEvent>>>>,
}

impl Default for Monitors {
    fn default() -> Self {
        Self { senders: Lock::leaf(Some(Vec::new())) }
    }
}

impl Monitors {
    pub(crate) fn add(&self) -> NodeMonitor {
        let (sender, events) = mpsc::unbounded_channel();
        if let Some(senders) = &mut *self.senders.lock() {
            make_room(senders, |other| !other.is_closed());
            senders.push(sender);
        }
        NodeMonitor { events }
    }

    pub(crate) fn tell(&self, event: &NodeEvent) {
        if let Some(senders) = &mut *self.senders.lock() {
            senders.retain(|sender| sender.send(event.clone()).is_ok());
        }
    }

    pub(crate) fn close(&self) {
        *self.senders.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_monitors_are_forgotten_though_nothing_happens() {
        let monitors = Monitors::default();
        let kept: Vec<_> = (0..10).map(|_| monitors.add()).collect();
        (0..100_000).for_each(|_| drop(monitors.add()));
        assert!(monitors.senders.lock().as_ref().is_some_and(|senders| (10..100).contains(&senders.len())));
        drop(kept);
    }
}
