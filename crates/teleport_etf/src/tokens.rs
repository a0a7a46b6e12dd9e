//! Names of newtype structs by which this crate's own types make themselves known to its serializer and deserializer.
//! Another serde format ignores the name and sees what is inside.

/// A string inside, to be an atom.
pub(crate) const ATOM: &str = "$teleport_etf::Atom";
/// A byte string inside that is one complete document, of a pid, port or reference.
pub(crate) const RAW: &str = "$teleport_etf::Raw";
/// A [`Term`](crate::Term), handed over as such; in another format like [`RAW`].
pub(crate) const TERM: &str = "$teleport_etf::Term";
/// A [`RawTerm`](crate::RawTerm), handed over without the version byte; in another format like [`RAW`].
pub(crate) const RAW_TERM: &str = "$teleport_etf::RawTerm";
