//! What the virtual machine hands to a carrier of distributed Erlang: messages with a distribution header, and who sends them.
//!
//! The header names the atoms of a message by places in a cache that both ends keep, so messages have to arrive in the order in
//! which they were made. [`AtomCache::unbind`] writes a header that has every atom with it: then they may arrive in any order, and an
//! atom still goes once per message. The formats are those of ERTS's documentation, "External Term Format" (distribution
//! header) and "Distribution Protocol" (control messages).

use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

/// Places of the cache: eight segments of 256.
const PLACES: usize = 8 * 256;

const VERSION: u8 = 131;
const DIST_HEADER: u8 = b'D';
const PASS_THROUGH: u8 = b'p';

/// Set in an atom's four bits: its text is there; the others are its segment.
const NEW_ENTRY: u8 = 8;

/// What does not look like a message of distributed Erlang.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DistError {
    /// It ends within its header.
    #[error("the message ends within its distribution header")]
    Truncated,
    /// It begins with something else.
    #[error("the message begins with {0:?}, neither a distribution header nor pass-through")]
    Unknown([u8; 2]),
    /// Its header names an atom that was never there.
    #[error("the message names the atom at place {0} of the cache, where there is none")]
    NoAtom(usize),
}

/// The atoms that one end of a connection has named so far, by place.
pub struct AtomCache {
    atoms: Vec<Option<Bytes>>,
}

impl Default for AtomCache {
    fn default() -> Self {
        Self { atoms: vec![None; PLACES] }
    }
}

impl fmt::Debug for AtomCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.atoms.iter().flatten().count();
        f.debug_struct("AtomCache").field("known", &known).finish_non_exhaustive()
    }
}

impl AtomCache {
    /// Writes a header that needs nothing of the messages before to `out`, for a message that begins with `message`, and returns how
    /// many bytes of the message it stands for. Messages have to be given in the order in which they were made.
    ///
    /// # Errors
    ///
    /// [`DistError::Truncated`] if the header is longer than `message`; it can be given again with more of it. The others
    /// say that it is no message for a carrier.
    pub fn unbind(&mut self, message: &[u8], out: &mut BytesMut) -> Result<usize, DistError> {
        let mut input = Cursor(message);
        match (input.u8()?, input.peek()) {
            // Its atoms are written out.
            (PASS_THROUGH, _) => {
                out.put_u8(PASS_THROUGH);
                return Ok(1);
            }
            (VERSION, Some(DIST_HEADER)) => input.u8()?,
            (VERSION, None) => return Err(DistError::Truncated),
            (first, second) => return Err(DistError::Unknown([first, second.unwrap_or_default()])),
        };
        let count = usize::from(input.u8()?);
        out.reserve(3);
        if count == 0 {
            out.put_slice(&[VERSION, DIST_HEADER, 0]);
            return Ok(message.len() - input.0.len());
        }
        let flags = input.bytes(count / 2 + 1)?;
        let four_bits = |i: usize| flags[i / 2] >> (4 * (i % 2)) & 15;
        let long = four_bits(count) & 1 == 1;
        // Nothing is noted before all of it is there, so that it can be given again.
        let entries = input.0;
        for i in 0..count {
            input.u8()?;
            if four_bits(i) & NEW_ENTRY != 0 {
                let len = input.len(long)?;
                input.bytes(len)?;
            }
        }
        let end = message.len() - input.0.len();
        let (mut input, mut written, mut is_long) = (Cursor(entries), BytesMut::new(), false);
        let mut places = Vec::with_capacity(count);
        for i in 0..count {
            let four = four_bits(i);
            let place = usize::from(four & 7) << 8 | usize::from(input.u8()?);
            if four & NEW_ENTRY != 0 {
                let len = input.len(long)?;
                self.atoms[place] = Some(Bytes::copy_from_slice(input.bytes(len)?));
            }
            let atom = self.atoms[place].as_ref().ok_or(DistError::NoAtom(place))?;
            is_long |= atom.len() > u8::MAX.into();
            places.push(place);
        }
        for &place in &places {
            // All of them were there a moment ago.
            let atom = self.atoms[place].as_deref().unwrap_or_default();
            written.put_u8(place as u8);
            if is_long {
                written.put_u16(atom.len() as u16);
            } else {
                written.put_u8(atom.len() as u8);
            }
            written.put_slice(atom);
        }
        out.put_slice(&[VERSION, DIST_HEADER, count as u8]);
        let four_bits_of = |i: usize| match places.get(i) {
            Some(place) => NEW_ENTRY | (place >> 8) as u8,
            None if i == count => u8::from(is_long),
            None => 0,
        };
        (0..=count / 2).for_each(|byte| out.put_u8(four_bits_of(2 * byte) | four_bits_of(2 * byte + 1) << 4));
        out.put_slice(&written);
        Ok(end)
    }
}

