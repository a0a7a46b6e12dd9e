//! What binaries of received messages weigh for the garbage collector is tried out, and set.

use crate::atoms;
use crate::terms::held;
use bytes::Bytes;
use rustler::types::atom::Atom;
use rustler::{Env, Term};

/// What [`sample`] has, in bytes.
const SAMPLE: usize = 64 * 1024;

#[rustler::nif]
fn sample(env: Env<'_>) -> Term<'_> {
    held::binary(env, &Bytes::from(vec![0; SAMPLE]), 0..SAMPLE, 0)
}

#[rustler::nif]
fn pad(is_wanted: bool) -> Atom {
    held::pad(is_wanted);
    atoms::ok()
}
