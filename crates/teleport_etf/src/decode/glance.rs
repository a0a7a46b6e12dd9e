//! What a look at a document tells, before it is walked over or decoded.

use super::reader::Reader;
use super::token::{Token, Usual};
use crate::limits::Limits;
use crate::tags;
use memchr::{memchr2_iter, memchr3_iter};

/// Terms that are looked at to tell whether a document has many atoms.
const SAMPLE: usize = 1000;

/// Up to this many terms are few, and up to this many bytes little to copy.
const FEW: usize = 64;
const LITTLE: usize = 64 * 1024;

/// What a document takes on a heap for each of its bytes, at most; see [`Limits::max_heap`].
const MOST_SWOLLEN: usize = 20;

/// Whether at least a tenth of the first thousand terms are atoms.
pub fn has_many_atoms(document: &[u8], limits: &Limits) -> bool {
    if document.first() != Some(&tags::VERSION) {
        return false;
    }
    let mut reader = Reader::new(document, 1, limits);
    let (mut atoms, mut terms) = (0, 0);
    while terms < SAMPLE && !reader.is_done() {
        match reader.usual() {
            Some(Usual::Atom(_)) => atoms += 1,
            None if reader.token().is_err() => return false,
            _ => {}
        }
        terms += 1;
    }
    atoms * 10 >= terms
}

/// Whether it takes no longer to build what a document stands for than to build a small message: it has few terms, and hardly
/// more to copy than a small message, since binaries of at least `large` bytes are not copied. Looks at few of its terms.
pub fn has_few_terms(document: &[u8], large: usize, limits: &Limits) -> bool {
    if document.first() != Some(&tags::VERSION) {
        return false;
    }
    let mut reader = Reader::new(document, 1, limits);
    let (mut terms, mut copied) = (0, document.len());
    while !reader.is_done() {
        terms += 1;
        if terms > FEW {
            return false;
        }
        let binary = match reader.usual() {
            Some(Usual::Binary(bytes)) => bytes.len(),
            Some(_) => 0,
            None => match reader.token() {
                Ok(Token::Binary(bytes)) => bytes.len(),
                Ok(Token::Fun(_) | Token::Local(_)) | Err(_) => return false,
                Ok(_) => 0,
            },
        };
        if binary >= large {
            copied -= binary; // they are parts of it, one behind the other
        }
    }
    reader.finish().is_ok() && copied <= LITTLE
}

/// Whether [`take_apart`](super::take_apart) would leave the document whole, if it is one: it has no binary of at least `large` bytes
/// and no map of more than `max_map` pairs, and is within the limits of heap and elements, whatever it is. Bytes are looked at, not
/// terms, which takes a tenth of the time: `false` may be wrong, `true` is not.
pub fn is_plain(document: &[u8], large: usize, max_map: usize, limits: &Limits) -> bool {
    let Some((&tags::VERSION, terms)) = document.split_first() else { return false };
    let is_open = terms.first().is_some_and(|tag| ![tags::COMPRESSED, tags::LOCAL_EXT].contains(tag));
    let is_within = terms.len() <= limits.max_elements && terms.len() <= limits.max_heap / MOST_SWOLLEN;
    if !is_open || !is_within {
        return false;
    }
    // Whether what begins there may be one, by its length. A bit string of whole bytes is a binary, too.
    let may_be = |at: usize| {
        let (head, rest) = (terms[at], &terms[at + 1..]);
        rest.first_chunk().is_some_and(|len| {
            let (len, left) = (u32::from_be_bytes(*len) as usize, rest.len() - 4);
            if head == tags::MAP_EXT { len > max_map && len <= left / 2 } else { len >= large && len <= left }
        })
    };
    if max_map >= terms.len() / 2 {
        !memchr2_iter(tags::BINARY_EXT, tags::BIT_BINARY_EXT, terms).any(may_be)
    } else {
        !memchr3_iter(tags::BINARY_EXT, tags::BIT_BINARY_EXT, tags::MAP_EXT, terms).any(may_be)
    }
}