/// What the order of a message is to others on the same connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// It comes behind what that process has sent before.
    Behind {
        /// The process's number, as in its pid.
        id: u32,
        /// Its serial, as in its pid.
        serial: u32,
    },
    /// It comes behind everything, and everything later behind it: who sends is not known.
    BehindAll,
    /// It waits for nothing.
    Free,
}

impl Order {
    /// The order of a message, of which this is what follows the header: its control message, or the beginning of that.
    pub fn of(control: &[u8]) -> Self {
        order(control).unwrap_or(Self::BehindAll)
    }
}

/// Where a control message has the process that it comes from, in terms behind the operation; `None` where it has none. Of the
/// operations that are not known here, nobody knows.
fn place_of_sender(operation: u8) -> Option<usize> {
    Some(match operation {
        // LINK, EXIT, REG_SEND, GROUP_LEADER, EXIT2, those with a trace token, MONITOR_P, DEMONITOR_P, MONITOR_P_EXIT,
        // SEND_SENDER, and those with their reason in the payload, ALIAS_SEND.
        1 | 3 | 6..=8 | 13 | 16 | 18..=28 | 33 | 34 => 0,
        // SPAWN_REQUEST, UNLINK_ID, UNLINK_ID_ACK, ALTACT_SIG_SEND.
        29 | 30 | 35..=37 => 1,
        // SPAWN_REPLY: nothing of the child may come before it.
        31 | 32 => 3,
        _ => return None,
    })
}

const SPAWN_REPLY: [u8; 2] = [31, 32];

