//! Takes a document apart around its large binaries, for a caller that decodes the rest in its own way.

use std::ops::Range;

use super::reader::Reader;
use super::token::{Token, Usual};
use crate::error::DecodeError;
use crate::limits::Limits;
use crate::tags;

/// How deep containers that are open at a time may nest: what is remembered of each is bounded by this.
pub(super) const MAX_OPEN: usize = 1 << 16;

/// Puts a term together again from what [`take_apart`] tells, with a stack of values.
///
/// `false` stops it.
pub trait Parts {
    /// Pushes this many terms, one behind the other in `encoded`, none of which has a large binary in it.
    fn terms(&mut self, count: usize, encoded: &[u8]) -> bool;

    /// Pushes one value: what the last `count` elements of a list and its tail, one behind the other in `encoded`, are as a
    /// list. There is no large binary in them.
    fn rest_of_list(&mut self, count: usize, encoded: &[u8]) -> bool;

    /// Pushes a large binary: the bytes at that place of the document.
    fn binary(&mut self, at: Range<usize>) -> bool;

    /// Pops this many values, the last one first, and pushes the tuple of them.
    fn tuple(&mut self, arity: usize) -> bool;

    /// Pops a tail and then this many elements, the last one first, and pushes the list of them.
    fn list(&mut self, len: usize) -> bool;

    /// Pops this many pairs of key and value, the last one first, and pushes the map of them.
    fn map(&mut self, len: usize) -> bool;
}

/// What [`take_apart`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apart {
    /// Everything has been told.
    Told,
    /// Nothing has been told, since there is no large binary, or none that can be reached: those in funs and native records, and
    /// below very many containers, are not looked for. There is no large map either.
    Whole,
    /// There is a large map. Or it is not known whether there is one, since the document is compressed, in local format or
    /// malformed.
    LargeMap,
    /// The receiver of the parts has stopped it.
    Stopped,
    /// It takes more than [`Limits::max_heap`].
    TooLarge,
}

impl Apart {
    /// What a document is that cannot be walked over.
    pub(super) fn because(error: &DecodeError) -> Self {
        if matches!(error, DecodeError::TooMuchHeap { .. }) { Self::TooLarge } else { Self::LargeMap }
    }
}

/// Takes a document apart around its large binaries, those of at least `large` bytes: for a face that decodes in a way of
/// its own, which would copy them. Ends at the first map of more than `max_map` pairs, wherever that is.
///
/// Only the containers that have a large binary somewhere below them come as such; all between is told as bytes, in runs
/// that are as long as can be. Every byte of the document is looked at once and told at most once. Never recurses, and takes
/// memory in proportion to how deep the document is, up to a limit.
///
/// Unless it returns [`Apart::Told`], what was told is to be forgotten. Duplicate keys of maps, and what atoms are
/// called, are left to those who make them.
pub fn take_apart(
    document: &[u8],
    large: usize,
    max_map: usize,
    limits: &Limits,
    parts: &mut impl Parts,
) -> Apart {
    if document.first() != Some(&tags::VERSION) {
        return Apart::LargeMap;
    }
    let mut walk = Walk { document, large, max_map, open: Vec::new(), told: 0, parts };
    // Compressed terms have a tag that the reader does not know.
    walk.run(&mut Reader::new(document, 1, limits)).unwrap_or_else(|error| Apart::because(&error))
}

/// A container whose end has not been reached.
struct Open {
    shape: Shape,
    /// Terms that have yet to follow.
    left: usize,
    /// Where it begins.
    start: usize,
    /// The first of its terms that have not been told, and how many these are.
    run: usize,
    run_count: usize,
}

#[derive(Clone, Copy)]
pub(super) enum Shape {
    Document,
    Tuple(usize),
    List(usize),
    Map(usize),
}

/// What a term is to the walk.
enum Next {
    /// This many terms follow.
    Container(Shape, usize),
    Binary(usize),
    Leaf,
}

impl From<Usual<'_>> for Next {
    #[inline]
    fn from(usual: Usual<'_>) -> Self {
        match usual {
            Usual::Tuple(arity) => Self::Container(Shape::Tuple(arity), arity),
            Usual::List(len) => Self::Container(Shape::List(len), len + 1),
            Usual::Binary(bytes) => Self::Binary(bytes.len()),
            Usual::Integer(_) | Usual::Float(_) | Usual::Atom(_) | Usual::String(_) => Self::Leaf,
        }
    }
}

impl From<Token<'_>> for Next {
    fn from(token: Token<'_>) -> Self {
        match token {
            Token::Tuple(arity) => Self::Container(Shape::Tuple(arity), arity),
            Token::List(len) => Self::Container(Shape::List(len), len + 1),
            Token::Map(len) => Self::Container(Shape::Map(len), 2 * len),
            Token::Binary(bytes) => Self::Binary(bytes.len()),
            _ => Self::Leaf,
        }
    }
}

