//! From encoded terms to terms, with a budget for atoms, since the table of atoms never shrinks.

use crate::received;
use bytes::Bytes;
use rustler::{Env, Term};
use std::sync::atomic::{AtomicU64, Ordering};
use teleport::etf::{Limits, validate_with};

/// How many atoms peers may add to the table.
#[derive(Debug)]
pub(crate) struct AtomBudget {
    left: AtomicU64,
    used: AtomicU64,
    limits: Limits,
}

impl AtomBudget {
    pub(crate) fn new(atoms: u64, max_inflated: u64) -> Self {
        // Depth and number are not limited: the virtual machine's decoder does not recurse, and a message has a size.
        let (max_depth, max_elements) = (usize::MAX, usize::MAX);
        let max_inflated = usize::try_from(max_inflated).unwrap_or(usize::MAX);
        let limits = Limits { max_depth, max_elements, max_inflated, ..Limits::default() };
        Self { left: AtomicU64::new(atoms), used: AtomicU64::new(0), limits }
    }

    /// Atoms that peers have added.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self) -> bool {
        let took = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        self.used.fetch_add(took.is_ok().into(), Ordering::Relaxed);
        took.is_ok()
    }

    /// The term, unless it is none, is too large when inflated, or has more new atoms than are left.
    ///
    /// Large binaries in it are not copied, unless they are in a fun or the term is compressed.
    pub(crate) fn decode<'a>(&self, env: Env<'a>, document: &Bytes) -> Option<Term<'a>> {
        // Nearly always all atoms are known. A compressed term is looked at first: it may inflate to anything.
        if !is_compressed(document)
            && let Some(term) = received::build(env, document, &self.limits, Atoms::Known)
        {
            return Some(term);
        }
        validate_with(document, &self.limits, |atom| is_atom(env, atom) || self.take()).ok()?;
        received::build(env, document, &self.limits, Atoms::Counted)
    }

    /// The same for what no node compresses.
    pub(crate) fn decode_plain<'a>(&self, env: Env<'a>, document: &Bytes) -> Option<Term<'a>> {
        if is_compressed(document) { None } else { self.decode(env, document) }
    }
}

/// Which atoms there may be in a term.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Atoms {
    /// Those that exist.
    Known,
    /// Others too, which have been counted.
    Counted,
}

impl Atoms {
    /// The term, if it is one.
    pub(crate) fn decode<'a>(self, env: Env<'a>, document: &[u8]) -> Option<Term<'a>> {
        match self {
            Self::Known => existing(env, document),
            Self::Counted => trusted::decode(env, document),
        }
    }
}

/// Whether it may be anything once it is inflated.
pub(crate) fn is_compressed(document: &[u8]) -> bool {
    document.get(1) == Some(&COMPRESSED)
}

const VERSION: u8 = 131;
const COMPRESSED: u8 = 80;
const SMALL_ATOM_UTF8: u8 = 119;

/// The term, if there is an atom for every name in it.
pub(crate) fn existing<'a>(env: Env<'a>, document: &[u8]) -> Option<Term<'a>> {
    let (term, read) = env.binary_to_term(document)?;
    (read == document.len()).then_some(term)
}

/// The atom of that name, if there is one.
pub(crate) fn existing_atom<'a>(env: Env<'a>, name: &str) -> Option<Term<'a>> {
    let len = u8::try_from(name.len()).ok()?; // a longer one is no name of a process or node
    let mut document = Vec::with_capacity(3 + name.len());
    document.extend_from_slice(&[VERSION, SMALL_ATOM_UTF8, len]);
    document.extend_from_slice(name.as_bytes());
    existing(env, &document)
}

fn is_atom(env: Env<'_>, name: &str) -> bool {
    // A long name is rare enough to be counted as new.
    existing_atom(env, name).is_some()
}

mod trusted {
    #![allow(unsafe_code, reason = "rustler leaves it to its caller to say that data may create atoms")]

    use rustler::{Env, Term};

    /// Decodes a document that was validated, its atoms included.
    pub(super) fn decode<'a>(env: Env<'a>, document: &[u8]) -> Option<Term<'a>> {
        // SAFETY: the decoder checks its input, whatever that is; "trusted" only means that it may create atoms, which have
        // been counted.
        let (term, read) = unsafe { env.binary_to_term_trusted(document)? };
        (read == document.len()).then_some(term)
    }
}
