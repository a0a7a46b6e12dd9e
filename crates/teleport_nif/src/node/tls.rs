//! How connections are encrypted, from a map that the Erlang module `teleport_tls` makes.

use crate::atoms;
use crate::node::address::number;
use rustler::types::atom::Atom;
use rustler::{Binary, Error, NifResult, Term};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;
use teleport::{Names, Pem, TlsConfig, TlsSide, Verify};

pub(crate) fn decode(map: Term<'_>) -> NifResult<TlsConfig> {
    let side = |key: Atom| decode_side(map.map_get(key)?);
    let mut config = TlsConfig::of_sides(side(atoms::accepting())?, side(atoms::dialling())?);
    config.upgrade = map.map_get(atoms::upgrade())?.decode()?;
    config.reload_every = Duration::from_millis(number(map.map_get(atoms::reload_every())?)?);
    Ok(config)
}

fn decode_side(map: Term<'_>) -> NifResult<TlsSide> {
    let mut side = TlsSide::default();
    let identity = map.map_get(atoms::identity())?;
    if !identity.is_atom() {
        let (certificate, key): (Term<'_>, Term<'_>) = identity.decode()?;
        side.identity = Some((pem(certificate)?, pem(key)?));
    }
    let authorities = map.map_get(atoms::authorities())?;
    if !authorities.is_atom() {
        side.authorities = Some(pem(authorities)?);
    }
    let verify: Atom = map.map_get(atoms::verify())?.decode()?;
    side.verify = match verify {
        verify if verify == atoms::required() => Verify::Required,
        verify if verify == atoms::if_given() => Verify::IfGiven,
        verify if verify == atoms::nothing() => Verify::Nothing,
        _ => return Err(Error::BadArg),
    };
    let names: Atom = map.map_get(atoms::names())?.decode()?;
    side.names = match names {
        names if names == atoms::host() => Names::Host,
        names if names == atoms::host_or_common_name() => Names::HostOrCommonName,
        names if names == atoms::any() => Names::Any,
        _ => return Err(Error::BadArg),
    };
    Ok(side)
}

/// `{file, Name} | {pem, Text}`.
fn pem(term: Term<'_>) -> NifResult<Pem> {
    let (form, bytes): (Atom, Binary<'_>) = term.decode()?;
    if form == atoms::pem() {
        return Ok(Pem::from(bytes.to_vec()));
    }
    Ok(Pem::from(PathBuf::from(OsString::from_vec(bytes.to_vec()))))
}
