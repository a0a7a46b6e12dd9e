//! Large binaries of a message that was received, where they were received: not copied, but referred to.
//!
//! Together they hold the message's memory. When the last of them is garbage it goes back to the node's pool, or, if that is
//! full or the node has stopped, to the system.

use crate::terms::Atoms;
use crate::terms::known::Known;
use crate::terms::values::Values;
use crate::terms::{held, maps};
use bytes::Bytes;
use rustler::types::atom::Atom;
use rustler::{Env, Term};
use std::ops::Range;
use teleport::etf::{Apart, Leaves, Limits, Parts, has_many_atoms, is_plain, take_all_apart, take_apart};

/// A binary of at least this many bytes is not copied, unless most of its message is other things: it keeps all of it.
pub(crate) const LARGE: usize = 64 * 1024;

/// A document that is shorter has no map of more than [`maps::MAX_MAP`] pairs in it.
const SHORT: usize = 2 + 4 + 2 * maps::MAX_MAP;

/// It has a map that only a scheduler can make.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NeedsScheduler;

/// The term, with its large binaries where they are. Not on a scheduler.
pub(crate) fn build<'a>(
    env: Env<'a>,
    document: &Bytes,
    limits: &Limits,
    atoms: Atoms,
) -> Result<Option<Term<'a>>, NeedsScheduler> {
    if document.len() < SHORT {
        return Ok(atoms.decode(env, document));
    }
    match in_place(env, document, limits, atoms, maps::limit()) {
        Ok(term) => Ok(term),
        Err(Apart::LargeMap) => Err(NeedsScheduler),
        Err(_) => Ok(atoms.decode(env, document)),
    }
}

/// Builds on a dirty scheduler, where maps may have any size.
pub(crate) fn build_on_scheduler<'a>(
    env: Env<'a>,
    document: &Bytes,
    limits: &Limits,
    atoms: Atoms,
) -> Option<Term<'a>> {
    in_place(env, document, limits, atoms, usize::MAX).unwrap_or_else(|_| atoms.decode(env, document))
}

/// The term, if it has large binaries or many atoms or has nothing that it could be taken apart for, or none if it is malformed.
/// Otherwise why it has to be decoded as a whole.
fn in_place<'a>(
    env: Env<'a>,
    document: &Bytes,
    limits: &Limits,
    atoms: Atoms,
    max_map: usize,
) -> Result<Option<Term<'a>>, Apart> {
    let has_many_atoms = has_many_atoms(document, limits);
    if !has_many_atoms && is_plain(document, LARGE, max_map, limits) {
        return Ok(atoms.decode(env, document));
    }
    let values = Values::new(env);
    let (known, scratch) = (Known::of_thread(), Vec::new());
    let mut building = Building { env, document, limits, atoms, known, share: None, values, scratch };
    // With hardly any atoms the virtual machine's decoder is the faster one.
    let apart = if has_many_atoms {
        take_all_apart(document, LARGE, max_map, limits, &mut building)
    } else {
        take_apart(document, LARGE, max_map, limits, &mut building)
    };
    match apart {
        Apart::Told => Ok(building.values.pop()),
        Apart::Stopped | Apart::TooLarge => Ok(None),
        other => Err(other),
    }
}

/// What large binaries hold of their message.
#[derive(Debug, Clone, Copy)]
struct Share {
    /// The bytes of the message.
    message: usize,
    /// Those of them that are in large binaries.
    binaries: usize,
}

impl Share {
    fn of(document: &[u8], limits: &Limits) -> Self {
        let mut sum = Sum(0);
        let apart = take_apart(document, LARGE, usize::MAX, limits, &mut sum);
        // What cannot be taken apart will be forgotten.
        Self { message: document.len(), binaries: if apart == Apart::Told { sum.0 } else { document.len() } }
    }

    /// What a binary of this many bytes is to weigh, so that all together weigh what the message does. None if it had better be
    /// copied, since most of what it would keep is nothing that anybody has.
    fn weight(self, len: usize) -> Option<usize> {
        let Self { message, binaries } = self;
        // As wide integers, which have room for any product of two lengths.
        let weight = len as u128 * message as u128 / (binaries.max(1) as u128);
        (binaries >= message / 2).then_some(weight as usize)
    }
}

