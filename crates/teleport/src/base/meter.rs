//! Brings the [`metrics`](super::metrics) of a node and of its sessions up to date.

use super::allow::What;
use super::info::{Carried, NotAllowed};
use super::lock::Lock;
use super::metrics::*;
use super::recorder::{Counter, Gauge, Histogram, Label, counter, gauge, histogram};
use rustc_hash::FxHashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use teleport_proto::NodeName;
use teleport_proto::membership::EndReason;
use teleport_proto::transfer::TransferStats;

/// A counter that is published, and shown by [`Node::info`](crate::Node::info).
#[derive(Debug)]
pub(crate) struct Tally {
    count: AtomicU64,
    published: Counter,
}

impl Tally {
    fn new(name: &'static str, labels: &[Label]) -> Self {
        Self { count: AtomicU64::new(0), published: counter(name, labels) }
    }

    /// One more.
    pub(crate) fn count(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.published.increment(1);
    }

    /// How many so far.
    pub(crate) fn so_far(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// Peers whose metrics have their name. Whoever knows the cookie has as many names as it likes, and what is published is never forgotten.
const MOST_PEERS: usize = 1024;

/// The name of all others.
const OTHERS: &str = "(others)";

/// What has to do with no particular peer.
#[derive(Debug)]
pub(crate) struct NodeMeter {
    /// Those that have metrics of their own.
    peers: Lock<FxHashSet<NodeName>>,
    pub(crate) handshakes_refused: Tally,
    /// Newcomers dropped since there were too many.
    pub(crate) newcomers_full: Tally,
    /// Newcomers dropped since they took too long.
    pub(crate) newcomers_slow: Tally,
    pub(crate) sessions_refused: Tally,
    pub(crate) late_replies: Arc<Tally>,
    /// Messages that were not confirmed when their session ended; published by peer.
    unconfirmed: AtomicU64,
    /// Sessions by why they have ended; published by peer.
    ended: [AtomicU64; EndReason::ALL.len()],
}

impl NodeMeter {
    pub(crate) fn new(node: &NodeName) -> Self {
        let labels = [label("node", node)];
        let dropped = |why| {
            let labels = [label("node", node), Label::from_static_parts("reason", why)];
            Tally::new(NEWCOMERS_DROPPED, &labels)
        };
        Self {
            peers: Lock::default(),
            handshakes_refused: Tally::new(HANDSHAKES_REFUSED, &labels),
            newcomers_full: dropped("full"),
            newcomers_slow: dropped("slow"),
            sessions_refused: Tally::new(SESSIONS_REFUSED, &labels),
            late_replies: Arc::new(Tally::new(LATE_REPLIES, &labels)),
            unconfirmed: AtomicU64::new(0),
            ended: Default::default(),
        }
    }

    /// The metrics of a session with that peer.
    pub(crate) fn session(&self, node: &NodeName, peer: &NodeName) -> SessionMeter {
        SessionMeter::new(vec![label("node", node), self.label_of(peer)])
    }

    /// Messages that were not confirmed when their session ended, so far.
    pub(crate) fn unconfirmed(&self) -> u64 {
        self.unconfirmed.load(Ordering::Relaxed)
    }

    fn label_of(&self, peer: &NodeName) -> Label {
        let mut peers = self.peers.lock();
        if peers.len() >= MOST_PEERS && !peers.contains(peer) {
            return Label::from_static_parts("peer", OTHERS);
        }
        peers.insert(peer.clone());
        label("peer", peer)
    }

    /// How many sessions have ended for each reason.
    pub(crate) fn sessions_ended(&self) -> Vec<(EndReason, u64)> {
        let counts = self.ended.iter().map(|count| count.load(Ordering::Relaxed));
        EndReason::ALL.into_iter().zip(counts).collect()
    }
}

/// The metrics of one session. Those that its task publishes share a lock that the thread for ticks does not touch.
#[derive(Debug)]
pub(crate) struct SessionMeter {
    labels: Vec<Label>,
    up: Gauge,
    ticks_missed: Counter,
    tick_round_trip: Histogram,
    pub(crate) control_lost: Tally,
    pub(crate) connections_stalled: Tally,
    pub(crate) watches_refused: Tally,
    unconfirmed: Counter,
    carried_sent: Counter,
    carried_received: Counter,
    /// What was published of that last.
    carried: Lock<Carried>,
    not_allowed: Lock<NotAllowed>,
    transfer: TransferMeter,
    /// What was published last; `None` once the session has ended, so that nobody late brings its gauges back.
    published: Lock<Option<TransferStats>>,
}

#[derive(Debug)]
struct TransferMeter {
    messages_sent: Counter,
    messages_received: Counter,
    bytes_sent: Counter,
    bytes_received: Counter,
    no_process: Counter,
    frames_resent: Counter,
    connections_retired: Counter,
    answers_refused: Counter,
    express: Gauge,
    bulk: Gauge,
    retiring: Gauge,
    bytes_in_flight: Gauge,
    undelivered_bytes: Gauge,
    waiting: Gauge,
}

impl SessionMeter {
    /// The session is up.
    fn new(labels: Vec<Label>) -> Self {
        let meter = Self {
            up: gauge(SESSION_UP, &labels),
            ticks_missed: counter(TICKS_MISSED, &labels),
            tick_round_trip: histogram(TICK_ROUND_TRIP, &labels),
            control_lost: Tally::new(CONTROL_LOST, &labels),
            connections_stalled: Tally::new(CONNECTIONS_STALLED, &labels),
            watches_refused: Tally::new(WATCHES_REFUSED, &labels),
            unconfirmed: counter(UNCONFIRMED, &labels),
            carried_sent: counter(CARRIED_BYTES_SENT, &labels),
            carried_received: counter(CARRIED_BYTES_RECEIVED, &labels),
            carried: Lock::default(),
            not_allowed: Lock::default(),
            transfer: TransferMeter::new(&labels),
            published: Lock::leaf(Some(TransferStats::default())),
            labels,
        };
        meter.up.set(1.0);
        meter
    }

    pub(crate) fn ticks_missed(&self, count: u64) {
        self.ticks_missed.increment(count);
    }

    pub(crate) fn tick_answered(&self, round_trip: Duration) {
        self.tick_round_trip.record(round_trip);
    }

    /// Publishes what has changed; returns how many frames were queued again since the last time.
    pub(crate) fn publish(&self, stats: &TransferStats) -> u64 {
        let mut published = self.published.lock();
        let Some(before) = published.replace(*stats) else {
            *published = None;
            return 0;
        };
        self.transfer.publish(&before, stats);
        stats.frames_resent.saturating_sub(before.frames_resent)
    }

    /// Publishes what was carried since the last time.
    pub(crate) fn publish_carried(&self, now: &Carried) {
        let before = std::mem::replace(&mut *self.carried.lock(), *now);
        self.carried_sent.increment(now.bytes_sent.saturating_sub(before.bytes_sent));
        self.carried_received.increment(now.bytes_received.saturating_sub(before.bytes_received));
    }

    /// Publishes what was refused since the last time.
    pub(crate) fn publish_not_allowed(&self, now: &NotAllowed) {
        let before = std::mem::replace(&mut *self.not_allowed.lock(), *now);
        for what in What::ALL {
            let more = now.of(what).saturating_sub(before.of(what));
            if more > 0 {
                let labels = [&self.labels[..], &[Label::from_static_parts("what", what.as_str())]].concat();
                counter(NOT_ALLOWED, &labels).increment(more);
            }
        }
    }

    /// The session has ended, with these last figures.
    pub(crate) fn end(&self, node: &NodeMeter, last: &TransferStats, reason: EndReason, unconfirmed: u64) {
        let Some(before) = self.published.lock().take() else {
            return;
        };
        self.transfer.publish(&before, last);
        self.transfer.gauges(&TransferStats::default());
        self.up.set(0.0);
        let with_reason = |name| [&self.labels[..], &[Label::from_static_parts("reason", name)]].concat();
        counter(NODEDOWNS, &with_reason(reason.as_str())).increment(1);
        node.ended[reason as usize].fetch_add(1, Ordering::Relaxed);
        node.unconfirmed.fetch_add(unconfirmed, Ordering::Relaxed);
        self.unconfirmed.increment(unconfirmed);
    }
}

impl TransferMeter {
    fn new(labels: &[Label]) -> Self {
        let of_class = |class| [labels, &[Label::from_static_parts("class", class)]].concat();
        Self {
            messages_sent: counter(MESSAGES_SENT, labels),
            messages_received: counter(MESSAGES_RECEIVED, labels),
            bytes_sent: counter(BYTES_SENT, labels),
            bytes_received: counter(BYTES_RECEIVED, labels),
            no_process: counter(NO_PROCESS, labels),
            frames_resent: counter(FRAMES_RESENT, labels),
            connections_retired: counter(CONNECTIONS_RETIRED, labels),
            answers_refused: counter(ANSWERS_REFUSED, labels),
            express: gauge(CONNECTIONS, &of_class("express")),
            bulk: gauge(CONNECTIONS, &of_class("bulk")),
            retiring: gauge(CONNECTIONS, &of_class("retiring")),
            bytes_in_flight: gauge(BYTES_IN_FLIGHT, labels),
            undelivered_bytes: gauge(UNDELIVERED_BYTES, labels),
            waiting: gauge(WAITING_SENDS, labels),
        }
    }

    fn publish(&self, before: &TransferStats, now: &TransferStats) {
        let counters = [
            (&self.messages_sent, before.messages_sent, now.messages_sent),
            (&self.messages_received, before.messages_received, now.messages_received),
            (&self.bytes_sent, before.bytes_sent, now.bytes_sent),
            (&self.bytes_received, before.bytes_received, now.bytes_received),
            (&self.no_process, before.no_process, now.no_process),
            (&self.frames_resent, before.frames_resent, now.frames_resent),
            (&self.connections_retired, before.connections_retired, now.connections_retired),
            (&self.answers_refused, before.answers_refused, now.answers_refused),
        ];
        for (counter, before, now) in counters {
            if now > before {
                counter.increment(now - before);
            }
        }
        self.gauges(now);
    }

    fn gauges(&self, now: &TransferStats) {
        self.express.set(now.express_connections as f64);
        self.bulk.set(now.bulk_connections as f64);
        self.retiring.set(now.retiring_connections as f64);
        self.bytes_in_flight.set(now.unconfirmed_bytes as f64);
        self.undelivered_bytes.set(now.undelivered_bytes as f64);
        self.waiting.set(now.waiting as f64);
    }
}

fn label(key: &'static str, name: &NodeName) -> Label {
    Label::new(key, name.to_string())
}

#[cfg(all(test, feature = "metrics"))]
#[allow(clippy::unwrap_used, reason = "in a test it is a failure with a place")]
mod tests {
    use super::*;

    #[test]
    fn made_up_names_do_not_become_labels_without_end() {
        let meter = NodeMeter::new(&"a@b".parse().unwrap());
        let peer = |number: usize| format!("x{number}@b").parse().unwrap();
        let labels: FxHashSet<_> = (0..3 * MOST_PEERS).map(|number| meter.label_of(&peer(number))).collect();
        assert_eq!(labels.len(), MOST_PEERS + 1);
        assert_eq!(meter.label_of(&peer(0)), label("peer", &peer(0)));
        assert_eq!(meter.label_of(&peer(MOST_PEERS)), Label::from_static_parts("peer", OTHERS));
    }
}
