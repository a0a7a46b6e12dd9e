//! Pids, ports and references: names that a node gave.

use std::fmt;

use crate::atom::{Atom, write_atom};

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

macro_rules! debug_as_display {
    ($type:ident) => {
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

debug_as_display!(Pid);
debug_as_display!(Port);
debug_as_display!(Reference);
