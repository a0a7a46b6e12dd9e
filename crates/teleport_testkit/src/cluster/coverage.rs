//! Counts of the states that runs have reached: a property that was never put to the test has not been shown.

use std::fmt;
use teleport_proto::membership::EndReason;

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
    /// Those that were laid into trays.
    laid,
    /// Messages of one pair that were handed over together.
    together,
    /// Messages that were delivered to a queue of the host's.
    queued,
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
    /// Calls that were begun.
    calls,
    /// Those that were answered.
    calls_answered,
    /// Those that were rejected, by a process or for want of room for answers.
    calls_rejected,
    /// Requests that came when there was no room for answers.
    requests_rejected,
    /// Calls whose process had ended, or was not there.
    calls_down,
    /// Those whose time was up.
    calls_late,
    /// Those that ended with their session.
    calls_node_down,
    /// Answers for which nobody waited any more.
    answers_late,
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
    /// Connections that nodes have begun to open, of every kind.
    dials,
    /// Those that took too long.
    dials_late,
    /// Attempts at an address where nothing listened.
    dials_refused,
    /// Frames of handshakes that were changed on the way.
    frames_changed,
    /// Handshakes that proved nothing.
    handshakes_rejected,
    /// Recorded handshakes played again.
    replays,
    /// Dials refused for the sake of the peer's own, or since they were late.
    refused_simultaneous,
    /// Dials of another life of a peer with a session.
    refused_name_in_use,
    /// Resumes that a later one had overtaken.
    refused_stale,
    /// Joins with an id that was taken.
    refused_twice,
    /// Joins of sessions that the acceptor had ended, or never had.
    refused_unknown,
    /// Joins that were opened twice of which the wrong one was accepted.
    twins_accepted,
    /// Verdicts that came when there was another session.
    late_verdicts,
    /// Claims of somebody to be a node that has a session.
    claims,
    /// Sessions that were asked whether they live.
    probes,
    /// Ticks and answers to them.
    ticks,
    /// Control connections replaced since they were silent.
    control_silent,
    /// Directions in which nothing got through for a while.
    darkened,
    /// Nodes at whose address nothing listened for a while.
    deafened,
    /// Nodes that were stopped.
    stops,
    /// Clocks that jumped.
    jumps,
    /// Nodes that were started anew.
    restarts,
    /// Sessions ended by one side of its own accord.
    hang_ups,
    /// Sides of sessions that began.
    sessions_begun,
    /// Sides that ended since nothing was heard.
    ended_silent,
    /// Sides that ended since nothing listened.
    ended_gone,
    /// Sides that ended since the peer was in another life.
    ended_restarted,
    /// Sides that ended since the peer had given the session up.
    ended_given_up,
    /// Sides that ended since a probe was not answered.
    ended_unanswered,
    /// Sides that ended with the peer's goodbye.
    ended_shut_down,
    /// Sides of sessions that ended for whatever reason, but for their node's own end.
    sessions_ended,
    /// Messages that were unconfirmed when their session ended.
    unconfirmed,
}

impl Coverage {
    pub(super) fn ended(&mut self, reason: EndReason) {
        *match reason {
            EndReason::Silent => &mut self.ended_silent,
            EndReason::Gone => &mut self.ended_gone,
            EndReason::Restarted => &mut self.ended_restarted,
            EndReason::ProbeUnanswered => &mut self.ended_unanswered,
            EndReason::PeerShutDown => &mut self.ended_shut_down,
            _ => &mut self.ended_given_up,
        } += 1;
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in self.rows() {
            writeln!(f, "{name:>28} {count:>12}")?;
        }
        Ok(())
    }
}
