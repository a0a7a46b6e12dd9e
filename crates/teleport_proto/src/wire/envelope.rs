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

impl ProcessId {
    /// No process: what a node sends for itself comes from it, and what is sent to it has no taker. No process is ever
    /// given the id 0.
    pub const NOBODY: Self = Self { id: 0, serial: 0 };
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

/// The two windows in a receiver's memory that messages go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Of messages whose delivery may depend on an application.
    Ordinary,
    /// Of all others, see [`Kind::is_exempt`].
    Exempt,
}

impl Lane {
    /// Of messages that are exempt, or not.
    pub fn of(exempt: bool) -> Self {
        if exempt { Self::Exempt } else { Self::Ordinary }
    }
}

/// What a message is for.
///
/// A *watch* is what one process asks to be told of another: a call waits for a reply or the server's end, a monitor for
/// the end. It is named by a [`RefId`] of the watcher's node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A term for a mailbox.
    Data,
    /// The answer to an acknowledged send; handled by the session itself.
    Outcome,
    /// A term for a mailbox that is answered under the reference; begins a watch.
    Request(RefId),
    /// The answer to a request; ends the watch.
    Reply(RefId),
    /// Begins a watch. Has no body.
    Monitor(RefId),
    /// The watcher ends a watch. Has no body.
    Demonitor(RefId),
    /// The watched process has ended, or there is none; ends the watch. The body is the reason.
    Down(RefId),
    /// A request is not going to be answered, though its server goes on; ends the watch. The body is a text, as a term.
    Reject(RefId),
    /// Of a connection of distributed Erlang that the session carries. The body is distributed Erlang's own, and the
    /// destination says which connection is meant.
    Carried,
}

impl Kind {
    /// Whether it goes without credit: somebody else's progress depends on it, and it needs no room in a mailbox that
    /// its taker has not asked for.
    pub fn is_exempt(self) -> bool {
        !matches!(self, Self::Data | Self::Request(_) | Self::Carried)
    }

    /// Whether an application sent it: the rest is the nodes' own affair.
    pub fn is_message(self) -> bool {
        matches!(self, Self::Data | Self::Request(_) | Self::Reply(_) | Self::Carried)
    }

    /// Whether it is no more than a body for a destination.
    pub(crate) fn is_plain(self) -> bool {
        matches!(self, Self::Data | Self::Carried)
    }

    /// The watch that it is about.
    pub fn reference(self) -> Option<RefId> {
        match self {
            Self::Data | Self::Outcome | Self::Carried => None,
            Self::Request(reference)
            | Self::Reply(reference)
            | Self::Monitor(reference)
            | Self::Demonitor(reference)
            | Self::Down(reference)
            | Self::Reject(reference) => Some(reference),
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Outcome => 1,
            Self::Request(_) => 2,
            Self::Reply(_) => 3,
            Self::Monitor(_) => 4,
            Self::Demonitor(_) => 5,
            Self::Down(_) => 6,
            Self::Reject(_) => 7,
            Self::Carried => 8,
        }
    }
}

/// The words of an Erlang reference. Which node and incarnation made it, the session knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RefId {
    len: u8,
    words: [u32; MAX_REF_WORDS],
}

/// Words of the longest reference.
pub const MAX_REF_WORDS: usize = 5;

/// In the first word of a sealed reference, of which Erlang takes 18 bits.
const SEALED: u32 = 1 << 31;

impl RefId {
    /// A reference of 1 to 5 words.
    ///
    /// ```
    /// use teleport_proto::wire::envelope::RefId;
    ///
    /// assert_eq!(RefId::new(&[1, 2, 3]).unwrap().words(), [1, 2, 3]);
    /// assert!(RefId::new(&[]).is_none());
    /// ```
    pub fn new(words: &[u32]) -> Option<Self> {
        let mut all = [0; MAX_REF_WORDS];
        all.get_mut(..words.len()).filter(|_| !words.is_empty())?.copy_from_slice(words);
        Some(Self { len: words.len() as u8, words: all })
    }

    /// The reference that a request goes by whose own can be guessed: with a secret behind its words. `None` if it has more than three,
    /// or others than Erlang takes.
    ///
    /// ```
    /// use teleport_proto::wire::envelope::RefId;
    ///
    /// let reference = RefId::new(&[1, 2, 3]).unwrap();
    /// let sealed = reference.sealed(4 << 32 | 5).unwrap();
    /// assert_eq!(sealed.words(), [1 | 1 << 31, 2, 3, 4, 5]);
    /// assert_eq!(sealed.unsealed(), reference);
    /// ```
    pub fn sealed(self, secret: u64) -> Option<Self> {
        let [first, second, third] = *self.words() else { return None };
        let words = [first | SEALED, second, third, (secret >> 32) as u32, secret as u32];
        (first & SEALED == 0).then_some(Self { len: MAX_REF_WORDS as u8, words })
    }

