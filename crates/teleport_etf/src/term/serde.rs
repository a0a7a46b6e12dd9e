use std::fmt;

use bytes::Bytes;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{self, Serialize, Serializer};

use super::Term;
use crate::binary::BinaryVisitor;
use crate::{handoff, tokens};

impl Serialize for Term {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(tokens::TERM, &Inside(self))
    }
}

/// Hands over segments to this crate's serializer, or gives a document to another.
struct Inside<'a>(&'a Term);

impl Serialize for Inside<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let handed_over = handoff::offer_segments(|| self.0.encode()).map_err(ser::Error::custom)?;
        if handed_over {
            return serializer.serialize_unit();
        }
        let document = self.0.encode().map_err(ser::Error::custom)?;
        serializer.serialize_bytes(&document.into_contiguous())
    }
}

impl<'de> Deserialize<'de> for Term {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Term, D::Error> {
        deserializer.deserialize_newtype_struct(tokens::TERM, TermVisitor)
    }
}

struct TermVisitor;

impl TermVisitor {
    fn decode<E: de::Error>(document: Bytes) -> Result<Term, E> {
        Term::decode(&document).map_err(E::custom)
    }
}

impl<'de> Visitor<'de> for TermVisitor {
    type Value = Term;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a term, or a document in the external term format as bytes")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Term, E> {
        handoff::claim_term().ok_or_else(|| E::invalid_type(de::Unexpected::Unit, &self))
    }

    fn visit_bytes<E: de::Error>(self, document: &[u8]) -> Result<Term, E> {
        TermVisitor::decode(Bytes::copy_from_slice(document))
    }

    fn visit_byte_buf<E: de::Error>(self, document: Vec<u8>) -> Result<Term, E> {
        TermVisitor::decode(document.into())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<Term, A::Error> {
        BinaryVisitor.visit_seq(seq).and_then(TermVisitor::decode)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Term, D::Error> {
        deserializer.deserialize_byte_buf(self)
    }
}
