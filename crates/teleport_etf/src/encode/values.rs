//! How this crate's own types go into serde.

use serde::ser::{self, Serialize, Serializer};

use super::writer::{BY_REFERENCE, Writer};
use crate::binary::Binary;
use crate::ident::{Pid, Port, Reference};
use crate::term::Term;
use crate::{handoff, tokens};

impl Serialize for Binary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.len() < BY_REFERENCE {
            return serializer.serialize_bytes(self); // it is copied anyway
        }
        handoff::with_bytes(self.as_bytes().clone(), || serializer.serialize_bytes(self))
    }
}

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

macro_rules! serialize_as_document {
    ($type:ident, $write:ident) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut document = Writer::document();
                document.$write(self);
                serializer.serialize_newtype_struct(tokens::RAW, &Raw(document.as_small()))
            }
        }
    };
}

serialize_as_document!(Pid, put_pid);
serialize_as_document!(Port, put_port);
serialize_as_document!(Reference, put_reference);

/// A document in the shape that every serde format takes.
pub(super) struct Raw<'a>(pub(super) &'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}
