//! What a node counts, for the recorder of the [`metrics`](https://docs.rs/metrics) facade that the program installs.
//!
//! Install the recorder before the first node is started. Without one all of this costs next to nothing. Figures are
//! published when a session's acknowledgements go out or come in, when it begins and when it ends, and ticks when they
//! happen: never on a message's way, and nothing is woken for it. So they may lag by
//! [`flush_delay`](crate::Config::flush_delay). A recorder is called on the thread for ticks, too: it must not block.
//!
//! `docs/operations.md` says which of them to watch.

use super::info::Carried;
use super::lock::Lock;
use ::metrics::{
    Counter, Gauge, Histogram, Label, counter, describe_counter, describe_gauge, describe_histogram,
};
use ::metrics::{Unit, gauge, histogram};

use std::time::Duration;
use teleport_proto::NodeName;
use teleport_proto::membership::EndReason;
use teleport_proto::transfer::TransferStats;

/// One of the metrics of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name, one of the constants of this module.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it counts in.
    pub unit: Unit,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub meaning: &'static str,
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// Declares the names, and the table of them.
macro_rules! metrics {
    ($($constant:ident = $name:literal, $kind:ident, $unit:ident, $labels:expr, $meaning:literal;)*) => {
        $(#[doc = $meaning] pub const $constant: &str = $name;)*

        /// All metrics of a node.
        pub const METRICS: &[Metric] = &[$(Metric {
            name: $constant,
            kind: Kind::$kind,
            unit: Unit::$unit,
            labels: $labels,
            meaning: $meaning,
        }),*];
    };
}

const NODE: &[&str] = &["node"];
const PEER: &[&str] = &["node", "peer"];

metrics! {
    SESSION_UP = "teleport_session_up", Gauge, Count, PEER,
        "1 while there is a session with the peer, else 0.";
    NODEDOWNS = "teleport_nodedowns_total", Counter, Count, &["node", "peer", "reason"],
        "Sessions that have ended, by reason.";
    UNCONFIRMED = "teleport_unconfirmed_total", Counter, Count, PEER,
        "Messages that were accepted and not known to be delivered when their session ended.";
    CONTROL_LOST = "teleport_control_lost_total", Counter, Count, PEER,
        "Control connections lost; the session goes on if one is back in time.";
    TICKS_MISSED = "teleport_ticks_missed_total", Counter, Count, PEER,
        "Ticks that were not answered within an interval.";
    TICK_ROUND_TRIP = "teleport_tick_round_trip_seconds", Histogram, Seconds, PEER,
        "From the moment a tick was due until its answer.";
    MESSAGES_SENT = "teleport_messages_sent_total", Counter, Count, PEER,
        "Messages accepted for sending.";
    MESSAGES_RECEIVED = "teleport_messages_received_total", Counter, Count, PEER,
        "Messages received whole.";
    BYTES_SENT = "teleport_bytes_sent_total", Counter, Bytes, PEER,
        "Encoded bytes of the messages accepted for sending.";
    BYTES_RECEIVED = "teleport_bytes_received_total", Counter, Bytes, PEER,
        "Encoded bytes of the messages received whole.";
    CARRIED_BYTES_SENT = "teleport_carried_bytes_sent_total", Counter, Bytes, PEER,
        "Of the bytes sent, those of distributed Erlang, which goes over the session.";
    CARRIED_BYTES_RECEIVED = "teleport_carried_bytes_received_total", Counter, Bytes, PEER,
        "Of the bytes received, those of distributed Erlang.";
    NO_PROCESS = "teleport_no_process_total", Counter, Count, PEER,
        "Messages received for a process that does not exist.";
    FRAMES_RESENT = "teleport_frames_resent_total", Counter, Count, PEER,
        "Frames queued again because their connection was lost.";
    CONNECTIONS_RETIRED = "teleport_connections_retired_total", Counter, Count, PEER,
        "Pool connections given up: idle, stalled or lost.";
    CONNECTIONS_STALLED = "teleport_connections_stalled_total", Counter, Count, PEER,
        "Pool connections replaced because what was written on them got nowhere.";
    CONNECTIONS = "teleport_connections", Gauge, Count, &["node", "peer", "class"],
        "Pool connections: express and bulk ones, and those being retired.";
    BYTES_IN_FLIGHT = "teleport_bytes_in_flight", Gauge, Bytes, PEER,
        "Memory of messages accepted and not known to be delivered.";
    UNDELIVERED_BYTES = "teleport_undelivered_bytes", Gauge, Bytes, PEER,
        "Memory of messages received, or being received, and not yet in a mailbox.";
    WAITING_SENDS = "teleport_waiting_sends", Gauge, Count, PEER,
        "Sends that wait for room in a window.";
    ANSWERS_REFUSED = "teleport_answers_refused_total", Counter, Count, PEER,
        "Replies that were not kept since the peer does not take its answers, and calls of the peer that were rejected for that.";
    HANDSHAKES_REFUSED = "teleport_handshakes_refused_total", Counter, Count, NODE,
        "Inbound connections that did not prove themselves, such as those with another cookie.";
    SESSIONS_REFUSED = "teleport_sessions_refused_total", Counter, Count, NODE,
        "Sessions that others wanted to open beyond max_sessions.";
    LATE_REPLIES = "teleport_late_replies_total", Counter, Count, NODE,
        "Answers to calls that came after the caller had given up, or a second time.";
}

/// Tells the recorder what there is.
pub(crate) fn describe() {
    for Metric { name, kind, unit, meaning, .. } in METRICS {
        match kind {
            Kind::Counter => describe_counter!(*name, *unit, *meaning),
            Kind::Gauge => describe_gauge!(*name, *unit, *meaning),
            Kind::Histogram => describe_histogram!(*name, *unit, *meaning),
        }
    }
}

/// What has to do with no particular peer.
#[derive(Debug)]
pub(crate) struct NodeMeter {
    pub(crate) handshakes_refused: Counter,
    pub(crate) sessions_refused: Counter,
    pub(crate) late_replies: Counter,
}

impl NodeMeter {
    pub(crate) fn new(node: &NodeName) -> Self {
        let labels = vec![label("node", node)];
        Self {
            handshakes_refused: counter!(HANDSHAKES_REFUSED, labels.clone()),
            sessions_refused: counter!(SESSIONS_REFUSED, labels.clone()),
            late_replies: counter!(LATE_REPLIES, labels),
        }
    }
}

/// The metrics of one session. Those that its task publishes share a lock that the thread for ticks does not touch.
#[derive(Debug)]
pub(crate) struct SessionMeter {
    labels: Vec<Label>,
    up: Gauge,
    ticks_missed: Counter,
    tick_round_trip: Histogram,
    pub(crate) control_lost: Counter,
    pub(crate) connections_stalled: Counter,
    unconfirmed: Counter,
    carried_sent: Counter,
    carried_received: Counter,
    /// What was published of that last.
    carried: Lock<Carried>,
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
    pub(crate) fn new(node: &NodeName, peer: &NodeName) -> Self {
        let labels = vec![label("node", node), label("peer", peer)];
        let meter = Self {
            up: gauge!(SESSION_UP, labels.iter()),
            ticks_missed: counter!(TICKS_MISSED, labels.iter()),
            tick_round_trip: histogram!(TICK_ROUND_TRIP, labels.iter()),
            control_lost: counter!(CONTROL_LOST, labels.iter()),
            connections_stalled: counter!(CONNECTIONS_STALLED, labels.iter()),
            unconfirmed: counter!(UNCONFIRMED, labels.iter()),
            carried_sent: counter!(CARRIED_BYTES_SENT, labels.iter()),
            carried_received: counter!(CARRIED_BYTES_RECEIVED, labels.iter()),
            carried: Lock::default(),
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

    /// The session has ended, with these last figures.
    pub(crate) fn end(&self, last: &TransferStats, reason: EndReason, unconfirmed: u64) {
        let Some(before) = self.published.lock().take() else {
            return;
        };
        self.transfer.publish(&before, last);
        self.transfer.gauges(&TransferStats::default());
        self.up.set(0.0);
        let with_reason = |name| [&self.labels[..], &[Label::from_static_parts("reason", name)]].concat();
        counter!(NODEDOWNS, with_reason(name_of(reason))).increment(1);
        self.unconfirmed.increment(unconfirmed);
    }
}

impl TransferMeter {
    fn new(labels: &[Label]) -> Self {
        let of_class = |class| [labels, &[Label::from_static_parts("class", class)]].concat();
        Self {
            messages_sent: counter!(MESSAGES_SENT, labels.iter()),
            messages_received: counter!(MESSAGES_RECEIVED, labels.iter()),
            bytes_sent: counter!(BYTES_SENT, labels.iter()),
            bytes_received: counter!(BYTES_RECEIVED, labels.iter()),
            no_process: counter!(NO_PROCESS, labels.iter()),
            frames_resent: counter!(FRAMES_RESENT, labels.iter()),
            connections_retired: counter!(CONNECTIONS_RETIRED, labels.iter()),
            answers_refused: counter!(ANSWERS_REFUSED, labels.iter()),
            express: gauge!(CONNECTIONS, of_class("express")),
            bulk: gauge!(CONNECTIONS, of_class("bulk")),
            retiring: gauge!(CONNECTIONS, of_class("retiring")),
            bytes_in_flight: gauge!(BYTES_IN_FLIGHT, labels.iter()),
            undelivered_bytes: gauge!(UNDELIVERED_BYTES, labels.iter()),
            waiting: gauge!(WAITING_SENDS, labels.iter()),
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

/// A reason as the value of a label.
fn name_of(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Silent => "silent",
        EndReason::Gone => "gone",
        EndReason::Restarted => "restarted",
        EndReason::PeerGaveUp => "peer_gave_up",
        EndReason::ProbeUnanswered => "probe_unanswered",
        EndReason::ProtocolError => "protocol_error",
        EndReason::Disconnected => "disconnected",
        EndReason::PeerShutDown => "peer_shut_down",
        _ => "other",
    }
}