    /// The reference that was sealed; one that was not is itself.
    pub fn unsealed(self) -> Self {
        match self.words {
            [first, second, third, _, _] if usize::from(self.len) == MAX_REF_WORDS && first & SEALED != 0 => {
                Self { len: 3, words: [first & !SEALED, second, third, 0, 0] }
            }
            _ => self,
        }
    }

    /// Its words, in the order in which the external term format has them.
    pub fn words(&self) -> &[u32] {
        &self.words[..self.len.into()]
    }
}

impl fmt::Debug for RefId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.words()).finish()
    }
}

/// A message without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Number within the session.
    pub seq: Seq,
    /// The message of the same pair that has to be delivered first, if order needs saying.
    pub predecessor: Option<Seq>,
    /// Everything that was accepted before has to be delivered first.
    pub behind_all: bool,
    /// The credit account of the destination, 0 for none.
    pub account: AccountId,
    /// What it is for.
    pub kind: Kind,
    /// The sender wants to be told what became of it.
    pub acknowledge: bool,
    /// The sending process.
    pub from: ProcessId,
    /// The receiving process or name.
    pub to: Destination,
}

/// The longest registered name, in bytes.
pub const MAX_NAME_LEN: usize = 255;

/// The longest encoded envelope, in bytes.
pub const MAX_ENVELOPE_LEN: usize = 2 + 3 * 10 + 1 + 4 * MAX_REF_WORDS + 1 + MAX_NAME_LEN + 4 * 5;

const PREDECESSOR: u8 = 1;
const ACCOUNT: u8 = 2;
const ACKNOWLEDGE: u8 = 4;
const TO_NAME: u8 = 8;
const BEHIND_ALL: u8 = 16;
const KNOWN_FLAGS: u8 = PREDECESSOR | ACCOUNT | ACKNOWLEDGE | TO_NAME | BEHIND_ALL;

impl Envelope {
    /// Appends the envelope's bytes to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        self.head().encode(out);
    }

    pub(crate) fn head(&self) -> Head<'_> {
        let &Self { seq, predecessor, behind_all, account, kind, acknowledge, from, ref to } = self;
        Head { seq, predecessor, behind_all, account, kind, acknowledge, from, to }
    }

    /// Takes one envelope off the front of `input`.
    ///
    /// # Errors
    ///
    /// [`WireError`] if the bytes are no envelope.
    pub fn decode(input: &mut &[u8]) -> Result<Self, WireError> {
        Self::decode_next(input, None)
    }

    /// Takes one of many: a name is shared with the `last` destination if it is that one again.
    pub(crate) fn decode_next(input: &mut &[u8], last: Option<&Destination>) -> Result<Self, WireError> {
        let flags = take_u8(input)?;
        if flags & !KNOWN_FLAGS != 0 {
            return Err(WireError::Unknown { field: "envelope flags", value: flags.into() });
        }
        let code = take_u8(input)?;
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
        // Behind the last number there has to be room for one.
        if seq == 0 || seq == Seq::MAX {
            return Err(WireError::OutOfRange { field: "message number", value: seq, allowed: Seq::MAX - 1 });
        }
        let account = if flags & ACCOUNT == 0 { 0 } else { take_varint(input, "credit account")? };
        let kind = match code {
            0 => Kind::Data,
            1 => Kind::Outcome,
            2 => Kind::Request(take_reference(input)?),
            3 => Kind::Reply(take_reference(input)?),
            4 => Kind::Monitor(take_reference(input)?),
            5 => Kind::Demonitor(take_reference(input)?),
            6 => Kind::Down(take_reference(input)?),
            7 => Kind::Reject(take_reference(input)?),
            8 => Kind::Carried,
            other => return Err(WireError::Unknown { field: "message kind", value: other.into() }),
        };
        let to = if flags & TO_NAME == 0 {
            Destination::Process(take_process(input)?)
        } else {
            let len = usize::from(take_u8(input)?);
            let (name, rest) = input.split_at_checked(len).ok_or(WireError::Truncated("name"))?;
            *input = rest;
            match last {
                Some(Destination::Name(last)) if last.as_bytes() == name => Destination::Name(last.clone()),
                _ => Destination::Name(std::str::from_utf8(name).map_err(|_| WireError::NameNotUtf8)?.into()),
            }
        };
        let from = take_process(input)?;
        let (behind_all, acknowledge) = (flags & BEHIND_ALL != 0, flags & ACKNOWLEDGE != 0);
        Ok(Self { seq, predecessor, behind_all, account, kind, acknowledge, from, to })
    }
}

