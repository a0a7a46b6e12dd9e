//! The two kinds of pool connections, and the frames of bulk ones: fragments of large messages.
//!
//! An express connection carries [batches](super::batch) only and a bulk connection fragments only, so that the reader of a bulk
//! connection can read a fixed header and then straight into the message's own buffer.

use super::{WireError, envelope::MAX_ENVELOPE_LEN};
use bytes::{Buf, BufMut, BytesMut};

/// What a pool connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Messages up to [`EXPRESS_LIMIT`], batched.
    Express,
    /// Larger messages, in fragments.
    Bulk,
}

/// The largest body, in bytes, that travels over express connections.
pub const EXPRESS_LIMIT: usize = 64 * 1024;

/// Bytes of a fragment's fixed header.
pub const FRAGMENT_HEADER_LEN: usize = 32;

/// The smallest fragment size a sender may choose (the last fragment of a message may be shorter).
pub const MIN_FRAGMENT_SIZE: u32 = 16 * 1024;

/// The largest fragment size a sender may choose.
pub const MAX_FRAGMENT_SIZE: u32 = 16 * 1024 * 1024;

const FRAGMENT: u8 = 2;
const PROBE: u8 = 3;

/// What asks whether a bulk connection passes anything on: as long as the header of a fragment, and none. The receiver counts it
/// like any frame, and says so.
pub const BULK_PROBE: [u8; FRAGMENT_HEADER_LEN] = {
    let mut probe = [0; FRAGMENT_HEADER_LEN];
    probe[3] = FRAGMENT_HEADER_LEN as u8 - 4;
    probe[4] = PROBE;
    probe
};

/// The fixed header of a fragment.
///
/// A message's fragments lie on a grid: number `index` begins at `index * fragment_size`, and all but the last have
/// `fragment_size` bytes. The message's envelope goes with fragment 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentHeader {
    /// The message's number.
    pub seq: u64,
    /// Bytes of the message's body.
    pub total: u64,
    /// The grid, in bytes.
    pub fragment_size: u32,
    /// Which fragment this is.
    pub index: u32,
    /// Bytes of envelope between this header and the data; 0 but in fragment 0.
    pub envelope_len: u16,
    /// The message does not count against the window.
    pub exempt: bool,
    /// The message is distributed Erlang's own.
    pub carried: bool,
}

const EXEMPT: u8 = 1;
const CARRIED: u8 = 2;

impl FragmentHeader {
    /// Bytes of the body that this fragment carries.
    pub fn data_len(&self) -> u64 {
        let offset = u64::from(self.index) * u64::from(self.fragment_size);
        (self.total - offset).min(self.fragment_size.into())
    }

    /// Fragments of the whole message.
    pub fn fragments(&self) -> u64 {
        self.total.div_ceil(self.fragment_size.into())
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let len = (FRAGMENT_HEADER_LEN - 4) as u64 + u64::from(self.envelope_len) + self.data_len();
        out.put_u32(len as u32);
        out.put_u8(FRAGMENT);
        out.put_u8((u8::from(self.exempt) * EXEMPT) | (u8::from(self.carried) * CARRIED));
        out.put_u16(self.envelope_len);
        out.put_u64(self.seq);
        out.put_u64(self.total);
        out.put_u32(self.fragment_size);
        out.put_u32(self.index);
    }

    /// Reads the header, and refuses whatever contradicts itself.
    ///
    /// # Errors
    ///
    /// [`WireError`] if the bytes are no header.
    pub fn decode(bytes: &[u8; FRAGMENT_HEADER_LEN]) -> Result<Self, WireError> {
        let mut input = &bytes[..];
        let len = u64::from(input.get_u32());
        let kind = input.get_u8();
        if kind != FRAGMENT {
            return Err(WireError::Unknown { field: "frame type on a bulk connection", value: kind.into() });
        }
        let flags = input.get_u8();
        if flags & !(EXEMPT | CARRIED) != 0 {
            return Err(WireError::Unknown { field: "fragment flags", value: flags.into() });
        }
        let envelope_len = input.get_u16();
        let (seq, total) = (input.get_u64(), input.get_u64());
        let (fragment_size, index) = (input.get_u32(), input.get_u32());
        let out_of_range =
            |field, value: u64, allowed: u64| Err(WireError::OutOfRange { field, value, allowed });
        if !(MIN_FRAGMENT_SIZE..=MAX_FRAGMENT_SIZE).contains(&fragment_size) {
            return out_of_range("fragment size", fragment_size.into(), MAX_FRAGMENT_SIZE.into());
        }
        let (exempt, carried) = (flags & EXEMPT != 0, flags & CARRIED != 0);
        let header = Self { seq, total, fragment_size, index, envelope_len, exempt, carried };
        if total == 0 || u64::from(index) >= header.fragments() {
            return out_of_range("fragment index", index.into(), header.fragments().saturating_sub(1));
        }
        if (index == 0) != (envelope_len > 0) || usize::from(envelope_len) > MAX_ENVELOPE_LEN {
            return out_of_range("envelope length", envelope_len.into(), MAX_ENVELOPE_LEN as u64);
        }
        let expected = (FRAGMENT_HEADER_LEN - 4) as u64 + u64::from(envelope_len) + header.data_len();
        if len != expected {
            return out_of_range("fragment length", len, expected);
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_fragment_header_survives_the_wire(
            seq: u64, total in 1u64..1 << 40, fragment_size in MIN_FRAGMENT_SIZE..=MAX_FRAGMENT_SIZE,
            pick: prop::sample::Index, exempt: bool, carried: bool,
        ) {
            let fragments = total.div_ceil(fragment_size.into()).min(u32::MAX.into());
            let index = pick.index(fragments as usize) as u32;
            let envelope_len = if index == 0 { 17 } else { 0 };
            let header = FragmentHeader { seq, total, fragment_size, index, envelope_len, exempt, carried };
            let mut out = BytesMut::new();
            header.encode(&mut out);
            let bytes: [u8; FRAGMENT_HEADER_LEN] = out[..].try_into().unwrap();
            prop_assert_eq!(FragmentHeader::decode(&bytes), Ok(header));
        }

        #[test]
        fn arbitrary_headers_never_panic(bytes: [u8; FRAGMENT_HEADER_LEN]) {
            let _ = FragmentHeader::decode(&bytes);
        }
    }

    #[test]
    fn a_bulk_probe_is_no_fragment_and_neither_is_a_damaged_one() {
        for bit in 0..8 * FRAGMENT_HEADER_LEN {
            let mut damaged = BULK_PROBE;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(FragmentHeader::decode(&damaged).is_err(), "bit {bit}");
        }
        assert!(FragmentHeader::decode(&BULK_PROBE).is_err());
    }

    #[test]
    fn fragment_lengths_add_up_to_the_message() {
        for total in [1u64, 16_383, 16_384, 16_385, 1_000_000] {
            let header = |index| FragmentHeader {
                seq: 1,
                total,
                fragment_size: MIN_FRAGMENT_SIZE,
                index,
                envelope_len: 0,
                exempt: false,
                carried: false,
            };
            let fragments = header(0).fragments() as u32;
            assert_eq!((0..fragments).map(|index| header(index).data_len()).sum::<u64>(), total);
        }
    }
}
