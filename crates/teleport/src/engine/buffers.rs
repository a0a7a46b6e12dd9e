//! Buffers for large messages, kept for reuse.
//!
//! A fresh buffer costs a page fault per 4 KiB, on a virtual machine up to ten times what it costs to copy the bytes.
//! So a buffer that its last holder drops comes back here, still mapped.

use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use teleport_proto::transfer::Buffers;

/// Messages from this size on are received into pooled buffers; below it the allocator reuses memory well enough.
const POOLED: usize = 256 * 1024;

/// Size classes, and a cap on what lies idle in them.
#[derive(Debug)]
pub(crate) struct BufferPool {
    cap: usize,
    idle: Mutex<Idle>,
    this: Weak<BufferPool>,
}

#[derive(Debug, Default)]
struct Idle {
    bytes: usize,
    /// Empty buffers by capacity; the last one in is the first one out, its memory being the warmest.
    classes: BTreeMap<usize, Vec<BytesMut>>,
    /// The least that lay idle since the last trimming: so much was not needed.
    least: usize,
}

impl BufferPool {
    pub(crate) fn new(cap: usize) -> Arc<Self> {
        Arc::new_cyclic(|this| Self { cap, idle: Mutex::default(), this: this.clone() })
    }

    /// Frees what has not been used since the last call.
    pub(crate) fn trim(&self) {
        let mut freed = Vec::new();
        let mut idle = self.lock();
        let mut excess = idle.least;
        while excess > 0 {
            let Some(mut class) = idle.classes.last_entry() else { break };
            let Some(buffer) = class.get_mut().pop() else {
                class.remove();
                continue;
            };
            idle.bytes -= buffer.capacity();
            excess = excess.saturating_sub(buffer.capacity());
            freed.push(buffer);
        }
        idle.least = idle.bytes;
        drop(idle); // unmapping takes a while
    }

    #[cfg(test)]
    fn idle_bytes(&self) -> usize {
        self.lock().bytes
    }

    fn put(&self, mut buffer: BytesMut) {
        buffer.clear();
        let mut idle = self.lock();
        if idle.bytes + buffer.capacity() <= self.cap {
            idle.bytes += buffer.capacity();
            idle.classes.entry(buffer.capacity()).or_default().push(buffer);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffers for BufferPool {
    fn allocate(&self, len: usize) -> BytesMut {
        if len < POOLED {
            return BytesMut::with_capacity(len);
        }
        let class = class_of(len);
        let mut idle = self.lock();
        if let Some(buffer) = idle.classes.get_mut(&class).and_then(Vec::pop) {
            idle.bytes -= class;
            idle.least = idle.least.min(idle.bytes);
            return buffer;
        }
        idle.least = 0;
        drop(idle);
        BytesMut::with_capacity(class)
    }

    fn freeze(&self, message: BytesMut) -> Bytes {
        if message.capacity() < POOLED {
            return message.freeze();
        }
        Bytes::from_owner(Pooled { buffer: message, pool: self.this.clone() })
    }
}

/// A message in a pooled buffer.
struct Pooled {
    buffer: BytesMut,
    pool: Weak<BufferPool>,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.put(std::mem::take(&mut self.buffer));
        }
    }
}

/// The capacity to allocate for `len` bytes: four classes per doubling, so at most a quarter is unused (and, being
/// untouched, takes no memory).
fn class_of(len: usize) -> usize {
    let step = (len.next_power_of_two() / 8).max(1);
    len.div_ceil(step) * step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_message_lends_its_memory_to_the_next() {
        let pool = BufferPool::new(64 << 20);
        let mut buffer = pool.allocate(10 << 20);
        buffer.resize(10 << 20, 1);
        let message = pool.freeze(buffer);
        let (address, slice) = (message.as_ptr(), message.slice(5..10));
        drop(message);
        assert_eq!(pool.idle_bytes(), 0, "a slice still holds it");
        drop(slice);
        let again = pool.allocate((10 << 20) - 1000);
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
    }

    #[test]
    fn what_lies_idle_is_capped_and_trimmed() {
        let pool = BufferPool::new(3 << 20);
        let messages: Vec<_> = (0..5).map(|_| pool.freeze(pool.allocate(1 << 20))).collect();
        drop(messages);
        assert_eq!(pool.idle_bytes(), 3 << 20);
        pool.trim();
        assert_eq!(pool.idle_bytes(), 3 << 20, "it was in use since the last trimming");
        pool.trim();
        assert_eq!(pool.idle_bytes(), 0);
    }

    #[test]
    fn classes_waste_at_most_a_quarter() {
        for len in (POOLED..(40 << 20)).step_by(99_991) {
            let class = class_of(len);
            assert!(class >= len && class - len <= len / 4, "{len}: {class}");
        }
    }
}
