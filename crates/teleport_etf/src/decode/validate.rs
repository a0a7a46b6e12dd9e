//! Checks a document and weighs what it would build, without building it.

use smallvec::SmallVec;

use super::inflate::{Body, body};
use super::reader::Reader;
use super::token::Token;
use crate::error::DecodeError;
use crate::limits::Limits;

/// What [`validate`] found in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Number of terms, all levels together, as [`Limits::max_elements`] counts them.
    pub elements: usize,
    /// How deep containers nest: 0 for a leaf.
    pub depth: usize,
    /// Bytes that the term takes on a heap of an Erlang virtual machine, or slightly more; see [`Limits::max_heap`].
    pub heap: usize,
    /// Length in bytes of the largest binary, 0 if there is none; in funs and terms in local format it is not looked for.
    pub largest_binary: usize,
    /// True if the term is compressed.
    pub compressed: bool,
}

/// Checks a document against the format and the limits, without building anything.
///
/// Accepts what [`Term::decode`](crate::Term::decode) accepts, except that it does not look for duplicate keys in maps.
///
/// # Errors
///
/// [`DecodeError`] if the document is malformed, or more than the limits allow.
///
/// ```
/// use teleport_etf::{Limits, validate};
///
/// let nested = [131, 104, 1, 104, 1, 97, 7];
/// assert_eq!(validate(&nested, &Limits::default())?.depth, 2);
/// # Ok::<(), teleport_etf::DecodeError>(())
/// ```
pub fn validate(document: &[u8], limits: &Limits) -> Result<Summary, DecodeError> {
    check(document, limits, None)
}

/// Like [`validate`], and asks about every atom in the document, node, module and function names included; `false` refuses
/// the document with [`DecodeError::AtomRefused`].
///
/// The place for a budget of atoms: a caller that turns atoms from the wire into entries of a table that never shrinks counts
/// here those that are new.
///
/// # Errors
///
/// As [`validate`], and [`DecodeError::AtomRefused`].
pub fn validate_with(
    document: &[u8],
    limits: &Limits,
    mut on_atom: impl FnMut(&str) -> bool,
) -> Result<Summary, DecodeError> {
    check(document, limits, Some(&mut on_atom))
}

type OnAtom<'a> = Option<&'a mut dyn FnMut(&str) -> bool>;

fn check(document: &[u8], limits: &Limits, on_atom: OnAtom<'_>) -> Result<Summary, DecodeError> {
    match body(document, limits)? {
        Body::Plain(data) => walk_whole(data, 1, limits, on_atom),
        Body::Inflated(data) => {
            walk_whole(&data, 0, limits, on_atom).map(|summary| Summary { compressed: true, ..summary })
        }
    }
}

/// An open container.
struct Open {
    left: usize,
    /// A list has a tail after its elements.
    is_list: bool,
}

fn walk_whole(
    data: &[u8],
    start: usize,
    limits: &Limits,
    on_atom: OnAtom<'_>,
) -> Result<Summary, DecodeError> {
    let mut reader = Reader::new(data, start, limits);
    if let Some(on_atom) = on_atom {
        reader.on_atom(on_atom);
    }
    let summary = walk(&mut reader)?;
    reader.finish()?;
    Ok(summary)
}

/// Walks over the next term, whose depth counts from itself; the elements are those of all that has been read.
pub(super) fn walk(reader: &mut Reader<'_>) -> Result<Summary, DecodeError> {
    let max_depth = reader.limits().max_depth;
    let mut summary = Summary { elements: 0, depth: 0, heap: 0, largest_binary: 0, compressed: false };
    let mut open: SmallVec<[Open; 16]> = SmallVec::new();
    loop {
        let (left, is_list) = match reader.token()? {
            Token::Tuple(arity) => (arity, false),
            Token::Map(len) => (2 * len, false),
            Token::List(len) => (len, true),
            Token::Binary(bytes) => {
                summary.largest_binary = summary.largest_binary.max(bytes.len());
                (0, false)
            }
            Token::Record(terms) => (terms, false),
            Token::Fun(head) => {
                reader.fun_body(&head)?;
                (0, false)
            }
            _ => (0, false),
        };
        if left > 0 {
            match open.last_mut() {
                // A list as the tail of a list is its continuation.
                Some(list) if is_list && list.is_list && list.left == 0 => {
                    list.left = left;
                    continue;
                }
                _ => {}
            }
            if open.len() == max_depth {
                return Err(DecodeError::TooDeep { limit: max_depth });
            }
            open.push(Open { left, is_list });
            summary.depth = summary.depth.max(open.len());
            continue;
        }
        // A leaf: closes every container of which it is the last term.
        while let Some(container) = open.last_mut() {
            if container.left > 0 {
                container.left -= 1;
                if container.left > 0 || container.is_list {
                    break;
                }
            }
            open.pop();
        }
        if open.is_empty() {
            break;
        }
    }
    summary.elements = reader.elements();
    summary.heap = reader.heap();
    Ok(summary)
}
