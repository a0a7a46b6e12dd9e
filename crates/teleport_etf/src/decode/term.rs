//! Decodes documents into [`Term`]s.

use bytes::Bytes;
use num_bigint::BigInt;
use smallvec::SmallVec;

use super::reader::Reader;
use super::token::Token;
use super::{Source, opened};
use crate::binary::Binary;
use crate::error::DecodeError;
use crate::ident::{Port, Reference};
use crate::limits::Limits;
use crate::tags;
use crate::term::{BitString, Export, Fun, ImproperList, Map, Term};

impl Term {
    /// Decodes a document within the default [`Limits`]; binaries as in [`from_bytes`](crate::from_bytes).
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the document is malformed, or more than the limits allow.
    pub fn decode(document: &Bytes) -> Result<Term, DecodeError> {
        Term::decode_with(document, &Limits::default())
    }

    /// Decodes a document within limits of the caller's choice.
    ///
    /// # Errors
    ///
    /// As [`decode`](Term::decode).
    pub fn decode_with(document: &Bytes, limits: &Limits) -> Result<Term, DecodeError> {
        opened(document, limits, |mut reader, source| {
            let term = read_term(&mut reader, &source)?;
            reader.finish()?;
            Ok(term)
        })
    }
}

/// What a term takes in the container that it is in.
const SLOT: usize = size_of::<Term>();

/// A container whose elements are being read.
enum Open {
    Tuple {
        items: Vec<Term>,
        left: usize,
    },
    /// With nothing left, the tail is due.
    List {
        items: Vec<Term>,
        left: usize,
    },
    Map {
        pairs: Vec<(Term, Term)>,
        key: Option<Term>,
        left: usize,
    },
}

/// Reads one term; the containers that are open are kept on a stack of its own.
pub(super) fn read_term(reader: &mut Reader<'_>, source: &Source<'_>) -> Result<Term, DecodeError> {
    let max_depth = reader.limits().max_depth;
    let mut open: SmallVec<[Open; 8]> = SmallVec::new();
    loop {
        if let Some(Open::Tuple { items, left } | Open::List { items, left }) = open.last_mut() {
            // The last element goes the long way, which closes a tuple.
            while *left > 1
                && let Some(value) = reader.short_integer()
            {
                items.push(Term::Integer(value));
                *left -= 1;
            }
        }
        // The reader has checked every announced number against the bytes that are left, and then against the limit of memory:
        // room may be made for it.
        let opening = match reader.token()? {
            Token::Tuple(arity) if arity > 0 => {
                reader.build(arity, SLOT)?;
                Open::Tuple { items: Vec::with_capacity(arity), left: arity }
            }
            Token::List(len) => {
                reader.build(len, SLOT)?;
                if let Some(Open::List { items, left: left @ 0 }) = open.last_mut() {
                    // A list as the tail of a list is its continuation.
                    items.reserve(len);
                    *left = len;
                    continue;
                }
                Open::List { items: Vec::with_capacity(len), left: len }
            }
            Token::Map(len) if len > 0 => {
                reader.build(len, 2 * SLOT)?;
                Open::Map { pairs: Vec::with_capacity(len), key: None, left: len }
            }
            leaf => {
                let leaf = read_leaf(leaf, reader, source)?;
                match close(&mut open, leaf, reader)? {
                    Some(term) => return Ok(term),
                    None => continue,
                }
            }
        };
        if open.len() == max_depth {
            return Err(DecodeError::TooDeep { limit: max_depth });
        }
        open.push(opening);
    }
}

