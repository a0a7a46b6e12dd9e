//! Faults planted on purpose, to show that the tests would find them.

/// Faults planted on purpose, to show that the tests would find them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// A lost connection's frames are queued again at once, not when the peer has answered.
    pub requeue_early: bool,
    /// Received counts are said one too high.
    pub acknowledge_one_more: bool,
    /// Messages do not wait for their predecessor.
    pub ignore_predecessor: bool,
    /// Batches are taken as they come.
    pub ignore_position: bool,
    /// Messages do not wait for everything before them.
    pub ignore_barrier: bool,
    /// The node's window goes to those who come first.
    pub unfair_budget: bool,
    /// What the peer may send is granted without asking the node.
    pub grant_unasked: bool,
    /// What the peer needs is granted once, or never.
    pub forget_needs: bool,
    /// What a retirement requeues never gives its credit back.
    pub lose_credit: bool,
    /// A resumed control connection repeats nothing.
    pub resume_silently: bool,
    /// The acceptor takes a connection that it has given up already.
    pub readmit_connections: bool,
    /// A pool keeps the size that it once had.
    pub reopen_idle: bool,
    /// The final count is said while the reader is still running.
    pub count_before_stopped: bool,
}
