//! How this crate's own types come out of serde.

use std::fmt;

use bytes::Bytes;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use super::opened;
use super::token::Token;
use crate::binary::Binary;
use crate::error::DecodeError;
use crate::ident::{Pid, Port, Reference};
use crate::limits::Limits;
use crate::term::Term;
use crate::{handoff, tokens};

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Binary, D::Error> {
        deserializer.deserialize_byte_buf(BinaryVisitor).map(Binary::from)
    }
}

/// Takes bytes in any shape, by reference if they have been handed over.
pub(crate) struct BinaryVisitor;

impl<'de> Visitor<'de> for BinaryVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a binary")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
        Ok(handoff::claim_bytes(bytes).unwrap_or_else(|| Bytes::copy_from_slice(bytes)))
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
        Ok(bytes.into())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
        self.visit_bytes(text.as_bytes())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Bytes, E> {
        Ok(text.into())
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Bytes, D::Error> {
        deserializer.deserialize_byte_buf(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Bytes, A::Error> {
        let mut bytes = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(4096));
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes.into())
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

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Term, A::Error> {
        BinaryVisitor.visit_seq(seq).and_then(TermVisitor::decode)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Term, D::Error> {
        deserializer.deserialize_byte_buf(self)
    }
}

macro_rules! deserialize_from_document {
    ($type:ident, $expected:literal, $found:pat => $taken:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                let document = deserializer.deserialize_newtype_struct(tokens::RAW, BinaryVisitor)?;
                let read = opened(&document, &Limits::default(), |mut reader, _| match reader.token()? {
                    Token::$type($found) => reader.finish().map(|()| $taken),
                    found => {
                        Err(DecodeError::Unexpected { expected: $expected, found: found.name(), offset: 1 })
                    }
                });
                read.map_err(de::Error::custom)
            }
        }
    };
}

deserialize_from_document!(Pid, "a pid", pid => pid);
deserialize_from_document!(Port, "a port", port => *port);
deserialize_from_document!(Reference, "a reference", reference => *reference);
