//! Terms that are put together on a stack.

#![allow(
    unsafe_code,
    reason = "rustler copies what tuples, lists and maps are made of; there are very many of them"
)]

use rustler::sys::{
    ErlNifCharEncoding, ErlNifTerm, enif_make_double, enif_make_int64, enif_make_list_from_array,
    enif_make_map_from_arrays, enif_make_new_binary, enif_make_string_len, enif_make_tuple_from_array,
};
use rustler::{Env, Term};

/// A stack of terms. What pops more than there is pushes nothing and says `None`.
pub(crate) struct Values<'a> {
    env: Env<'a>,
    /// All of them are terms of the environment.
    raw: Vec<ErlNifTerm>,
    /// The keys and then the values of a map.
    scratch: Vec<ErlNifTerm>,
}

impl<'a> Values<'a> {
    pub(crate) fn new(env: Env<'a>) -> Self {
        Self { env, raw: Vec::new(), scratch: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.raw.len()
    }

    pub(crate) fn push(&mut self, term: Term<'a>) {
        self.raw.push(term.as_c_arg());
    }

    pub(crate) fn pop(&mut self) -> Option<Term<'a>> {
        // SAFETY: by the field's invariant.
        self.raw.pop().map(|raw| unsafe { Term::new(self.env, raw) })
    }

    pub(crate) fn push_integer(&mut self, value: i64) {
        // SAFETY: the environment lives; so below.
        self.raw.push(unsafe { enif_make_int64(self.env.as_c_arg(), value) });
    }

    /// Of a finite one.
    pub(crate) fn push_float(&mut self, value: f64) {
        debug_assert!(value.is_finite(), "there is no such term");
        // SAFETY: as above.
        self.raw.push(unsafe { enif_make_double(self.env.as_c_arg(), value) });
    }

    pub(crate) fn push_binary(&mut self, bytes: &[u8]) {
        let mut term = ErlNifTerm::default();
        // SAFETY: as above; the call gives memory for this many bytes that nothing else refers to, or aborts without any.
        unsafe {
            let memory = enif_make_new_binary(self.env.as_c_arg(), bytes.len(), &mut term);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), memory, bytes.len());
        }
        self.raw.push(term);
    }

    /// The list of the bytes.
    pub(crate) fn push_string(&mut self, bytes: &[u8]) {
        // SAFETY: as above; there are this many bytes, and each is a character.
        self.raw.push(unsafe {
            enif_make_string_len(
                self.env.as_c_arg(),
                bytes.as_ptr().cast(),
                bytes.len(),
                ErlNifCharEncoding::ERL_NIF_LATIN1,
            )
        });
    }

    /// Pops the elements of a tuple, the last one first, and pushes the tuple.
    pub(crate) fn make_tuple(&mut self, arity: usize) -> Option<()> {
        let (start, count) = self.last(arity)?;
        let elements = &self.raw[start..];
        // SAFETY: as above; there are this many terms of the environment.
        let tuple = unsafe { enif_make_tuple_from_array(self.env.as_c_arg(), elements.as_ptr(), count) };
        self.replace(start, tuple);
        Some(())
    }

    /// Pops a tail and this many elements, the last one first, and pushes the list of them.
    pub(crate) fn make_list(&mut self, len: usize) -> Option<()> {
        let tail = self.pop()?;
        let (start, count) = self.last(len)?;
        let elements = &self.raw[start..];
        let list = if tail.is_empty_list() {
            // SAFETY: as above; there are this many terms of the environment.
            unsafe { enif_make_list_from_array(self.env.as_c_arg(), elements.as_ptr(), count) }
        } else {
            // SAFETY: by the field's invariant.
            let heads = elements.iter().map(|&head| unsafe { Term::new(self.env, head) });
            heads.rfold(tail, |tail, head| tail.list_prepend(head)).as_c_arg()
        };
        self.replace(start, list);
        Some(())
    }

    /// Pops this many pairs of key and value, the last one first, and pushes the map of them, unless two keys are equal.
    pub(crate) fn make_map(&mut self, len: usize) -> Option<()> {
        let (start, _) = self.last(len.checked_mul(2)?)?;
        let flat = &self.raw[start..];
        self.scratch.clear();
        self.scratch.extend(flat.iter().step_by(2));
        self.scratch.extend(flat.iter().skip(1).step_by(2));
        let (keys, values) = self.scratch.split_at(len);
        let mut map = ErlNifTerm::default();
        // SAFETY: as above; there are so many keys, and as many values.
        let made = unsafe {
            enif_make_map_from_arrays(self.env.as_c_arg(), keys.as_ptr(), values.as_ptr(), len, &mut map)
        };
        if made == 0 {
            return None;
        }
        // In maps of more than 32 pairs the virtual machine may overlook equal keys (erlang/otp#10975), and then there are fewer.
        // SAFETY: the call has made a term of the environment.
        let size = unsafe { Term::new(self.env, map) }.map_size().ok()?;
        self.replace(start, map);
        (size == len).then_some(())
    }

    /// Where the last so many begin.
    fn last(&self, count: usize) -> Option<(usize, u32)> {
        Some((self.raw.len().checked_sub(count)?, u32::try_from(count).ok()?))
    }

    fn replace(&mut self, start: usize, term: ErlNifTerm) {
        self.raw.truncate(start);
        self.raw.push(term);
    }
}
