//! What depends on the release of OTP that runs: how binaries of received messages are weighed for the garbage
//! collector, and which threads can make large maps.

use crate::atoms;
use crate::terms::{held, maps};
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

#[rustler::nif]
fn make_maps_anywhere(can: bool) -> Atom {
    maps::set_anywhere(can);
    atoms::ok()
}
