//! When probes are due.
//!
//! A probe's round trip counts from the time it was *due*: if the sender itself was held up, that is a delay that
//! a user would have had, too.

use std::time::Duration;

/// One probe of each kind is due at each neighbour so often.
pub(crate) const INTERVAL: Duration = Duration::from_millis(10);

/// Bytes of a tick.
pub(crate) const TICK_SIZE: usize = 16;

/// Bytes of an echo message.
pub(crate) const ECHO_SIZE: usize = 1024;

/// What a probe stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A heartbeat.
    Tick,
    /// A small message.
    Echo,
}

impl Kind {
    /// Both kinds.
    pub(crate) const BOTH: [Self; 2] = [Self::Tick, Self::Echo];

    /// Bytes of such a probe.
    pub(crate) const fn size(self) -> usize {
        match self {
            Self::Tick => TICK_SIZE,
            Self::Echo => ECHO_SIZE,
        }
    }

    /// When a node's first probe is due after the start.
    ///
    /// Nodes and kinds take turns within the interval, lest probes mostly wait for one another.
    pub(crate) fn offset(self, node: u16, nodes: u16) -> Duration {
        let turn = 2 * u32::from(node) + self as u32;
        INTERVAL * turn / (2 * u32::from(nodes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_fill_the_interval_evenly() {
        let mut offsets: Vec<Duration> =
            (0..5).flat_map(|node| Kind::BOTH.map(|kind| kind.offset(node, 5))).collect();
        offsets.sort();
        assert_eq!(offsets[0], Duration::ZERO);
        assert!(offsets.windows(2).all(|pair| pair[1] - pair[0] == Duration::from_millis(1)));
    }
}
