//! Senders that pipeline to several destinations, and destinations that check what comes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::SmallRng;
use serde::{Deserialize, Serialize};
use teleport::{Address, Binary, Mailbox, Message, Node};

use crate::bench::child::NodeError;
use crate::bench::payload::{Payloads, random};
use crate::ring::arrivals::Arrivals;
use crate::ring::figures::{Pair, Received, Sent};
use crate::ring::protocol::Tally;
use crate::ring::transports::teleport::node_name;

/// What is sent. The receiver knows the rest of the pair.
#[derive(Debug, Serialize, Deserialize)]
struct Parcel {
    origin: u16,
    worker: u16,
    /// Counts the pair's messages from 1.
    number: u64,
    payload: Binary,
}

/// A worker that sends as fast as the product accepts, to one of its destinations after the other at random.
pub(super) struct Sender {
    /// Whose messages they are; it gets none.
    mailbox: Mailbox,
    destinations: Vec<(Pair, Address)>,
    payloads: Payloads,
    choice: SmallRng,
    calm: Arc<AtomicBool>,
    sent: Arc<Sending>,
}

/// What a sender has sent.
#[derive(Debug)]
pub(super) struct Sending {
    /// Messages accepted, by destination.
    accepted: Vec<(Pair, AtomicU64)>,
    /// How long sends took to be accepted, together.
    waited_ns: AtomicU64,
    ended: AtomicBool,
}

impl Sender {
    /// A worker at rest. It ends when `calm` is set.
    pub(super) fn new(
        node: &Node,
        destinations: Vec<Pair>,
        payloads: Payloads,
        seed: u64,
        calm: Arc<AtomicBool>,
    ) -> Result<Self, NodeError> {
        let mailbox = node.mailbox().map_err(NodeError::teleport("cannot start a sender"))?;
        let choice = random(seed, ("destinations", destinations.first()));
        let sent = Arc::new(Sending {
            accepted: destinations.iter().map(|&pair| (pair, AtomicU64::new(0))).collect(),
            waited_ns: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let addressed = |pair: Pair| Ok((pair, (&*inbox_name(pair.inbox), node_name(pair.node)?).into()));
        let destinations = destinations.into_iter().map(addressed).collect::<Result<_, NodeError>>()?;
        Ok(Self { mailbox, destinations, payloads, choice, calm, sent })
    }

    /// What it has sent, now and later.
    pub(super) fn sent(&self) -> Arc<Sending> {
        Arc::clone(&self.sent)
    }

    /// Sends until it is calm.
    pub(super) async fn run(mut self) -> Result<(), NodeError> {
        while !self.calm.load(Ordering::Relaxed) {
            let choice = self.choice.random_range(0..self.destinations.len());
            let (pair, address) = &self.destinations[choice];
            // There are as many counts as destinations.
            let (_, accepted) = &self.sent.accepted[choice];
            let number = accepted.load(Ordering::Relaxed) + 1;
            let payload = Binary::from(self.payloads.of((*pair, number)));
            let parcel = Parcel { origin: pair.origin, worker: pair.worker, number, payload };
            let start = Instant::now();
            self.mailbox
                .send(address, &parcel)
                .await
                .map_err(NodeError::teleport(format!("cannot send message {number} to {address}")))?;
            let waited = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.sent.waited_ns.fetch_add(waited, Ordering::Relaxed);
            accepted.store(number, Ordering::Relaxed);
        }
        // With all counts before it.
        self.sent.ended.store(true, Ordering::Release);
        Ok(())
    }
}

impl Sending {
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(super) fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited_ns.load(Ordering::Relaxed))
    }

    pub(super) fn messages(&self) -> u64 {
        self.by_pair().map(|sent| sent.messages).sum()
    }

    pub(super) fn by_pair(&self) -> impl Iterator<Item = Sent> {
        let sent =
            |(pair, count): &(Pair, AtomicU64)| Sent { pair: *pair, messages: count.load(Ordering::Relaxed) };
        self.accepted.iter().map(sent)
    }
}

