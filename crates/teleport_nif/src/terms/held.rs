//! Binaries that refer to memory of a received message, and weigh for the garbage collector what they hold of it.
//!
//! Each is a resource that holds the message. From OTP 27 on the collector counts the size of the resource, not of the binary
//! (a regression, erlang/otp#11611): a small one with 10 MiB behind it weighs nothing, and garbage stays. There the resource is
//! allocated as large as what it holds, up to 64 MiB, which make the collector come as well; the surplus is never touched, so it
//! takes addresses, and hardly any memory.

#![allow(unsafe_code, reason = "rustler has resources of one size per type only")]

use crate::work::freeing;
use bytes::Bytes;
use rustler::sys::{
    ErlNifEnv, ErlNifResourceDtor, ErlNifResourceFlags, ErlNifResourceType, ErlNifResourceTypeInit, c_void,
    enif_alloc_resource, enif_make_resource_binary, enif_open_resource_type_x, enif_release_resource,
};
use rustler::{Env, Term};
use std::ffi::CStr;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// The type of these resources, once the library has been loaded.
static TYPE: AtomicPtr<ErlNifResourceType> = AtomicPtr::new(ptr::null_mut());

/// The most that a resource is made to weigh, in bytes.
const MOST_WEIGHT: usize = 64 << 20;

/// Whether the collector counts the size of the resource.
static PADDED: AtomicBool = AtomicBool::new(false);

/// Makes the type, under a name that no other library's has, and a resource of it that is never freed: a type without any
/// would be freed. To be called once, while the library is loaded.
pub(crate) fn open(env: Env<'_>, name: &CStr) -> bool {
    let dtor = release as *const ErlNifResourceDtor;
    let init = ErlNifResourceTypeInit { dtor, stop: ptr::null(), down: ptr::null() };
    let flags = ErlNifResourceFlags::ERL_NIF_RT_CREATE;
    // SAFETY: the environment is that of the loading, and `release` takes what `allocate` makes.
    let kind =
        unsafe { enif_open_resource_type_x(env.as_c_arg(), name.as_ptr(), &init, flags, ptr::null_mut()) };
    TYPE.store(kind.cast_mut(), Ordering::Release);
    if !kind.is_null() {
        allocate(Bytes::new(), 0);
    }
    !kind.is_null()
}

/// A resource of that size, or a little more, that holds the message. The reference to it is the caller's.
fn allocate(message: Bytes, size: usize) -> *mut c_void {
    let size = size.max(size_of::<Bytes>());
    // SAFETY: the type has been made. The resource has room for what is written, wherever that is aligned, and owns it from
    // then on: `release` takes it out, once.
    unsafe {
        let resource = enif_alloc_resource(TYPE.load(Ordering::Acquire), size);
        ptr::write_unaligned(resource.cast(), message);
        resource
    }
}

/// Says what the collector counts: the size of the resource or that of the binary.
pub(crate) fn pad(padded: bool) {
    PADDED.store(padded, Ordering::Relaxed);
}

/// The bytes at that place of the message, not copied. It weighs as much as this many bytes, which is what the message holds on
/// its behalf.
pub(crate) fn binary<'a>(env: Env<'a>, message: &Bytes, at: Range<usize>, weight: usize) -> Term<'a> {
    let bytes = &message[at];
    let padded = if PADDED.load(Ordering::Relaxed) { weight.min(MOST_WEIGHT) } else { 0 };
    let resource = allocate(message.clone(), padded);
    // SAFETY: the resource holds the memory that the binary refers to, which does not move or change. The virtual machine counts
    // the binary's reference; ours ends.
    unsafe {
        let term = enif_make_resource_binary(env.as_c_arg(), resource, bytes.as_ptr().cast(), bytes.len());
        enif_release_resource(resource);
        Term::new(env, term)
    }
}

/// The last reference is gone. On a scheduler, most likely.
unsafe extern "C" fn release(_env: *mut ErlNifEnv, resource: *mut c_void) {
    // SAFETY: `allocate` has written it, and the virtual machine calls this once for each resource.
    let message: Bytes = unsafe { ptr::read_unaligned(resource.cast()) };
    freeing::free(message);
}