/// An envelope on its way out: its destination is somebody else's.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) seq: Seq,
    pub(crate) predecessor: Option<Seq>,
    pub(crate) behind_all: bool,
    pub(crate) account: AccountId,
    pub(crate) kind: Kind,
    pub(crate) acknowledge: bool,
    pub(crate) from: ProcessId,
    pub(crate) to: &'a Destination,
}

impl Head<'_> {
    pub(crate) fn to_envelope(self) -> Envelope {
        let Self { seq, predecessor, behind_all, account, kind, acknowledge, from, to } = self;
        Envelope { seq, predecessor, behind_all, account, kind, acknowledge, from, to: to.clone() }
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        out.put_u8(
            flag(self.predecessor.is_some(), PREDECESSOR)
                | flag(self.account != 0, ACCOUNT)
                | flag(self.acknowledge, ACKNOWLEDGE)
                | flag(matches!(self.to, Destination::Name(_)), TO_NAME)
                | flag(self.behind_all, BEHIND_ALL),
        );
        out.put_u8(self.kind.code());
        put_varint(out, self.seq);
        if let Some(predecessor) = self.predecessor {
            put_varint(out, self.seq - predecessor);
        }
        if self.account != 0 {
            put_varint(out, self.account);
        }
        if let Some(reference) = self.kind.reference() {
            out.put_u8(reference.len);
            reference.words().iter().for_each(|&word| out.put_u32(word));
        }
        match self.to {
            Destination::Name(name) => {
                out.put_u8(name.len() as u8);
                out.put_slice(name.as_bytes());
            }
            Destination::Process(process) => put_process(out, *process),
        }
        put_process(out, self.from);
    }
}

fn put_process(out: &mut BytesMut, process: ProcessId) {
    put_varint(out, process.id.into());
    put_varint(out, process.serial.into());
}

fn take_process(input: &mut &[u8]) -> Result<ProcessId, WireError> {
    Ok(ProcessId { id: take_u32(input, "process id")?, serial: take_u32(input, "process serial")? })
}

fn take_reference(input: &mut &[u8]) -> Result<RefId, WireError> {
    let len = usize::from(take_u8(input)?);
    if !(1..=MAX_REF_WORDS).contains(&len) {
        let (value, allowed) = (len as u64, MAX_REF_WORDS as u64);
        return Err(WireError::OutOfRange { field: "words of a reference", value, allowed });
    }
    let (bytes, rest) = input.split_at_checked(4 * len).ok_or(WireError::Truncated("reference"))?;
    *input = rest;
    let mut words = [0; MAX_REF_WORDS];
    let (chunks, _) = bytes.as_chunks::<4>();
    words.iter_mut().zip(chunks).for_each(|(word, chunk)| *word = u32::from_be_bytes(*chunk));
    Ok(RefId { len: len as u8, words })
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
        let reference = prop::collection::vec(any::<u32>(), 1..=MAX_REF_WORDS)
            .prop_map(|words| RefId::new(&words).expect("one to five words"));
        let kinds = (0..9, reference).prop_map(|(code, reference)| match code {
            0 => Kind::Data,
            1 => Kind::Outcome,
            2 => Kind::Request(reference),
            3 => Kind::Reply(reference),
            4 => Kind::Monitor(reference),
            5 => Kind::Demonitor(reference),
            6 => Kind::Down(reference),
            7 => Kind::Carried,
            _ => Kind::Reject(reference),
        });
        let numbers = (2u64..u64::MAX, any::<prop::sample::Index>(), any::<u64>());
        (numbers, any::<[bool; 4]>(), kinds, process, to).prop_map(
            |((seq, distance, account), bits, kind, from, to)| Envelope {
                seq,
                predecessor: bits[0].then(|| seq - 1 - distance.index(seq.min(1000) as usize - 1) as u64),
                behind_all: bits[3],
                account: if bits[1] { account } else { 0 },
                kind,
                acknowledge: bits[2],
                from,
                to,
            },
        )
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
