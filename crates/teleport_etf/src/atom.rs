//! Atoms, as text of their own.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use smol_str::SmolStr;

use crate::error::AtomError;
use crate::tokens;

/// An Erlang atom: a name of at most 255 characters.
///
/// Owned text, not an index into a table, so atoms from the wire never use up anything. Names of up to 23 bytes are
/// stored in place; cloning never copies a longer one.
///
/// In a serde type it is an atom in the external term format and a string in any other format.
///
/// ```
/// use teleport_etf::Atom;
///
/// const OK: Atom = Atom::from_static("ok");
/// assert_eq!(OK, "ok");
/// assert_eq!(Atom::new("ok")?, OK);
/// # Ok::<(), teleport_etf::AtomError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Atom(SmolStr);

impl Atom {
    /// The greatest number of characters (code points) in an atom.
    pub const MAX_CHARS: usize = 255;

    /// Names of up to this many bytes are stored in place.
    pub(crate) const IN_PLACE: usize = 23;

    /// An atom of this name, refused if it has more than 255 characters.
    ///
    /// # Errors
    ///
    /// [`AtomError`] if the name has more than 255 characters.
    pub fn new(name: impl AsRef<str>) -> Result<Atom, AtomError> {
        let name = name.as_ref();
        check_len(name)?;
        Ok(Atom(SmolStr::new(name)))
    }

    /// An atom of a name known at compile time; no allocation.
    ///
    /// # Panics
    ///
    /// If the name is longer than 255 bytes; in a constant this is a compile error.
    pub const fn from_static(name: &'static str) -> Atom {
        assert!(name.len() <= Atom::MAX_CHARS, "an atom has at most 255 characters");
        Atom(SmolStr::new_static(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The caller has seen to it that the name has at most 255 characters.
    pub(crate) fn from_checked(name: &str) -> Atom {
        Atom(SmolStr::new(name))
    }
}

/// Refuses names of more than 255 characters.
pub(crate) fn check_len(name: &str) -> Result<(), AtomError> {
    if name.len() <= Atom::MAX_CHARS {
        return Ok(());
    }
    let chars = name.chars().count();
    if chars > Atom::MAX_CHARS { Err(AtomError { chars }) } else { Ok(()) }
}

impl Deref for Atom {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Atom {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Atom {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Atom {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Atom {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl TryFrom<&str> for Atom {
    type Error = AtomError;

    fn try_from(name: &str) -> Result<Atom, AtomError> {
        Atom::new(name)
    }
}

impl TryFrom<String> for Atom {
    type Error = AtomError;

    fn try_from(name: String) -> Result<Atom, AtomError> {
        Atom::new(name)
    }
}

impl FromStr for Atom {
    type Err = AtomError;

    fn from_str(name: &str) -> Result<Atom, AtomError> {
        Atom::new(name)
    }
}

impl From<bool> for Atom {
    fn from(value: bool) -> Atom {
        Atom::from_static(if value { "true" } else { "false" })
    }
}

/// The atom in Erlang syntax, quoted where Erlang needs it.
impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_atom(f, self)
    }
}

impl fmt::Debug for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_atom(f, self)
    }
}

/// Writes an atom as Erlang reads it back.
pub(crate) fn write_atom(out: &mut (impl fmt::Write + ?Sized), name: &str) -> fmt::Result {
    if is_bare(name) {
        return out.write_str(name);
    }
    out.write_char('\'')?;
    for c in name.chars() {
        match c {
            '\'' | '\\' => write!(out, "\\{c}")?,
            '\n' => out.write_str("\\n")?,
            c if c.is_control() => write!(out, "\\x{{{:X}}}", u32::from(c))?,
            c => out.write_char(c)?,
        }
    }
    out.write_char('\'')
}

/// True if the name needs no quotes. ASCII only: what else is a letter depends on the release that reads it.
fn is_bare(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'@')
        && !RESERVED.contains(&name)
}

/// Reserved words of any release up to OTP 28, `else` and `maybe` among them.
const RESERVED: [&str; 29] = [
    "after", "and", "andalso", "band", "begin", "bnot", "bor", "bsl", "bsr", "bxor", "case", "catch", "cond",
    "div", "else", "end", "fun", "if", "let", "maybe", "not", "of", "or", "orelse", "receive", "rem", "try",
    "when", "xor",
];

impl Serialize for Atom {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(tokens::ATOM, self.as_str())
    }
}

impl<'de> Deserialize<'de> for Atom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Atom, D::Error> {
        deserializer.deserialize_newtype_struct(tokens::ATOM, AtomVisitor)
    }
}

struct AtomVisitor;

impl<'de> Visitor<'de> for AtomVisitor {
    type Value = Atom;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an atom")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Atom, E> {
        Atom::new(name).map_err(E::custom)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Atom, E> {
        Ok(Atom::from(value))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Atom, D::Error> {
        deserializer.deserialize_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_at_255_characters_not_bytes() {
        assert!(Atom::new("\u{1F980}".repeat(255)).is_ok());
        assert_eq!(Atom::new("a".repeat(256)), Err(AtomError { chars: 256 }));
        assert_eq!(Atom::new("").unwrap(), "");
    }

    #[test]
    fn display_quotes_what_erlang_would_not_read_as_an_atom() {
        let shown: Vec<String> = [
            "ok",
            "node@host",
            "Ok",
            "",
            "two words",
            "it's",
            "end",
            "maybe",
            "_x",
            "a\nb",
            "a\u{7}",
            "é",
            "$gen_call",
        ]
        .map(|name| Atom::new(name).unwrap().to_string())
        .to_vec();
        let expected = [
            "ok",
            "node@host",
            "'Ok'",
            "''",
            "'two words'",
            r"'it\'s'",
            "'end'",
            "'maybe'",
            "'_x'",
            r"'a\nb'",
            r"'a\x{7}'",
            "'é'",
            "'$gen_call'",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn another_serde_format_sees_a_string() {
        let json = serde_json::to_string(&Atom::from_static("ok")).unwrap();
        assert_eq!(json, r#""ok""#);
        assert_eq!(serde_json::from_str::<Atom>(&json).unwrap(), "ok");
    }
}
