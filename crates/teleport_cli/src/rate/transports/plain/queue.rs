//! Messages from one thread to another: a mutex, a double-ended queue and condition variables.
//!
//! Bounded by bytes. The consumer takes all there is with one lock, and who is awake is not woken. That took less CPU
//! time per message than `std::sync::mpsc::sync_channel`.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

use crate::rate::meter::locked;

/// Owned, so that it outlives whatever it was copied from.
pub(super) type Message = Bytes;

/// Bytes of a block that messages are copied into.
const BLOCK: usize = 64 * 1024;

/// Copies messages into blocks that they share. With an allocation each, which another thread frees, `malloc` was most of
/// the work.
#[derive(Default)]
pub(super) struct Copier(BytesMut);

/// In the queue, and once more with the consumer. Several times as much made messages dearer.
const CAPACITY: usize = 512 * 1024;

/// The side that hands messages over. Dropped, it lets the consumer end.
pub(super) struct Producer(Arc<Shared>);

/// The side that takes them, one at a time.
pub(super) struct Consumer {
    shared: Arc<Shared>,
    /// Taken with one lock.
    taken: VecDeque<Message>,
}

/// The consumer has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ConsumerGone;

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// For the consumer: there is something, or the producer has ended.
    filled: Condvar,
    /// For the producer: there is room, or the consumer has ended.
    emptied: Condvar,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Message>,
    /// Of those messages, their entries included.
    bytes: usize,
    consumer_waits: bool,
    producer_waits: bool,
    closed: bool,
}

/// A queue of the usual capacity.
pub(super) fn queue() -> (Producer, Consumer) {
    let shared = Arc::new(Shared::default());
    (Producer(Arc::clone(&shared)), Consumer { shared, taken: VecDeque::new() })
}

impl Copier {
    /// An owned copy.
    pub(super) fn copy(&mut self, message: &[u8]) -> Message {
        if self.0.capacity() < message.len() {
            self.0 = BytesMut::with_capacity(BLOCK.max(message.len()));
        }
        self.0.extend_from_slice(message);
        self.0.split().freeze()
    }
}

impl Producer {
    /// Hands one message over; waits while the queue is full.
    pub(super) fn push(&mut self, message: Message) -> Result<(), ConsumerGone> {
        self.add(weight(&message), |messages| messages.push_back(message))
    }

    /// Hands several over with one lock, and leaves none of them; waits while the queue is full.
    pub(super) fn push_all(&mut self, batch: &mut VecDeque<Message>) -> Result<(), ConsumerGone> {
        if batch.is_empty() {
            return Ok(());
        }
        self.add(batch.iter().map(weight).sum(), |messages| messages.append(batch))
    }

    fn add(&self, bytes: usize, add: impl FnOnce(&mut VecDeque<Message>)) -> Result<(), ConsumerGone> {
        let mut queue = locked(&self.0.queue);
        while queue.bytes >= CAPACITY && !queue.closed {
            queue.producer_waits = true;
            queue = self.0.emptied.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.closed {
            return Err(ConsumerGone);
        }
        queue.bytes += bytes;
        add(&mut queue.messages);
        let wake = mem::take(&mut queue.consumer_waits);
        drop(queue);
        if wake {
            self.0.filled.notify_one();
        }
        Ok(())
    }
}

impl Consumer {
    /// The next message; waits for it. None if the producer has ended, and nothing is left.
    pub(super) fn recv(&mut self) -> Option<Message> {
        if self.taken.is_empty() {
            self.take(true);
        }
        self.taken.pop_front()
    }

    /// The next message if there is one already.
    pub(super) fn try_recv(&mut self) -> Option<Message> {
        if self.taken.is_empty() {
            self.take(false);
        }
        self.taken.pop_front()
    }

    /// Takes all there is.
    fn take(&mut self, wait: bool) {
        let mut queue = locked(&self.shared.queue);
        while wait && queue.messages.is_empty() && !queue.closed {
            queue.consumer_waits = true;
            queue = self.shared.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        mem::swap(&mut queue.messages, &mut self.taken);
        queue.bytes = 0;
        let wake = mem::take(&mut queue.producer_waits);
        drop(queue);
        if wake {
            self.shared.emptied.notify_one();
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        locked(&self.0.queue).closed = true;
        self.0.filled.notify_one();
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        locked(&self.shared.queue).closed = true;
        self.shared.emptied.notify_one();
    }
}

fn weight(message: &Message) -> usize {
    message.len() + size_of::<Message>()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn numbered(number: u32, size: usize) -> Message {
        let mut message = vec![0; size];
        message[..4].copy_from_slice(&number.to_le_bytes());
        message.into()
    }

    /// Many times what the queue holds, singly and in batches.
    #[test]
    fn all_come_in_order_and_then_the_end() {
        let (mut producer, mut consumer) = queue();
        thread::scope(|scope| {
            scope.spawn(move || {
                for first in (0..20_000).step_by(10) {
                    producer.push(numbered(first, 1000)).unwrap();
                    let mut batch = (first + 1..first + 10).map(|number| numbered(number, 1000)).collect();
                    producer.push_all(&mut batch).unwrap();
                    assert!(batch.is_empty());
                }
            });
            for number in 0..20_000 {
                assert_eq!(consumer.recv(), Some(numbered(number, 1000)));
            }
            assert_eq!((consumer.recv(), consumer.try_recv()), (None, None));
        });
    }

    #[test]
    fn copies_are_what_they_are_copies_of() {
        let mut copier = Copier::default();
        let sizes = [0, 7, BLOCK - 7, 1, 2 * BLOCK, 1000, BLOCK];
        let copies = sizes.map(|size| copier.copy(&vec![size as u8; size]));
        assert!(sizes.iter().zip(copies).all(|(&size, copy)| copy == vec![size as u8; size]));
    }

    #[test]
    fn a_message_larger_than_the_queue_enters_it_alone() {
        let (mut producer, mut consumer) = queue();
        assert_eq!(consumer.try_recv(), None);
        producer.push(numbered(0, 2 * CAPACITY)).unwrap();
        let pushed = thread::spawn(move || producer.push(numbered(1, 4)));
        assert_eq!(consumer.recv().unwrap().len(), 2 * CAPACITY);
        assert_eq!(consumer.recv(), Some(numbered(1, 4)));
        pushed.join().unwrap().unwrap();
    }

    #[test]
    fn a_producer_does_not_outwait_its_consumer() {
        let (mut producer, consumer) = queue();
        producer.push(numbered(0, CAPACITY)).unwrap();
        let pushed = thread::spawn(move || producer.push(numbered(1, 4)));
        drop(consumer);
        assert_eq!(pushed.join().unwrap(), Err(ConsumerGone));
    }
}
