//! Addresses as `inet` has them: `{Address, Port}`.

use rustler::types::tuple::{get_tuple, make_tuple};
use rustler::{Encoder, Env, Error, NifResult, Term};
use std::net::{IpAddr, SocketAddr};

pub(crate) fn decode(term: Term<'_>) -> NifResult<SocketAddr> {
    let (ip, port): (Term<'_>, Term<'_>) = term.decode()?;
    let (parts, port) = (get_tuple(ip)?, number(port)?);
    if let &[a, b, c, d] = &parts[..] {
        return Ok(SocketAddr::from(([number(a)?, number(b)?, number(c)?, number(d)?], port)));
    }
    let parts = parts.into_iter().map(number).collect::<NifResult<Vec<u16>>>()?;
    let parts = <[u16; 8]>::try_from(parts).map_err(|_| Error::BadArg)?;
    Ok(SocketAddr::from((parts, port)))
}

pub(crate) fn encode<'a>(env: Env<'a>, address: SocketAddr) -> Term<'a> {
    let ip: Vec<_> = match address.ip() {
        IpAddr::V4(ip) => ip.octets().iter().map(|part| part.encode(env)).collect(),
        IpAddr::V6(ip) => ip.segments().iter().map(|part| part.encode(env)).collect(),
    };
    (make_tuple(env, &ip), address.port()).encode(env)
}

/// A number that the type has. (The decoders of rustler cut others off.)
pub(crate) fn number<T: TryFrom<i64>>(term: Term<'_>) -> NifResult<T> {
    T::try_from(term.decode()?).map_err(|_| Error::BadArg)
}
