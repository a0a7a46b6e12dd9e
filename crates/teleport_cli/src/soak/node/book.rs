//! What all parts of a node need, and what they count.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use teleport::{Address, Node};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{INBOXES, SENDERS, inbox_name, node_name};
use crate::args::{Plant, SoakNodeOptions};
use crate::bench::child::NodeError;
use crate::bench::payload::{Payloads, Sizes, random};
use crate::soak::ledger::{Account, Counts, Down, Mark, Range, Seen, Sent, Taken};
use crate::soak::protocol::Missing;

/// More complaints than this say nothing new.
const MOST_COMPLAINTS: usize = 20;

/// Who sent a message or a request: a node, its life, and a process of it.
pub(super) type Author = (u16, u32, u16);

/// All that a node's parts share.
pub(super) struct Book {
    pub(super) node: Node,
    pub(super) index: u16,
    pub(super) life: u32,
    pub(super) nodes: u16,
    pub(super) plant: Option<Plant>,
    pub(super) payloads: Payloads,
    seed: u64,
    calm: watch::Sender<bool>,
    /// How often servers were told to end.
    exits: watch::Sender<u64>,
    /// Destinations of all senders.
    pub(super) places: Vec<Arc<Place>>,
    /// What has come, by who sent it and inbox.
    taken: Mutex<BTreeMap<(Author, u16), Seen>>,
    /// The last request of each caller to each server.
    executed: Mutex<HashMap<(Author, u16), u64>>,
    downs: Mutex<Vec<Down>>,
    counts: Mutex<Counts>,
    complaints: Mutex<Vec<String>>,
    /// Acknowledgements that have not come, and monitors whose end was not told.
    pub(super) open_acks: AtomicU64,
    pub(super) open_watches: AtomicU64,
}

/// A destination of a sender, and what it has accepted.
pub(super) struct Place {
    pub(super) worker: u16,
    pub(super) node: u16,
    pub(super) inbox: u16,
    pub(super) address: Address,
    accepted: AtomicU64,
    /// How many were accepted a while ago, the older count first.
    samples: Mutex<[u64; 2]>,
    marks: Mutex<Vec<Mark>>,
    confirmed: Mutex<Bits>,
}

