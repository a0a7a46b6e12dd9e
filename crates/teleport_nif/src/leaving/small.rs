//! Terms to encoded messages.
//!
//! Small ones are encoded here, on the sender's scheduler: for those `term_to_iovec` spends far more on memory and on being
//! interruptible than on encoding. What is larger, or of a kind that may hide anything, comes encoded; or all of it is encoded
//! here, on a dirty scheduler, without memory of the process.

use crate::atoms;
use crate::ids::{self, Identity};
use crate::leaving::iovec;
use crate::terms::naming;
use rustler::types::atom::Atom;
use rustler::types::map::MapIterator;
use rustler::{Binary, Error, LocalPid, NifResult, Term};
use std::cell::RefCell;
use teleport::Segments;
use teleport::etf::{Assembly, BY_REFERENCE, Encoder};

/// How much of a term is encoded at a time, and how.
struct Bounds {
    /// By copy.
    bytes: usize,
    terms: usize,
    /// Of terms in terms; each level takes stack.
    depth: usize,
    /// Of binaries: longer ones are not copied, as long as there are references left.
    copied: usize,
    /// Each costs the engine time.
    references: usize,
    /// Whether there is time for terms that may hide anything, and for what lies deeper.
    whatever: bool,
}

/// What a scheduler encodes without being held up: some 10 µs at the most.
const SMALL: Bounds =
    Bounds { bytes: 4 * 1024, terms: 500, depth: 32, copied: 4 * 1024, references: 8, whatever: false };

/// What a dirty scheduler encodes.
const WHOLE: Bounds = Bounds {
    bytes: usize::MAX,
    terms: usize::MAX,
    depth: 128,
    copied: BY_REFERENCE,
    references: 512,
    whatever: true,
};

/// Binaries from this size on are not copied, however many there are.
const LARGE: usize = 64 * 1024;

/// Lists of bytes that are shorter are encoded as strings: the virtual machine copies such a list at once.
const TEXT: usize = 1024;

thread_local! {
    /// And room for a text.
    static ENCODER: RefCell<(Encoder, Vec<u8>)> = RefCell::default();
}

/// The message that `{term, Term}` or `{encoded, [binary()]}` stands for; `None` if the term has to come encoded, as all have to
/// where it is not known whose pids are in them.
pub(crate) fn body(identity: Option<&Identity>, body: Term<'_>) -> NifResult<Option<Segments>> {
    within(SMALL, identity, body)
}

/// Encodes what relays answer. That comes encoded if there is a large binary in it: it is garbage when it has been sent,
/// and is to be collected then.
pub(crate) fn answer(identity: Option<&Identity>, body: Term<'_>) -> NifResult<Option<Segments>> {
    within(Bounds { references: 0, ..SMALL }, identity, body)
}

fn within(bounds: Bounds, identity: Option<&Identity>, body: Term<'_>) -> NifResult<Option<Segments>> {
    let (form, content): (Atom, Term<'_>) = body.decode()?;
    if form == atoms::term() {
        return Ok(identity.and_then(|identity| encode(identity, content, bounds)));
    }
    if form != atoms::encoded() {
        return Err(Error::BadArg);
    }
    iovec::segments(content).map(Some)
}

/// The message that a term makes, on a dirty scheduler. `None`: it has no encoded form, or `term_to_iovec` has to find it.
pub(crate) fn whole(identity: &Identity, term: Term<'_>) -> Option<Segments> {
    encode(identity, term, WHOLE)
}

fn encode(identity: &Identity, term: Term<'_>, bounds: Bounds) -> Option<Segments> {
    let depth = bounds.depth;
    ENCODER.with(|encoder| {
        let (encoder, text) = &mut *encoder.try_borrow_mut().ok()?;
        text.resize(TEXT, 0);
        encoder.assemble(|assembly| Walk { identity, assembly, text, left: bounds }.put(term, depth))
    })
}

/// Gives up, with `None`, as soon as there is too much.
struct Walk<'a> {
    identity: &'a Identity,
    assembly: &'a mut Assembly,
    /// Room for a string.
    text: &'a mut [u8],
    left: Bounds,
}