/// Puts a finished term where it belongs, and with it every container that it finishes; the outermost is returned.
fn close(
    open: &mut SmallVec<[Open; 8]>,
    mut term: Term,
    reader: &mut Reader<'_>,
) -> Result<Option<Term>, DecodeError> {
    loop {
        match open.last_mut() {
            None => return Ok(Some(term)),
            Some(Open::Tuple { items, left } | Open::List { items, left }) if *left > 0 => {
                items.push(term);
                *left -= 1;
            }
            Some(Open::List { items, .. }) => {
                if !matches!(term, Term::List(_)) {
                    reader.build(1, size_of::<ImproperList>())?;
                }
                term = Term::improper_list(std::mem::take(items), term);
                open.pop();
                continue;
            }
            Some(Open::Map { key: key @ None, .. }) => *key = Some(term),
            Some(Open::Map { pairs, key, left }) => {
                pairs.extend(key.take().map(|key| (key, term)));
                *left -= 1;
            }
            Some(Open::Tuple { .. }) => {}
        }
        // A list stays open for its tail.
        term = match open.last_mut() {
            Some(Open::Tuple { items, left: 0 }) => Term::Tuple(std::mem::take(items)),
            Some(Open::Map { pairs, key: None, left: 0 }) => {
                let pairs = std::mem::take(pairs);
                let offset = reader.position();
                Term::Map(Map::from_pairs(pairs).ok_or(DecodeError::DuplicateKey { offset })?)
            }
            _ => return Ok(None),
        };
        open.pop();
    }
}

fn read_leaf<'a>(
    token: Token<'a>,
    reader: &mut Reader<'a>,
    source: &Source<'_>,
) -> Result<Term, DecodeError> {
    reader.build(1, beyond_slot(&token, source))?;
    Ok(match token {
        Token::Integer(value) => Term::Integer(value),
        Token::Big(big) => Term::BigInt(Box::new(big.to_bigint())),
        Token::Float(value) => Term::Float(value),
        Token::Atom(name) => Term::Atom(name.to_atom()),
        Token::Binary(bytes) => Term::Binary(Binary::new(source.bytes(bytes))),
        Token::Bits(bytes, bits) => BitString::new(source.bytes(bytes), bits),
        Token::String(bytes) => Term::List(bytes.iter().map(|&byte| Term::Integer(byte.into())).collect()),
        Token::Pid(pid) => Term::Pid(pid),
        Token::Port(port) => Term::Port(port),
        Token::Reference(reference) => Term::Reference(reference),
        Token::Fun(head) => {
            let body = reader.fun_body(&head)?;
            reader.build(1, source.copied(body))?;
            let module = head.module.to_atom();
            Term::Fun(Box::new(Fun::new(
                module,
                head.arity,
                head.old_index,
                head.old_uniq,
                source.bytes(body),
            )))
        }
        Token::Record(_) => {
            let offset = reader.position() - 6; // tag, number and flags have been read
            return Err(DecodeError::UnknownTag { tag: tags::RECORD_EXT, offset });
        }
        Token::Export(parts) => {
            let (module, function) = (parts.module.to_atom(), parts.function.to_atom());
            Term::Export(Box::new(Export { module, function, arity: parts.arity }))
        }
        Token::Local(bytes) => Term::Local(Binary::new(source.bytes(bytes))),
        // Containers that get here are empty.
        Token::Nil | Token::List(_) => Term::List(Vec::new()),
        Token::Tuple(_) => Term::Tuple(Vec::new()),
        Token::Map(_) => Term::Map(Map::new()),
    })
}

/// What a leaf takes beyond its slot. The name of a node, which has its length in the document too, is not counted.
fn beyond_slot(token: &Token<'_>, source: &Source<'_>) -> usize {
    match token {
        Token::Big(big) => size_of::<BigInt>() + big.magnitude.len(),
        Token::Atom(name) => name.beyond_place(),
        Token::Binary(bytes) | Token::Local(bytes) => source.copied(bytes),
        Token::Bits(bytes, _) => size_of::<BitString>() + source.copied(bytes),
        Token::String(bytes) => bytes.len().saturating_mul(SLOT),
        Token::Port(_) => size_of::<Port>(),
        Token::Reference(_) => size_of::<Reference>(),
        Token::Fun(_) => size_of::<Fun>(),
        Token::Export(parts) => {
            size_of::<Export>() + parts.module.beyond_place() + parts.function.beyond_place()
        }
        _ => 0,
    }
}
