//! From encoded terms to terms, with a budget for atoms, since the table of atoms never shrinks.

pub(crate) mod budget;
pub(crate) mod held;
pub(crate) mod in_place;
mod known;
pub(crate) mod maps;
pub(crate) mod naming;
mod values;

use crate::lock::Lock;
use crate::terms::budget::Budget;
use crate::terms::in_place::NeedsScheduler;
use bytes::Bytes;
use rustler::{Atom, Encoder, Env, Term};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use teleport::embed::Origin;
use teleport::etf::{Limits, has_few_terms, validate_with};

/// What a term may take for its bytes: an empty list in a list is one byte and two words.
pub(crate) const SWELLS: usize = 16;

/// Builds terms, as long as peers do not add too many atoms to the table.
#[derive(Debug)]
pub(crate) struct Terms {
    budget: Budget,
    /// Held while new atoms are counted and made, so that what another message brings at the same time counts once.
    making: Lock<()>,
    limits: Limits,
    unreadable: AtomicU64,
    /// When it was last said that something is unreadable.
    said: Lock<Option<Instant>>,
}

/// How often it is said that something is unreadable.
const SELDOM: Duration = Duration::from_secs(60);

impl Terms {
    /// A term takes at most this many bytes of a process's heap.
    pub(crate) fn new(budget: Budget, max_term: usize) -> Self {
        // Depth and number are not limited: the virtual machine's decoder does not recurse, and a term has a size.
        let (max_depth, max_elements) = (usize::MAX, usize::MAX);
        let limits = Limits { max_depth, max_elements, max_heap: max_term, ..Limits::default() };
        Self { budget, making: Lock::default(), limits, unreadable: AtomicU64::new(0), said: Lock::default() }
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

    /// The term, unless it is none, is compressed, takes too much memory, or has other atoms; or whether a scheduler has to build it.
    ///
    /// Large binaries in it are not copied, unless they are in a fun.
    pub(crate) fn build<'a>(
        &self,
        env: Env<'a>,
        document: &Bytes,
        atoms: Atoms,
    ) -> Result<Option<Term<'a>>, NeedsScheduler> {
        // No node compresses what it sends, and the virtual machine's decoder takes nothing compressed from a library.
        if is_compressed(document) { Ok(None) } else { in_place::build(env, document, &self.limits, atoms) }
    }

    /// A peer's name: as an atom, or as a binary if that would be a new atom and there is no budget left for it. Anybody who has the
    /// cookie makes up names.
    pub(crate) fn node<'a>(&self, env: Env<'a>, origin: &Origin) -> Term<'a> {
        let name = origin.peer().as_str();
        if let Some(known) = existing_atom(env, name) {
            return known;
        }
        let mut spending = self.budget.spending(origin.peer(), origin.place());
        match spending.take_one().then(|| Atom::from_str(env, name)) {
            Some(Ok(atom)) => {
                spending.keep();
                atom.encode(env)
            }
            _ => name.encode(env),
        }
    }

    /// A message of that peer is none, or refused.
    pub(crate) fn note_unreadable(&self, document: &[u8], origin: &Origin) {
        self.unreadable.fetch_add(1, Ordering::Relaxed);
        let mut said = self.said.lock();
        if said.is_none_or(|said| said.elapsed() >= SELDOM) {
            *said = Some(Instant::now());
            let (peer, bytes, max_term) = (origin.peer(), document.len(), self.limits.max_heap);
            tracing::warn!(
                %peer,
                bytes,
                max_term,
                "a message cannot be read: it is no term, has too many new atoms, or takes more memory than max_term; \
                 see unreadable in teleport:info/0"
            );
        }
    }

    /// Whether it is a term whose new atoms are within the budget of whom it comes from, which they are taken from. They are there
    /// then.
    pub(crate) fn makes_atoms(&self, env: Env<'_>, document: &[u8], origin: &Origin) -> bool {
        if is_compressed(document) {
            return false;
        }
        let mut spending = self.budget.spending(origin.peer(), origin.place());
        let left = {
            // What another message has taken by then it has made, too: so nothing of that looks new below.
            let _making = self.making.lock();
            spending.left() as usize
        };
        // Of each name, however often it occurs, it is looked up once whether there is an atom.
        let (mut met, mut new) = (HashSet::<Box<str>>::new(), Vec::<Box<str>>::new());
        let is_within = |name: &str| {
            if !met.contains(name) {
                met.insert(name.into());
                if existing_atom(env, name).is_none() {
                    new.push(name.into());
                }
            }
            new.len() <= left
        };
        let is_term = validate_with(document, &self.limits, is_within).is_ok();
        if new.len() > left {
            spending.refuse(new.len() as u64); // or more
            return false;
        }
        if !is_term {
            return false;
        }
        let _making = self.making.lock();
        new.retain(|name| existing_atom(env, name).is_none());
        if !spending.take(new.len() as u64) {
            return false;
        }
        new.iter().for_each(|name| trusted::make_atom(env, name));
        spending.keep();
        true
    }
}

/// Which atoms there may be in a term.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Atoms {
    /// Those that exist.
    Known,
    /// Others too, and functions of modules that are not there: the atoms have been counted.
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
const ATOM_UTF8: u8 = 118;

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
    decode(env, &atom_document(name)?)
}

/// `None` if the name is too long for an atom.
fn atom_document(name: &str) -> Option<Vec<u8>> {
    let len = u16::try_from(name.len()).ok()?;
    let mut document = Vec::with_capacity(4 + name.len());
    document.extend_from_slice(&[VERSION, ATOM_UTF8]);
    document.extend_from_slice(&len.to_be_bytes());
    document.extend_from_slice(name.as_bytes());
    Some(document)
}

mod trusted {
    #![allow(unsafe_code, reason = "rustler leaves it to its caller to say that data may create atoms")]

    use crate::terms::{atom_document, naming};
    use rustler::{Env, Term};

    /// Makes an atom that has been counted.
    pub(super) fn make_atom(env: Env<'_>, name: &str) {
        if let Some(document) = atom_document(name) {
            // SAFETY: as below.
            let _atom = unsafe { env.binary_to_term_trusted(&document) };
        }
    }

    /// Decodes a document that was validated, its atoms included.
    pub(super) fn decode<'a>(env: Env<'a>, document: &[u8]) -> Option<Term<'a>> {
        let _inside = naming::enter();
        // SAFETY: the decoder checks its input, whatever that is; "trusted" only means that it may create atoms, which have
        // been counted.
        let (term, read) = unsafe { env.binary_to_term_trusted(document)? };
        (read == document.len()).then_some(term)
    }
}
