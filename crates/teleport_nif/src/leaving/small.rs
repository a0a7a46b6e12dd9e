//! Terms to encoded messages.
//!
//! Small ones are encoded here, on the scheduler of whoever sends: for those `term_to_iovec` spends far more on memory and on
//! being interruptible than on encoding. What is larger, or of a kind that may hide anything, comes encoded.

use crate::atoms;
use crate::ids::{self, Identity};
use crate::leaving::iovec;
use rustler::dynamic::{TermType, get_type};
use rustler::types::atom::Atom;
use rustler::types::map::MapIterator;
use rustler::{Binary, Error, LocalPid, NifResult, Term};
use std::cell::RefCell;
use teleport::Segments;
use teleport::etf::{Assembly, Encoder};

/// What a scheduler encodes without being held up: some 10 µs at the most.
const MOST_BYTES: usize = 4 * 1024;
const MOST_TERMS: usize = 500;
const MOST_DEPTH: usize = 32;

thread_local! {
    static ENCODER: RefCell<Encoder> = RefCell::default();
}

/// The message that `{term, Term}` or `{encoded, [binary()]}` stands for; `None` if the term has to come encoded, as all have to
/// where it is not known whose pids are in them.
pub(crate) fn body(identity: Option<&Identity>, body: Term<'_>) -> NifResult<Option<Segments>> {
    let (form, content): (Atom, Term<'_>) = body.decode()?;
    if form == atoms::term() {
        return Ok(identity.and_then(|identity| small(identity, content)));
    }
    if form != atoms::encoded() {
        return Err(Error::BadArg);
    }
    iovec::segments(content).map(Some)
}

fn small(identity: &Identity, term: Term<'_>) -> Option<Segments> {
    ENCODER.with(|encoder| {
        encoder.try_borrow_mut().ok()?.assemble(|assembly| {
            let mut walk = Walk { identity, assembly, terms: MOST_TERMS };
            walk.put(term, MOST_DEPTH)
        })
    })
}

/// Gives up, with `None`, as soon as there is too much.
struct Walk<'a> {
    identity: &'a Identity,
    assembly: &'a mut Assembly,
    terms: usize,
}

impl Walk<'_> {
    fn put(&mut self, term: Term<'_>, depth: usize) -> Option<()> {
        self.terms = self.terms.checked_sub(1)?;
        match get_type(term) {
            TermType::Atom => {
                let name = ids::atom_text(term.get_env(), Atom::from_term(term).ok()?).ok()?;
                self.assembly.put_atom(&name).ok()
            }
            // Those of more than 64 bits may have any number.
            TermType::Integer => {
                self.assembly.put_integer(term.decode().ok()?);
                Some(())
            }
            TermType::Float => self.assembly.put_float(term.decode().ok()?).ok(),
            // Not bit strings.
            TermType::Binary => {
                let binary: Binary<'_> = term.decode().ok()?;
                self.room_for(binary.len())?;
                self.assembly.put_binary(&binary).ok()
            }
            TermType::Tuple => self.put_tuple(term, depth.checked_sub(1)?),
            TermType::List => self.put_list(term, depth.checked_sub(1)?),
            TermType::Map => self.put_map(term, depth.checked_sub(1)?),
            TermType::Pid => match term.decode::<LocalPid>() {
                Ok(pid) => {
                    let process = ids::process_of(term.get_env(), pid).ok()?;
                    self.assembly.put_pid(&self.identity.as_pid(process));
                    Some(())
                }
                Err(_) => self.assembly.put_document(&term.to_binary()),
            },
            TermType::Ref | TermType::Port => self.assembly.put_document(&term.to_binary()),
            TermType::Fun | TermType::Unknown => None,
        }?;
        self.room_for(0)
    }

    fn room_for(&self, bytes: usize) -> Option<()> {
        (self.assembly.len() + bytes <= MOST_BYTES).then_some(())
    }

    fn put_tuple(&mut self, tuple: Term<'_>, depth: usize) -> Option<()> {
        let mut elements = tuple::elements(tuple)?;
        self.assembly.put_tuple(elements.len()).ok()?;
        elements.try_for_each(|element| self.put(element, depth))
    }

    fn put_list(&mut self, mut rest: Term<'_>, depth: usize) -> Option<()> {
        if rest.is_empty_list() {
            self.assembly.put_nil();
            return Some(());
        }
        let (list, mut elements) = (self.assembly.begin_list(), 0);
        while let Ok((head, tail)) = rest.list_get_cell() {
            self.put(head, depth)?;
            elements += 1;
            rest = tail;
        }
        self.assembly.end_list(list, elements);
        self.put(rest, depth) // of an improper one: anything
    }

    fn put_map(&mut self, map: Term<'_>, depth: usize) -> Option<()> {
        let pairs = map.map_size().ok()?;
        self.assembly.put_map(pairs).ok()?;
        MapIterator::new(map)?.try_for_each(|(key, value)| {
            self.put(key, depth)?;
            self.put(value, depth)
        })
    }
}

mod tuple {
    #![allow(unsafe_code, reason = "rustler copies all the elements of a tuple, which may have millions")]

    use rustler::Term;
    use rustler::sys::enif_get_tuple;
    use std::ptr;

    /// The elements of a tuple.
    pub(super) fn elements<'a>(tuple: Term<'a>) -> Option<impl ExactSizeIterator<Item = Term<'a>>> {
        let env = tuple.get_env();
        let (mut arity, mut first) = (0, ptr::null());
        // SAFETY: the term is one of the environment, which is that of the call under way.
        if unsafe { enif_get_tuple(env.as_c_arg(), tuple.as_c_arg(), &mut arity, &mut first) } == 0 {
            return None;
        }
        let arity = usize::try_from(arity).ok()?;
        // SAFETY: the call has set a pointer to so many terms, which stay where they are as long as the environment ('a). That of
        // an empty tuple may point anywhere.
        let elements = if arity == 0 { &[] } else { unsafe { std::slice::from_raw_parts(first, arity) } };
        // SAFETY: they are terms of the same environment.
        Some(elements.iter().map(move |&element| unsafe { Term::new(env, element) }))
    }
}
