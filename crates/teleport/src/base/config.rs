//! Every knob in one place, each with its unit, default and reason.

use std::num::NonZeroU64;
use std::time::Duration;
use teleport_proto::liveness;
use teleport_proto::membership::Backoff;

/// A month without a sign of life is as good as no limit, and still a time that clocks can add.
pub(crate) const LONGEST_TICKTIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// How a node is set up. The defaults are meant for production; each field says why it is what it is.
///
/// ```
/// let mut config = teleport::Config::default();
/// config.net_ticktime = std::time::Duration::from_secs(20); // notice dead peers sooner
/// config.most_bulk_connections = 16; // a network that limits single flows to little
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The largest message, in encoded bytes. Both nodes of a session keep to the smaller of their two.
    ///
    /// Default 1 GiB: far above what is sensible, so that nobody runs into it by surprise, and low enough that a
    /// mistake does not take all memory. Binaries in the external term format end at 4 GiB.
    pub max_message: NonZeroU64,
    /// What one peer may have under way to this node, and this node to one peer, in bytes: sent and not yet in a mailbox. Each
    /// direction has the smaller of both nodes' windows.
    ///
    /// Default 32 MiB, a quarter of it for messages up to 64 KiB: two messages of 10 MiB at a time, or a quarter of a
    /// second of a 1 Gbit/s link. A larger message is let in alone.
    pub peer_window: NonZeroU64,
    /// What all peers together may have under way to this node, in bytes, within [`peer_window`](Self::peer_window) each. A peer
    /// has little at first, and more as it makes use of it, as much as it leaves free. Whatever the others have, each may have one
    /// small message under way, of those that take credit and of those that do not; and of the peers at one address, one at a
    /// time a message of any size.
    ///
    /// Default 96 MiB: two peers with full windows, or ten with a quarter of one. However many sessions somebody opens under
    /// made-up names, they get no more than three quarters of this, if they come from one address, and 128 KiB each.
    pub receive_window: NonZeroU64,
    /// What one peer may have waiting in one bounded mailbox of this node, in bytes; all its sessions together.
    ///
    /// Default 32 MiB, as much as the peer's window: a slow mailbox then holds what one peer can have under way.
    /// A larger message is let in alone; the next send then waits, for as long as it takes, until that one is read.
    pub mailbox_window: NonZeroU64,
    /// What all peers together may have waiting in one bounded mailbox of this node, in bytes.
    ///
    /// Default `None`: twice [`mailbox_window`](Self::mailbox_window), since few peers fill the same mailbox at a time. A
    /// peer may have as much of it as it leaves free: one that is alone has its whole window.
    pub mailbox_total: Option<NonZeroU64>,
    /// What all sends of this node together may have under way, in bytes. A peer may have as much of it as it leaves free.
    /// Whatever the others hold, each may have an eighth of [`peer_window`](Self::peer_window), or one message.
    ///
    /// Default 1 GiB: 32 peers with full windows. More than that only hold what is on its way to peers that stand still.
    pub node_window: NonZeroU64,
    /// How many calls and monitors peers may have open at processes of this node, all together. A peer may have as many as
    /// are then left for others, so one that is alone half of them; all peers at one address leave a quarter to others; and
    /// whatever the others hold, each session may have a 1,024th of them, beyond the total if need be. What is more ends at
    /// once with the reason `system_limit`.
    ///
    /// Default 262,144, a session's share 256: some 250 bytes each, so 64 MiB and 64 KiB for each session; and far more than
    /// a cluster has calls under way.
    pub max_watches: usize,
    /// What this node keeps of answers that its peers have not taken, in bytes: replies, and what else goes without credit. A
    /// peer may have as much of it as it leaves free, and all peers at one address leave a quarter to others. Whatever the others
    /// hold, each may have one small answer, and of the peers at one address, one at a time a large one. A reply that does not
    /// fit is not kept: its call is rejected; and so are further calls of that peer, until it takes something.
    ///
    /// Default 128 MiB: one peer alone may have 16 MiB of small replies and 48 MiB of large ones on their way, or one larger than
    /// that. Servers that answer many calls at once with large replies want more.
    pub answers_window: NonZeroU64,
    /// Bytes of a bulk fragment, 16 KiB to 16 MiB.
    ///
    /// Default 1 MiB: half of that costs 5 % more CPU time per byte, and what is queued behind a fragment waits for all
    /// of it (8 ms on 1 Gbit/s).
    pub fragment_size: u32,
    /// Express connections per peer, 1 to 100.
    ///
    /// Default 1: messages of one pair then need no waiting for each other. One connection moves millions of small
    /// messages per second.
    pub express_connections: u32,
    /// Bulk connections per peer that are opened as soon as large messages queue up, 1 to 100.
    ///
    /// Default: half the cores, 1 to 4. A busy connection keeps a core busy at either end; more of them than cores cost
    /// 5 to 10 % of throughput in switching between them.
    pub bulk_connections: u32,
    /// The most bulk connections per peer, 1 to 100. More than [`bulk_connections`](Self::bulk_connections) are opened while messages
    /// wait for them, twice as many each time, and used as long as that brings at least 1.6 times as much: networks limit single
    /// flows. At most as many as there are without this if that is more.
    ///
    /// Default 8: where a flow gets a fifth of the link, five fill it.
    pub most_bulk_connections: u32,
    /// The most bytes per second that each express or bulk connection sends (`SO_MAX_PACING_RATE`, on Linux). Ticks go over another.
    ///
    /// Default `None`: what TCP finds out. A limit leaves others of the same link their share.
    pub max_pacing_rate: Option<NonZeroU64>,
    /// Erlang's `net_ticktime`: a peer that has been silent for this long is down.
    ///
    /// Default 60 s, as in Erlang.
    pub net_ticktime: Duration,
    /// From one tick to the next. A peer of which nothing is seen for this long, while its addresses refuse connections,
    /// is gone.
    ///
    /// Default `None`: a quarter of [`net_ticktime`](Self::net_ticktime), as in Erlang. So it is, too, while a ticktime holds that is
    /// shorter than this; see [`Node::set_net_ticktime`](crate::Node::set_net_ticktime).
    pub tick_interval: Option<Duration>,
    /// How long setting up one connection may take: resolving, connecting and the whole handshake.
    ///
    /// Default 7 s, Erlang's `net_setuptime`.
    pub setup_timeout: Duration,
    /// How long an inbound connection may take to prove itself.
    ///
    /// Default 5 s: many round trips on any network, and short for somebody who only holds connections open.
    pub handshake_timeout: Duration,
    /// Inbound connections that have not proved themselves yet; never more than a quarter of the descriptors that the
    /// process may have (`ulimit -n`). Beyond that one goes of the source that has the most.
    ///
    /// Default 1024: about 7 KiB of memory, the kernel's buffers and one descriptor each. Newcomers at a round trip of 20 ms
    /// get through 20,000 strangers a second, be it that these come from everywhere: 800 in two round trips.
    pub max_handshakes: usize,
    /// Sessions that other nodes have opened; a sixteenth of that from one address. What this node opens itself does not count.
    /// Beyond that others are refused, and the sessions that stand are not touched.
    ///
    /// Default 2048: about 13 KiB and one descriptor each as long as they are idle. A holder of the cookie can open
    /// thousands a second under made-up names.
    pub max_sessions: usize,
    /// From one attempt at a peer to the next.
    ///
    /// Default 50 ms, doubling up to 5 s, half of it left to chance.
    pub backoff: Backoff,
    /// A bulk connection over which nothing has gone for this long is closed; it comes back on use.
    ///
    /// Default 60 s: longer than the pauses of periodic jobs, short enough to free descriptors and kernel buffers.
    pub bulk_idle: Duration,
    /// An express connection is replaced when what was written on it has got nowhere for this long while the control
    /// connection is heard: the peer's TCP acknowledges nothing more, or has acknowledged all and the peer counts nothing.
    /// A bulk connection has four times as long, since a fragment counts only when all of it has been read. Noticed
    /// within 1.25 times that. Has to be far longer than a round trip and the peer's [`flush_delay`](Self::flush_delay);
    /// and something in between that acknowledges on its own has to pass a fragment on in that time.
    ///
    /// Default 5 s: TCP gets over four losses of a packet in a row, and a call with the usual timeout of 5 s fails once,
    /// not again and again.
    pub stall_timeout: Duration,
    /// How long acknowledgements may wait for more to go with them, at most a second.
    ///
    /// Default 20 ms: one control frame then speaks for thousands of messages, and a sender's copy is kept 20 ms longer.
    /// When an eighth of a window has been delivered, it does not wait.
    pub flush_delay: Duration,
    /// Received buffers of 64 KiB and more that are kept for reuse, in bytes.
    ///
    /// Default 128 MiB: a fresh buffer of 10 MiB costs 2,560 page faults, a used one none. What lies idle for long is
    /// freed.
    pub buffer_pool: usize,
    /// Threads for pools, accepts and handshakes.
    ///
    /// Default: the number of cores, at most 4. As many again move large messages, and ticks have one of their own.
    pub worker_threads: usize,
    /// Unsent bytes that a bulk connection leaves to the kernel (`TCP_NOTSENT_LOWAT`).
    ///
    /// Default 128 KiB: what is in the kernel's queue can no longer be overtaken, and what is written just before it is
    /// sent is still in the processor's cache (512 KiB cost 10 to 20 % more CPU time per byte).
    pub notsent_lowat: u32,
    /// The congestion control of all connections (`TCP_CONGESTION`), such as `cubic`.
    ///
    /// Default `None`: the system's.
    pub congestion: Option<String>,
}

