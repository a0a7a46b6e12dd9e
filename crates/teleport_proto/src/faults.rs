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
    /// What waits for room is passed by what goes behind all, and the other way round.
    pub pass_those_waiting: bool,
    /// The node's window goes to those who come first.
    pub unfair_budget: bool,
    /// What the peer may send is granted without asking the node.
    pub grant_unasked: bool,
    /// What the peer needs is granted once, or never.
    pub forget_needs: bool,
    /// What the host has taken out of its queue keeps its room.
    pub keep_queued: bool,
    /// What lies in a tray that is put away is accepted when something is fetched next.
    pub late_trays: bool,
    /// The room that is left in a tray is not given back.
    pub keep_room: bool,
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
    /// What a node misses while it is absent itself is held against its peer.
    pub absence_counts: bool,
    /// A control connection that is silent is kept.
    pub keep_silent_control: bool,
    /// One refused attempt to connect is enough for a peer to be taken for gone.
    pub gone_at_once: bool,
    /// A resume is taken whatever its generation.
    pub stale_resumes: bool,
    /// A session ends when somebody says without a proof that the peer does not have it.
    pub believe_unproved: bool,
    /// The id of a pool connection may be taken again.
    pub ids_twice: bool,
    /// A restarted peer does not get in while the session with its former life is up.
    pub keep_old_lives: bool,
    /// A node that answers what was sent before a session began is taken for a later life than the session's.
    pub late_lives: bool,
    /// A claim of a session's incarnation with a larger dial number is believed.
    pub trust_claims: bool,
    /// A session that is doubted has two seconds to resume, whether or not its pool lives.
    pub impatient: bool,
    /// A session that does not answer its probe ends, whatever else is heard of its peer.
    pub deaf_probe: bool,
    /// The end of a session does not end the calls over it.
    pub calls_outlive: bool,
    /// An answer that nobody waits for any more is taken for that of another call.
    pub any_call: bool,
    /// Acceptors use the same nonce again and again.
    pub same_nonce: bool,
}
