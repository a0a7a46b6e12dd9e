//! From encoded terms to terms, with a budget for atoms, since the table of atoms never shrinks.

pub(crate) mod budget;
pub(crate) mod held;
pub(crate) mod in_place;
mod known;
pub(crate) mod maps;
pub(crate) mod naming;
mod values;

use crate::terms::budget::{Budget, Spending};
use crate::terms::in_place::NeedsScheduler;
use bytes::Bytes;
use rustler::{Atom, Encoder, Env, Term};
use std::sync::atomic::{AtomicU64, Ordering};
use teleport::embed::Origin;
use teleport::etf::{Limits, has_few_terms, validate_with};

/// What a term may take for its bytes: an empty list in a list is one byte and two words.
pub(crate) const SWELLS: usize = 16;

/// Builds terms, as long as peers do not add too many atoms to the table.
#[derive(Debug)]
pub(crate) struct Terms {
    budget: Budget,
    limits: Limits,
    unreadable: AtomicU64,
}

impl Terms {
    /// A term takes at most this many bytes of a process's heap.
    pub(crate) fn new(budget: Budget, max_term: usize) -> Self {
        // Depth and number are not limited: the virtual machine's decoder does not recurse, and a term has a size.
        let (max_depth, max_elements) = (usize::MAX, usize::MAX);
        let limits = Limits { max_depth, max_elements, max_heap: max_term, ..Limits::default() };
        Self { budget, limits, unreadable: AtomicU64::new(0) }
    }

    /// How many documents were none, or refused.
    pub(crate) fn unreadable(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
    }

    /// What peers have used of it.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What terms are checked against.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether a large document takes no longer to build than a small one.
    pub(crate) fn is_soon_built(&self, document: &[u8]) -> bool {
        has_few_terms(document, in_place::LARGE, &self.limits)
    }

    /// The term, unless it is none, is compressed, takes too much memory, or has more new atoms than are
    /// left; or which atoms a scheduler has to build it from.
    ///
    /// Large binaries in it are not copied, unless they are in a fun.
    pub(crate) fn read<'a>(&self, env: Env<'a>, document: &Bytes, origin: &Origin) -> Read<'a> {
        // No node compresses what it sends, and the virtual machine's decoder takes nothing compressed from a library.
        if is_compressed(document) {
            return self.no_term();
        }
        // Nearly always all atoms are known, and the term is not too large.
        match in_place::build(env, document, &self.limits, Atoms::Known) {
            Ok(Some(term)) => Read::Term(term),
            Ok(None) if self.count_atoms(env, document, origin) => {
                match in_place::build(env, document, &self.limits, Atoms::Counted) {
                    Ok(Some(term)) => Read::Term(term),
                    Ok(None) => self.no_term(),
                    Err(NeedsScheduler) => Read::Needs(Atoms::Counted),
                }
            }
            Ok(None) => self.no_term(),
            Err(NeedsScheduler) => Read::Needs(Atoms::Known),
        }
    }

    /// Reads a document once more that could not be built with those atoms.
    pub(crate) fn read_again<'a>(
        &self,
        env: Env<'a>,
        document: &[u8],
        tried: Atoms,
        origin: &Origin,
    ) -> Read<'a> {
        if matches!(tried, Atoms::Known) && self.count_atoms(env, document, origin) {
            return Read::Needs(Atoms::Counted);
        }
        self.no_term()
    }

    /// A peer's name: as an atom, or as a binary if that would be a new atom and there is no budget left for it. Anybody who has the
    /// cookie makes up names.
    pub(crate) fn node<'a>(&self, env: Env<'a>, origin: &Origin) -> Term<'a> {
        let name = origin.peer().as_str();
        if let Some(known) = existing_atom(env, name) {
            return known;
        }
        let mut spending = self.budget.spending(origin.peer(), origin.place());
        match spending.take_one(name).then(|| Atom::from_str(env, name)) {
            Some(Ok(atom)) => {
                spending.keep();
                atom.encode(env)
            }
            _ => name.encode(env),
        }
    }

    /// One more is none, or refused.
    pub(crate) fn count_unreadable(&self) {
        self.unreadable.fetch_add(1, Ordering::Relaxed);
    }

    fn no_term<'a>(&self) -> Read<'a> {
        self.count_unreadable();
        Read::Nothing
    }

    /// Whether it is a term whose new atoms are within the budget of whom it comes from, which they are taken from.
    fn count_atoms(&self, env: Env<'_>, document: &[u8], origin: &Origin) -> bool {
        let mut spending: Option<Spending<'_>> = None;
        let mut is_taken = |atom: &str| {
            spending.as_ref().is_some_and(|spending| spending.has(atom))
                || is_atom(env, atom)
                || spending
                    .get_or_insert_with(|| self.budget.spending(origin.peer(), origin.place()))
                    .take(atom)
        };
        // What is spent on a document that is none is given back.
        if validate_with(document, &self.limits, &mut is_taken).is_err() {
            return false;
        }
        if let Some(spending) = spending {
            spending.keep();
        }
        true
    }
}

/// What came of a document.
pub(crate) enum Read<'a> {
    Term(Term<'a>),
    /// It is none, or refused.
    Nothing,
    /// A scheduler has to build it, from those atoms.
    Needs(Atoms),
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

fn is_compressed(document: &[u8]) -> bool {
    document.get(1) == Some(&COMPRESSED)
}

const VERSION: u8 = 131;
const COMPRESSED: u8 = 80;
const SMALL_ATOM_UTF8: u8 = 119;

/// The term, if there is an atom for every name in it.
pub(crate) fn existing<'a>(env: Env<'a>, document: &[u8]) -> Option<Term<'a>> {
    let _inside = naming::enter();
    decode(env, document)
}

fn decode<'a>(env: Env<'a>, document: &[u8]) -> Option<Term<'a>> {
    let (term, read) = env.binary_to_term(document)?;
    (read == document.len()).then_some(term)
}

/// The atom of that name, if there is one. It has no node, so that nothing is waited for.
pub(crate) fn existing_atom<'a>(env: Env<'a>, name: &str) -> Option<Term<'a>> {
    let len = u8::try_from(name.len()).ok()?; // a longer one is no name of a process or node
    let mut document = Vec::with_capacity(3 + name.len());
    document.extend_from_slice(&[VERSION, SMALL_ATOM_UTF8, len]);
    document.extend_from_slice(name.as_bytes());
    decode(env, &document)
}

fn is_atom(env: Env<'_>, name: &str) -> bool {
    // A long name is rare enough to be counted as new.
    existing_atom(env, name).is_some()
}

mod trusted {
    #![allow(unsafe_code, reason = "rustler leaves it to its caller to say that data may create atoms")]

    use crate::terms::naming;
    use rustler::{Env, Term};

    /// Decodes a document that was validated, its atoms included.
    pub(super) fn decode<'a>(env: Env<'a>, document: &[u8]) -> Option<Term<'a>> {
        let _inside = naming::enter();
        // SAFETY: the decoder checks its input, whatever that is; "trusted" only means that it may create atoms, which have
        // been counted.
        let (term, read) = unsafe { env.binary_to_term_trusted(document)? };
        (read == document.len()).then_some(term)
    }
}
