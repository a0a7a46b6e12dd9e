//! What a run is like: drawn from the seed once, so that runs differ as much as their steps do.

use super::{Micros, Rng};
use std::time::Duration;
use teleport_proto::transfer::Sharing;

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A pool connection is cut.
    Cut,
    /// A pool connection stands still.
    Stall,
    /// The control connection is cut.
    Control,
    /// The control connection dies, and neither side is told.
    Silent,
    /// A mailbox's reader pauses.
    Slow,
    /// A side closes what is idle.
    Sweep,
    /// A side ends the session.
    HangUp,
    /// Nothing gets from one node to another.
    Dark,
    /// Nothing listens at a node's address.
    Deaf,
    /// A node is stopped, and goes on.
    Stop,
    /// A node's clock jumps.
    Jump,
    /// A recorded handshake is played.
    Replay,
    /// A node ends, and is started again.
    Restart,
}

/// The sizes, speeds and troubles of one run.
#[derive(Debug, Clone)]
pub(super) struct Climate {
    pub(super) fragment_size: u32,
    pub(super) max_message: u64,
    pub(super) express_connections: u32,
    pub(super) bulk_connections: u32,
    pub(super) most_bulk_connections: u32,
    /// How many times faster than other things it is found out how many bulk connections are worth having.
    pub(super) haste: u32,
    /// The size of every node's mailboxes, `None` if unbounded.
    pub(super) mailbox_windows: Vec<Option<u64>>,
    /// How much of each node's memory one peer may fill.
    pub(super) receive_windows: Vec<u64>,
    /// What each node may grant to all its peers beyond what is guaranteed.
    pub(super) grants: Vec<u64>,
    /// All peers of a node are in one place.
    pub(super) one_source: bool,
    /// What all sends of each node may have under way.
    pub(super) budgets: Vec<Sharing>,
    /// What each node may keep of what goes without credit.
    pub(super) answers: Vec<Sharing>,
    pub(super) latency: Micros,
    pub(super) pipe_capacity: u64,
    /// The most bytes that one read yields.
    pub(super) read_size: u64,
    /// Largest sizes of small, middling and bulk messages, and how many of a thousand are of the latter two.
    pub(super) small: u64,
    pub(super) middling_permille: u64,
    pub(super) bulk_permille: u64,
    pub(super) largest: u64,
    /// Between two messages of one process.
    pub(super) pause: Micros,
    /// Between two messages taken out of one mailbox.
    pub(super) consume: Micros,
    /// Between two faults, and when they stop.
    pub(super) fault_gap: Micros,
    pub(super) faults_until: Micros,
    /// Nodes are started anew, also in the middle of a handshake.
    pub(super) restarts: bool,
    /// How often each fault happens, beside the others.
    pub(super) weights: Vec<(Trouble, u64)>,
    /// What is out of order stays so for this long at most.
    longest_outage: Micros,
    /// A frame of a handshake is this late at most.
    pub(super) longest_delay: Micros,
    /// How fast the nodes' clocks run, in thousandths.
    pub(super) clock_rates: Vec<u64>,
    /// How long a peer may be silent.
    pub(super) ticktime: Duration,
    pub(super) join_trouble_permille: u64,
    pub(super) defer_permille: u64,
    pub(super) cancel_permille: u64,
    /// Processes send many small messages of one pair in a row, now and then.
    pub(super) floods: bool,
    /// Somebody claims to be nodes that others have sessions with.
    pub(super) claims: bool,
}

