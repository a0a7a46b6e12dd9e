//! Terms that are passed on without being decoded.

use std::fmt;

use bytes::Bytes;
use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::decode::{BinaryVisitor, from_bytes_with, from_term_with};
use crate::encode::{Writer, to_segments};
use crate::error::{DecodeError, EncodeError};
use crate::limits::Limits;
use crate::segments::Segments;
use crate::{handoff, tokens};

/// A term kept as the bytes it came in: checked, and decoded later, elsewhere or never.
///
/// For programs that pass terms on, or learn only from the rest of a message which type a part of it has. In a serde type it
/// takes the bytes of the whole term in its place, however that is built, and gives them back as they are: a term in one
/// of the format's older forms stays in that form.
///
/// [`from_bytes`](crate::from_bytes) walks over the term, with all limits, before it makes it a `RawTerm`; as with
/// [`validate`](crate::validate), duplicate keys of a map are found only by [`decode`](RawTerm::decode) to a
/// [`Term`](crate::Term). [`Limits::max_depth`] counts from the term itself.
///
/// The bytes are a slice of the document, however short, and keep all of it alive. `RawTerm::new(&raw)` makes a copy that
/// does not. [`to_segments`](crate::to_segments) takes them by reference from
/// [`BY_REFERENCE`](crate::BY_REFERENCE) bytes up.
///
/// With another serde format it is a byte string that holds the term's document; there the default
/// [`Limits`] hold, so a compressed document is refused.
///
/// ```
/// use teleport_etf::{Atom, Binary, RawTerm, from_bytes, to_segments};
///
/// let picture = Binary::from(vec![7; 1 << 20]);
/// let message = (Atom::from_static("store"), ("a.png", picture.clone()));
/// let received = to_segments(&message)?.into_contiguous();
///
/// let (request, argument): (Atom, RawTerm) = from_bytes(&received)?;
/// assert!(received.as_ptr_range().contains(&argument.as_slice().as_ptr()));
/// if request == Atom::from_static("store") {
///     assert_eq!(argument.decode::<(String, Binary)>()?, ("a.png".to_string(), picture));
/// }
///
/// let passed_on = to_segments(&(Atom::from_static("copy"), argument.clone()))?;
/// assert!(passed_on.iter().any(|segment| segment.as_ptr() == argument.as_slice().as_ptr()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RawTerm(Bytes);

impl RawTerm {
    /// Encodes a value. All of it is copied into one block, large binaries too.
    ///
    /// A `RawTerm` as the value is copied likewise, and then does not keep the document alive that it came from.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] as [`to_segments`](crate::to_segments).
    pub fn new<T: Serialize + ?Sized>(value: &T) -> Result<RawTerm, EncodeError> {
        let document = to_segments(value)?.into_contiguous();
        // A document begins with the version byte, so there is a byte to leave out.
        Ok(RawTerm(document.slice(1..)))
    }

    /// Takes the term of a document, within the default [`Limits`]: a slice of it.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the document is malformed, or more than the limits allow.
    pub fn from_bytes(document: Bytes) -> Result<RawTerm, DecodeError> {
        RawTerm::from_bytes_with(document, &Limits::default())
    }

    /// Takes the term of a document, within limits of the caller's choice: a slice of it, or inflated if it is compressed and
    /// the limits allow that.
    ///
    /// # Errors
    ///
    /// As [`from_bytes`](RawTerm::from_bytes).
    pub fn from_bytes_with(document: Bytes, limits: &Limits) -> Result<RawTerm, DecodeError> {
        from_bytes_with(&document, limits)
    }

    /// Decodes the term into a value, within the default [`Limits`]; see [`from_bytes`](crate::from_bytes).
    ///
    /// Positions in errors count from the term's first byte.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the term is of another type than `T`, or more than the limits allow.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        self.decode_with(&Limits::default())
    }

    /// Decodes the term into a value, within limits of the caller's choice; see [`decode`](RawTerm::decode).
    ///
    /// Binaries are copied or sliced by the length of this term, unless [`Limits::backing_len`] tells that of the document
    /// around it.
    ///
    /// # Errors
    ///
    /// As [`decode`](RawTerm::decode).
    pub fn decode_with<T: DeserializeOwned>(&self, limits: &Limits) -> Result<T, DecodeError> {
        from_term_with(&self.0, limits)
    }

    /// The term as a document, with the version byte: a copy.
    pub fn to_bytes(&self) -> Bytes {
        self.clone().into_document().into_contiguous()
    }

    /// The term as a document, with the version byte; by reference from [`BY_REFERENCE`](crate::BY_REFERENCE) bytes up.
    pub fn into_document(self) -> Segments {
        let mut out = Writer::document();
        out.put_shared(self.0);
        out.finish()
    }

    /// The term's bytes, without the version byte.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Length in bytes, without the version byte.
    #[allow(clippy::len_without_is_empty, reason = "no term is empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// The length only: payloads do not belong in logs.
impl fmt::Debug for RawTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawTerm({} bytes)", self.0.len())
    }
}

impl Serialize for RawTerm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(tokens::RAW_TERM, &Inside(self))
    }
}

/// Hands over the bytes to this crate's serializer, or gives a document to another.
struct Inside<'a>(&'a RawTerm);

impl Serialize for Inside<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Inside(RawTerm(term)) = self;
        if handoff::offer_segments(|| Ok::<_, S::Error>(term.clone().into()))? {
            return serializer.serialize_unit();
        }
        serializer.serialize_bytes(&self.0.to_bytes())
    }
}

impl<'de> Deserialize<'de> for RawTerm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawTerm, D::Error> {
        deserializer.deserialize_newtype_struct(tokens::RAW_TERM, RawTermVisitor)
    }
}

/// Takes what has been handed over as it is; bytes from elsewhere are a document, and nobody has checked them.
struct RawTermVisitor;

impl RawTermVisitor {
    fn check<E: de::Error>(document: Bytes) -> Result<RawTerm, E> {
        RawTerm::from_bytes(document).map_err(E::custom)
    }
}

impl<'de> Visitor<'de> for RawTermVisitor {
    type Value = RawTerm;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a term, or a document in the external term format as bytes")
    }

    fn visit_unit<E: de::Error>(self) -> Result<RawTerm, E> {
        handoff::claim_raw_term().map(RawTerm).ok_or_else(|| E::invalid_type(de::Unexpected::Unit, &self))
    }

    fn visit_bytes<E: de::Error>(self, document: &[u8]) -> Result<RawTerm, E> {
        RawTermVisitor::check(Bytes::copy_from_slice(document))
    }

    fn visit_byte_buf<E: de::Error>(self, document: Vec<u8>) -> Result<RawTerm, E> {
        RawTermVisitor::check(document.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<RawTerm, A::Error> {
        BinaryVisitor.visit_seq(seq).and_then(RawTermVisitor::check)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawTerm, D::Error> {
        deserializer.deserialize_byte_buf(self)
    }
}
