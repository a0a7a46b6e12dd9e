//! Receive buffers that all lanes of a node share.

use std::sync::Mutex;

use super::locked;

/// Buffers of one size, the last used first: its pages are present, and maybe still in the cache.
///
/// There are never more than lanes, and fewer if lanes take turns.
pub(super) struct Buffers {
    size: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    /// No buffers yet.
    pub(super) const fn new(size: usize) -> Self {
        Self { size, free: Mutex::new(Vec::new()) }
    }

    /// A buffer with anything in it.
    pub(super) fn take(&self) -> Vec<u8> {
        let free = locked(&self.free).pop();
        // Fresh zero pages come from the kernel; a buffer is never zeroed again.
        free.unwrap_or_else(|| vec![0; self.size])
    }

    /// Makes a buffer free.
    pub(super) fn put(&self, buffer: Vec<u8>) {
        locked(&self.free).push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_used_buffer_is_the_next() {
        let buffers = Buffers::new(8);
        let (first, mut second) = (buffers.take(), buffers.take());
        second[0] = 2;
        buffers.put(first);
        buffers.put(second);
        assert_eq!(buffers.take(), [2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(buffers.take(), [0; 8]);
    }
}
