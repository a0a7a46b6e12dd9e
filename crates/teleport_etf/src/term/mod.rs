//! Any Erlang term as a Rust value.

mod display;
mod from;
mod map;
mod order;
mod parts;

use num_bigint::BigInt;

pub use map::Map;
pub use parts::{BitString, Export, Fun, ImproperList};

use crate::atom::Atom;
use crate::binary::Binary;
use crate::ident::{Pid, Port, Reference};

/// Any Erlang term.
///
/// Terms are equal as by `=:=`: an integer never equals a float, a map equals another in whatever order it was written,
/// a string of bytes is a list of small integers. `0.0` and `-0.0` differ, as in OTP 27 and later; up to OTP 26 they were
/// the same. The order is a total one, that of map keys: numbers (integers before floats) < atoms < references < funs <
/// ports < pids < tuples < maps < lists < bit strings.
///
/// `Display` writes Erlang syntax, which Erlang reads back except for pids, ports, references and funs; `{:.80}` ends
/// after 80 bytes or so. `Debug` writes the same, up to 1,000 bytes.
///
/// In a serde type it stands for whatever is there; in any other serde format it is a byte string that holds the term's
/// document.
///
/// Encoding, decoding, comparing and writing never recurse; only dropping and cloning do, therefore
/// [`Limits::max_depth`](crate::Limits::max_depth).
///
/// ```
/// use teleport_etf::{Atom, Term};
///
/// let term = Term::Tuple(vec![Atom::from_static("ok").into(), 42.into()]);
/// assert_eq!(term.to_string(), "{ok,42}");
/// let document = term.encode()?.into_contiguous();
/// assert_eq!(Term::decode(&document)?, term);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum Term {
    /// An atom.
    Atom(Atom),
    /// An integer of at most 64 bits.
    Integer(i64),
    /// An integer of any size; one that fits [`Term::Integer`] is equal to it.
    BigInt(Box<BigInt>),
    /// A float; neither NaN nor infinity can be encoded.
    Float(f64),
    /// A binary.
    Binary(Binary),
    /// Bits that do not fill whole bytes; made by [`BitString::new`].
    BitString(Box<BitString>),
    /// A tuple.
    Tuple(Vec<Term>),
    /// A proper list; without elements it is `[]`. Strings are lists of integers.
    List(Vec<Term>),
    /// A list that ends in something other than `[]`, such as `[alias|Ref]`; made by [`Term::improper_list`].
    ImproperList(Box<ImproperList>),
    /// A map.
    Map(Map),
    /// A pid.
    Pid(Pid),
    /// A port.
    Port(Box<Port>),
    /// A reference.
    Reference(Box<Reference>),
    /// A fun with its environment: passed on as it is, of use only to the node that has its code.
    Fun(Box<Fun>),
    /// An external fun, `fun Module:Function/Arity`.
    Export(Box<Export>),
    /// A whole document in a format that only its own node knows (`term_to_binary(Term, [local])`), without version and
    /// tag: passed on as it is.
    Local(Binary),
}

impl Term {
    /// The empty list, `[]`.
    pub const fn nil() -> Term {
        Term::List(Vec::new())
    }

    /// An atom of a name known at compile time.
    ///
    /// # Panics
    ///
    /// If the name is longer than 255 bytes.
    pub const fn atom(name: &'static str) -> Term {
        Term::Atom(Atom::from_static(name))
    }

    /// A tuple.
    pub fn tuple(elements: impl Into<Vec<Term>>) -> Term {
        Term::Tuple(elements.into())
    }

    /// A proper list.
    pub fn list(elements: impl Into<Vec<Term>>) -> Term {
        Term::List(elements.into())
    }

    /// A list of these code points, as `"..."` is in Erlang.
    pub fn charlist(text: &str) -> Term {
        Term::List(text.chars().map(|c| Term::Integer(i64::from(u32::from(c)))).collect())
    }

    /// `[E1, E2, ... | Tail]`, which is a proper list if the tail is one, and the tail itself if there are no elements.
    pub fn improper_list(elements: impl Into<Vec<Term>>, tail: Term) -> Term {
        let mut elements = elements.into();
        match tail {
            Term::List(rest) => {
                elements.extend(rest);
                Term::List(elements)
            }
            tail if elements.is_empty() => tail,
            Term::ImproperList(list) => {
                let ImproperList { elements: rest, tail } = *list;
                elements.extend(rest);
                Term::ImproperList(Box::new(ImproperList { elements, tail }))
            }
            tail => Term::ImproperList(Box::new(ImproperList { elements, tail })),
        }
    }

    /// The name, if it is an atom.
    pub fn as_atom(&self) -> Option<&Atom> {
        if let Term::Atom(atom) = self { Some(atom) } else { None }
    }

    /// The value, if it is an integer that fits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Term::Integer(value) => Some(*value),
            Term::BigInt(value) => i64::try_from(&**value).ok(),
            _ => None,
        }
    }

    /// The value, if it is an integer.
    pub fn as_bigint(&self) -> Option<BigInt> {
        match self {
            Term::Integer(value) => Some(BigInt::from(*value)),
            Term::BigInt(value) => Some((**value).clone()),
            _ => None,
        }
    }

    /// The value, if it is a float.
    pub fn as_f64(&self) -> Option<f64> {
        if let Term::Float(value) = self { Some(*value) } else { None }
    }

    /// The bytes, if it is a binary.
    pub fn as_binary(&self) -> Option<&Binary> {
        if let Term::Binary(bytes) = self { Some(bytes) } else { None }
    }

    /// The elements, if it is a tuple.
    pub fn as_tuple(&self) -> Option<&[Term]> {
        if let Term::Tuple(elements) = self { Some(elements) } else { None }
    }

    /// The elements, if it is a proper list.
    pub fn as_list(&self) -> Option<&[Term]> {
        if let Term::List(elements) = self { Some(elements) } else { None }
    }

    /// The map, if it is one.
    pub fn as_map(&self) -> Option<&Map> {
        if let Term::Map(map) = self { Some(map) } else { None }
    }

    /// The pid, if it is one.
    pub fn as_pid(&self) -> Option<&Pid> {
        if let Term::Pid(pid) = self { Some(pid) } else { None }
    }

    /// The reference, if it is one.
    pub fn as_reference(&self) -> Option<&Reference> {
        if let Term::Reference(reference) = self { Some(reference) } else { None }
    }
}
