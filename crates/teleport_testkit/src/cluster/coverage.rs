//! Counts of the states that runs have reached: a property that was never put to the test has not been shown.

use std::fmt;

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// How often the interesting things happened.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Coverage {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl Coverage {
            /// Every counter with its name.
            pub fn rows(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }

            /// Adds another run's counts.
            pub fn add(&mut self, other: &Coverage) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    /// Messages accepted.
    accepted,
    /// Those of them that were posted: nothing was in their way.
    posted,
    /// Messages of one pair that were handed over together.
    together,
    /// Messages delivered into a mailbox, or found to have no taker.
    delivered,
    /// Events handled.
    events,
    /// Connections that came up on both sides.
    connections,
    /// Connections cut.
    cuts,
    /// Connections stalled.
    stalls,
    /// Frames queued again after a retirement.
    frames_resent,
    /// Retirements that the session's dialler began.
    retired_by_dialler,
    /// Retirements that the session's acceptor began.
    retired_by_acceptor,
    /// Control connections cut.
    control_cuts,
    /// Control connections resumed while there was something to say, or something said had been lost.
    resumed_with_unsaid,
    /// Messages that were held until their predecessor was delivered.
    held,
    /// Fragments of which a part had been read when their connection ended.
    partial_fragments_dropped,
    /// Frames read from connections that had been retired meanwhile.
    read_after_retirement,
    /// `RetireUnknown` frames received.
    retire_unknown,
    /// Connections that could not be opened.
    joins_failed,
    /// Connections that came up on the acceptor's side only.
    joins_half,
    /// Connections that were up on the dialler's side first.
    joins_acceptor_late,
    /// Connections that the peer had given up before they were up here.
    joins_unwelcome,
    /// Sends that had to wait for their destination's window, or for a grant.
    waited_for_mailbox,
    /// Sends that had to wait for the peer's window.
    waited_for_window,
    /// Sends that had to wait for the node's budget.
    waited_for_budget,
    /// Frames that said that a grant was needed.
    grants_needed,
    /// Frames that said that credit was given up.
    waived,
    /// Sessions that were told that there was more to grant.
    grants_freed,
    /// Sends refused since they were not allowed to wait.
    busy,
    /// Sends refused since they were too large.
    too_large,
    /// Waiting sends taken back.
    cancelled,
    /// Messages larger than their part of the peer's window.
    oversize,
    /// Messages without credit that had to wait for their turn.
    exempt_waited,
    /// Messages without credit that were refused since the peer had not taken enough of them.
    answers_full,
    /// Deliveries that took longer than the call.
    deferred,
    /// Messages put into a mailbox that had no room for them.
    placed,
    /// `Delivered` frames with two or more ranges above the watermark.
    several_ranges,
    /// Destinations that got a new account after their first had been closed.
    accounts_reopened,
    /// Acknowledged sends that were answered.
    outcomes,
    /// Messages into a mailbox without bounds.
    consumed_at_once,
    /// Messages without a taker.
    no_process,
    /// Connections closed because they were idle.
    swept,
    /// What was put off at nodes that stood still.
    put_off,
    /// Sessions that ended with a node's restart.
    sessions_ended,
    /// Messages that were unconfirmed when their session ended.
    unconfirmed,
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in self.rows() {
            writeln!(f, "{name:>28} {count:>12}")?;
        }
        Ok(())
    }
}
