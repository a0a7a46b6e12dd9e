//! The library as the virtual machine sees it, and what happens when its Erlang module is loaded, be it for the first time or
//! anew.
//!
//! The library stays mapped for good (`build.rs`), and with it its statics, its threads, and its types of resources. So if the
//! module is loaded anew from the same file nothing has to happen: it is the same library, and its node runs on. Another file is
//! another library, with statics of its own. It knows the library before it by a number that the Erlang module keeps
//! ([`Library::number`]), and tells it to end its node, whose manager then starts one here.
//!
//! What processes hold of another library's resources is nothing to this one: types have the address of their library in their
//! names, so that no library ever takes over what another one, with other layouts, has made.

#![allow(
    unsafe_code,
    reason = "rustler takes no module that is loaded anew, and knows no library before its own"
)]

use crate::arriving::builders::BuildJob;
use crate::arriving::calls::{CALLS, Caller};
use crate::carrier::{Handle, Plain};
use crate::ids;
use crate::leaving::iovec::Gathered;
use crate::library::{self, Library};
use crate::nifs::node;
use crate::node::halting;
use crate::terms::held;
use rustler::codegen_runtime::{
    ErlNifEntry, ResourceRegistration, c_int, c_void, handle_nif_init_call, internal_write_symbols, inventory,
};
use rustler::sys::{ErlNifEnv, ErlNifTerm};
use rustler::{Env, Nif, NifResult, Resource, ResourceArc, Term};
use std::ffi::CString;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static THIS: Library = Library { size: size_of::<Library>(), abandon, cancel };

/// Names this library to the next one that the module is loaded from.
#[rustler::nif]
fn library() -> usize {
    THIS.number()
}

extern "C" fn abandon() {
    library::set_abandoned(true);
    node::abandon();
}

unsafe extern "C" fn cancel(env: *mut ErlNifEnv, reference: ErlNifTerm) -> bool {
    // SAFETY: the caller is a function that a process is calling, with its environment and a term of it.
    let reference = unsafe { Term::new(Env::new(&env, env), reference) };
    let cancelled = || -> NifResult<bool> {
        let env = reference.get_env();
        Ok(CALLS.cancel(ids::ref_id(reference)?, ids::process_of(env, env.pid())?))
    };
    cancelled().unwrap_or(false)
}

/// What `erlang:load_nif/2` looks for.
// SAFETY: no other library that the virtual machine links with has a function of this name.
#[unsafe(no_mangle)]
extern "C" fn nif_init() -> *const ErlNifEntry {
    struct Entry(ErlNifEntry);
    // SAFETY: it is not changed, and what it points to is never freed.
    unsafe impl Send for Entry {}
    // SAFETY: as above.
    unsafe impl Sync for Entry {}
    static ENTRY: OnceLock<Entry> = OnceLock::new();

    let Entry(entry) = ENTRY.get_or_init(|| {
        // SAFETY: this is where rustler's own entry does it: before anything else.
        unsafe { internal_write_symbols() };
        let functions: Vec<_> = inventory::iter::<Nif>().map(Nif::get_def).collect();
        let mut entry = ErlNifEntry::new(c"teleport_nif", functions.leak(), load);
        entry.upgrade = Some(upgrade);
        Entry(entry)
    });
    entry
}

/// There is no other version of the module.
unsafe extern "C" fn load(env: *mut ErlNifEnv, _own: *mut *mut c_void, info: ErlNifTerm) -> c_int {
    // SAFETY: the virtual machine's environment, and a term of it.
    unsafe {
        handle_nif_init_call(loaded, Env::new_init_env(&env, env), Term::new(Env::new(&env, env), info))
    }
}

/// There is one, and processes may still be in it.
unsafe extern "C" fn upgrade(
    env: *mut ErlNifEnv,
    own: *mut *mut c_void,
    _before: *mut *mut c_void,
    info: ErlNifTerm,
) -> c_int {
    // SAFETY: as for `load`, whose arguments these are.
    unsafe { load(env, own, info) }
}

/// `before` is the number of the library that was loaded last, which may be this one; or 0.
fn loaded(env: Env<'_>, before: Term<'_>) -> bool {
    let Ok(before) = before.decode::<usize>() else { return false };
    if !open_types(env) {
        return false;
    }
    library::set_abandoned(false);
    halting::prepare();
    if before != 0 && before != THIS.number() {
        // SAFETY: the Erlang module keeps the number of the library that it was loaded from.
        unsafe { library::take_over(before) };
    }
    true
}

/// Opens the types of resources, once: they outlive the version of the module that they were opened by.
fn open_types(env: Env<'_>) -> bool {
    static OPEN: AtomicBool = AtomicBool::new(false);
    // Modules are loaded one at a time.
    if !OPEN.load(Ordering::Acquire) {
        let opened = open(env, Caller::nobody)
            && CString::new(format!("held of {:x}", THIS.number())).is_ok_and(|name| held::open(env, &name))
            && open(env, BuildJob::nothing)
            && open(env, Gathered::nothing)
            && open(env, Handle::nothing)
            && open(env, Plain::nothing);
        OPEN.store(opened, Ordering::Release);
    }
    OPEN.load(Ordering::Acquire)
}

/// Opens a type, and keeps one resource of it: a type without any is freed with the version of the module that it was opened by.
fn open<T: Resource>(env: Env<'_>, nothing: impl FnOnce() -> T) -> bool {
    let name = format!("{} of {:x}", std::any::type_name::<T>(), THIS.number()).leak();
    let opened = ResourceRegistration::new::<T>().with_name(name).register(env).is_ok();
    if opened {
        std::mem::forget(ResourceArc::new(nothing()));
    }
    opened
}
