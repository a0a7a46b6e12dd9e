//! Which sessions end, and how far the senders were by then.

use std::sync::Arc;
use std::time::Duration;

use teleport::NodeEvent;
use tokio::time::{MissedTickBehavior, interval};

use super::book::Book;
use super::index_of;
use crate::soak::ledger::Down;

/// From one sample of what senders have accepted to the next. An end is told within this time.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Until the node is shut down.
pub(super) async fn note(book: Arc<Book>) {
    let mut events = book.node.monitor_nodes();
    let mut samples = interval(SAMPLE_EVERY);
    // After a stop they are no less apart.
    samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Some(NodeEvent::Down { peer, incarnation, unconfirmed, .. }) => {
                    if let Some(node) = index_of(&peer) {
                        book.down(Down { node, incarnation: incarnation.as_u32(), unconfirmed });
                    }
                }
                Some(_) => {}
                None => return,
            },
            _ = samples.tick() => book.sample(),
        }
    }
}
