//! What a library does for the one that the module is loaded from after it, in the same virtual machine.

#![allow(unsafe_code, reason = "the functions of another library are called by their addresses")]

use rustler::Term;
use rustler::sys::{ErlNifEnv, ErlNifTerm};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// The next library may be of another version: fields are only added, at the end, and those that are not within `size` are not
/// there.
#[repr(C)]
pub(crate) struct Library {
    pub(crate) size: usize,
    /// Ends the node that runs, and tells its manager then.
    pub(crate) abandon: extern "C" fn(),
    /// Cancels a call or monitor of the calling process, as the function `cancel` does.
    pub(crate) cancel: unsafe extern "C" fn(env: *mut ErlNifEnv, reference: ErlNifTerm) -> bool,
}

/// The one that the module was loaded from before, if another one.
static BEFORE: AtomicPtr<Library> = AtomicPtr::new(ptr::null_mut());

/// The module has been loaded from another library since it was loaded from this one.
static ABANDONED: AtomicBool = AtomicBool::new(false);

impl Library {
    /// Names it to the next one: for as long as the virtual machine runs, and in it alone.
    pub(crate) fn number(&'static self) -> usize {
        ptr::from_ref(self).expose_provenance()
    }
}

/// Ends the node of the library of that number, which was there before this one.
///
/// # Safety
///
/// The number is that of a library of this virtual machine; it stays mapped.
pub(crate) unsafe fn take_over(number: usize) {
    let before = ptr::with_exposed_provenance_mut::<Library>(number);
    BEFORE.store(before, Ordering::Release);
    // SAFETY: the caller says so.
    unsafe { ((*before).abandon)() };
}

/// Cancels what the calling process has begun in the library before. `false` if there is nothing to cancel.
pub(crate) fn cancel_before(reference: Term<'_>) -> bool {
    let before = BEFORE.load(Ordering::Acquire);
    // SAFETY: what is there is a library that stays mapped; the term is one of its environment.
    !before.is_null() && unsafe { ((*before).cancel)(reference.get_env().as_c_arg(), reference.as_c_arg()) }
}

/// Whether another library has taken over. A function of this one may still be called, by a process that was about to call it then.
pub(crate) fn is_abandoned() -> bool {
    ABANDONED.load(Ordering::SeqCst)
}

pub(crate) fn set_abandoned(abandoned: bool) {
    ABANDONED.store(abandoned, Ordering::SeqCst);
}