/// A set of numbers.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Book {
    pub(super) fn new(node: Node, options: &SoakNodeOptions) -> Result<Self, NodeError> {
        let mut places = Vec::new();
        for worker in 0..SENDERS {
            for to in (0..options.nodes).filter(|to| *to != options.index) {
                for inbox in 0..INBOXES {
                    let address = (&*inbox_name(inbox), node_name(to)?).into();
                    places.push(Arc::new(Place::new(worker, to, inbox, address)));
                }
            }
        }
        Ok(Self {
            node,
            index: options.index,
            life: options.life,
            nodes: options.nodes,
            plant: options.plant,
            payloads: Payloads::new(options.seed, Sizes::HeavyTailed, options.size.bytes()),
            seed: options.seed,
            calm: watch::Sender::new(false),
            exits: watch::Sender::new(0),
            places,
            taken: Mutex::default(),
            executed: Mutex::default(),
            downs: Mutex::default(),
            counts: Mutex::default(),
            complaints: Mutex::default(),
            open_acks: AtomicU64::new(0),
            open_watches: AtomicU64::new(0),
        })
    }

    /// The name of a process of this life.
    pub(super) const fn author(&self, worker: u16) -> Author {
        (self.index, self.life, worker)
    }

    /// Random numbers of a process.
    pub(super) fn random(&self, kind: &str, worker: u16) -> SmallRng {
        random(self.seed, (kind, self.author(worker)))
    }

    /// From now on nothing is begun.
    pub(super) fn calm(&self) {
        self.calm.send_replace(true);
    }

    pub(super) fn is_calm(&self) -> bool {
        *self.calm.borrow()
    }

    /// Waits so long, or until it is calm.
    pub(super) async fn pause(&self, time: Duration) {
        let mut calm = self.calm.subscribe();
        // Neither way to end it is of interest.
        let _ = timeout(time, calm.wait_for(|calm| *calm)).await;
    }

    /// Servers end, and come back.
    pub(super) fn end_servers(&self) {
        self.exits.send_modify(|count| *count += 1);
    }

    /// Changes whenever servers have to end.
    pub(super) fn exits(&self) -> watch::Receiver<u64> {
        self.exits.subscribe()
    }

    /// A message has come.
    pub(super) fn take(&self, from: Author, inbox: u16, number: u64, bytes: u64) {
        locked(&self.taken).entry((from, inbox)).or_default().record(number);
        locked(&self.counts).bytes += bytes;
    }

    /// A request, or a cast to a server, has come. They have the numbers that their sender gave them, not all of which arrive.
    pub(super) fn execute(&self, from: Author, server: u16, number: u64) {
        let mut executed = locked(&self.executed);
        let last = executed.entry((from, server)).or_default();
        if number > *last {
            *last = number;
            return;
        }
        let (is_again, last) = (number == *last, *last);
        drop(executed);
        self.count(|counts| if is_again { counts.doubled += 1 } else { counts.reordered += 1 });
        self.complain(format!("server {server} got request {number} of {from:?} after {last}"));
    }

    /// A session has ended.
    pub(super) fn down(&self, down: Down) {
        locked(&self.downs).push(down);
        self.places_at(down.node).for_each(|place| place.mark(down.incarnation));
    }

    /// Called once a second, or more seldom.
    pub(super) fn sample(&self) {
        self.places.iter().for_each(|place| place.sample());
    }

    fn places_at(&self, node: u16) -> impl Iterator<Item = &Arc<Place>> {
        self.places.iter().filter(move |place| place.node == node)
    }

    /// How many of these were confirmed.
    pub(super) fn confirmed(&self, missing: &Missing) -> u64 {
        let name = (missing.worker, missing.node, missing.inbox);
        let place = self.places.iter().find(|place| (place.worker, place.node, place.inbox) == name);
        place.map_or(0, |place| locked(&place.confirmed).count(missing.range))
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut locked(&self.counts));
    }

    /// Something is not as it was promised.
    pub(super) fn complain(&self, what: String) {
        let mut complaints = locked(&self.complaints);
        if complaints.len() < MOST_COMPLAINTS {
            complaints.push(what);
        }
    }

    /// Something came that nobody has made like that.
    pub(super) fn damaged(&self, what: &str) {
        self.count(|counts| counts.damaged += 1);
        self.complain(format!("{what} is damaged"));
    }

    /// All that is known, and how many processes are busy.
    pub(super) fn account(&self, busy: u64) -> Account {
        let taken = |(&((origin, life, worker), inbox), seen): (&(Author, u16), &Seen)| Taken {
            origin,
            life,
            worker,
            inbox,
            seen: seen.clone(),
        };
        // What was sent is read last: nothing is taken that is not in it.
        let taken = locked(&self.taken).iter().map(taken).collect();
        Account {
            incarnation: self.node.incarnation().as_u32(),
            counts: *locked(&self.counts),
            gauges: self.gauges(busy),
            sent: self.places.iter().map(|place| place.sent()).collect(),
            taken,
            downs: locked(&self.downs).clone(),
            complaints: locked(&self.complaints).clone(),
        }
    }

    /// What is 0 when all is quiet.
    fn gauges(&self, busy: u64) -> BTreeMap<String, u64> {
        let info = self.node.info();
        let sum = |of: fn(&teleport::PeerInfo) -> u64| info.peers.iter().map(of).sum::<u64>();
        let gauges = [
            ("processes_busy", busy),
            ("acknowledgements_waiting", self.open_acks.load(Ordering::Relaxed)),
            ("monitors_waiting", self.open_watches.load(Ordering::Relaxed)),
            ("bytes_in_flight", info.bytes_in_flight),
            ("watching", info.watching as u64),
            ("watched", sum(|peer| peer.watched as u64)),
            ("unconfirmed", sum(|peer| peer.transfer.unconfirmed)),
            ("unconfirmed_bytes", sum(|peer| peer.transfer.unconfirmed_bytes)),
            ("undelivered_bytes", sum(|peer| peer.transfer.undelivered_bytes)),
            ("queued", sum(|peer| (peer.transfer.queued_express + peer.transfer.queued_bulk) as u64)),
            ("sends_waiting", sum(|peer| peer.transfer.waiting as u64)),
            ("answers_waiting", sum(|peer| peer.transfer.exempt_waiting as u64)),
            ("answer_bytes", sum(|peer| peer.transfer.answer_bytes)),
            ("entries", sum(|peer| peer.transfer.entries as u64)),
            ("connections_retiring", sum(|peer| peer.transfer.retiring_connections as u64)),
        ];
        gauges.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl Place {
    fn new(worker: u16, node: u16, inbox: u16, address: Address) -> Self {
        Self {
            worker,
            node,
            inbox,
            address,
            accepted: AtomicU64::new(0),
            samples: Mutex::default(),
            marks: Mutex::default(),
            confirmed: Mutex::default(),
        }
    }

    /// The number of the next message.
    pub(super) fn next(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed) + 1
    }

    /// The message of that number is accepted.
    pub(super) fn accept(&self, number: u64) {
        self.accepted.store(number, Ordering::Relaxed);
    }

    /// The message of that number is delivered, as its sender was told.
    pub(super) fn confirm(&self, number: u64) {
        locked(&self.confirmed).insert(number);
    }

    fn sample(&self) {
        let mut samples = locked(&self.samples);
        *samples = [samples[1], self.accepted.load(Ordering::Relaxed)];
    }

    fn mark(&self, incarnation: u32) {
        let low = locked(&self.samples)[0];
        // One may be accepted that does not count yet.
        let high = self.accepted.load(Ordering::Relaxed) + 1;
        locked(&self.marks).push(Mark { incarnation: Some(incarnation), low, high });
    }

    fn sent(&self) -> Sent {
        let Self { worker, node, inbox, .. } = *self;
        Sent {
            worker,
            node,
            inbox,
            settled: locked(&self.samples)[0],
            accepted: self.accepted.load(Ordering::Relaxed),
            marks: locked(&self.marks).clone(),
        }
    }
}

