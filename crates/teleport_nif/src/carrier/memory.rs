//! Binaries of the virtual machine that large messages are received into: it takes no others without a copy.

#![allow(
    unsafe_code,
    reason = "rustler has no binaries that are filled by several threads, and become terms later"
)]

use crate::lock::Lock;
use bytes::buf::UninitSlice;
use bytes::{BufMut, Bytes};
use rustler::sys::{ErlNifBinary, enif_alloc_binary, enif_make_binary, enif_release_binary};
use rustler::{Env, Term};
use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::sync::{Arc, MutexGuard};
use teleport::embed::{Foreign, Piece};

/// The complete ones, by where their bytes are: so a message's binary is found by its bytes.
static COMPLETE: Lock<BTreeMap<usize, Arc<Memory>>> = Lock::new(BTreeMap::new());

fn complete() -> MutexGuard<'static, BTreeMap<usize, Arc<Memory>>> {
    COMPLETE.lock()
}

/// A binary that is no term yet.
#[derive(Debug)]
struct Memory {
    base: *mut u8,
    len: usize,
    /// `None` once it is a term's.
    binary: Lock<Option<Binary>>,
}

// SAFETY: the memory belongs to this alone until it is a term's, and each byte to one piece until it is complete.
unsafe impl Send for Memory {}
// SAFETY: as above; after that the bytes do not change.
unsafe impl Sync for Memory {}

struct Binary(ErlNifBinary);

impl std::fmt::Debug for Binary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Binary").field(&self.0.size).finish()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(Binary(mut binary)) = self.binary.get_mut().take() {
            // SAFETY: it was allocated, and has become no term's.
            unsafe { enif_release_binary(&mut binary) }
        }
    }
}

/// A binary of this many bytes, if there is memory for it.
pub(crate) fn allocate(len: usize) -> Option<Box<dyn Foreign>> {
    let mut binary = MaybeUninit::<ErlNifBinary>::uninit();
    // SAFETY: the function fills it in if it returns true, and may be called on any thread.
    let binary = unsafe {
        if enif_alloc_binary(len, binary.as_mut_ptr()) == 0 {
            return None;
        }
        binary.assume_init()
    };
    let base = binary.data;
    Some(Box::new(Whole(Arc::new(Memory { base, len, binary: Lock::new(Some(Binary(binary))) }))))
}

/// The message as a term of the virtual machine's, if it was received into a binary, and nobody else has it.
pub(crate) fn term<'a>(env: Env<'a>, message: Bytes) -> Result<Term<'a>, Bytes> {
    let memory = match complete().remove(&(message.as_ptr() as usize)) {
        Some(memory) if memory.len == message.len() => memory,
        _ => return Err(message),
    };
    drop(message);
    // The table's reference is this one, and there is no other unless somebody else has the message.
    if Arc::strong_count(&memory) > 1 {
        return Err(Bytes::from_owner(Complete(memory)));
    }
    let taken = memory.binary.lock().take();
    let Some(Binary(mut binary)) = taken else { return Err(Bytes::new()) };
    // SAFETY: it was allocated and filled, and nothing refers to it but this; the term owns it from now on.
    Ok(unsafe { Term::new(env, enif_make_binary(env.as_c_arg(), &mut binary)) })
}

#[derive(Debug)]
struct Whole(Arc<Memory>);

impl Foreign for Whole {
    fn pieces(&self, size: usize) -> Vec<Box<dyn Piece>> {
        let piece = |start: usize| -> Box<dyn Piece> {
            let room = size.min(self.0.len - start);
            Box::new(Part { memory: self.0.clone(), start, room, filled: 0 })
        };
        (0..self.0.len).step_by(size.max(1)).map(piece).collect()
    }

    fn freeze(self: Box<Self>) -> Bytes {
        let memory = self.0;
        complete().insert(memory.base as usize, memory.clone());
        Bytes::from_owner(Complete(memory))
    }
}

/// All of its bytes are there.
struct Complete(Arc<Memory>);

impl AsRef<[u8]> for Complete {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: all pieces were filled before, and it becomes a term only when this is gone.
        unsafe { std::slice::from_raw_parts(self.0.base, self.0.len) }
    }
}

impl Drop for Complete {
    fn drop(&mut self) {
        // Unless it has become a term, in which case another message may be where it was.
        let mut complete = complete();
        let place = self.0.base as usize;
        if complete.get(&place).is_some_and(|memory| Arc::ptr_eq(memory, &self.0)) {
            complete.remove(&place);
        }
    }
}

/// What one fragment is read into.
#[derive(Debug)]
struct Part {
    memory: Arc<Memory>,
    start: usize,
    room: usize,
    filled: usize,
}

// SAFETY: what is handed out lies within the part, which nobody else writes to, and `advance_mut` says how much of it was written.
unsafe impl BufMut for Part {
    fn remaining_mut(&self) -> usize {
        self.room - self.filled
    }

    unsafe fn advance_mut(&mut self, count: usize) {
        assert!(count <= self.remaining_mut(), "more than there was room for");
        self.filled += count;
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        // SAFETY: the parts of a binary do not overlap, and this one lies within it.
        unsafe {
            let free = self.memory.base.add(self.start + self.filled);
            UninitSlice::from_raw_parts_mut(free, self.room - self.filled)
        }
    }
}

impl Piece for Part {
    fn filled(&self) -> usize {
        self.filled
    }

    fn clear(&mut self) {
        self.filled = 0;
    }
}
