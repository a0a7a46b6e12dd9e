//! Documents: decoded in every way, and walked over.

use std::ops::Range;

use bytes::Bytes;
use teleport_etf::{Apart, Leaves, Limits, Parts, Term, take_all_apart, take_apart, validate};

use crate::terms::apart::Assembly;
use crate::terms::{apart, properties};

/// Any bytes as a document: decoded in every way, encoded again, compared.
pub fn etf_decode(bytes: &[u8]) -> bool {
    properties::any_bytes(bytes)
}

/// A document taken apart by a caller that may end it at any step. Before it: from which size on binaries are large (2 bytes), the
/// most pairs of a map, the step.
pub fn etf_apart(bytes: &[u8]) -> bool {
    let Some(([high, low, max_map, stop], document)) = bytes.split_first_chunk() else { return false };
    let large = usize::from(u16::from_be_bytes([*high, *low])).max(1);
    let (max_map, stop) = (usize::from(*max_map), usize::from(*stop));
    let limits = Limits { max_inflated: 1 << 20, ..Limits::default() };
    let document = Bytes::copy_from_slice(document);
    let decoded = Term::decode_with(&document, &limits);
    apart::agrees(&document, large, &decoded, validate(&document, &limits).ok().as_ref());

    let mut told = Stopping::new(&document, usize::MAX);
    let whole = take_apart(&document, large, max_map, &limits, &mut told);
    let mut stopped = Stopping::new(&document, stop);
    let ended = take_apart(&document, large, max_map, &limits, &mut stopped);
    assert_eq!(ended, if stopped.left == 0 { Apart::Stopped } else { whole });

    let mut told = Stopping::new(&document, usize::MAX);
    let whole = take_all_apart(&document, large, max_map, &limits, &mut told);
    let mut stopped = Stopping::new(&document, stop);
    let ended = take_all_apart(&document, large, max_map, &limits, &mut stopped);
    assert_eq!(ended, if stopped.left == 0 { Apart::Stopped } else { whole });
    whole == Apart::Told && decoded.is_ok()
}

/// Puts terms together, and says no at some step.
struct Stopping {
    assembly: Assembly,
    left: usize,
}

impl Stopping {
    fn new(document: &Bytes, steps: usize) -> Self {
        Self { assembly: Assembly::new(document), left: steps.max(1) }
    }

    /// What was said at this step. Where the assembly itself says no the walk ends, too.
    fn step(&mut self, said: impl FnOnce(&mut Assembly) -> bool) -> bool {
        assert!(self.left > 0, "told more after it was stopped");
        self.left = if said(&mut self.assembly) { self.left - 1 } else { 0 };
        self.left > 0
    }
}

impl Parts for Stopping {
    fn terms(&mut self, count: usize, encoded: &[u8]) -> bool {
        self.step(|assembly| assembly.terms(count, encoded))
    }

    fn rest_of_list(&mut self, count: usize, encoded: &[u8]) -> bool {
        self.step(|assembly| assembly.rest_of_list(count, encoded))
    }

    fn binary(&mut self, at: Range<usize>) -> bool {
        self.step(|assembly| assembly.binary(at))
    }

    fn tuple(&mut self, arity: usize) -> bool {
        self.step(|assembly| assembly.tuple(arity))
    }

    fn list(&mut self, len: usize) -> bool {
        self.step(|assembly| assembly.list(len))
    }

    fn map(&mut self, len: usize) -> bool {
        self.step(|assembly| assembly.map(len))
    }
}

impl Leaves for Stopping {
    fn integer(&mut self, value: i64) -> bool {
        self.step(|assembly| assembly.integer(value))
    }

    fn float(&mut self, value: f64) -> bool {
        self.step(|assembly| assembly.float(value))
    }

    fn atom(&mut self, encoded: &[u8]) -> bool {
        self.step(|assembly| assembly.atom(encoded))
    }

    fn small_binary(&mut self, bytes: &[u8]) -> bool {
        self.step(|assembly| assembly.small_binary(bytes))
    }

    fn string(&mut self, bytes: &[u8]) -> bool {
        self.step(|assembly| assembly.string(bytes))
    }
}