/// A destination: checks every message against what its sender must have made.
pub(super) struct Inbox {
    mailbox: Mailbox,
    node: u16,
    inbox: u16,
    payloads: Payloads,
    taken: Arc<Mutex<Taken>>,
}

/// What has come to a destination.
#[derive(Debug, Default)]
pub(super) struct Taken {
    arrivals: Arrivals<Pair>,
    bytes: u64,
    damaged: u64,
}

impl Inbox {
    pub(super) fn new(node: &Node, index: u16, inbox: u16, payloads: Payloads) -> Result<Self, NodeError> {
        let mailbox = node
            .register(&inbox_name(inbox))
            .map_err(NodeError::teleport("cannot register a destination"))?;
        Ok(Self { mailbox, node: index, inbox, payloads, taken: Arc::default() })
    }

    /// What has come, now and later.
    pub(super) fn taken(&self) -> Arc<Mutex<Taken>> {
        Arc::clone(&self.taken)
    }

    /// Until the node ends.
    pub(super) async fn run(mut self) {
        while let Some(message) = self.mailbox.recv().await {
            let intact = self.check(&message);
            let mut taken = locked(&self.taken);
            match intact {
                Some((pair, number, bytes)) => {
                    taken.arrivals.record_from(pair, number);
                    taken.bytes += bytes;
                }
                None => taken.damaged += 1,
            }
        }
    }

    /// Whose message it is, its number and size; `None` if it is not what its sender made.
    fn check(&self, message: &Message) -> Option<(Pair, u64, u64)> {
        let Parcel { origin, worker, number, payload } = message.decode().ok()?;
        let pair = Pair { origin, worker, node: self.node, inbox: self.inbox };
        (self.payloads.of((pair, number)) == payload[..]).then_some((pair, number, payload.len() as u64))
    }
}

impl Taken {
    pub(super) const fn tally(&self) -> Tally {
        self.arrivals.tally()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) const fn damaged(&self) -> u64 {
        self.damaged
    }

    pub(super) fn by_pair(&self) -> impl Iterator<Item = Received> {
        self.arrivals.by_sender().map(|(&pair, last, messages)| Received { pair, messages, last })
    }
}

pub(super) fn locked(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

fn inbox_name(inbox: u16) -> String {
    format!("inbox {inbox}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::payload::Sizes;

    /// Faults planted by hand: each has to show.
    #[tokio::test]
    async fn an_inbox_sees_what_is_wrong() {
        let starting = Node::builder("chaos@127.0.0.1").cookie("a cookie for one test").start();
        let node = starting.await.unwrap();
        let payloads = Payloads::new(7, Sizes::Even, 1024);
        let inbox = Inbox::new(&node, 1, 0, payloads.clone()).unwrap();
        let taken = inbox.taken();
        let pair = Pair { origin: 0, worker: 0, node: 1, inbox: 0 };
        let intact = |number| Parcel {
            origin: 0,
            worker: 0,
            number,
            payload: Binary::from(payloads.of((pair, number))),
        };
        let last = 5;
        for number in [1, 2, 4, 3, 3] {
            node.send("inbox 0", &intact(number)).await.unwrap();
        }
        let mut flipped = payloads.of((pair, last)).to_vec();
        flipped[10] ^= 1;
        node.send("inbox 0", &Parcel { payload: Binary::from(flipped), ..intact(last) }).await.unwrap();
        node.send("inbox 0", &Parcel { number: 6, ..intact(last) }).await.unwrap();
        node.send("inbox 0", &Parcel { worker: 1, ..intact(last) }).await.unwrap();
        node.send("inbox 0", "no parcel at all").await.unwrap();
        node.send("inbox 0", &intact(last)).await.unwrap();

        let checking = tokio::spawn(inbox.run());
        // The mailbox is emptied before it ends.
        let _ = node.shutdown(Duration::ZERO).await;
        checking.await.unwrap();
        let taken = locked(&taken);
        assert_eq!(taken.tally(), Tally { messages: 5, doubled: 1, reordered: 1 });
        assert_eq!(taken.damaged(), 4);
        assert_eq!(taken.by_pair().collect::<Vec<_>>(), [Received { pair, messages: 5, last }]);
    }
}