/// Of a document that is too deep the rest is only looked over, for maps.
pub(super) fn look_for_maps(reader: &mut Reader<'_>, max_map: usize) -> Result<Apart, DecodeError> {
    reader.skip_rest()?;
    reader.finish()?;
    Ok(if reader.largest_map() > max_map { Apart::LargeMap } else { Apart::Whole })
}

struct Walk<'a, P> {
    document: &'a [u8],
    large: usize,
    max_map: usize,
    open: Vec<Open>,
    /// How many of the open containers, counted from the outermost, have a large binary below them.
    told: usize,
    parts: &'a mut P,
}

impl<P: Parts> Walk<'_, P> {
    fn run(&mut self, reader: &mut Reader<'_>) -> Result<Apart, DecodeError> {
        self.enter(Shape::Document, 1, 0, reader.position());
        loop {
            let depth = self.open.len();
            let Some(innermost) = self.open.last_mut() else { return Ok(Apart::Whole) };
            if innermost.left == 0 {
                if matches!(innermost.shape, Shape::Document) {
                    return self.finish(reader);
                }
                if !self.leave(reader.position()) {
                    return Ok(Apart::Stopped);
                }
                continue;
            }
            innermost.left -= 1;
            let start = reader.position();
            let next = match reader.usual() {
                Some(usual) => Next::from(usual),
                None => match reader.token()? {
                    token @ (Token::Fun(_) | Token::Record(_)) => {
                        reader.skip_inside(&token)?;
                        Next::Leaf
                    }
                    Token::Local(_) => return Ok(Apart::LargeMap),
                    token => Next::from(token),
                },
            };
            let container = match next {
                Next::Container(shape, terms) => Some((shape, terms)),
                Next::Binary(len) if len >= self.large => {
                    // A bit string of whole bytes is a binary too, and ends with its bytes as well.
                    let end = reader.position();
                    if !self.tell_binary(start, end - len..end) {
                        return Ok(Apart::Stopped);
                    }
                    continue;
                }
                Next::Binary(_) | Next::Leaf => None,
            };
            if reader.largest_map() > self.max_map {
                return Ok(Apart::LargeMap);
            }
            match container {
                Some((shape, terms)) if depth < MAX_OPEN => {
                    self.enter(shape, terms, start, reader.position());
                }
                Some(_) => return look_for_maps(reader, self.max_map),
                None => innermost.run_count += 1,
            }
        }
    }

    fn finish(&mut self, reader: &Reader<'_>) -> Result<Apart, DecodeError> {
        reader.finish()?;
        if self.told == 0 {
            return Ok(Apart::Whole);
        }
        Ok(if self.tell_run(reader.position()) { Apart::Told } else { Apart::Stopped })
    }

    fn enter(&mut self, shape: Shape, left: usize, start: usize, first: usize) {
        self.open.push(Open { shape, left, start, run: first, run_count: 0 });
    }

    /// The innermost container ends here.
    fn leave(&mut self, end: usize) -> bool {
        let has_large = self.told == self.open.len();
        if has_large && !self.tell_end(end) {
            return false;
        }
        self.open.pop();
        self.told = self.told.min(self.open.len());
        let Some(outer) = self.open.last_mut() else { return false };
        if has_large {
            (outer.run, outer.run_count) = (end, 0);
        } else {
            outer.run_count += 1;
        }
        true
    }

    /// Tells a container with a large binary in it, all of whose terms but the last run have been told.
    fn tell_end(&mut self, end: usize) -> bool {
        let Some(innermost) = self.open.last() else { return false };
        match innermost.shape {
            Shape::List(len) if innermost.run_count > 1 => {
                let count = innermost.run_count - 1;
                let encoded = &self.document[innermost.run..end];
                self.parts.rest_of_list(count, encoded) && self.parts.list(len - count)
            }
            Shape::List(len) => self.tell_run(end) && self.parts.list(len),
            Shape::Tuple(arity) => self.tell_run(end) && self.parts.tuple(arity),
            Shape::Map(len) => self.tell_run(end) && self.parts.map(len),
            Shape::Document => false,
        }
    }

    /// Tells a large binary, and in front of it what has not been told of the containers around it.
    fn tell_binary(&mut self, start: usize, bytes: Range<usize>) -> bool {
        // Of those that have been told before only the innermost can have terms that have not.
        for index in self.told.saturating_sub(1)..self.open.len() {
            let end = self.open.get(index + 1).map_or(start, |inner| inner.start);
            if !self.tell_run_of(index, end) {
                return false;
            }
        }
        self.told = self.open.len();
        let end = bytes.end;
        if let Some(innermost) = self.open.last_mut() {
            innermost.run = end;
        }
        self.parts.binary(bytes)
    }

    fn tell_run(&mut self, end: usize) -> bool {
        self.tell_run_of(self.open.len() - 1, end)
    }

    fn tell_run_of(&mut self, index: usize, end: usize) -> bool {
        let Open { run, run_count, .. } = &mut self.open[index];
        let count = std::mem::take(run_count);
        count == 0 || self.parts.terms(count, &self.document[*run..end])
    }
}
