//! Counts what is carried for the host.

use crate::base::info::Carried;
use std::sync::atomic::{AtomicU64, Ordering};

/// What was carried so far.
#[derive(Debug, Default)]
pub(crate) struct CarriedCounts {
    messages_sent: AtomicU64,
    bytes_sent: AtomicU64,
    messages_received: AtomicU64,
    bytes_received: AtomicU64,
}

impl CarriedCounts {
    /// A message of this many bytes goes to the peer.
    pub(super) fn sent(&self, len: usize) {
        self.messages_sent.fetch_add(1, Ordering::Relaxed);
        self.bytes_sent.fetch_add(len as u64, Ordering::Relaxed);
    }

    /// A message of this many bytes has come.
    pub(super) fn received(&self, len: usize) {
        self.messages_received.fetch_add(1, Ordering::Relaxed);
        self.bytes_received.fetch_add(len as u64, Ordering::Relaxed);
    }

    /// All of it.
    pub(crate) fn so_far(&self) -> Carried {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Carried {
            messages_sent: read(&self.messages_sent),
            bytes_sent: read(&self.bytes_sent),
            messages_received: read(&self.messages_received),
            bytes_received: read(&self.bytes_received),
        }
    }
}
