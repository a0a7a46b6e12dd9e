//! Which node sends to which in the ring.

/// The way round the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    /// To the next higher index.
    Forwards,
    /// To the next lower index.
    Backwards,
}

impl Direction {
    /// Both ways.
    pub(crate) const BOTH: [Self; 2] = [Self::Forwards, Self::Backwards];

    /// The other way.
    pub(crate) const fn reverse(self) -> Self {
        match self {
            Self::Forwards => Self::Backwards,
            Self::Backwards => Self::Forwards,
        }
    }
}

/// A ring of at least two nodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Topology {
    nodes: u16,
}

impl Topology {
    /// A ring of this many nodes.
    pub(crate) const fn new(nodes: u16) -> Self {
        Self { nodes }
    }

    /// How often a message is sent before it is acknowledged.
    pub(crate) const fn hops(self) -> u16 {
        self.nodes - 1
    }

    /// The way that a node's own messages take: even nodes send forwards, odd ones backwards.
    pub(crate) const fn direction(self, origin: u16) -> Direction {
        if origin.is_multiple_of(2) { Direction::Forwards } else { Direction::Backwards }
    }

    /// The node after `node` on the way.
    pub(crate) const fn neighbour(self, node: u16, direction: Direction) -> u16 {
        match direction {
            Direction::Forwards => (node + 1) % self.nodes,
            Direction::Backwards => (node + self.nodes - 1) % self.nodes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_where_the_topology_says() {
        for nodes in 2..9 {
            let ring = Topology::new(nodes);
            for origin in 0..nodes {
                let way = ring.direction(origin);
                let last = (0..ring.hops()).fold(origin, |node, _| ring.neighbour(node, way));
                assert_eq!(ring.neighbour(last, way), origin, "one hop more would be home");
            }
        }
    }

    #[test]
    fn even_nodes_send_forwards() {
        let ring = Topology::new(6);
        assert_eq!(ring.neighbour(4, ring.direction(4)), 5);
        assert_eq!(ring.neighbour(5, ring.direction(5)), 4);
        assert_eq!(ring.neighbour(0, Direction::Backwards), 5);
    }
}
