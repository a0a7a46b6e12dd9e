//! Looks at the first tokens of a document, for those who have to judge it before it is decoded.

use std::borrow::Cow;

use super::reader::Reader;
use super::token::Token;
use crate::limits::Limits;
use crate::tags;

/// More than any message has before what is looked at, and few enough to be walked over at once.
static LIMITS: Limits = Limits {
    max_depth: Limits::MAX_DEPTH,
    max_recursion: Limits::MAX_RECURSION,
    max_elements: 1 << 16,
    max_memory: 0,
    max_heap: usize::MAX,
    max_inflated: 0,
    backing_len: 0,
};

/// Goes through a document from its beginning, token by token, and builds nothing.
///
/// ```
/// use teleport_etf::{Peek, Seen};
///
/// // {sum, [1, 2]}
/// let mut peek = Peek::new(b"\x83\x68\x02\x77\x03sum\x6b\x00\x02\x01\x02").unwrap();
/// assert_eq!(peek.next(), Some(Seen::Tuple(2)));
/// assert_eq!(peek.next(), Some(Seen::Atom("sum".into())));
/// assert_eq!(peek.list(), Some(2));
/// assert_eq!(peek.next(), None);
/// ```
pub struct Peek<'a>(Reader<'a>);

/// What stands next in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<'a> {
    /// An atom.
    Atom(Cow<'a, str>),
    /// A tuple: this many elements follow.
    Tuple(usize),
    /// Anything else.
    Other,
}

impl<'a> Peek<'a> {
    /// Begins. `None` if it cannot be looked into: it is compressed, in local format, or no document.
    pub fn new(document: &'a [u8]) -> Option<Self> {
        match document {
            [131, tags::COMPRESSED | tags::LOCAL_EXT, ..] => None,
            [131, ..] => Some(Self(Reader::new(document, 1, &LIMITS))),
            _ => None,
        }
    }

    /// The next token. `None` if there is none, it is malformed, or there were 65,536 elements before.
    #[allow(clippy::should_implement_trait, reason = "it is not to be iterated over")]
    pub fn next(&mut self) -> Option<Seen<'a>> {
        if self.0.is_done() {
            return None;
        }
        Some(match self.0.token().ok()? {
            Token::Atom(name) => Seen::Atom(name.text()),
            Token::Tuple(arity) => Seen::Tuple(arity),
            _ => Seen::Other,
        })
    }

    /// Passes over a list, and tells its length. `None` if it is none, an improper one, or that cannot be found out.
    pub fn list(&mut self) -> Option<usize> {
        let mut whole = 0;
        while !self.0.is_done() {
            match self.0.token().ok()? {
                Token::Nil => return Some(whole),
                Token::String(bytes) => return Some(whole + bytes.len()),
                // Its tail may be a list again.
                Token::List(len) => {
                    (0..len).try_for_each(|_| self.skip())?;
                    whole += len;
                }
                _ => return None,
            }
        }
        None
    }

    /// Passes over the next term, however deep it is. `None` if that is not possible.
    pub fn skip(&mut self) -> Option<()> {
        if self.0.is_done() { None } else { self.0.skip().ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Atom, Term, to_segments};

    #[test]
    fn what_cannot_be_looked_into_is_told_apart() {
        for document in [&b""[..], b"\x82\x61\x01", b"\x83\x50\0\0\0\x01", b"\x83\x79\0\0\0\0\0\0\0\0"] {
            assert!(Peek::new(document).is_none(), "{document:?}");
        }
        assert_eq!(Peek::new(b"\x83").and_then(|mut peek| peek.next()), None);
        assert_eq!(Peek::new(b"\x83\x68\x09").and_then(|mut peek| peek.next()), None);
    }

    #[test]
    fn an_empty_list_with_a_tail_is_its_tail() {
        let mut peek = Peek::new(b"\x83\x6c\0\0\0\0\x68\x01\x77\x01a").expect("a document");
        assert_eq!(peek.next(), Some(Seen::Tuple(1)));
    }

    #[test]
    fn what_is_passed_over_is_bounded() {
        let of = |len: usize| {
            let deep = (vec![Term::from(1); len], Atom::from_static("behind"));
            to_segments(&deep).expect("a term").into_contiguous()
        };
        let is_reached = |document: &[u8]| {
            let mut peek = Peek::new(document).expect("a document");
            assert_eq!(peek.next(), Some(Seen::Tuple(2)));
            peek.skip().and_then(|()| peek.next()) == Some(Seen::Atom("behind".into()))
        };
        assert!(is_reached(&of(65_000)));
        assert!(!is_reached(&of(66_000)));
    }

    #[test]
    fn a_list_is_as_long_as_it_is_with_its_tails() {
        let len = |list: &[u8]| Peek::new(&[b"\x83", list].concat()).expect("a document").list();
        let (one, tuple) = (b"\x6c\0\0\0\x01\x61\x07", b"\x68\0");
        assert_eq!(len(b"\x6a"), Some(0));
        assert_eq!(len(b"\x6b\0\x03abc"), Some(3));
        assert_eq!(len(&[&one[..], b"\x6a"].concat()), Some(1));
        assert_eq!(len(&[&one[..], &one[..], b"\x6b\0\x01a"].concat()), Some(3));
        assert_eq!(len(&[b"\x6c\0\0\0\0", &one[..], b"\x6a"].concat()), Some(1));
        assert_eq!(len(&[&one[..], &tuple[..]].concat()), None);
        assert_eq!(len(tuple), None);
        assert_eq!(len(&one[..]), None);
    }
}
