//! Buffers for large messages, kept for reuse.
//!
//! A fresh buffer costs a page fault per 4 KiB, on a virtual machine up to ten times what it costs to copy the bytes.
//! So a buffer that its last holder drops comes back here, still mapped.

use super::runtime::free;
use crate::base::lock::{Held, Lock, Rank};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;
use teleport_proto::transfer::{Buffers, Foreign};
use tokio::sync::Notify;

/// Messages from this size on are received into pooled buffers; below it the allocator reuses memory well enough.
const POOLED: usize = 64 * 1024;

/// What a host has of memory for messages that it is carried.
pub(crate) trait Provider: Send + Sync {
    /// Whether it is carried any.
    fn is_carried(&self) -> bool;
    /// Memory for this many bytes, if it has some.
    fn memory(&self, len: usize) -> Option<Box<dyn Foreign>>;
}

/// Size classes, and a cap on what lies idle in them.
pub(crate) struct BufferPool {
    /// A host's memory, for what it does not copy.
    foreign: Option<Arc<dyn Provider>>,
    idle: Lock<Idle>,
    /// Something lies idle that did not before.
    filled: Notify,
    this: Weak<BufferPool>,
}

#[derive(Debug, Default)]
struct Idle {
    /// The most bytes.
    cap: usize,
    bytes: usize,
    /// Empty buffers by capacity; the last one in is the first one out, its memory being the warmest.
    classes: BTreeMap<usize, Vec<BytesMut>>,
    /// The least that lay idle since the last trimming: so much was not needed.
    least: usize,
}

impl BufferPool {
    pub(crate) fn new(cap: usize, foreign: Option<Arc<dyn Provider>>) -> Arc<Self> {
        let idle = Idle { cap, ..Idle::default() };
        Arc::new_cyclic(|this| Self {
            foreign,
            idle: Lock::new(Rank::Buffers, idle),
            filled: Notify::new(),
            this: this.clone(),
        })
    }

    /// Runs for the life of the node: frees what has lain idle for longer than `interval`.
    /// Sleeps while nothing lies idle.
    pub(crate) async fn keep_trimmed(self: Arc<Self>, interval: Duration) {
        loop {
            self.filled.notified().await;
            while self.idle_bytes() > 0 {
                tokio::time::sleep(interval).await;
                let unused = self.trim();
                free(unused.iter().map(|buffer| buffer.capacity() as u64).sum(), unused);
            }
        }
    }

    /// Keeps nothing from now on.
    pub(crate) fn close(&self) {
        let mut idle = self.lock();
        idle.cap = 0;
        let (bytes, kept) = (std::mem::take(&mut idle.bytes), std::mem::take(&mut idle.classes));
        drop(idle);
        free(bytes as u64, kept);
    }

    /// Takes out what has not been used since the last call.
    fn trim(&self) -> Vec<BytesMut> {
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
        freed
    }

    fn idle_bytes(&self) -> usize {
        self.lock().bytes
    }

    fn put(&self, mut buffer: BytesMut) {
        buffer.clear();
        let mut idle = self.lock();
        if idle.bytes + buffer.capacity() <= idle.cap {
            let was_empty = idle.bytes == 0;
            idle.bytes += buffer.capacity();
            idle.classes.entry(buffer.capacity()).or_default().push(buffer);
            drop(idle);
            if was_empty {
                self.filled.notify_one();
            }
        }
    }

    fn lock(&self) -> Held<'_, Idle> {
        self.idle.lock()
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool").field("idle", &self.idle).finish_non_exhaustive()
    }
}

impl Buffers for BufferPool {
    fn has_foreign(&self) -> bool {
        self.foreign.as_ref().is_some_and(|host| host.is_carried())
    }

    fn foreign(&self, len: usize) -> Option<Box<dyn Foreign>> {
        self.foreign.as_ref()?.memory(len)
    }

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
#[allow(clippy::unwrap_used, reason = "in a test it is a failure with a place")]
mod tests {
    use super::*;
    use crate::{Binary, Config, Node, StaticPeers};
    use std::time::Instant;

    #[test]
    fn a_dropped_message_lends_its_memory_to_the_next() {
        let pool = BufferPool::new(64 << 20, None);
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
        let pool = BufferPool::new(3 << 20, None);
        let messages: Vec<_> = (0..5).map(|_| pool.freeze(pool.allocate(1 << 20))).collect();
        drop(messages);
        assert_eq!(pool.idle_bytes(), 3 << 20);
        assert!(pool.trim().is_empty(), "it was in use since the last trimming");
        assert_eq!(pool.trim().len(), 3);
        assert_eq!(pool.idle_bytes(), 0);
    }

    #[test]
    fn a_closed_pool_keeps_nothing() {
        let pool = BufferPool::new(64 << 20, None);
        let [first, second] = [(); 2].map(|()| pool.freeze(pool.allocate(1 << 20)));
        drop(first);
        pool.close();
        drop(second);
        assert_eq!(pool.idle_bytes(), 0);
    }

    /// Nothing but the node itself looks after the pool.
    #[tokio::test]
    async fn what_lies_idle_is_freed_when_the_last_session_has_ended() {
        const LEN: usize = 4 << 20;
        let peers = StaticPeers::new();
        let mut nodes = Vec::new();
        for name in ["a@127.0.0.1", "b@127.0.0.1"] {
            let config = Config { bulk_idle: Duration::from_millis(20), ..Config::default() };
            let builder = Node::builder(name).cookie("XVTqZ3vF0cYbN7sLk2Rw").config(config);
            let node = builder.resolver(peers.clone()).start().await.unwrap();
            peers.insert(node.name().clone(), node.address());
            nodes.push(node);
        }
        let (a, b) = (&nodes[0], &nodes[1]);
        let mut inbox = b.register("inbox").unwrap();
        a.send(("inbox", b.name()), &Binary::from(vec![1; LEN])).await.unwrap();
        let message = inbox.recv().await.unwrap();
        assert!(a.disconnect(b.name()));
        let mut events = b.monitor_nodes();
        while !b.info().peers.is_empty() {
            events.recv().await.unwrap();
        }
        let pool = &b.engine().core.buffers;
        assert_eq!(pool.idle_bytes(), 0);
        drop(message);
        assert!(pool.idle_bytes() >= LEN);
        let end = Instant::now() + Duration::from_secs(40);
        while pool.idle_bytes() > 0 {
            assert!(Instant::now() < end, "it stays");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[test]
    fn classes_waste_at_most_a_quarter() {
        for len in (POOLED..(40 << 20)).step_by(99_991) {
            let class = class_of(len);
            assert!(class >= len && class - len <= len / 4, "{len}: {class}");
        }
    }
}
