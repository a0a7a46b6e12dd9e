//! Byte streams in virtual time: what lies between two ends of a connection.

use super::Micros;
use bytes::Bytes;
use std::collections::VecDeque;

/// One direction of a pool connection.
#[derive(Debug)]
pub(super) struct Pipe {
    queue: VecDeque<(Micros, Bytes)>,
    bytes: usize,
    capacity: usize,
    latency: Micros,
    /// Nothing arrives any more, whatever is written.
    pub(super) broken: bool,
    pub(super) stalled_until: Micros,
    /// A read is on its way already.
    pub(super) read_due: bool,
}

impl Pipe {
    pub(super) fn new(capacity: usize, latency: Micros) -> Self {
        let queue = VecDeque::new();
        Self { queue, bytes: 0, capacity, latency, broken: false, stalled_until: 0, read_due: false }
    }

    /// Writes as much of `chunk` as there is room for; the rest stays in it.
    pub(super) fn write(&mut self, now: Micros, chunk: &mut Bytes) {
        let room = self.capacity.saturating_sub(self.bytes).min(chunk.len());
        if room == 0 {
            return;
        }
        self.bytes += room;
        self.queue.push_back((now + self.latency, chunk.split_to(room)));
    }

    /// When there is something to read next, if ever.
    pub(super) fn readable_at(&self) -> Option<Micros> {
        if self.broken {
            return None;
        }
        self.queue.front().map(|&(at, _)| at.max(self.stalled_until))
    }

    /// Reads at most `max` bytes of what has arrived.
    pub(super) fn read(&mut self, now: Micros, max: usize) -> Option<Bytes> {
        if self.readable_at()? > now {
            return None;
        }
        let (_, chunk) = self.queue.front_mut()?;
        let part = chunk.split_to(max.min(chunk.len()));
        if chunk.is_empty() {
            self.queue.pop_front();
        }
        self.bytes -= part.len();
        Some(part)
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes < self.capacity
    }

    pub(super) fn in_flight(&self) -> usize {
        self.bytes
    }

    /// Loses everything in flight but the first `keep` bytes, and whatever is written from now on.
    ///
    /// The kept ones can still be read; the pipe breaks when they have been.
    pub(super) fn cut(&mut self, keep: usize) {
        let mut left = keep;
        for (_, chunk) in &mut self.queue {
            chunk.truncate(left);
            left -= chunk.len();
        }
        self.queue.retain(|(_, chunk)| !chunk.is_empty());
        self.broken = self.queue.is_empty();
        // Full from now on, as far as its writer can see.
        self.bytes = self.queue.iter().map(|(_, chunk)| chunk.len()).sum();
        self.capacity = 0;
    }
}
