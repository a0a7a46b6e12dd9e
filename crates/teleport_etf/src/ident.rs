//! Pids, ports and references: names that a node gave.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use crate::atom::{Atom, write_atom};
use crate::binary::BinaryVisitor;
use crate::decode::{Token, opened};
use crate::encode::Writer;
use crate::error::DecodeError;
use crate::limits::Limits;
use crate::tokens;

/// The name of a process.
///
/// In a serde type it is a pid in the external term format; in any other format, a byte string that holds its external
/// term format.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid {
    /// The node it lives on, `name@host`.
    pub node: Atom,
    /// Number of the process on its node.
    pub id: u32,
    /// High part of the number.
    pub serial: u32,
    /// The node's incarnation.
    pub creation: u32,
}

/// The name of a port.
///
/// In serde as [`Pid`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The node it is open on.
    pub node: Atom,
    /// Number of the port on its node.
    pub id: u64,
    /// The node's incarnation.
    pub creation: u32,
}

/// A reference, from `make_ref/0`, `monitor/2` or `alias/0`.
///
/// In serde as [`Pid`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    node: Atom,
    creation: u32,
    words: [u32; Reference::MAX_WORDS],
    count: u8,
}

impl Reference {
    /// The greatest number of words in a reference.
    pub const MAX_WORDS: usize = 5;

    /// A reference of one to five words, as they stand in the external format; `None` for any other number of them.
    pub fn new(node: Atom, creation: u32, words: &[u32]) -> Option<Reference> {
        if words.is_empty() || words.len() > Reference::MAX_WORDS {
            return None;
        }
        let mut padded = [0; Reference::MAX_WORDS];
        padded[..words.len()].copy_from_slice(words);
        Some(Reference { node, creation, words: padded, count: words.len() as u8 })
    }

    /// The node that made it.
    pub fn node(&self) -> &Atom {
        &self.node
    }

    /// The node's incarnation.
    pub fn creation(&self) -> u32 {
        self.creation
    }

    /// Its words, as they stand in the external format.
    pub fn words(&self) -> &[u32] {
        &self.words[..usize::from(self.count)]
    }
}

/// As Erlang shows it, with the node's name in place of its number.
impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<")?;
        write_atom(f, &self.node)?;
        write!(f, ".{}.{}>", self.id, self.serial)
    }
}

/// As Erlang shows it, with the node's name in place of its number.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("#Port<")?;
        write_atom(f, &self.node)?;
        write!(f, ".{}>", self.id)
    }
}

/// As Erlang shows it, with the node's name in place of its number.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("#Ref<")?;
        write_atom(f, &self.node)?;
        self.words().iter().rev().try_for_each(|word| write!(f, ".{word}"))?;
        f.write_str(">")
    }
}

macro_rules! serde_as_document {
    ($type:ident, $write:ident, $expected:literal, $found:pat => $taken:expr) => {
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut document = Writer::document();
                document.$write(self);
                serializer.serialize_newtype_struct(tokens::RAW, &Raw(document.as_small()))
            }
        }

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

serde_as_document!(Pid, put_pid, "a pid", pid => pid);
serde_as_document!(Port, put_port, "a port", port => *port);
serde_as_document!(Reference, put_reference, "a reference", reference => *reference);

/// A document in the shape that every serde format takes.
pub(crate) struct Raw<'a>(pub(crate) &'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}
