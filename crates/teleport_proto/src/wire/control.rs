//! Layout of the control connection's frames.
//!
//! Every count in them is absolute, so that a resumed control connection just repeats them.

use super::envelope::{AccountId, Lane, Seq};
use super::{WireError, put_varint, take_varint};
use crate::ConnectionId;
use bytes::{Buf, BufMut, BytesMut};
use smallvec::SmallVec;

/// One frame of the control connection: length (u16, of what follows it), type (u8), fields as varints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlFrame {
    /// A heartbeat. Answered at once with the same number.
    Tick(u64),
    /// The answer to a heartbeat.
    TickAnswer(u64),
    /// The sender goes, and ends the session.
    Goodbye,
    /// What concerns the messages; everything but liveness.
    Transfer(TransferFrame),
}

/// A frame of the control connection that concerns messages and the pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferFrame {
    /// How many whole frames have been received on that connection.
    Received {
        /// The pool connection.
        connection: ConnectionId,
        /// Frames since it was opened.
        frames: u64,
    },
    /// Every message up to `watermark`, and those in `above`, have been delivered.
    Delivered {
        /// All up to and including this one.
        watermark: Seq,
        /// First and last of runs above it, ascending; at most [`MAX_RANGES`]. Others may have been said before.
        above: SmallVec<[(Seq, Seq); 4]>,
    },
    /// How many bytes have been taken out of the mailbox behind that account.
    Consumed {
        /// The account.
        account: AccountId,
        /// Bytes of express messages since it was opened.
        express: u64,
        /// Bytes of bulk messages since it was opened.
        bulk: u64,
    },
    /// The account will never be used again.
    AccountClosed {
        /// The account.
        account: AccountId,
    },
    /// The reader of that connection has stopped for good after this many frames. The other side retires the
    /// connection too, if it has not, and answers with its own count.
    Retired {
        /// The pool connection.
        connection: ConnectionId,
        /// The final count.
        frames: u64,
    },
    /// The other side's final count of that connection has been noted, and need not be repeated.
    RetireNoted {
        /// The pool connection.
        connection: ConnectionId,
    },
    /// The session's acceptor asks its dialler for a pool of at least this size.
    Wanted {
        /// Express connections.
        express: u32,
        /// Bulk connections.
        bulk: u32,
    },
    /// The answer to a [`TransferFrame::Retired`] of a connection that this side never used, or has done with: read
    /// it as noted and, if no final count has been heard yet, as a final count of 0. It is never answered.
    RetireUnknown {
        /// The pool connection.
        connection: ConnectionId,
    },
    /// How many bytes may have been sent in a lane since the session began, those given up included.
    Granted {
        /// The lane.
        lane: Lane,
        /// Bytes of express messages.
        express: u64,
        /// Bytes of bulk messages.
        bulk: u64,
    },
    /// The sender of a lane's messages waits for a grant, or gives up what it has been granted.
    Needed {
        /// The lane.
        lane: Lane,
        /// Of express messages.
        express: Need,
        /// Of bulk messages.
        bulk: Need,
    },
}

/// What a sender needs of one class, in bytes since the session began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Need {
    /// What has to be granted in all for the message that waits; 0 if none does.
    pub needed: u64,
    /// What there would be use for, in all; 0 if what there is suffices.
    pub wanted: u64,
    /// What has been given up.
    pub waived: u64,
}

/// The most ranges in a [`TransferFrame::Delivered`]. What is left out is said in another one.
pub const MAX_RANGES: usize = 256;

/// The longest control frame, in bytes.
pub const MAX_CONTROL_LEN: usize = 2 + 1 + 10 + 10 + MAX_RANGES * 20;

/// The types of frames, as they stand in them. Of messages and the pool from 16 on.
mod kind {
    pub(super) const TICK: u8 = 1;
    pub(super) const TICK_ANSWER: u8 = 2;
    pub(super) const GOODBYE: u8 = 3;
    pub(super) const RECEIVED: u8 = 16;
    pub(super) const DELIVERED: u8 = 17;
    pub(super) const CONSUMED: u8 = 18;
    pub(super) const ACCOUNT_CLOSED: u8 = 19;
    pub(super) const RETIRED: u8 = 20;
    pub(super) const RETIRE_NOTED: u8 = 21;
    pub(super) const WANTED: u8 = 22;
    pub(super) const RETIRE_UNKNOWN: u8 = 23;
    pub(super) const GRANTED: u8 = 24;
    pub(super) const NEEDED: u8 = 25;
}