impl Walk<'_> {
    #[inline]
    fn put(&mut self, term: Term<'_>, depth: usize) -> Option<()> {
        self.left.terms = self.left.terms.checked_sub(1)?;
        // Many a long term is of nothing else.
        match term.decode() {
            Ok(integer) => self.assembly.put_integer(integer),
            Err(_) => self.put_any(term, depth)?,
        }
        self.room_for(0)
    }

    /// Asks for one kind after the other, the usual ones first: `enif_term_type` ends the virtual machine if a term is of a kind that it
    /// has no number for, as records of OTP 29 are.
    #[inline(never)]
    fn put_any(&mut self, term: Term<'_>, depth: usize) -> Option<()> {
        if term.is_atom() {
            let name = ids::atom_text(term.get_env(), Atom::from_term(term).ok()?).ok()?;
            return self.assembly.put_atom(&name).ok();
        }
        if let Ok(binary) = term.decode() {
            return self.put_binary(term, binary);
        }
        // What is too deep may be anything.
        if let Some(depth) = depth.checked_sub(1) {
            if term.is_tuple() {
                return self.put_tuple(term, depth);
            }
            if term.is_list() || term.is_empty_list() {
                return self.put_list(term, depth);
            }
            if term.is_map() {
                return self.put_map(term, depth);
            }
        }
        if term.is_pid() {
            return match term.decode::<LocalPid>() {
                Ok(pid) => {
                    let process = ids::process_of(term.get_env(), pid).ok()?;
                    self.assembly.put_pid(&self.identity.as_pid(process));
                    Some(())
                }
                Err(_) => self.put_document(term),
            };
        }
        if term.is_ref() || term.is_port() {
            return self.put_document(term);
        }
        if let Ok(float) = term.decode() {
            return self.assembly.put_float(float).ok();
        }
        // Funs, bit strings, integers of more than 64 bits, and kinds that are not known here.
        self.put_whatever(term)
    }

    fn room_for(&self, bytes: usize) -> Option<()> {
        (self.assembly.len() + bytes <= self.left.bytes).then_some(())
    }

    fn put_whatever(&mut self, term: Term<'_>) -> Option<()> {
        if !self.left.whatever {
            return None;
        }
        self.put_document(term)
    }

    /// What the virtual machine encodes: it may be of this node, or refer to what is.
    fn put_document(&mut self, term: Term<'_>) -> Option<()> {
        let _inside = naming::enter();
        self.assembly.put_document(&raw::document(term)?)
    }

    fn put_binary(&mut self, term: Term<'_>, binary: Binary<'_>) -> Option<()> {
        let is_short = binary.len() < self.left.copied && self.room_for(binary.len()).is_some();
        if is_short || self.left.references == 0 && self.left.whatever && binary.len() < LARGE {
            return self.assembly.put_binary(&binary).ok();
        }
        if !self.left.whatever || self.left.references > 0 {
            self.left.references = self.left.references.checked_sub(1)?;
        }
        self.assembly.put_shared_binary(iovec::share(term).ok()?).ok()
    }

    fn put_tuple(&mut self, tuple: Term<'_>, depth: usize) -> Option<()> {
        let mut elements = raw::elements(tuple)?;
        self.assembly.put_tuple(elements.len()).ok()?;
        elements.try_for_each(|element| self.put(element, depth))
    }

    fn put_list(&mut self, mut rest: Term<'_>, depth: usize) -> Option<()> {
        if rest.is_empty_list() {
            self.assembly.put_nil();
            return Some(());
        }
        match raw::text(rest, self.text) {
            Text::Of(bytes) => {
                let bytes = &self.text[..bytes];
                self.room_for(bytes.len())?;
                return self.assembly.put_string(bytes).ok();
            }
            // `term_to_iovec` is faster with it, and this would find out late that it is too much.
            Text::Long if !self.left.whatever => return None,
            Text::Long | Text::None => {}
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

/// What a list is, as a string.
enum Text {
    /// The length in bytes.
    Of(usize),
    /// It begins with more bytes than there is room for.
    Long,
    None,
}

mod raw {
    #![allow(
        unsafe_code,
        reason = "rustler copies all the elements of a tuple, which may have millions, and panics for terms without a form"
    )]

    use super::Text;
    use rustler::sys::{ErlNifCharEncoding, enif_get_string, enif_get_tuple, enif_term_to_binary};
    use rustler::{OwnedBinary, Term};
    use std::mem::MaybeUninit;
    use std::ptr;

    /// The term as `term_to_binary` has it; not if a binary in it is too large.
    pub(super) fn document(term: Term<'_>) -> Option<OwnedBinary> {
        let mut binary = MaybeUninit::uninit();
        // SAFETY: the term is one of the environment, which is that of the call under way.
        let made =
            unsafe { enif_term_to_binary(term.get_env().as_c_arg(), term.as_c_arg(), binary.as_mut_ptr()) };
        // SAFETY: the call has filled the binary in, and leaves it to the caller.
        (made != 0).then(|| unsafe { OwnedBinary::from_raw(binary.assume_init()) })
    }

    /// Whether a list is one of bytes, which are copied to `room`, behind them a 0.
    pub(super) fn text(list: Term<'_>, room: &mut [u8]) -> Text {
        let len = u32::try_from(room.len()).unwrap_or(u32::MAX);
        let latin1 = ErlNifCharEncoding::ERL_NIF_LATIN1;
        // SAFETY: the term is one of the environment, which is that of the call under way, and there is room for `len` bytes.
        let written = unsafe {
            enif_get_string(list.get_env().as_c_arg(), list.as_c_arg(), room.as_mut_ptr().cast(), len, latin1)
        };
        match usize::try_from(written) {
            Ok(0) => Text::None,
            Ok(written) => Text::Of(written - 1),
            Err(_) => Text::Long,
        }
    }

    /// The elements of a tuple.
    pub(super) fn elements<'a>(tuple: Term<'a>) -> Option<impl ExactSizeIterator<Item = Term<'a>>> {
        let env = tuple.get_env();
        let (mut arity, mut first) = (0, ptr::null());
        // SAFETY: the term is one of the environment, which is that of the call under way.
        if unsafe { enif_get_tuple(env.as_c_arg(), tuple.as_c_arg(), &mut arity, &mut first) } == 0 {
            return None;
        }
        let arity = usize::try_from(arity).ok()?;
        // SAFETY: the call has set a pointer to this many terms, which stay where they are as long as the environment ('a). That of
        // an empty tuple may point anywhere.
        let elements = if arity == 0 { &[] } else { unsafe { std::slice::from_raw_parts(first, arity) } };
        // SAFETY: they are terms of the same environment.
        Some(elements.iter().map(move |&element| unsafe { Term::new(env, element) }))
    }
}
