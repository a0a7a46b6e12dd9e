//! Why sessions end.

/// Why a session has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum EndReason {
    /// Nothing was heard for the liveness deadline, or control did not come back within it.
    #[error("nothing was heard from it within the liveness deadline")]
    Silent,
    /// Nothing listens at its address any more.
    #[error("nothing listens at its address any more")]
    Gone,
    /// The peer restarted.
    #[error("it has restarted")]
    Restarted,
    /// The peer opened a new session or does not know this one: it has ended it on its side.
    #[error("it has given the session up")]
    PeerGaveUp,
    /// Another node claimed the name, and the session did not answer a probe.
    #[error("it did not answer while another node claimed its name")]
    ProbeUnanswered,
    /// The peer broke the protocol.
    #[error("it broke the protocol")]
    ProtocolError,
    /// This node wanted it.
    #[error("this node disconnected")]
    Disconnected,
    /// The peer said goodbye: it is shutting down, or does not want this session any more.
    #[error("it said goodbye: it is shutting down, or has disconnected")]
    PeerShutDown,
}

impl EndReason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Silent,
        Self::Gone,
        Self::Restarted,
        Self::PeerGaveUp,
        Self::ProbeUnanswered,
        Self::ProtocolError,
        Self::Disconnected,
        Self::PeerShutDown,
    ];

    /// Its name, as in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Gone => "gone",
            Self::Restarted => "restarted",
            Self::PeerGaveUp => "peer_gave_up",
            Self::ProbeUnanswered => "probe_unanswered",
            Self::ProtocolError => "protocol_error",
            Self::Disconnected => "disconnected",
            Self::PeerShutDown => "peer_shut_down",
        }
    }
}
