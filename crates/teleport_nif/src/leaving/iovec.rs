//! Binaries of a process as segments of a message: the large ones by reference.

#![allow(unsafe_code, reason = "rustler has no safe form of IO vectors that outlive a call")]

use crate::atoms;
use bytes::{Bytes, BytesMut};
use rustler::sys::{ErlNifEnv, ErlNifTerm};
use rustler::{Binary, Error, NifResult, Resource, ResourceArc, Term};
use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;
use teleport::Segments;
use teleport::embed::free_elsewhere;

/// A message up to this size is copied into one block: that costs less than to keep references.
const COPY_WHOLE: usize = 4 * 1024;

/// Parts below this are joined with their neighbours.
const COPY_PART: usize = 1024;

/// The beginning of `ErlNifIOVec`; the rest is private to the virtual machine.
#[repr(C)]
struct RawIoVec {
    count: c_int,
    size: usize,
    iov: *mut RawPart,
}

/// `SysIOVec` as on Unix.
#[repr(C)]
struct RawPart {
    base: *const c_void,
    len: usize,
}

unsafe extern "C" {
    fn enif_inspect_iovec(
        env: *mut ErlNifEnv,
        max_elements: usize,
        list: ErlNifTerm,
        tail: *mut ErlNifTerm,
        iovec: *mut *mut RawIoVec,
    ) -> c_int;
    fn enif_free_iovec(iovec: *mut RawIoVec);
}

/// An IO vector that keeps its binaries alive.
struct IoVec(*mut RawIoVec);

// SAFETY: the virtual machine counts references to binaries atomically, and an IO vector of no environment belongs to no
// thread. It is not changed after it was made.
unsafe impl Send for IoVec {}
// SAFETY: as above.
unsafe impl Sync for IoVec {}

impl Drop for IoVec {
    fn drop(&mut self) {
        // SAFETY: it was made by `enif_inspect_iovec` without an environment and is freed once.
        unsafe { enif_free_iovec(self.0) }
    }
}

/// A part of an IO vector.
struct Part {
    _owner: Arc<IoVec>,
    base: *const u8,
    len: usize,
}

// SAFETY: the memory is an immutable binary, which the owner keeps alive.
unsafe impl Send for Part {}
// SAFETY: as above.
unsafe impl Sync for Part {}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: base and length are those of a binary that the owner keeps alive. Binaries do not change, and one that could
        // grow, and move by it, does not any more once it has been looked into.
        unsafe { std::slice::from_raw_parts(self.base, self.len) }
    }
}

/// A message that was made beforehand, to be sent.
pub(crate) struct Gathered(Segments);

#[rustler::resource_impl(register = false)]
impl Resource for Gathered {}

impl Drop for Gathered {
    /// On a scheduler, most likely.
    fn drop(&mut self) {
        free_elsewhere(Box::new(std::mem::take(&mut self.0)));
    }
}

impl Gathered {
    /// Of no message.
    pub(crate) fn nothing() -> Self {
        Self(Segments::new())
    }

    pub(crate) fn new(list: Term<'_>) -> NifResult<Self> {
        by_reference(list).map(Self)
    }

    pub(crate) fn of(message: Segments) -> Self {
        Self(message)
    }
}

/// The message that a list of binaries makes, or that was made before.
pub(crate) fn segments(body: Term<'_>) -> NifResult<Segments> {
    if body.is_ref() {
        // One of a library that was loaded before was for the node that it had.
        let ended = || Error::Term(Box::new(atoms::nodedown()));
        return body
            .decode::<ResourceArc<Gathered>>()
            .map(|gathered| gathered.0.clone())
            .map_err(|_| ended());
    }
    let mut copied = BytesMut::new();
    if copy(body, &mut copied)? { Ok(Segments::from(copied.freeze())) } else { by_reference(body) }
}

/// Appends the message that a list of binaries makes. `false` if it is longer than is to be copied; then some of it may have been
/// appended.
pub(crate) fn copy(list: Term<'_>, copied: &mut BytesMut) -> NifResult<bool> {
    let most = copied.len() + COPY_WHOLE;
    let mut rest = list;
    while let Ok((part, tail)) = rest.list_get_cell() {
        let part: Binary<'_> = part.decode()?;
        if copied.len() + part.len() > most {
            return Ok(false);
        }
        copied.extend_from_slice(&part);
        rest = tail;
    }
    // What ends in anything else is no proper list.
    if rest.is_empty_list() { Ok(true) } else { Err(Error::BadArg) }
}

/// A binary by reference. Of the process's memory it takes a cell of a list.
pub(crate) fn share(binary: Term<'_>) -> NifResult<Bytes> {
    let list = Term::list_new_empty(binary.get_env()).list_prepend(binary);
    by_reference(list).map(Segments::into_contiguous)
}

/// The message that a list of binaries makes, none of which is copied but for small ones between others.
pub(crate) fn by_reference(list: Term<'_>) -> NifResult<Segments> {
    let mut segments = Segments::new();
    let mut rest = list.as_c_arg();
    loop {
        let mut raw = ptr::null_mut();
        // SAFETY: the list is a term of the calling process's environment, and so is the rest of it. Without an environment
        // the vector lives until it is freed, which `IoVec` does.
        if unsafe { enif_inspect_iovec(ptr::null_mut(), usize::MAX >> 1, rest, &mut rest, &mut raw) } == 0 {
            return Err(Error::BadArg);
        }
        let owner = Arc::new(IoVec(raw));
        // SAFETY: the call has filled the vector in.
        let (parts, count) = unsafe { ((*raw).iov, (*raw).count) };
        if count > 0 {
            // SAFETY: there are this many parts.
            append(&mut segments, &owner, unsafe { std::slice::from_raw_parts(parts, count as usize) });
        }
        // SAFETY: a term of the list's environment.
        let rest = unsafe { Term::new(list.get_env(), rest) };
        if count == 0 || rest.is_empty_list() {
            return Ok(segments);
        }
    }
}

fn append(segments: &mut Segments, owner: &Arc<IoVec>, parts: &[RawPart]) {
    let mut joined = BytesMut::new();
    for &RawPart { base, len } in parts {
        if len == 0 {
            continue;
        }
        let part = Part { _owner: owner.clone(), base: base.cast(), len };
        if len < COPY_PART {
            joined.extend_from_slice(part.as_ref());
            continue;
        }
        segments.push(joined.split().freeze());
        segments.push(Bytes::from_owner(part));
    }
    segments.push(joined.freeze());
}
