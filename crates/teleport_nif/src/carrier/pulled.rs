//! Messages that were pulled out of the virtual machine together, on their way into the engine.

use crate::leaving::iovec;
use bytes::{Bytes, BytesMut};
use rustler::{Error, NifResult, Term};
use std::ops::Range;
use teleport::Segments;
use teleport::embed::{Carry, CarryBody, ProcessId};
use teleport::etf::dist::{AtomCache, DistError, Order};

/// Bytes of a message in which a header is looked for, at first and then: 255 atoms of 255 characters.
const HEADER: usize = 4 * 1024;
const LONGEST_HEADER: usize = 1024 * 1024;

/// The memory that is kept from one time to the next.
const KEPT: usize = 16 * 1024;

/// What is sent by distributed Erlang itself.
pub(super) const NOBODY: ProcessId = ProcessId { id: 0, serial: 0 };

/// Messages with headers that need nothing of the messages before.
#[derive(Default)]
pub(super) struct Pulled {
    /// The atoms that the virtual machine has named.
    atoms: AtomCache,
    messages: Vec<(Body, Order)>,
    /// The small ones.
    small: BytesMut,
    /// One of them, as it was pulled.
    original: BytesMut,
    bytes: usize,
}

enum Body {
    Small(Range<usize>),
    Large(Segments),
}

impl Pulled {
    /// Adds a message, as `dist_ctrl_get_data/1` returns it.
    pub(super) fn add(&mut self, message: Term<'_>) -> NifResult<()> {
        self.original.clear();
        let added = match iovec::copy(message, &mut self.original)? {
            true => self.add_small(),
            false => self.add_large(&iovec::by_reference(message)?),
        };
        added.map_err(|error| Error::Term(Box::new(error.to_string())))
    }

    /// Bytes of all.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes them out, to be sent there.
    pub(super) fn drain(&mut self, to: ProcessId) -> impl Iterator<Item = Carry<'_>> {
        let Self { messages, small, .. } = self;
        let small = &small[..];
        messages.drain(..).map(move |(body, order)| {
            let (from, behind_all) = match order {
                Order::Behind { id, serial } => (ProcessId { id, serial }, false),
                Order::BehindAll => (NOBODY, true),
                Order::Free => (NOBODY, false),
            };
            let body = match body {
                Body::Small(range) => CarryBody::Copied(&small[range]),
                Body::Large(segments) => CarryBody::Kept(segments),
            };
            Carry { from, to, body, behind_all }
        })
    }

    /// Makes room for others.
    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.small.clear();
        self.bytes = 0;
        if self.small.capacity() > KEPT {
            self.small = BytesMut::new();
        }
    }

    fn add_small(&mut self) -> Result<(), DistError> {
        let Self { atoms, messages, small, original, bytes } = self;
        let begin = small.len();
        let header = atoms.unbind(original, small)?;
        let rest = &original[header..];
        small.extend_from_slice(rest);
        *bytes += small.len() - begin;
        messages.push((Body::Small(begin..small.len()), Order::of(rest)));
        Ok(())
    }

    fn add_large(&mut self, message: &Segments) -> Result<(), DistError> {
        let (mut header, mut at_most) = (BytesMut::new(), HEADER);
        let len = loop {
            let beginning = beginning_of(message, 0, at_most);
            match self.atoms.unbind(&beginning, &mut header) {
                Err(DistError::Truncated) if beginning.len() < message.len() && at_most < LONGEST_HEADER => {
                    at_most = LONGEST_HEADER;
                }
                result => break result?,
            }
        };
        let order = Order::of(&beginning_of(message, len, HEADER));
        let mut body = Segments::from(header.freeze());
        message.slice(len..message.len()).iter().for_each(|segment| body.push(segment.clone()));
        self.bytes += body.len();
        self.messages.push((Body::Large(body), order));
        Ok(())
    }
}

/// Some of a message's bytes; not copied where they lie together.
fn beginning_of(message: &Segments, from: usize, at_most: usize) -> Bytes {
    let end = message.len().min(from + at_most);
    match message.iter().next() {
        Some(first) if end <= first.len() => first.slice(from..end),
        _ => message.slice(from..end).into_contiguous(),
    }
}