impl ControlFrame {
    /// Appends the frame's bytes to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_u16(0);
        match self {
            Self::Tick(number) => put(out, kind::TICK, &[*number]),
            Self::TickAnswer(number) => put(out, kind::TICK_ANSWER, &[*number]),
            Self::Goodbye => put(out, kind::GOODBYE, &[]),
            Self::Transfer(frame) => match frame {
                TransferFrame::Received { connection, frames } => {
                    put(out, kind::RECEIVED, &[*connection, *frames])
                }
                TransferFrame::Delivered { watermark, above } => {
                    put(out, kind::DELIVERED, &[*watermark, above.len() as u64]);
                    let mut last = *watermark;
                    for (first, end) in above {
                        put_varint(out, first - last);
                        put_varint(out, end - first);
                        last = *end;
                    }
                }
                TransferFrame::Consumed { account, express, bulk } => {
                    put(out, kind::CONSUMED, &[*account, *express, *bulk])
                }
                TransferFrame::AccountClosed { account } => put(out, kind::ACCOUNT_CLOSED, &[*account]),
                TransferFrame::Retired { connection, frames } => {
                    put(out, kind::RETIRED, &[*connection, *frames])
                }
                TransferFrame::RetireNoted { connection } => put(out, kind::RETIRE_NOTED, &[*connection]),
                TransferFrame::Wanted { express, bulk } => {
                    put(out, kind::WANTED, &[(*express).into(), (*bulk).into()])
                }
                TransferFrame::RetireUnknown { connection } => put(out, kind::RETIRE_UNKNOWN, &[*connection]),
                TransferFrame::Granted { lane, express, bulk } => {
                    put(out, kind::GRANTED, &[lane_code(*lane), *express, *bulk]);
                }
                TransferFrame::Needed { lane, express: e, bulk: b } => {
                    let lane = lane_code(*lane);
                    put(
                        out,
                        kind::NEEDED,
                        &[lane, e.needed, e.wanted, e.waived, b.needed, b.wanted, b.waived],
                    );
                }
            },
        }
        let len = (out.len() - start - 2) as u16;
        out[start..start + 2].copy_from_slice(&len.to_be_bytes());
    }

    /// Takes one frame off the front of what the control connection received; `None` if it is not complete yet.
    ///
    /// # Errors
    ///
    /// [`WireError`] if the bytes are no control frame.
    pub fn decode(received: &mut BytesMut) -> Result<Option<Self>, WireError> {
        if received.len() < 2 {
            return Ok(None);
        }
        let len = usize::from(u16::from_be_bytes([received[0], received[1]]));
        if len == 0 || len + 2 > MAX_CONTROL_LEN {
            let (value, allowed) = (len as u64, MAX_CONTROL_LEN as u64 - 2);
            return Err(WireError::OutOfRange { field: "control frame length", value, allowed });
        }
        if received.len() < len + 2 {
            return Ok(None);
        }
        let frame = Self::decode_body(&received[2..len + 2])?;
        received.advance(len + 2);
        Ok(Some(frame))
    }

    fn decode_body(body: &[u8]) -> Result<Self, WireError> {
        let (kind, mut input) = (body[0], &body[1..]);
        let mut next = || take_varint(&mut input, "control frame");
        let frame = match kind {
            kind::TICK => Self::Tick(next()?),
            kind::TICK_ANSWER => Self::TickAnswer(next()?),
            kind::GOODBYE => Self::Goodbye,
            kind::RECEIVED => {
                Self::Transfer(TransferFrame::Received { connection: next()?, frames: next()? })
            }
            kind::DELIVERED => {
                let (watermark, count) = (next()?, next()?);
                if count > MAX_RANGES as u64 {
                    let allowed = MAX_RANGES as u64;
                    return Err(WireError::OutOfRange { field: "delivered ranges", value: count, allowed });
                }
                let mut above = SmallVec::new();
                let mut last = watermark;
                for _ in 0..count {
                    let first = last.checked_add(next()?);
                    let end = first.and_then(|first| first.checked_add(next().ok()?));
                    let (Some(first), Some(end)) = (first, end) else {
                        return Err(WireError::Truncated("delivered ranges"));
                    };
                    // A run that touches the one below would belong to it.
                    if first < last.saturating_add(2) {
                        let field = "start of a delivered range";
                        return Err(WireError::OutOfRange {
                            field,
                            value: first,
                            allowed: last.saturating_add(2),
                        });
                    }
                    above.push((first, end));
                    last = end;
                }
                Self::Transfer(TransferFrame::Delivered { watermark, above })
            }
            kind::CONSUMED => {
                Self::Transfer(TransferFrame::Consumed { account: next()?, express: next()?, bulk: next()? })
            }
            kind::ACCOUNT_CLOSED => Self::Transfer(TransferFrame::AccountClosed { account: next()? }),
            kind::RETIRED => Self::Transfer(TransferFrame::Retired { connection: next()?, frames: next()? }),
            kind::RETIRE_NOTED => Self::Transfer(TransferFrame::RetireNoted { connection: next()? }),
            kind::WANTED => {
                let mut small = || Ok(u32::try_from(next()?).unwrap_or(u32::MAX));
                Self::Transfer(TransferFrame::Wanted { express: small()?, bulk: small()? })
            }
            kind::RETIRE_UNKNOWN => Self::Transfer(TransferFrame::RetireUnknown { connection: next()? }),
            kind::GRANTED => {
                let lane = lane(next()?)?;
                Self::Transfer(TransferFrame::Granted { lane, express: next()?, bulk: next()? })
            }
            kind::NEEDED => {
                let lane = lane(next()?)?;
                let mut need = || Ok(Need { needed: next()?, wanted: next()?, waived: next()? });
                Self::Transfer(TransferFrame::Needed { lane, express: need()?, bulk: need()? })
            }
            other => return Err(WireError::Unknown { field: "control frame type", value: other.into() }),
        };
        if !input.is_empty() {
            let value = input.len() as u64;
            return Err(WireError::OutOfRange { field: "bytes after a control frame", value, allowed: 0 });
        }
        Ok(frame)
    }
}

