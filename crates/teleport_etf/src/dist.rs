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
        let (mut input, mut is_long) = (Cursor(entries), false);
        let mut places = [0; u8::MAX as usize];
        let places = &mut places[..count];
        for (i, named) in places.iter_mut().enumerate() {
            let four = four_bits(i);
            let place = usize::from(four & 7) << 8 | usize::from(input.u8()?);
            if four & NEW_ENTRY != 0 {
                let len = input.len(long)?;
                self.atoms[place] = Some(Bytes::copy_from_slice(input.bytes(len)?));
            }
            let atom = self.atoms[place].as_ref().ok_or(DistError::NoAtom(place))?;
            is_long |= atom.len() > u8::MAX.into();
            *named = place;
        }
        out.put_slice(&[VERSION, DIST_HEADER, count as u8]);
        let four_bits_of = |i: usize| match places.get(i) {
            Some(place) => NEW_ENTRY | (place >> 8) as u8,
            None if i == count => u8::from(is_long),
            None => 0,
        };
        (0..=count / 2).for_each(|byte| out.put_u8(four_bits_of(2 * byte) | four_bits_of(2 * byte + 1) << 4));
        for &place in &*places {
            // All of them were there a moment ago.
            let atom = self.atoms[place].as_deref().unwrap_or_default();
            out.put_u8(place as u8);
            if is_long {
                out.put_u16(atom.len() as u16);
            } else {
                out.put_u8(atom.len() as u8);
            }
            out.put_slice(atom);
        }
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
        order(control, place_of_sender).unwrap_or(Self::BehindAll)
    }
}

/// Where a control message has the process that it comes from, in terms behind the operation; `None` where it has none. Of the
/// operations that are not known here, nobody knows. GROUP_LEADER has none: what it names is the leader.
fn place_of_sender(operation: u8) -> Option<usize> {
    Some(match operation {
        // LINK, EXIT, REG_SEND, EXIT2, those with a trace token, MONITOR_P, DEMONITOR_P, MONITOR_P_EXIT, SEND_SENDER, and those
        // with their reason in the payload, ALIAS_SEND.
        1 | 3 | 6 | 8 | 13 | 16 | 18..=28 | 33 | 34 => 0,
        // SPAWN_REQUEST, UNLINK_ID, UNLINK_ID_ACK, ALTACT_SIG_SEND.
        29 | 30 | 35..=37 => 1,
        // SPAWN_REPLY: nothing of the child may come before it.
        31 | 32 => 3,
        _ => return None,
    })
}

const SPAWN_REPLY: [u8; 2] = [31, 32];

fn order(control: &[u8], place_of_sender: impl Fn(u8) -> Option<usize>) -> Option<Order> {
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
    match input.sender()? {
        Sender::Process { id, serial } => Some(Order::Behind { id, serial }),
        // There is no child that could send anything.
        Sender::Other if SPAWN_REPLY.contains(&operation) => Some(Order::Free),
        Sender::Other => None,
    }
}

/// What stands where a control message has its sender.
enum Sender {
    /// The number and serial of a pid.
    Process {
        id: u32,
        serial: u32,
    },
    Other,
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

