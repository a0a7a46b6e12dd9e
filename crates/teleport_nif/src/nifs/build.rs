//! Builders take terms that only a scheduler can build.

use crate::arriving::builders::{self, BuildJob};
use crate::atoms;
use crate::nifs::shared::MOST_PLACES;
use crate::terms::Atoms;
use rustler::types::atom::Atom;
use rustler::{Encoder, Env, Error, NifResult, OwnedBinary, ResourceArc, Term};

#[rustler::nif]
fn builder(env: Env<'_>, place: usize, count: usize) -> NifResult<Atom> {
    if place >= count || count > MOST_PLACES {
        return Err(Error::BadArg);
    }
    builders::add(place, count, env.pid());
    Ok(atoms::ok())
}

/// The job, unless it is one of a library that was loaded before.
fn job(job: Term<'_>) -> NifResult<Option<ResourceArc<BuildJob>>> {
    if job.is_ref() { Ok(job.decode().ok()) } else { Err(Error::BadArg) }
}

#[rustler::nif(schedule = "DirtyCpu", name = "build")]
fn build_job(term: Term<'_>) -> NifResult<Atom> {
    if let Some(job) = job(term)? {
        job.run();
    }
    Ok(atoms::ok())
}

#[rustler::nif]
fn document<'a>(env: Env<'a>, term: Term<'a>) -> NifResult<Term<'a>> {
    let Some((document, atoms)) = job(term)?.and_then(|job| job.document()) else {
        return Ok(atoms::none().encode(env));
    };
    let binary = OwnedBinary::from_slice(&document);
    let which = if matches!(atoms, Atoms::Known) { atoms::known() } else { atoms::counted() };
    Ok((which, binary.release(env)).encode(env))
}

#[rustler::nif]
fn built(of: Term<'_>, term: Term<'_>) -> NifResult<Atom> {
    if let Some(job) = job(of)? {
        // `none', or `{ok, Term}'.
        job.built(term.decode::<(Atom, Term<'_>)>().ok().map(|(_ok, term)| term));
    }
    Ok(atoms::ok())
}
