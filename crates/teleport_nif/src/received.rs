//! Large binaries of a message that was received, where they were received: not copied, but referred to.
//!
//! All large binaries of a message share one resource, which holds the message's memory. When the last of them is garbage
//! the memory goes back to the node's pool, or, if that is full or the node has stopped, to the system.

use crate::terms::{Atoms, is_compressed};
use crate::{builders, freeing};
use bytes::Bytes;
use rustler::types::tuple::make_tuple;
use rustler::{Env, Resource, ResourceArc, Term};
use std::ops::Range;
use teleport::etf::{Apart, Limits, Parts, take_apart};

/// A binary of at least this many bytes is not copied. It keeps all of its message alive.
const LARGE: usize = 64 * 1024;

/// The memory of a message.
pub(crate) struct Received(Bytes);

#[rustler::resource_impl]
impl Resource for Received {}

impl Received {
    /// Of no message.
    pub(crate) fn nothing() -> ResourceArc<Self> {
        ResourceArc::new(Self(Bytes::new()))
    }
}

impl Drop for Received {
    /// On a scheduler, most likely.
    fn drop(&mut self) {
        freeing::free(std::mem::take(&mut self.0));
    }
}

/// A document that is shorter has no map of more than [`builders::MAX_MAP`] pairs in it.
const SHORT: usize = 2 + 4 + 2 * builders::MAX_MAP;

/// The term, with its large binaries where they are. Not on a scheduler.
pub(crate) fn build<'a>(env: Env<'a>, document: &Bytes, limits: &Limits, atoms: Atoms) -> Option<Term<'a>> {
    if document.len() < SHORT && !is_compressed(document) {
        return atoms.decode(env, document);
    }
    match in_place(env, document, limits, atoms, builders::MAX_MAP) {
        Ok(term) => term,
        Err(Apart::LargeMap) => builders::build(env, document, limits, atoms),
        Err(_) => atoms.decode(env, document),
    }
}

/// The same on a dirty scheduler, where maps may have any size.
pub(crate) fn build_on_scheduler<'a>(
    env: Env<'a>,
    document: &Bytes,
    limits: &Limits,
    atoms: Atoms,
) -> Option<Term<'a>> {
    in_place(env, document, limits, atoms, usize::MAX).unwrap_or_else(|_| atoms.decode(env, document))
}

/// The term, if it has large binaries, or none if it is malformed. Otherwise why it has to be decoded as a whole.
fn in_place<'a>(
    env: Env<'a>,
    document: &Bytes,
    limits: &Limits,
    atoms: Atoms,
    max_map: usize,
) -> Result<Option<Term<'a>>, Apart> {
    let (values, scratch) = Default::default();
    let mut building = Building { env, document, atoms, received: None, values, scratch };
    match take_apart(document, LARGE, max_map, limits, &mut building) {
        Apart::Told => Ok(building.values.pop()),
        Apart::Stopped => Ok(None),
        other => Err(other),
    }
}

/// A term that is being put together from its parts.
struct Building<'a, 'd> {
    env: Env<'a>,
    document: &'d Bytes,
    atoms: Atoms,
    received: Option<ResourceArc<Received>>,
    values: Vec<Term<'a>>,
    /// For runs of terms, which are decoded as lists.
    scratch: Vec<u8>,
}

const VERSION: u8 = 131;
const NIL: u8 = 106;
const LIST: u8 = 108;

impl<'a> Building<'a, '_> {
    /// The list of so many terms.
    fn decode_list(&mut self, count: usize, encoded: &[u8], end: &[u8]) -> Option<Term<'a>> {
        let count = u32::try_from(count).ok()?;
        self.scratch.clear();
        self.scratch.extend_from_slice(&[VERSION, LIST]);
        self.scratch.extend_from_slice(&count.to_be_bytes());
        self.scratch.extend_from_slice(encoded);
        self.scratch.extend_from_slice(end);
        self.atoms.decode(self.env, &self.scratch)
    }

    /// The last so many values.
    fn pop(&mut self, count: usize) -> Option<Vec<Term<'a>>> {
        let start = self.values.len().checked_sub(count)?;
        Some(self.values.split_off(start))
    }

    fn push(&mut self, value: Option<Term<'a>>) -> bool {
        self.values.extend(value);
        value.is_some()
    }
}

impl Parts for Building<'_, '_> {
    fn terms(&mut self, count: usize, encoded: &[u8]) -> bool {
        let Some(list) = self.decode_list(count, encoded, &[NIL]) else { return false };
        let Ok(terms) = list.into_list_iterator() else { return false };
        let before = self.values.len();
        self.values.extend(terms);
        self.values.len() - before == count
    }

    fn rest_of_list(&mut self, count: usize, encoded: &[u8]) -> bool {
        let rest = self.decode_list(count, encoded, &[]);
        self.push(rest)
    }

    fn binary(&mut self, at: Range<usize>) -> bool {
        let document = self.document;
        let received = self.received.get_or_insert_with(|| ResourceArc::new(Received(document.clone())));
        let binary = received.make_binary(self.env, |Received(document)| &document[at]).to_term(self.env);
        self.push(Some(binary))
    }

    fn tuple(&mut self, arity: usize) -> bool {
        let tuple = self.pop(arity).map(|elements| make_tuple(self.env, &elements));
        self.push(tuple)
    }

    fn list(&mut self, len: usize) -> bool {
        let Some(tail) = self.values.pop() else { return false };
        let list = self
            .pop(len)
            .map(|elements| elements.into_iter().rfold(tail, |tail, head| tail.list_prepend(head)));
        self.push(list)
    }

    fn map(&mut self, len: usize) -> bool {
        let Some(flat) = self.pop(2 * len) else { return false };
        let (keys, values): (Vec<_>, Vec<_>) = flat.chunks_exact(2).map(|pair| (pair[0], pair[1])).unzip();
        // Two equal keys are refused, as they are when it is decoded. In maps of more than 32 pairs the virtual machine may
        // overlook them (erlang/otp#10975), and then there are fewer.
        let map = Term::map_from_term_arrays(self.env, &keys, &values).ok();
        let map = map.filter(|map| map.map_size().is_ok_and(|size| size == len));
        self.push(map)
    }
}
