//! What has come over a session for the processes of a host, on its way to it.
//!
//! The order is made while the session is locked; the host is called when it is not. One thread at a time hands over, for
//! all: so nothing overtakes. No thread that others need waits for it, and none is at it for long.

use super::{CarriedMessages, Hosting, Inbound, Origin};
use crate::base::lock::{Lock, Rank};
use crate::io::readers::{Reader, Turn};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The most that may wait for another thread to hand them over before a reader waits too.
const MOST_WAITING: usize = 1024;

/// How long a thread hands over before others come first.
const AT_ONCE: Duration = Duration::from_millis(1);

pub(crate) struct Arrivals {
    queue: Lock<VecDeque<Inbound>>,
    /// Held by the thread that hands over, with what it has taken out of the queue.
    turn: Lock<VecDeque<Inbound>>,
    /// How many those were last.
    left: AtomicUsize,
    /// A turn is over.
    turned: Notify,
}

/// What is left when a thread has handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    /// It took long.
    Some,
    /// Another one is at it.
    ToAnother,
}

impl Default for Arrivals {
    fn default() -> Self {
        let (queue, left, turned) =
            (Lock::new(Rank::Leaf, VecDeque::new()), AtomicUsize::new(0), Notify::new());
        Self { queue, turn: Lock::new(Rank::Turn, VecDeque::new()), left, turned }
    }
}

impl Arrivals {
    /// Called with the session locked.
    pub(crate) fn push(&self, inbound: Inbound) {
        self.queue.lock().push_back(inbound);
    }

    /// Adds carried messages to those before them. Called with the session locked.
    pub(crate) fn push_carried(&self, origin: impl FnOnce() -> Origin, carried: CarriedMessages) {
        let mut queue = self.queue.lock();
        match queue.back_mut() {
            // All that is queued here is of the same session.
            Some(Inbound::Carried { messages, .. }) => messages.push(carried),
            _ => queue.push_back(Inbound::Carried { origin: origin(), messages: vec![carried] }),
        }
    }

    /// Whether something is on its way that no thread hands over.
    pub(crate) fn are_left(&self) -> bool {
        // A thread that is at it looks once more when its turn is over.
        self.waiting() > 0 && self.turn.try_lock().is_some()
    }

    fn waiting(&self) -> usize {
        self.queue.lock().len() + self.left.load(Ordering::Acquire)
    }

    /// Hands everything over, a part at a time, or leaves it to who is at it; waits while more than [`MOST_WAITING`] wait. A reader's
    /// turn is given back meanwhile.
    pub(crate) async fn hand_over(
        &self,
        hosting: &Hosting,
        reader: Option<&Reader>,
        mut turn: Option<Turn>,
    ) -> Option<Turn> {
        loop {
            let turned = self.turned.notified();
            match self.hand_some_over(hosting) {
                Left::Nothing => return turn,
                Left::ToAnother if self.waiting() <= MOST_WAITING => return turn,
                Left::ToAnother => {
                    turn = None;
                    turned.await;
                }
                Left::Some => {
                    turn = None;
                    tokio::task::yield_now().await;
                }
            }
            if let Some(reader) = reader {
                turn = Some(reader.turn().await);
            }
        }
    }

    /// Returns when everything that is there now has been handed over. Never to be called by the host.
    pub(crate) fn hand_over_all(&self, hosting: &Hosting) {
        loop {
            {
                let mut taken = self.turn.lock();
                self.take_over(&mut taken, hosting, Duration::MAX);
            }
            self.turned.notify_waiters();
            if self.waiting() == 0 {
                return;
            }
        }
    }

    fn hand_some_over(&self, hosting: &Hosting) -> Left {
        {
            let Some(mut taken) = self.turn.try_lock() else { return Left::ToAnother };
            self.take_over(&mut taken, hosting, AT_ONCE);
        }
        self.turned.notify_waiters();
        // What came at the end of the turn was left to it.
        if self.waiting() == 0 { Left::Nothing } else { Left::Some }
    }

    fn take_over(&self, taken: &mut VecDeque<Inbound>, hosting: &Hosting, limit: Duration) {
        let begun = Instant::now();
        loop {
            if taken.is_empty() {
                std::mem::swap(taken, &mut *self.queue.lock());
                self.left.store(taken.len(), Ordering::Release);
            }
            let Some(inbound) = taken.pop_front() else { break };
            hosting.take(inbound);
            if begun.elapsed() >= limit {
                break;
            }
        }
        self.left.store(taken.len(), Ordering::Release);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in a test it is a failure with a place")]
mod tests {
    use super::*;
    use crate::host::{Host, Receipt};
    use crate::local::watch::End;
    use bytes::Bytes;
    use std::pin::pin;
    use std::sync::{Arc, Mutex, mpsc};
    use std::task::{Context, Waker};
    use teleport_proto::wire::envelope::{Destination, ProcessId, RefId};

    /// Takes one at a time, and each as long as its test lets it.
    struct Slow {
        taken: Mutex<Vec<u32>>,
        takes: Mutex<mpsc::Sender<()>>,
        go_on: Mutex<mpsc::Receiver<()>>,
    }

    impl Host for Slow {
        fn find(&self, _: &Destination) -> Option<ProcessId> {
            None
        }

        fn take(&self, inbound: Inbound) {
            self.takes.lock().unwrap().send(()).unwrap();
            let _ = self.go_on.lock().unwrap().recv();
            let Inbound::Ended { reference, .. } = inbound else { panic!("{inbound:?}") };
            self.taken.lock().unwrap().push(reference.words()[0]);
        }
    }

    fn inbound(number: u32) -> Inbound {
        let reference = RefId::new(&[number]).unwrap();
        Inbound::Ended { reference, end: End::Down(Bytes::new()), origin: None, receipt: Receipt::none() }
    }

    #[test]
    fn who_finds_another_at_it_waits_without_its_thread_and_nobody_is_at_it_for_long() {
        let (takes, taking) = mpsc::channel();
        let (go_on, going_on) = mpsc::channel();
        let slow = Slow { taken: Mutex::default(), takes: takes.into(), go_on: going_on.into() };
        let host = Arc::new(slow);
        let (hosting, arrivals) = (Hosting { host: host.clone() }, Arrivals::default());
        const ALL: u32 = 3 * MOST_WAITING as u32;
        (0..ALL).for_each(|number| arrivals.push(inbound(number)));
        std::thread::scope(|scope| {
            let first = scope.spawn(|| arrivals.hand_some_over(&hosting));
            taking.recv().unwrap();
            let mut second = pin!(arrivals.hand_over(&hosting, None, None));
            let mut context = Context::from_waker(Waker::noop());
            assert!(second.as_mut().poll(&mut context).is_pending());
            std::thread::sleep(2 * AT_ONCE); // the first takes its time
            go_on.send(()).unwrap();
            assert_eq!(first.join().unwrap(), Left::Some);
            assert_eq!(*host.taken.lock().unwrap(), [0]);
            drop(go_on);
            while second.as_mut().poll(&mut context).is_pending() {}
        });
        assert!(host.taken.lock().unwrap().iter().copied().eq(0..ALL));
        assert_eq!((arrivals.waiting(), arrivals.are_left()), (0, false));
    }
}
