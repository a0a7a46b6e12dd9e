//! What is sent of connections of distributed Erlang.

use bytes::Bytes;
use std::ops::AddAssign;
use std::sync::Arc;
use teleport_etf::Segments;
use teleport_proto::wire::envelope::ProcessId;

/// Is told what of that which was sent does not wait for room any more.
pub type Accepted = Arc<dyn Fn(Backlog) + Send + Sync>;

/// Messages that wait for room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Their bytes, and what each takes besides.
    pub bytes: usize,
    /// How many of them no small message goes past.
    pub small: usize,
}

impl AddAssign for Backlog {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.small += other.small;
    }
}

/// A message of a connection of distributed Erlang that is sent by [`Origin::carry`](crate::embed::Origin::carry).
#[derive(Debug)]
pub struct Carry<'a> {
    /// What comes from the same process, for the same destination, keeps its order.
    pub from: ProcessId,
    /// Which connection, and what it is, for the peer's host.
    pub to: ProcessId,
    /// What is sent.
    pub body: CarryBody<'a>,
    /// It comes behind all that was sent before, and before all that is carried later.
    pub behind_all: bool,
}

/// What such a message carries.
#[derive(Debug)]
pub enum CarryBody<'a> {
    /// A small one, which is copied.
    Copied(&'a [u8]),
    /// One that is kept as it is.
    Kept(Segments),
}

impl CarryBody<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Copied(bytes) => bytes.len(),
            Self::Kept(segments) => segments.len(),
        }
    }

    pub(crate) fn as_contiguous(&self) -> Option<&[u8]> {
        match self {
            Self::Copied(bytes) => Some(bytes),
            Self::Kept(segments) => segments.as_contiguous(),
        }
    }

    pub(crate) fn into_segments(self) -> Segments {
        match self {
            Self::Copied(bytes) => Bytes::copy_from_slice(bytes).into(),
            Self::Kept(segments) => segments,
        }
    }
}