fn order(control: &[u8]) -> Option<Order> {
    let mut input = Cursor(control);
    if input.peek() == Some(VERSION) {
        input.u8().ok()?;
    }
    let (104, _arity, 97, operation) =
        (input.u8().ok()?, input.u8().ok()?, input.u8().ok()?, input.u8().ok()?)
    else {
        return None;
    };
    for _ in 0..place_of_sender(operation)? {
        input.skip_term()?;
    }
    match input.process()? {
        Some((id, serial)) => Some(Order::Behind { id, serial }),
        // There is no child that could send anything.
        None if SPAWN_REPLY.contains(&operation) => Some(Order::Free),
        None => None,
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], DistError> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(DistError::Truncated)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn u8(&mut self) -> Result<u8, DistError> {
        Ok(self.bytes(1)?[0])
    }

    fn u16(&mut self) -> Option<usize> {
        let bytes = self.bytes(2).ok()?;
        Some(usize::from(bytes[0]) << 8 | usize::from(bytes[1]))
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes(4).ok()?.try_into().ok().map(u32::from_be_bytes)
    }

    fn len(&mut self, long: bool) -> Result<usize, DistError> {
        if long { self.u16().ok_or(DistError::Truncated) } else { Ok(self.u8()?.into()) }
    }

    /// The number and serial of a pid; `Some(None)` if there is something else.
    fn process(&mut self) -> Option<Option<(u32, u32)>> {
        if !matches!(self.peek()?, 88 | 103) {
            return Some(None);
        }
        self.bytes(1).ok()?;
        self.skip_term()?;
        Some(Some((self.u32()?, self.u32()?)))
    }

    /// Goes over a term of the kinds that stand before a sender: numbers, atoms, identifiers.
    fn skip_term(&mut self) -> Option<()> {
        let rest = match self.bytes(1).ok()?[0] {
            82 | 97 => 1,                            // a place in the header, a small integer
            98 => 4,                                 // an integer
            110 => usize::from(self.u8().ok()?) + 1, // a larger one
            100 | 118 => self.u16()?,                // an atom
            115 | 119 => self.u8().ok()?.into(),     // a short one
            88 => {
                self.skip_term()?;
                12
            }
            103 => {
                self.skip_term()?;
                9
            }
            90 => {
                let words = self.u16()?;
                self.skip_term()?;
                4 + 4 * words
            }
            114 => {
                let words = self.u16()?;
                self.skip_term()?;
                1 + 4 * words
            }
            _ => return None,
        };
        self.bytes(rest).ok().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An atom of a header: its place, and its text if it is new.
    type Named = (usize, Option<Vec<u8>>);

    fn header(atoms: &[Named], long: bool) -> Vec<u8> {
        let mut out = vec![VERSION, DIST_HEADER, atoms.len() as u8];
        if atoms.is_empty() {
            return out;
        }
        let mut flags = vec![0; atoms.len() / 2 + 1];
        let mut set = |i: usize, four: u8| flags[i / 2] |= four << (4 * (i % 2));
        for (i, (place, text)) in atoms.iter().enumerate() {
            set(i, (place >> 8) as u8 | if text.is_some() { NEW_ENTRY } else { 0 });
        }
        set(atoms.len(), long.into());
        out.extend(flags);
        for (place, text) in atoms {
            out.push(*place as u8);
            if let Some(text) = text {
                if long {
                    out.extend((text.len() as u16).to_be_bytes());
                } else {
                    out.push(text.len() as u8);
                }
                out.extend(text);
            }
        }
        out
    }

    /// What a receiver makes of a header that names everything.
    fn read(header: &[u8]) -> (Vec<(usize, Vec<u8>)>, usize) {
        let count = usize::from(header[2]);
        if count == 0 {
            return (Vec::new(), 3);
        }
        let flags = &header[3..3 + count / 2 + 1];
        let four = |i: usize| flags[i / 2] >> (4 * (i % 2)) & 15;
        let long = four(count) & 1 == 1;
        let mut at = 3 + flags.len();
        let mut atoms = Vec::new();
        for i in 0..count {
            assert_eq!(four(i) & NEW_ENTRY, NEW_ENTRY);
            let place = usize::from(four(i) & 7) << 8 | usize::from(header[at]);
            let len = match long {
                true => usize::from(header[at + 1]) << 8 | usize::from(header[at + 2]),
                false => header[at + 1].into(),
            };
            at += if long { 3 } else { 2 };
            atoms.push((place, header[at..at + len].to_vec()));
            at += len;
        }
        (atoms, at)
    }

    #[test]
    fn a_header_brings_all_its_atoms_whichever_messages_came_before() {
        let long_name = vec![b'x'; 300];
        let mut cache = AtomCache::default();
        let mut unbound = |atoms: &[Named], long: bool| {
            let mut message = header(atoms, long);
            let len = message.len();
            message.extend(b"control");
            let mut out = BytesMut::new();
            assert_eq!(cache.unbind(&message, &mut out), Ok(len));
            let (atoms, end) = read(&out);
            assert_eq!(end, out.len());
            atoms
        };
        let new = |place: usize, text: &[u8]| (place, Some(text.to_vec()));
        assert_eq!(unbound(&[], false), []);
        assert_eq!(unbound(&[new(5, b"ok")], false), [(5, b"ok".to_vec())]);
        assert_eq!(
            unbound(&[(5, None), new(2047, &long_name)], true),
            [(5, b"ok".to_vec()), (2047, long_name.clone())]
        );
        // Long lengths are used where an atom that is only named now needs them.
        assert_eq!(
            unbound(&[(2047, None), (5, None), new(5 + 256, b"a")], false),
            [(2047, long_name), (5, b"ok".to_vec()), (261, b"a".to_vec())]
        );
        // The empty atom is one too.
        assert_eq!(unbound(&[new(6, b"")], false), [(6, b"".to_vec())]);
        assert_eq!(unbound(&[(6, None)], false), [(6, b"".to_vec())]);
        // A place is given to another atom.
        assert_eq!(unbound(&[new(5, b"error")], false), [(5, b"error".to_vec())]);
        assert_eq!(unbound(&[(5, None)], false), [(5, b"error".to_vec())]);
    }

    #[test]
    fn what_is_no_message_for_a_carrier_is_an_error() {
        let mut cache = AtomCache::default();
        let mut unbind = |message: &[u8]| cache.unbind(message, &mut BytesMut::new());
        assert_eq!(unbind(&[131, 69, 0]), Err(DistError::Unknown([131, 69])));
        assert_eq!(unbind(&[1]), Err(DistError::Unknown([1, 0])));
        assert_eq!(unbind(&header(&[(7, None)], false)), Err(DistError::NoAtom(7)));
        assert_eq!(unbind(b"p\x83h\x01"), Ok(1));
        let whole = header(&[(7, Some(b"atom".to_vec()))], false);
        for cut in 0..whole.len() {
            assert_eq!(unbind(&whole[..cut]), Err(DistError::Truncated), "{cut}");
        }
        // What was cut short has left nothing behind.
        assert_eq!(unbind(&header(&[(7, None)], false)), Err(DistError::NoAtom(7)));
    }

    /// `{Operation, Terms...}` with these bytes of terms.
    fn control(operation: u8, terms: &[&[u8]]) -> Vec<u8> {
        [&[104, terms.len() as u8 + 1, 97, operation][..], &terms.concat()].concat()
    }

    const PID: &[u8] = &[88, 82, 0, 0, 0, 1, 44, 0, 0, 0, 2, 0, 0, 0, 9];
    const OTHER: &[u8] = &[88, 82, 1, 0, 0, 0, 50, 0, 0, 0, 0, 0, 0, 0, 9];
    const REF: &[u8] = &[90, 0, 2, 82, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 2];
    const NAME: &[u8] = &[82, 3];
    const SMALL: &[u8] = &[97, 1];
    const BIG: &[u8] = &[110, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8];

    #[test]
    fn control_messages_say_who_sends() {
        let of_pid = Order::Behind { id: 300, serial: 2 };
        let operations: [(u8, &[&[u8]]); 28] = [
            (1, &[PID, OTHER]),
            (3, &[PID, OTHER, NAME]),
            (6, &[PID, NAME, NAME]),
            (7, &[PID, OTHER]),
            (8, &[PID, OTHER, NAME]),
            (13, &[PID, OTHER, NAME, NAME]),
            (16, &[PID, NAME, NAME, NAME]),
            (18, &[PID, OTHER, NAME, NAME]),
            (19, &[PID, NAME, REF]),
            (20, &[PID, NAME, REF]),
            (21, &[PID, OTHER, REF, NAME]),
            (22, &[PID, OTHER]),
            (23, &[PID, OTHER, NAME]),
            (24, &[PID, OTHER]),
            (25, &[PID, OTHER, NAME]),
            (26, &[PID, OTHER]),
            (27, &[PID, OTHER, NAME]),
            (28, &[PID, OTHER, REF]),
            (29, &[REF, PID, OTHER, NAME, NAME]),
            (30, &[REF, PID, OTHER, NAME, NAME, NAME]),
            (31, &[REF, OTHER, SMALL, PID]),
            (32, &[REF, OTHER, SMALL, PID, NAME]),
            (33, &[PID, REF]),
            (34, &[PID, REF, NAME]),
            (35, &[BIG, PID, OTHER]),
            (35, &[SMALL, PID, OTHER]),
            (36, &[BIG, PID, OTHER]),
            (37, &[SMALL, PID, OTHER]),
        ];
        for (operation, terms) in operations {
            let bytes = control(operation, terms);
            assert_eq!(Order::of(&bytes), of_pid, "operation {operation}");
            assert_eq!(Order::of(&[&[VERSION], &bytes[..]].concat()), of_pid, "with its version");
        }
    }

    #[test]
    fn what_has_no_sender_goes_behind_all() {
        // SEND, DOWN of a monitor by name, what nobody knows yet, what is cut short.
        for bytes in [
            control(2, &[NAME, OTHER]),
            control(12, &[NAME, OTHER, NAME]),
            control(21, &[NAME, OTHER, REF, NAME]),
            control(28, &[NAME, OTHER, REF]),
            control(99, &[PID, OTHER]),
            control(22, &[&PID[..9]]),
            vec![104],
        ] {
            assert_eq!(Order::of(&bytes), Order::BehindAll, "{bytes:?}");
        }
        // The error of a process that was not started.
        assert_eq!(Order::of(&control(31, &[REF, OTHER, SMALL, NAME])), Order::Free);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut cache = AtomCache::default();
            let _ = cache.unbind(&bytes, &mut BytesMut::new());
            let _ = cache.unbind(&[&[131, 68], &bytes[..]].concat(), &mut BytesMut::new());
            let _ = Order::of(&bytes);
            let _ = Order::of(&[&[104, 3, 97], &bytes[..]].concat());
        }
    }
}
