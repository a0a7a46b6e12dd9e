//! Takes a document apart down to its leaves, in one pass.

use super::apart::{Apart, MAX_OPEN, Parts, Shape, look_for_maps};
use super::reader::Reader;
use super::token::{Token, Usual};
use crate::error::DecodeError;
use crate::limits::Limits;
use crate::tags;

/// Builds a term by itself, where [`Parts`] has most of it decoded by another. `false` stops it.
///
/// [`Parts::terms`] is told of the kinds that are not here, [`Parts::rest_of_list`] of nothing.
pub trait Leaves: Parts {
    /// Pushes an integer.
    fn integer(&mut self, value: i64) -> bool;

    /// Pushes a float, which is finite.
    fn float(&mut self, value: f64) -> bool;

    /// Pushes the atom that these bytes encode, if they encode one: nothing has been said of its name.
    fn atom(&mut self, encoded: &[u8]) -> bool;

    /// Pushes a copy of a binary that is not large.
    fn small_binary(&mut self, bytes: &[u8]) -> bool;

    /// Pushes a proper list of bytes, perhaps of none.
    fn string(&mut self, bytes: &[u8]) -> bool;
}

/// Takes a document apart down to its leaves, in one pass; else as [`take_apart`](super::take_apart) does. Where that leaves a
/// document whole, everything is told here, unless the document is too deep.
pub fn take_all_apart(
    document: &[u8],
    large: usize,
    max_map: usize,
    limits: &Limits,
    leaves: &mut impl Leaves,
) -> Apart {
    if document.first() != Some(&tags::VERSION) {
        return Apart::LargeMap;
    }
    let mut walk = Walk { document, large, max_map, open: Vec::new(), run: 0, run_count: 0, leaves };
    // Compressed terms have a tag that the reader does not know.
    walk.run(&mut Reader::new(document, 1, limits)).unwrap_or_else(|error| Apart::because(&error))
}

/// A container whose end has not been reached.
struct Open {
    shape: Shape,
    /// Terms that have yet to follow.
    left: usize,
}

/// How the walk goes on behind a term.
enum Step {
    GoOn,
    /// The receiver has stopped it.
    Stop,
    /// With nothing to be told.
    End(Apart),
}

impl From<bool> for Step {
    /// From what the receiver says.
    fn from(going_on: bool) -> Self {
        if going_on { Self::GoOn } else { Self::Stop }
    }
}

/// Of its own, beside the one of [`take_apart`](super::take_apart): that one keeps for each open container what has not been told of it,
/// since most of a document is told in runs. Here everything is told at once, and there is nothing to keep.
struct Walk<'a, L> {
    document: &'a [u8],
    large: usize,
    max_map: usize,
    open: Vec<Open>,
    /// Terms that are to be told as such: where they begin, and how many they are.
    run: usize,
    run_count: usize,
    leaves: &'a mut L,
}

impl<L: Leaves> Walk<'_, L> {
    fn run(&mut self, reader: &mut Reader<'_>) -> Result<Apart, DecodeError> {
        self.open.push(Open { shape: Shape::Document, left: 1 });
        while let Some(innermost) = self.open.last_mut() {
            let going_on = if innermost.left == 0 {
                let shape = innermost.shape;
                self.open.pop();
                self.tell_run(reader.position()) && self.leave(shape)
            } else {
                innermost.left -= 1;
                let start = reader.position();
                match reader.usual() {
                    Some(usual) => self.tell_run(start) && self.usual(usual, reader.position()),
                    None => match self.term(reader, start)? {
                        Step::GoOn => true,
                        Step::Stop => false,
                        Step::End(apart) => return Ok(apart),
                    },
                }
            };
            if !going_on {
                return Ok(Apart::Stopped);
            }
            if self.open.len() > MAX_OPEN {
                return look_for_maps(reader, self.max_map);
            }
        }
        reader.finish()?;
        Ok(Apart::Told)
    }

    fn leave(&mut self, shape: Shape) -> bool {
        match shape {
            Shape::Document => true,
            Shape::Tuple(arity) => self.leaves.tuple(arity),
            Shape::List(len) => self.leaves.list(len),
            Shape::Map(len) => self.leaves.map(len),
        }
    }

    /// A term that ends here, or the beginning of one.
    #[inline]
    fn usual(&mut self, usual: Usual<'_>, end: usize) -> bool {
        match usual {
            Usual::Integer(value) => self.leaves.integer(value),
            Usual::Float(value) => self.leaves.float(value),
            Usual::Atom(encoded) => self.leaves.atom(encoded),
            Usual::String(bytes) => self.leaves.string(bytes),
            Usual::Binary(bytes) if bytes.len() >= self.large => self.leaves.binary(end - bytes.len()..end),
            Usual::Binary(bytes) => self.leaves.small_binary(bytes),
            Usual::Tuple(arity) => self.enter(Shape::Tuple(arity), arity),
            Usual::List(len) => self.enter(Shape::List(len), len + 1),
        }
    }

    fn enter(&mut self, shape: Shape, left: usize) -> bool {
        self.open.push(Open { shape, left });
        true
    }

    /// Any term.
    fn term(&mut self, reader: &mut Reader<'_>, start: usize) -> Result<Step, DecodeError> {
        let token = reader.token()?;
        let end = reader.position();
        let usual = match token {
            Token::Integer(value) => Usual::Integer(value),
            Token::Nil => Usual::String(&[]),
            Token::String(bytes) => Usual::String(bytes),
            // A bit string of whole bytes is a binary too, and ends with its bytes as well.
            Token::Binary(bytes) => Usual::Binary(bytes),
            Token::Tuple(arity) => Usual::Tuple(arity),
            Token::List(len) => Usual::List(len),
            Token::Map(len) if reader.largest_map() <= self.max_map => {
                return Ok(Step::from(self.tell_run(start) && self.enter(Shape::Map(len), 2 * len)));
            }
            Token::Map(_) | Token::Local(_) => return Ok(Step::End(Apart::LargeMap)),
            other => {
                if let Token::Fun(_) | Token::Record(_) = other {
                    reader.skip_inside(&other)?;
                    if reader.largest_map() > self.max_map {
                        return Ok(Step::End(Apart::LargeMap));
                    }
                }
                if self.run_count == 0 {
                    self.run = start;
                }
                self.run_count += 1;
                return Ok(Step::GoOn);
            }
        };
        Ok(Step::from(self.tell_run(start) && self.usual(usual, end)))
    }

    fn tell_run(&mut self, end: usize) -> bool {
        let count = std::mem::take(&mut self.run_count);
        count == 0 || self.leaves.terms(count, &self.document[self.run..end])
    }
}