/// Adds up the large binaries.
struct Sum(usize);

impl Parts for Sum {
    fn terms(&mut self, _count: usize, _encoded: &[u8]) -> bool {
        true
    }

    fn rest_of_list(&mut self, _count: usize, _encoded: &[u8]) -> bool {
        true
    }

    fn binary(&mut self, at: Range<usize>) -> bool {
        self.0 += at.len();
        true
    }

    fn tuple(&mut self, _arity: usize) -> bool {
        true
    }

    fn list(&mut self, _len: usize) -> bool {
        true
    }

    fn map(&mut self, _len: usize) -> bool {
        true
    }
}

/// A term that is being put together from its parts.
struct Building<'a, 'd> {
    env: Env<'a>,
    document: &'d Bytes,
    limits: &'d Limits,
    atoms: Atoms,
    known: Known,
    /// Known from the first large binary on.
    share: Option<Share>,
    values: Values<'a>,
    /// For runs of terms, which are decoded as lists.
    scratch: Vec<u8>,
}

const VERSION: u8 = 131;
const NIL: u8 = 106;
const LIST: u8 = 108;

impl<'a> Building<'a, '_> {
    /// The list of this many terms.
    fn decode_list(&mut self, count: usize, encoded: &[u8], end: &[u8]) -> Option<Term<'a>> {
        let count = u32::try_from(count).ok()?;
        self.scratch.clear();
        self.scratch.extend_from_slice(&[VERSION, LIST]);
        self.scratch.extend_from_slice(&count.to_be_bytes());
        self.scratch.extend_from_slice(encoded);
        self.scratch.extend_from_slice(end);
        self.atoms.decode(self.env, &self.scratch)
    }

    fn push(&mut self, value: Option<Term<'a>>) -> bool {
        value.map(|value| self.values.push(value)).is_some()
    }
}

impl Parts for Building<'_, '_> {
    fn terms(&mut self, count: usize, encoded: &[u8]) -> bool {
        let Some(list) = self.decode_list(count, encoded, &[NIL]) else { return false };
        let Ok(terms) = list.into_list_iterator() else { return false };
        let before = self.values.len();
        terms.for_each(|term| self.values.push(term));
        self.values.len() - before == count
    }

    fn rest_of_list(&mut self, count: usize, encoded: &[u8]) -> bool {
        let rest = self.decode_list(count, encoded, &[]);
        self.push(rest)
    }

    fn binary(&mut self, at: Range<usize>) -> bool {
        let share = *self.share.get_or_insert_with(|| Share::of(self.document, self.limits));
        match share.weight(at.len()) {
            Some(weight) => self.values.push(held::binary(self.env, self.document, at, weight)),
            None => self.values.push_binary(&self.document[at]),
        }
        true
    }

    fn tuple(&mut self, arity: usize) -> bool {
        self.values.make_tuple(arity).is_some()
    }

    fn list(&mut self, len: usize) -> bool {
        self.values.make_list(len).is_some()
    }

    fn map(&mut self, len: usize) -> bool {
        self.values.make_map(len).is_some()
    }
}

impl Leaves for Building<'_, '_> {
    fn integer(&mut self, value: i64) -> bool {
        self.values.push_integer(value);
        true
    }

    fn float(&mut self, value: f64) -> bool {
        self.values.push_float(value);
        true
    }

    fn atom(&mut self, encoded: &[u8]) -> bool {
        let Self { env, atoms, scratch, known, .. } = self;
        let atom = known.atom(encoded, || {
            scratch.clear();
            scratch.push(VERSION);
            scratch.extend_from_slice(encoded);
            Atom::from_term(atoms.decode(*env, scratch)?).ok()
        });
        self.push(atom.map(|atom| atom.to_term(self.env)))
    }

    fn small_binary(&mut self, bytes: &[u8]) -> bool {
        self.values.push_binary(bytes);
        true
    }

    fn string(&mut self, bytes: &[u8]) -> bool {
        self.values.push_string(bytes);
        true
    }
}
