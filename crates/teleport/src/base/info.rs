//! What a node can say about itself, its peers and their ticks.

use super::allow::What;
use std::net::SocketAddr;
use std::time::Duration;
use teleport_proto::membership::EndReason;
use teleport_proto::transfer::TransferStats;
use teleport_proto::{Incarnation, NodeName};

/// A node, as [`Node::info`](crate::Node::info) shows it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NodeInfo {
    /// Its name.
    pub name: NodeName,
    /// Its present life: a random number that Erlang calls creation.
    pub incarnation: Incarnation,
    /// The address that it listens on.
    pub address: SocketAddr,
    /// How long a peer may be silent: as configured, or set since.
    pub net_ticktime: Duration,
    /// Bytes that all sends together have under way, and answers that peers have not taken yet.
    pub bytes_in_flight: u64,
    /// Calls and monitors that this node's processes wait for.
    pub watching: usize,
    /// Answers to calls that came after the caller had given up, or a second time; they were dropped.
    pub late_replies: u64,
    /// Messages that were accepted and not known to be delivered when their session ended, in all sessions so far.
    pub unconfirmed: u64,
    /// Sessions that have ended, by reason: all reasons.
    pub sessions_ended: Vec<(EndReason, u64)>,
    /// Sessions that others wanted to open beyond [`max_sessions`](crate::Config::max_sessions).
    pub sessions_refused: u64,
    /// Inbound connections that did not prove themselves, such as those with another cookie.
    pub handshakes_refused: u64,
    /// Inbound connections given up before they had proved themselves: since there were too many, and since they took too long.
    pub newcomers_dropped: (u64, u64),
    /// TLS handshakes with a certificate, of connections in both directions, and resumed ones, which need none.
    pub tls_handshakes: (u64, u64),
    /// Its peers, by name.
    pub peers: Vec<PeerInfo>,
}

/// A peer with a session. What is under way is known from acknowledgements, which lag by
/// [`flush_delay`](crate::Config::flush_delay).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PeerInfo {
    /// Its name.
    pub name: NodeName,
    /// Its present life.
    pub incarnation: Incarnation,
    /// Whether this node opened the session (and opens its connections).
    pub dialled: bool,
    /// Whether there is a control connection at the moment.
    pub control_connected: bool,
    /// Whether its connections are encrypted. All are, or none.
    pub encrypted: bool,
    /// How long ago anything was heard from the peer.
    pub last_heard: Duration,
    /// The round trip of the last tick that was answered; `None` before the first.
    pub tick_round_trip: Option<Duration>,
    /// Ticks not answered within an interval.
    pub ticks_missed: u64,
    /// Control connections lost; the session goes on if one is back in time.
    pub control_lost: u64,
    /// Pool connections replaced because what was written on them got nowhere. Those retired are counted in `transfer`.
    pub connections_stalled: u64,
    /// Calls and monitors that the peer's processes have on processes of this node.
    pub watched: usize,
    /// Calls and monitors of the peer's that ended at once, since there were too many: see [`max_watches`](crate::Config::max_watches).
    pub watches_refused: u64,
    /// What of the peer's the allow-list refuses, or would refuse if it did more than log.
    pub not_allowed: NotAllowed,
    /// What was carried for the host, as connections of distributed Erlang. It is among the messages of `transfer` too.
    pub carried: Carried,
    /// Messages, queues, connections: counters and gauges.
    pub transfer: TransferStats,
}

/// What an [`AllowList`](crate::AllowList) refuses, or would refuse if it did more than log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotAllowed {
    /// Messages; they vanish like those for nobody.
    pub messages: u64,
    /// Calls, which are rejected.
    pub calls: u64,
    /// Monitors, which end at once.
    pub monitors: u64,
    /// Calls and casts of functions.
    pub functions: u64,
}

impl NotAllowed {
    /// How many there were of these.
    pub(crate) fn of(&self, what: What) -> u64 {
        match what {
            What::Message => self.messages,
            What::Call => self.calls,
            What::Monitor => self.monitors,
            What::Function => self.functions,
        }
    }
}

/// What was carried for a host over a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Carried {
    /// Messages to the peer.
    pub messages_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Messages from the peer.
    pub messages_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
}

/// A tick that came back; see [`NodeBuilder::on_tick`](crate::NodeBuilder::on_tick).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Tick {
    /// From whom.
    pub peer: NodeName,
    /// From the moment it was due until its answer.
    pub round_trip: Duration,
}

/// One of a session's connections.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ConnectionCheck {
    /// What it is for.
    pub kind: ConnectionKind,
    /// How long the answer took; `None` if none came within [`setup_timeout`](crate::Config::setup_timeout), or the connection was
    /// lost meanwhile.
    pub answered: Option<Duration>,
}

/// What a connection of a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionKind {
    /// Ticks, acknowledgements and credit. There is one at a time.
    Control,
    /// Messages up to 64 KiB.
    Express,
    /// Larger messages.
    Bulk,
}
