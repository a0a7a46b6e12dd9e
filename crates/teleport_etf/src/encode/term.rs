//! Encodes [`Term`]s as documents.

use std::slice;

use smallvec::SmallVec;

use super::writer::{Writer, count};
use crate::error::EncodeError;
use crate::segments::Segments;
use crate::tags;
use crate::term::Term;

impl Term {
    /// Encodes the term as a document; large binaries become segments of their own, by reference.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] for what the format has no room for: a float that is not finite, or a length above 32 bits.
    pub fn encode(&self) -> Result<Segments, EncodeError> {
        encode(self)
    }
}

fn encode(term: &Term) -> Result<Segments, EncodeError> {
    let mut out = Writer::document();
    if let Term::Local(bytes) = term {
        out.put_u8(tags::LOCAL_EXT);
        out.put_shared(bytes.as_bytes().clone());
        return Ok(out.finish());
    }
    let mut open: SmallVec<[Open<'_>; 8]> = SmallVec::new();
    put_head(&mut out, term, &mut open)?;
    while let Some(top) = open.last_mut() {
        let next = match top {
            Open::Terms(terms) => terms.next(),
            Open::Tail(tail) => tail.take(),
            Open::Pairs { pairs, value } => value.take().or_else(|| {
                let (next_key, next_value) = pairs.next()?;
                *value = Some(next_value);
                Some(next_key)
            }),
            Open::Nil => {
                out.put_u8(tags::NIL_EXT);
                None
            }
        };
        match next {
            Some(term) => put_head(&mut out, term, &mut open)?,
            None => drop(open.pop()),
        }
    }
    Ok(out.finish())
}

/// What is still to be written.
enum Open<'a> {
    Terms(slice::Iter<'a, Term>),
    Tail(Option<&'a Term>),
    Pairs {
        pairs: slice::Iter<'a, (Term, Term)>,
        value: Option<&'a Term>,
    },
    /// The end of a proper list.
    Nil,
}

/// Writes a leaf, or the head of a container whose elements it puts on the stack.
fn put_head<'a>(
    out: &mut Writer,
    term: &'a Term,
    open: &mut SmallVec<[Open<'a>; 8]>,
) -> Result<(), EncodeError> {
    match term {
        Term::Atom(atom) => out.put_atom(atom),
        Term::Integer(value) => out.put_i64_integer(*value),
        Term::BigInt(value) => out.put_bigint(value)?,
        Term::Float(value) => out.put_float(*value)?,
        Term::Binary(bytes) => out.put_binary(bytes.as_bytes().clone())?,
        Term::BitString(bits) => {
            out.put_tag_u32(tags::BIT_BINARY_EXT, count("bit string", bits.bytes().len())?);
            out.put_u8(bits.last_bits());
            out.put_shared(bits.bytes().clone());
        }
        Term::Tuple(items) => {
            out.put_tuple_header(items.len())?;
            open.push(Open::Terms(items.iter()));
        }
        Term::List(items) if items.is_empty() => out.put_u8(tags::NIL_EXT),
        Term::List(items) => {
            if put_string(out, items) {
                return Ok(());
            }
            out.put_list_header(items.len())?;
            open.extend([Open::Nil, Open::Terms(items.iter())]);
        }
        Term::ImproperList(list) => {
            out.put_list_header(list.elements().len())?;
            open.extend([Open::Tail(Some(list.tail())), Open::Terms(list.elements().iter())]);
        }
        Term::Map(map) => {
            out.put_map_header(map.len())?;
            open.push(Open::Pairs { pairs: map.pairs().iter(), value: None });
        }
        Term::Pid(pid) => out.put_pid(pid),
        Term::Port(port) => out.put_port(port),
        Term::Reference(reference) => out.put_reference(reference),
        Term::Fun(fun) => {
            // The size counts itself.
            out.put_tag_u32(tags::NEW_FUN_EXT, count("fun", fun.body().len().saturating_add(4))?);
            out.put_shared(fun.body().clone());
        }
        Term::Export(export) => {
            out.put_u8(tags::EXPORT_EXT);
            out.put_atom(&export.module);
            out.put_atom(&export.function);
            out.put_slice(&[tags::SMALL_INTEGER_EXT, export.arity]);
        }
        Term::Local(_) => return Err(EncodeError::NestedLocal),
    }
    Ok(())
}

/// Writes a list of bytes in the short form, as Erlang does; false if it is not one.
fn put_string(out: &mut Writer, items: &[Term]) -> bool {
    let Ok(len) = u16::try_from(items.len()) else { return false };
    let start = out.position();
    let [high, low] = len.to_be_bytes();
    out.put_slice(&[tags::STRING_EXT, high, low]);
    for item in items {
        let byte = if let Term::Integer(value) = item { u8::try_from(*value).ok() } else { None };
        let Some(byte) = byte else {
            out.truncate(start);
            return false;
        };
        out.put_u8(byte);
    }
    true
}