    /// Reads who sends. `None` if the message ends before.
    fn sender(&mut self) -> Option<Sender> {
        if !matches!(self.peek()?, 88 | 103) {
            return Some(Sender::Other);
        }
        self.bytes(1).ok()?;
        self.skip_term()?;
        Some(Sender::Process { id: self.u32()?, serial: self.u32()? })
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
    const LEADER: &[u8] = &[88, 82, 0, 0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 9];
    const REF: &[u8] = &[90, 0, 2, 82, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 2];
    const NAME: &[u8] = &[82, 3];
    const SMALL: &[u8] = &[97, 1];
    const BIG: &[u8] = &[110, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8];

    const OF_PID: Order = Order::Behind { id: 300, serial: 2 };

    /// OTP's distributed operations, and by whom each is ordered. Where a process sends it is `PID`, and no other pid is equal.
    const OPERATIONS: &[(u8, &str, &[&[u8]], Order)] = &[
        (1, "LINK", &[PID, OTHER], OF_PID),
        (2, "SEND", &[NAME, OTHER], Order::BehindAll),
        (3, "EXIT", &[PID, OTHER, NAME], OF_PID),
        (5, "NODE_LINK", &[], Order::BehindAll),
        (6, "REG_SEND", &[PID, NAME, NAME], OF_PID),
        (7, "GROUP_LEADER", &[LEADER, OTHER], Order::BehindAll),
        (8, "EXIT2", &[PID, OTHER, NAME], OF_PID),
        (12, "SEND_TT", &[NAME, OTHER, NAME], Order::BehindAll),
        (13, "EXIT_TT", &[PID, OTHER, NAME, NAME], OF_PID),
        (16, "REG_SEND_TT", &[PID, NAME, NAME, NAME], OF_PID),
        (18, "EXIT2_TT", &[PID, OTHER, NAME, NAME], OF_PID),
        (19, "MONITOR_P", &[PID, OTHER, REF], OF_PID),
        (19, "MONITOR_P of a name", &[PID, NAME, REF], OF_PID),
        (20, "DEMONITOR_P", &[PID, OTHER, REF], OF_PID),
        (20, "DEMONITOR_P of a name", &[PID, NAME, REF], OF_PID),
        (21, "MONITOR_P_EXIT", &[PID, OTHER, REF, NAME], OF_PID),
        (21, "MONITOR_P_EXIT of a name", &[NAME, OTHER, REF, NAME], Order::BehindAll),
        (22, "SEND_SENDER", &[PID, OTHER], OF_PID),
        (23, "SEND_SENDER_TT", &[PID, OTHER, NAME], OF_PID),
        (24, "PAYLOAD_EXIT", &[PID, OTHER], OF_PID),
        (25, "PAYLOAD_EXIT_TT", &[PID, OTHER, NAME], OF_PID),
        (26, "PAYLOAD_EXIT2", &[PID, OTHER], OF_PID),
        (27, "PAYLOAD_EXIT2_TT", &[PID, OTHER, NAME], OF_PID),
        (28, "PAYLOAD_MONITOR_P_EXIT", &[PID, OTHER, REF], OF_PID),
        (28, "PAYLOAD_MONITOR_P_EXIT of a name", &[NAME, OTHER, REF], Order::BehindAll),
        (29, "SPAWN_REQUEST", &[REF, PID, LEADER, NAME, NAME], OF_PID),
        (30, "SPAWN_REQUEST_TT", &[REF, PID, LEADER, NAME, NAME, NAME], OF_PID),
        (31, "SPAWN_REPLY", &[REF, OTHER, SMALL, PID], OF_PID),
        (31, "SPAWN_REPLY of an error", &[REF, OTHER, SMALL, NAME], Order::Free),
        (32, "SPAWN_REPLY_TT", &[REF, OTHER, SMALL, PID, NAME], OF_PID),
        (32, "SPAWN_REPLY_TT of an error", &[REF, OTHER, SMALL, NAME, NAME], Order::Free),
        (33, "ALIAS_SEND", &[PID, REF], OF_PID),
        (34, "ALIAS_SEND_TT", &[PID, REF, NAME], OF_PID),
        (35, "UNLINK_ID", &[BIG, PID, OTHER], OF_PID),
        (35, "UNLINK_ID, early in a node's life", &[SMALL, PID, OTHER], OF_PID),
        (36, "UNLINK_ID_ACK", &[BIG, PID, OTHER], OF_PID),
        (36, "UNLINK_ID_ACK, early in a node's life", &[SMALL, PID, OTHER], OF_PID),
        (37, "ALTACT_SIG_SEND to a process", &[SMALL, PID, OTHER], OF_PID),
        (37, "ALTACT_SIG_SEND to a name, with a token", &[SMALL, PID, NAME, NAME], OF_PID),
        (37, "ALTACT_SIG_SEND to an alias", &[SMALL, PID, REF], OF_PID),
    ];

    #[test]
    fn each_operation_is_ordered_by_its_sender() {
        for (operation, name, terms, order) in OPERATIONS {
            let bytes = control(*operation, terms);
            assert_eq!(Order::of(&bytes), *order, "{name}");
            assert_eq!(Order::of(&[&[VERSION], &bytes[..]].concat()), *order, "{name}, with its version");
        }
    }

    /// Each operation in turn is given another place of its sender, or none.
    #[test]
    fn a_wrong_place_of_the_sender_is_caught() {
        let operations: std::collections::BTreeSet<u8> = OPERATIONS.iter().map(|row| row.0).collect();
        let wrong_rows = |operation: u8, place: Option<usize>| {
            let of = |other| if other == operation { place } else { place_of_sender(other) };
            let differs = |row: &&(u8, &str, &[&[u8]], Order)| {
                order(&control(row.0, row.2), of).unwrap_or(Order::BehindAll) != row.3
            };
            OPERATIONS.iter().filter(differs).count()
        };
        for operation in operations {
            let most = OPERATIONS.iter().filter(|row| row.0 == operation).map(|row| row.2.len()).max();
            for place in (0..most.unwrap_or(0)).map(Some).chain([None]) {
                let right = place == place_of_sender(operation);
                // What goes behind all goes there too when a place is said that has no process.
                let harmless = place.is_some_and(|place| {
                    let behind_all = |row: &(u8, &str, &[&[u8]], Order)| {
                        row.3 == Order::BehindAll && row.2.get(place).is_none_or(|term| term[0] != 88)
                    };
                    OPERATIONS.iter().filter(|row| row.0 == operation).all(behind_all)
                });
                let caught = wrong_rows(operation, place);
                assert_eq!(caught == 0, right || harmless, "operation {operation} at {place:?}: {caught}");
            }
        }
    }

    #[test]
    fn what_is_not_known_goes_behind_all() {
        // An operation of a later release, and what is cut short.
        for bytes in [control(99, &[PID, OTHER]), control(22, &[&PID[..9]]), vec![104]] {
            assert_eq!(Order::of(&bytes), Order::BehindAll, "{bytes:?}");
        }
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