fn lane_code(lane: Lane) -> u64 {
    match lane {
        Lane::Ordinary => 0,
        Lane::Exempt => 1,
    }
}

fn lane(code: u64) -> Result<Lane, WireError> {
    match code {
        0 => Ok(Lane::Ordinary),
        1 => Ok(Lane::Exempt),
        value => Err(WireError::OutOfRange { field: "lane", value, allowed: 1 }),
    }
}

fn put(out: &mut BytesMut, kind: u8, fields: &[u64]) {
    out.put_u8(kind);
    for field in fields {
        put_varint(out, *field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smallvec::smallvec;

    /// An example of the type behind that of `last`. A new type does not compile before it has its place here.
    fn next_example(last: &ControlFrame) -> Option<ControlFrame> {
        use TransferFrame::*;
        let of_messages = match last {
            ControlFrame::Tick(_) => return Some(ControlFrame::TickAnswer(u64::MAX)),
            ControlFrame::TickAnswer(_) => return Some(ControlFrame::Goodbye),
            ControlFrame::Goodbye => Received { connection: 3, frames: 1 << 40 },
            ControlFrame::Transfer(last) => match last {
                Received { .. } => Delivered { watermark: 7, above: smallvec![(9, 9), (11, 400)] },
                Delivered { .. } => Consumed { account: 1, express: 2, bulk: 3 },
                Consumed { .. } => AccountClosed { account: 1 },
                AccountClosed { .. } => Retired { connection: 3, frames: 9 },
                Retired { .. } => RetireNoted { connection: 3 },
                RetireNoted { .. } => Wanted { express: 1, bulk: 2 },
                Wanted { .. } => RetireUnknown { connection: 4 },
                RetireUnknown { .. } => Granted { lane: Lane::Exempt, express: 3, bulk: 1 << 50 },
                Granted { .. } => Needed {
                    lane: Lane::Ordinary,
                    express: Need { needed: 0, wanted: 1, waived: 2 },
                    bulk: Need { needed: 1 << 50, wanted: u64::MAX, waived: 3 },
                },
                Needed { .. } => return None,
            },
        };
        Some(ControlFrame::Transfer(of_messages))
    }

    #[test]
    fn frames_survive_the_wire_whatever_the_cut() {
        let frames: Vec<_> = std::iter::successors(Some(ControlFrame::Tick(0)), next_example).collect();
        let mut stream = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut stream));
        for step in 1..stream.len() {
            let (mut received, mut decoded) = (BytesMut::new(), Vec::new());
            for piece in stream.chunks(step) {
                received.extend_from_slice(piece);
                while let Some(frame) = ControlFrame::decode(&mut received).unwrap() {
                    decoded.push(frame);
                }
            }
            assert_eq!(decoded, frames);
        }
    }

    #[test]
    fn the_longest_frame_fits() {
        let above =
            (0..MAX_RANGES as u64).map(|i| (u64::MAX / 2 + 3 * i, u64::MAX / 2 + 3 * i + 1)).collect();
        let mut out = BytesMut::new();
        ControlFrame::Transfer(TransferFrame::Delivered { watermark: 1, above }).encode(&mut out);
        assert!(out.len() <= MAX_CONTROL_LEN);
        assert!(ControlFrame::decode(&mut out).unwrap().is_some());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut received = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = ControlFrame::decode(&mut received) {}
        }
    }
}