/// The most that a field of bytes takes: sums of some of them have to be numbers, too.
const MOST_BYTES: u64 = 1 << 62;

/// The least `net_ticktime`: ticks are at least a millisecond apart.
pub(crate) const LEAST_TICKTIME: Duration = Duration::from_millis(4);

impl Default for Config {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let bytes = |n| NonZeroU64::new(n).unwrap_or(NonZeroU64::MIN);
        Self {
            max_message: bytes(1024 * MIB),
            peer_window: bytes(32 * MIB),
            mailbox_window: bytes(32 * MIB),
            mailbox_total: None,
            node_window: bytes(1024 * MIB),
            max_watches: 1 << 18,
            receive_window: bytes(96 * MIB),
            answers_window: bytes(128 * MIB),
            fragment_size: 1024 * 1024,
            express_connections: 1,
            bulk_connections: (cores as u32 / 2).clamp(1, 4),
            most_bulk_connections: 8,
            max_pacing_rate: None,
            net_ticktime: Duration::from_secs(60),
            tick_interval: None,
            setup_timeout: Duration::from_secs(7),
            handshake_timeout: Duration::from_secs(5),
            max_handshakes: 1024,
            max_sessions: 2048,
            backoff: Backoff::default(),
            bulk_idle: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(5),
            flush_delay: Duration::from_millis(20),
            buffer_pool: 128 * MIB as usize,
            worker_threads: cores.min(4),
            notsent_lowat: 128 * 1024,
            congestion: None,
        }
    }
}