impl Bits {
    fn insert(&mut self, number: u64) {
        let place = (number / 64) as usize;
        if self.0.len() <= place {
            self.0.resize(place + 1, 0);
        }
        self.0[place] |= 1 << (number % 64);
    }

    fn count(&self, (first, last): Range) -> u64 {
        let end = self.0.len() as u64 * 64;
        let is_in = |number: &u64| self.0[(number / 64) as usize] & (1 << (number % 64)) != 0;
        (first..end.min(last.saturating_add(1))).filter(is_in).count() as u64
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirmed_numbers_are_found_again() {
        let mut bits = Bits::default();
        [1, 63, 64, 200].into_iter().for_each(|number| bits.insert(number));
        assert_eq!(bits.count((1, 200)), 4);
        assert_eq!(bits.count((2, 63)), 1);
        assert_eq!(bits.count((65, 199)), 0);
        assert_eq!(bits.count((201, u64::MAX)), 0);
    }

    #[test]
    fn a_mark_reaches_from_what_was_accepted_a_while_ago_to_the_next_one() {
        let place = Place::new(0, 1, 0, "inbox".into());
        for number in [10, 20, 30] {
            place.accept(number);
            place.sample();
        }
        place.accept(35);
        place.mark(7);
        assert_eq!(place.sent().marks, [Mark { incarnation: Some(7), low: 20, high: 36 }]);
        assert_eq!((place.sent().accepted, place.sent().settled), (35, 20));
    }
}
