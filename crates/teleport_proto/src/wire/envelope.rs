//! The head of a message: who, to whom, its number and what it has to wait for.

use super::{WireError, put_varint, take_varint};
use bytes::{BufMut, BytesMut};
use std::fmt;
use std::sync::Arc;

/// The number of a message within its session and direction; the first is 1.
pub type Seq = u64;

/// The number under which a sender keeps the credit of one destination mailbox. Never used again; 0 stands for none.
pub type AccountId = u64;

/// A process on one of the session's two nodes. Which node, and which incarnation of it, the session knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId {
    /// The `ID` field of an Erlang pid.
    pub id: u32,
    /// The `Serial` field of an Erlang pid.
    pub serial: u32,
}

/// Where a message goes on the receiving node.
///
/// A name and the pid behind it are two destinations, as far as order is concerned.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// A registered name, at most 255 bytes of UTF-8.
    Name(Arc<str>),
    /// A process.
    Process(ProcessId),
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            Self::Process(p) => write!(f, "<{}.{}>", p.id, p.serial),
        }
    }
}

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A term for a mailbox.
    Data = 0,
    /// The answer to an acknowledged send; handled by the session itself.
    Outcome = 1,
}

/// A message without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Number within the session.
    pub seq: Seq,
    /// The message of the same pair that has to be delivered first, if order needs saying.
    pub predecessor: Option<Seq>,
    /// The credit account of the destination, 0 for none.
    pub account: AccountId,
    /// What it is for.
    pub kind: Kind,
    /// The sender wants to be told what became of it.
    pub acknowledge: bool,
    /// It did not wait for credit and is not counted against any window.
    pub exempt: bool,
    /// The sending process.
    pub from: ProcessId,
    /// The receiving process or name.
    pub to: Destination,
}

/// The longest registered name, in bytes.
pub const MAX_NAME_LEN: usize = 255;

/// The longest encoded envelope, in bytes.
pub const MAX_ENVELOPE_LEN: usize = 2 + 3 * 10 + 1 + MAX_NAME_LEN + 4 * 5;

const PREDECESSOR: u8 = 1;
const ACCOUNT: u8 = 2;
const ACKNOWLEDGE: u8 = 4;
const EXEMPT: u8 = 8;
const TO_NAME: u8 = 16;
const KNOWN_FLAGS: u8 = PREDECESSOR | ACCOUNT | ACKNOWLEDGE | EXEMPT | TO_NAME;

impl Envelope {
    /// Appends the envelope's bytes to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        out.put_u8(
            flag(self.predecessor.is_some(), PREDECESSOR)
                | flag(self.account != 0, ACCOUNT)
                | flag(self.acknowledge, ACKNOWLEDGE)
                | flag(self.exempt, EXEMPT)
                | flag(matches!(self.to, Destination::Name(_)), TO_NAME),
        );
        out.put_u8(self.kind as u8);
        put_varint(out, self.seq);
        if let Some(predecessor) = self.predecessor {
            put_varint(out, self.seq - predecessor);
        }
        if self.account != 0 {
            put_varint(out, self.account);
        }
        match &self.to {
            Destination::Name(name) => {
                out.put_u8(name.len() as u8);
                out.put_slice(name.as_bytes());
            }
            Destination::Process(process) => put_process(out, *process),
        }
        put_process(out, self.from);
    }

    /// Takes one envelope off the front of `input`.
    pub fn decode(input: &mut &[u8]) -> Result<Self, WireError> {
        let flags = take_u8(input)?;
        if flags & !KNOWN_FLAGS != 0 {
            return Err(WireError::Unknown { field: "envelope flags", value: flags.into() });
        }
        let kind = match take_u8(input)? {
            0 => Kind::Data,
            1 => Kind::Outcome,
            other => return Err(WireError::Unknown { field: "message kind", value: other.into() }),
        };
        let seq = take_varint(input, "message number")?;
        let predecessor = if flags & PREDECESSOR == 0 {
            None
        } else {
            let distance = take_varint(input, "predecessor")?;
            if distance == 0 || distance >= seq {
                let allowed = seq.saturating_sub(1);
                return Err(WireError::OutOfRange {
                    field: "distance to predecessor",
                    value: distance,
                    allowed,
                });
            }
            Some(seq - distance)
        };
        if seq == 0 {
            return Err(WireError::OutOfRange { field: "message number", value: 0, allowed: u64::MAX });
        }
        let account = if flags & ACCOUNT == 0 { 0 } else { take_varint(input, "credit account")? };
        let to = if flags & TO_NAME == 0 {
            Destination::Process(take_process(input)?)
        } else {
            let len = usize::from(take_u8(input)?);
            let (name, rest) = input.split_at_checked(len).ok_or(WireError::Truncated("name"))?;
            *input = rest;
            Destination::Name(std::str::from_utf8(name).map_err(|_| WireError::NameNotUtf8)?.into())
        };
        let from = take_process(input)?;
        let (acknowledge, exempt) = (flags & ACKNOWLEDGE != 0, flags & EXEMPT != 0);
        Ok(Self { seq, predecessor, account, kind, acknowledge, exempt, from, to })
    }
}

fn put_process(out: &mut BytesMut, process: ProcessId) {
    put_varint(out, process.id.into());
    put_varint(out, process.serial.into());
}

fn take_process(input: &mut &[u8]) -> Result<ProcessId, WireError> {
    Ok(ProcessId { id: take_u32(input, "process id")?, serial: take_u32(input, "process serial")? })
}

fn take_u32(input: &mut &[u8], field: &'static str) -> Result<u32, WireError> {
    let value = take_varint(input, field)?;
    u32::try_from(value).map_err(|_| WireError::OutOfRange { field, value, allowed: u32::MAX.into() })
}

fn take_u8(input: &mut &[u8]) -> Result<u8, WireError> {
    let (&first, rest) = input.split_first().ok_or(WireError::Truncated("envelope"))?;
    *input = rest;
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn envelopes() -> impl Strategy<Value = Envelope> {
        let process = (any::<u32>(), any::<u32>()).prop_map(|(id, serial)| ProcessId { id, serial });
        let to = prop_oneof![
            "\\PC{0,60}".prop_map(|name| Destination::Name(name.as_str().into())),
            process.clone().prop_map(Destination::Process),
        ];
        let numbers = (2u64..u64::MAX, any::<prop::sample::Index>(), any::<u64>());
        (numbers, any::<[bool; 4]>(), process, to).prop_map(|((seq, distance, account), bits, from, to)| {
            Envelope {
                seq,
                predecessor: bits[0].then(|| seq - 1 - distance.index(seq.min(1000) as usize - 1) as u64),
                account: if bits[1] { account } else { 0 },
                kind: Kind::Data,
                acknowledge: bits[2],
                exempt: bits[3],
                from,
                to,
            }
        })
    }

    proptest! {
        #[test]
        fn an_envelope_survives_the_wire(envelope in envelopes()) {
            let mut out = BytesMut::new();
            envelope.encode(&mut out);
            prop_assert!(out.len() <= MAX_ENVELOPE_LEN);
            let mut input = &out[..];
            prop_assert_eq!(Envelope::decode(&mut input).unwrap(), envelope);
            prop_assert!(input.is_empty());
            for cut in 0..out.len() {
                prop_assert!(Envelope::decode(&mut &out[..cut]).is_err());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = Envelope::decode(&mut &bytes[..]);
        }
    }
}