impl Config {
    /// The intervals of a session, for the `net_ticktime` that holds now.
    pub(crate) fn liveness(&self, net_ticktime: Duration) -> liveness::Config {
        let config = liveness::Config::with_ticktime(net_ticktime);
        let within = self.tick_interval.filter(|interval| *interval <= net_ticktime);
        liveness::Config { tick_interval: within.unwrap_or(config.tick_interval), ..config }
    }

    /// What all peers may have waiting in one mailbox.
    pub(crate) fn mailbox_total(&self) -> u64 {
        self.mailbox_total.map_or(self.mailbox_window.get().saturating_mul(2), NonZeroU64::get)
    }

    /// What is wrong with the configuration, if anything: the field and what it takes.
    pub(crate) fn flaw(&self) -> Option<(&'static str, &'static str)> {
        let fragment = 16 * 1024..=16 * 1024 * 1024;
        if !fragment.contains(&self.fragment_size) {
            return Some(("fragment_size", "16 KiB to 16 MiB"));
        }
        let connections = [
            ("express_connections", self.express_connections),
            ("bulk_connections", self.bulk_connections),
            ("most_bulk_connections", self.most_bulk_connections),
        ];
        // Of 256 in all, with room for those that are about to be replaced.
        if let Some((field, _)) = connections.into_iter().find(|(_, count)| !(1..=100).contains(count)) {
            return Some((field, "1 to 100"));
        }
        let sizes = [
            ("max_message", Some(self.max_message)),
            ("peer_window", Some(self.peer_window)),
            ("receive_window", Some(self.receive_window)),
            ("mailbox_window", Some(self.mailbox_window)),
            ("mailbox_total", self.mailbox_total),
            ("node_window", Some(self.node_window)),
            ("answers_window", Some(self.answers_window)),
            ("max_pacing_rate", self.max_pacing_rate),
        ];
        if let Some((field, _)) =
            sizes.into_iter().find(|(_, size)| size.is_some_and(|size| size.get() > MOST_BYTES))
        {
            return Some((field, "1 byte to 4 EiB"));
        }
        if self.max_watches < 2 {
            return Some(("max_watches", "at least 2"));
        }
        if !(1..=1024).contains(&self.worker_threads) {
            return Some(("worker_threads", "1 to 1024"));
        }
        if self.net_ticktime < LEAST_TICKTIME || self.net_ticktime > LONGEST_TICKTIME {
            return Some(("net_ticktime", "4 ms to 30 days"));
        }
        if self.tick_interval.is_some_and(|interval| interval > self.net_ticktime) {
            return Some(("tick_interval", "at most net_ticktime"));
        }
        let longest = Duration::from_secs(24 * 3600);
        let times = [
            ("setup_timeout", self.setup_timeout),
            ("handshake_timeout", self.handshake_timeout),
            ("backoff.first", self.backoff.first),
            ("backoff.most", self.backoff.most),
            ("bulk_idle", self.bulk_idle),
            ("stall_timeout", self.stall_timeout),
        ];
        if let Some((field, _)) = times.into_iter().find(|(_, time)| time.is_zero() || *time > longest) {
            return Some((field, "more than nothing and at most a day"));
        }
        if self.flush_delay.is_zero() || self.flush_delay > Duration::from_secs(1) {
            return Some(("flush_delay", "more than nothing and at most a second"));
        }
        if self.max_handshakes == 0 {
            return Some(("max_handshakes", "at least 1"));
        }
        if self.max_sessions == 0 {
            return Some(("max_sessions", "at least 1"));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_comes_within_every_ticktime() {
        let second = Duration::from_secs(1);
        let config = Config { tick_interval: Some(15 * second), ..Config::default() };
        for (ticktime, interval) in [(60, 15), (15, 15), (4, 1)] {
            assert_eq!(config.liveness(ticktime * second).tick_interval, interval * second);
        }
    }
}
