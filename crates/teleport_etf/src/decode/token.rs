//! What a document consists of: leaves, and the heads of containers.

use super::leaf::{Big, Name};
use crate::ident::{Pid, Port, Reference};

/// A leaf, or the head of a container. What is rare and large is boxed: tokens are moved a lot.
#[derive(Debug)]
pub(crate) enum Token<'a> {
    Integer(i64),
    /// An integer outside 64 bits.
    Big(Big<'a>),
    Float(f64),
    Atom(Name<'a>),
    Binary(&'a [u8]),
    /// Bytes, and the number of bits in use in the last one, 1 to 7.
    Bits(&'a [u8], u8),
    /// A proper list of bytes.
    String(&'a [u8]),
    Nil,
    /// This many elements follow.
    Tuple(usize),
    /// This many elements follow, at least one, then the tail.
    List(usize),
    /// This many pairs of key and value follow.
    Map(usize),
    Pid(Pid),
    Port(Box<Port>),
    Reference(Box<Reference>),
    Fun(Box<FunHead<'a>>),
    /// A native record: this many terms follow, module, name, the names of its fields, and their values.
    Record(usize),
    Export(Box<ExportParts<'a>>),
    /// All the rest of the document.
    Local(&'a [u8]),
}

/// What most tokens are.
pub(crate) enum Usual<'a> {
    Integer(i64),
    Float(f64),
    /// All of it, tag and length included. Its name may be anything.
    Atom(&'a [u8]),
    /// A proper list of bytes, perhaps of none.
    String(&'a [u8]),
    Binary(&'a [u8]),
    /// This many elements follow.
    Tuple(usize),
    /// This many elements follow, at least one, then the tail.
    List(usize),
}

/// The head of a fun; its free variables follow as terms.
#[derive(Debug)]
pub(crate) struct FunHead<'a> {
    pub(crate) module: Name<'a>,
    pub(crate) arity: u8,
    pub(crate) old_index: i64,
    pub(crate) old_uniq: i64,
    /// Where the fun's bytes begin, after tag and size.
    pub(super) start: usize,
    /// Where the fun ends, by its own size.
    pub(super) end: usize,
    pub(super) free: usize,
}

#[derive(Debug)]
pub(crate) struct ExportParts<'a> {
    pub(crate) module: Name<'a>,
    pub(crate) function: Name<'a>,
    pub(crate) arity: u8,
}

impl FunHead<'_> {
    /// How many terms its environment has.
    pub(crate) fn free(&self) -> usize {
        self.free
    }
}

impl Token<'_> {
    /// What it is, for messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Token::Integer(_) => "an integer",
            Token::Big(_) => "an integer of more than 64 bits",
            Token::Float(_) => "a float",
            Token::Atom(_) => "an atom",
            Token::Binary(_) => "a binary",
            Token::Bits(..) => "a bit string",
            Token::String(_) | Token::List(_) | Token::Nil => "a list",
            Token::Tuple(_) => "a tuple",
            Token::Map(_) => "a map",
            Token::Pid(_) => "a pid",
            Token::Port(_) => "a port",
            Token::Reference(_) => "a reference",
            Token::Fun(_) | Token::Export(_) => "a fun",
            Token::Record(_) => "a native record",
            Token::Local(_) => "a term in local format",
        }
    }
}