impl Climate {
    pub(super) fn draw(rng: &mut Rng, nodes: usize) -> Self {
        let kib = 1024;
        let mailboxes = [None, Some(16 * kib), Some(64 * kib), Some(128 * kib), Some(300 * kib)];
        let windows = [64 * kib, 128 * kib, 256 * kib, 1024 * kib];
        let budgets = [96 * kib, 256 * kib, 1024 * kib, u64::MAX / 4, u64::MAX / 4];
        let restarts = rng.chance(200);
        // Trouble within the times of messages, or within those of deadlines.
        let slow = rng.chance(400);
        let second = 1_000_000;
        let ticktime = match slow {
            true => rng.pick(&[4_000, 8_000, 60_000]),
            false => rng.pick(&[400, 4_000, 60_000]),
        };
        let ticktime = Duration::from_millis(ticktime);
        let outages = [second, 5 * second, 2 * ticktime.as_micros() as Micros];
        Self {
            fragment_size: rng.pick(&[16 * 1024, 16 * 1024, 24 * 1024, 64 * 1024]),
            max_message: 500 * kib,
            express_connections: rng.between(1, 2) as u32,
            bulk_connections: rng.between(1, 3) as u32,
            most_bulk_connections: rng.between(1, 5) as u32,
            haste: rng.pick(&[1, 1_000, 10_000]),
            mailbox_windows: (0..nodes).map(|_| rng.pick(&mailboxes)).collect(),
            receive_windows: (0..nodes).map(|_| rng.pick(&windows)).collect(),
            budgets: (0..nodes)
                .map(|_| {
                    let (size, share) = (rng.pick(&budgets), rng.pick(&[1, 16 * kib, 64 * kib]));
                    Sharing { size, share, alone: true, most: u64::MAX }
                })
                .collect(),
            answers: (0..nodes)
                .map(|_| {
                    let (size, share) = (rng.pick(&budgets), rng.pick(&[1, 16 * kib]));
                    Sharing { size, share, alone: true, most: u64::MAX }
                })
                .collect(),
            grants: (0..nodes).map(|_| rng.pick(&[1, 96 * kib, 300 * kib, 2048 * kib, 2048 * kib])).collect(),
            one_source: rng.chance(300),
            latency: rng.pick(&[20, 200, 1_000, 5_000]),
            pipe_capacity: rng.pick(&[4 * kib, 32 * kib, 128 * kib]),
            read_size: rng.pick(&[3_000, 16 * kib, 64 * kib]),
            small: rng.pick(&[40, 400, 3_000]),
            middling_permille: rng.pick(&[0, 60, 250]),
            bulk_permille: rng.pick(&[0, 80, 200, 350]),
            largest: rng.pick(&[80 * kib, 130 * kib, 200 * kib, 499 * kib]),
            pause: if slow { rng.pick(&[1_000, second / 2, 3 * second]) } else { rng.pick(&[5, 100, 1_000]) },
            consume: rng.pick(&[1, 50, 2_000]),
            fault_gap: match slow {
                true => rng.pick(&[second / 2, 2 * second, 8 * second]),
                false => rng.pick(&[300, 1_000, 4_000, 20_000]),
            },
            faults_until: match slow {
                true => rng.pick(&[20 * second, 60 * second, 200 * second]),
                false => rng.pick(&[10_000, 60_000, 200_000]),
            },
            longest_outage: if slow { rng.pick(&outages) } else { rng.pick(&[5_000, 30_000, 100_000]) },
            longest_delay: if slow { rng.pick(&[second, 20 * second]) } else { 5_000 },
            restarts,
            weights: vec![
                (Trouble::Cut, rng.pick(&[2, 6, 10])),
                (Trouble::Stall, rng.pick(&[0, 2, 5])),
                (Trouble::Control, rng.pick(&[0, 2, 5])),
                (Trouble::Silent, rng.pick(&[0, 0, 1])),
                (Trouble::Slow, rng.pick(&[0, 2, 4])),
                (Trouble::Sweep, rng.pick(&[0, 1, 3])),
                (Trouble::HangUp, u64::from(restarts && rng.chance(500))),
                (Trouble::Dark, rng.pick(&[0, 0, 2])),
                (Trouble::Deaf, rng.pick(&[0, 0, 2])),
                (Trouble::Stop, rng.pick(&[0, 0, 2])),
                (Trouble::Jump, rng.pick(&[0, 0, 2])),
                (Trouble::Replay, 1),
                (Trouble::Restart, u64::from(restarts)),
            ],
            clock_rates: (0..nodes).map(|_| rng.pick(&[1000, 1000, 1000, 900, 1100, 500, 2000])).collect(),
            ticktime,
            join_trouble_permille: rng.pick(&[0, 100, 400]),
            defer_permille: rng.pick(&[0, 200, 600]),
            cancel_permille: rng.pick(&[0, 100, 300]),
            floods: false,
            claims: false,
        }
    }

    /// For nodes that stand still, and have their sessions all the while.
    pub(super) fn stand_still(&mut self) {
        let kept = [Trouble::Cut, Trouble::Stall, Trouble::Slow, Trouble::Sweep];
        self.restarts = false;
        self.weights.retain(|(trouble, _)| kept.contains(trouble));
        self.ticktime = Duration::from_secs(1 << 20);
        self.one_source = false; // what it shares can be held by those who stand still
    }

    /// How long something is out of order.
    pub(super) fn outage(&self, rng: &mut Rng) -> Micros {
        let most = rng.pick(&[self.longest_outage / 20, self.longest_outage]);
        1 + rng.below(most)
    }

    /// The size of the next message's body, in bytes.
    pub(super) fn size(&self, rng: &mut Rng) -> u64 {
        let express = teleport_proto::wire::pool::EXPRESS_LIMIT as u64;
        let kind = rng.below(1000);
        if kind < self.bulk_permille {
            return rng.between(express + 1, self.largest);
        }
        if kind < self.bulk_permille + self.middling_permille {
            return rng.between(self.small, express);
        }
        match rng.below(20) {
            0 => 0,
            1 => express,
            2 => express + 1,
            3 => self.max_message + rng.below(2),
            _ => rng.between(1, self.small),
        }
    }
}
