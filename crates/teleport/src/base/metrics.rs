//! What a node counts, for the recorder of the [`metrics`](https://docs.rs/metrics) facade that the program installs.
//!
//! Install the recorder before the first node is started. Without one all of this costs next to nothing. Figures are
//! published when a session's acknowledgements go out or come in, when it begins and when it ends, and ticks when they
//! happen: never on a message's way, and nothing is woken for it. So they may lag by
//! [`flush_delay`](crate::Config::flush_delay). A recorder is called on the thread for ticks, too: it must not block.
//!
//! `docs/operations.md` says which of them to watch.

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

/// What a metric counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// Events, messages, connections.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

impl Unit {
    /// Its name: `count`, `bytes` or `seconds`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Bytes => "bytes",
            Self::Seconds => "seconds",
        }
    }
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
    NOT_ALLOWED = "teleport_not_allowed_total", Counter, Count, &["node", "peer", "what"],
        "What the allow-list refuses of a peer, or would refuse if it did more than log.";
    WATCHES_REFUSED = "teleport_watches_refused_total", Counter, Count, PEER,
        "Calls and monitors of the peer beyond max_watches.";
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
    NEWCOMERS_DROPPED = "teleport_newcomers_dropped_total", Counter, Count, &["node", "reason"],
        "Inbound connections given up before they had proved themselves, for max_handshakes, handshake_timeout or want of descriptors.";
    SESSIONS_REFUSED = "teleport_sessions_refused_total", Counter, Count, NODE,
        "Sessions that others wanted to open beyond max_sessions.";
    LATE_REPLIES = "teleport_late_replies_total", Counter, Count, NODE,
        "Answers to calls that came after the caller had given up, or a second time.";
}
