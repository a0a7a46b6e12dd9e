//! Conversions of Rust's types into [`Term`].

use bytes::Bytes;
use num_bigint::BigInt;

use super::{Map, Term};
use crate::atom::Atom;
use crate::binary::Binary;
use crate::ident::{Pid, Port, Reference};

macro_rules! from_integers {
    ($($type:ident)*) => {$(
        impl From<$type> for Term {
            fn from(value: $type) -> Term {
                match i64::try_from(value) {
                    Ok(value) => Term::Integer(value),
                    Err(_) => Term::BigInt(Box::new(BigInt::from(value))),
                }
            }
        }
    )*};
}

from_integers!(i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize);

/// [`Term::Integer`] if it fits.
impl From<BigInt> for Term {
    fn from(value: BigInt) -> Term {
        match i64::try_from(&value) {
            Ok(value) => Term::Integer(value),
            Err(_) => Term::BigInt(Box::new(value)),
        }
    }
}

impl From<f64> for Term {
    fn from(value: f64) -> Term {
        Term::Float(value)
    }
}

/// `true` or `false`.
impl From<bool> for Term {
    fn from(value: bool) -> Term {
        Term::Atom(Atom::from(value))
    }
}

impl From<Atom> for Term {
    fn from(atom: Atom) -> Term {
        Term::Atom(atom)
    }
}

impl From<Binary> for Term {
    fn from(bytes: Binary) -> Term {
        Term::Binary(bytes)
    }
}

impl From<Bytes> for Term {
    fn from(bytes: Bytes) -> Term {
        Term::Binary(bytes.into())
    }
}

/// A binary in UTF-8, as strings are in Elixir; for a list of characters see [`Term::charlist`].
impl From<String> for Term {
    fn from(text: String) -> Term {
        Term::Binary(text.into())
    }
}

/// A list.
impl From<Vec<Term>> for Term {
    fn from(elements: Vec<Term>) -> Term {
        Term::List(elements)
    }
}

impl From<Map> for Term {
    fn from(map: Map) -> Term {
        Term::Map(map)
    }
}

impl From<Pid> for Term {
    fn from(pid: Pid) -> Term {
        Term::Pid(pid)
    }
}

impl From<Port> for Term {
    fn from(port: Port) -> Term {
        Term::Port(Box::new(port))
    }
}

impl From<Reference> for Term {
    fn from(reference: Reference) -> Term {
        Term::Reference(Box::new(reference))
    }
}
