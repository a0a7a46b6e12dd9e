//! What a session tells the task of its control connection.

use crate::io::stream::Detached;
use bytes::BytesMut;
use std::time::Duration;
use teleport_proto::liveness::Config as LivenessConfig;

/// What the control task of a session is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Here is a (new) control connection.
    Attach { stream: Detached, generation: u64 },
    /// Write these frames.
    Write(BytesMut),
    /// Have the peer say something, if nothing is awaited of it.
    Ask,
    /// Another node claims the peer's name: find out whether this session lives.
    Probe,
    /// Tick at another cadence.
    TickInterval(Duration),
    /// Another `net_ticktime` holds.
    Intervals(LivenessConfig),
    /// The session has caught up with what it was told.
    Proceed,
    /// Close the control connection, as a fault would.
    Sever,
    /// Say goodbye (if asked to) and stop.
    End { goodbye: bool },
}
