//! Erlang's external term format, with large binaries by reference.
//!
//! - [`to_segments`] encodes any serde type into [`Segments`]: large [`Binary`]s stay the memory they are.
//! - [`from_bytes`] decodes: binaries are slices of the buffer that was received.
//! - [`Term`] is any Erlang term, with equality, order and syntax as in Erlang.
//! - [`RawTerm`] is a term kept as the bytes it came in, checked and not yet decoded.
//! - [`Limits`] says what is refused; [`validate`] checks a document without building anything. Nothing here recurses on
//!   input without a limit, or reserves memory for what the input only claims.
//!
//! No IO, no runtime.
//!
//! # How types map
//!
//! | Rust, by serde | Erlang | also accepted |
//! |---|---|---|
//! | `bool` | `true`, `false` | |
//! | `i8` ... `i128`, `u8` ... `u128` | integer | |
//! | `f32`, `f64` | float | integer |
//! | `char` | integer, the code point | text of one character |
//! | `String`, `&str` | binary in UTF-8 | list of code points |
//! | [`Binary`], bytes | binary | list of bytes |
//! | [`Atom`] | atom | |
//! | [`Pid`], [`Port`], [`Reference`] | pid, port, reference | |
//! | [`Term`], [`RawTerm`] | any term | |
//! | `Option`: `None` | `undefined` | `nil` |
//! | `Option`: `Some(v)` | `v` | |
//! | `()` | `nil` | `ok`, `undefined`, `{}` |
//! | `Vec` and other sequences | list | |
//! | tuple, tuple struct, array `[T; N]` | tuple | list of that length |
//! | struct | map with atoms as keys | keys may be text |
//! | `HashMap` and other maps | map | |
//! | unit struct `Stop` | `'Stop'` | |
//! | newtype struct `Id(v)` | `v` | |
//! | unit variant `E::Stop` | `'Stop'` | `{'Stop'}` |
//! | newtype variant `E::Put(v)` | `{'Put', V}` | `'Put'` if `v` is `()` or an `Option` |
//! | tuple variant `E::Move(x, y)` | `{'Move', X, Y}` | |
//! | struct variant `E::Move { x, y }` | `{'Move', #{x => X, y => Y}}` | |
//! | `Result`: `Ok(v)`, `Err(e)` | `{ok, V}`, `{error, E}` | |
//! | `Result`: `Ok(())` | `ok` | `{ok, nil}` |
//!
//! Names are taken as they are; `#[serde(rename_all = "snake_case")]` makes Erlang's usual ones of them.
//!
//! Adapters that buffer (`#[serde(untagged)]`, `#[serde(flatten)]`, internally tagged enums) see plain serde: a `Binary` in
//! them is copied, a [`Term`] or [`RawTerm`] in them is not possible, and a struct that flattens another is a map with text as keys.

mod atom;
mod binary;
mod decode;
pub mod dist;
mod encode;
mod error;
mod handoff;
mod ident;
mod limits;
mod raw;
mod segments;
mod tags;
mod term;
mod tokens;

pub use atom::Atom;
pub use binary::Binary;
pub use decode::{
    Apart, Leaves, Parts, Peek, Seen, Summary, from_bytes, from_bytes_with, has_few_terms, has_many_atoms,
    is_plain, take_all_apart, take_apart, validate, validate_with,
};
pub use encode::{Assembly, BY_REFERENCE, Encoded, Encoder, OpenList, to_segments};
pub use error::{AtomError, DecodeError, EncodeError};
pub use ident::{Pid, Port, Reference};
pub use limits::Limits;
pub use raw::RawTerm;
pub use segments::Segments;
pub use term::{BitString, Export, Fun, ImproperList, Map, Term};

/// Integers of any size, as in [`Term::BigInt`].
///
/// The type of the crate `num-bigint`, shown here so that no application has to name the same version. One of our own would have to
/// do all its arithmetic, which is what such integers are for; so another major version of that crate is one of this, too.
pub use num_bigint::BigInt;
