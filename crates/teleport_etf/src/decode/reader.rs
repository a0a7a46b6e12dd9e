//! Reads a document token by token, and checks every length before it is used.

use smallvec::SmallVec;

use crate::atom::{self, Atom};
use crate::error::DecodeError;
use crate::ident::{Pid, Port, Reference};
use crate::limits::Limits;
use crate::tags;

use super::heap;
use super::leaf::{Big, Name, little_endian};
use super::token::{ExportParts, FunHead, Token, Usual};

/// Bytes of a word of Erlang's.
const WORD: usize = 8;

/// Reads a document token by token: a leaf, or the head of a container whose elements follow as tokens of their own.
///
/// It knows at all times how many terms have to follow, and refuses a container as soon as there are fewer bytes left
/// than that. So capacity for what a container announces may be reserved: over a whole document that is never more than
/// one element per byte, however containers that lie are nested. It never recurses.
pub(crate) struct Reader<'a> {
    data: &'a [u8],
    pos: usize,
    /// Terms that have yet to follow.
    pending: usize,
    elements: usize,
    largest_map: usize,
    /// Memory of what is made of the document, in bytes.
    built: usize,
    /// What the terms so far take on a heap of Erlang's, in words.
    heap: usize,
    limits: &'a Limits,
    on_atom: Option<&'a mut dyn FnMut(&str) -> bool>,
    /// The last node name, which most likely is the next one too.
    last_node: Option<Atom>,
}

/// A place to go back to.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    pos: usize,
    pending: usize,
    elements: usize,
}

impl<'a> Reader<'a> {
    /// A reader of the one term that begins at `start` and has to end with `data`.
    pub(crate) fn new(data: &'a [u8], start: usize, limits: &'a Limits) -> Reader<'a> {
        let (pending, elements, largest_map, built, heap) = (1, 1, 0, 0, 0);
        let (pos, on_atom, last_node) = (start, None, None);
        Reader { data, pos, pending, elements, largest_map, built, heap, limits, on_atom, last_node }
    }

    /// Asks about every atom, node and module names included; `false` refuses the document.
    pub(crate) fn on_atom(&mut self, check: &'a mut dyn FnMut(&str) -> bool) {
        self.on_atom = Some(check);
    }

    pub(crate) fn limits(&self) -> &'a Limits {
        self.limits
    }

    /// Position in the data.
    pub(crate) fn position(&self) -> usize {
        self.pos
    }

    pub(crate) fn elements(&self) -> usize {
        self.elements
    }

    /// Bytes on a heap of Erlang's so far.
    pub(crate) fn heap(&self) -> usize {
        self.heap.saturating_mul(WORD)
    }

    /// Pairs of the largest map so far, those in funs included.
    pub(crate) fn largest_map(&self) -> usize {
        self.largest_map
    }

    /// Notes that memory for this many values of that size is about to be reserved.
    #[inline]
    pub(crate) fn build(&mut self, count: usize, size: usize) -> Result<(), DecodeError> {
        self.built = self.built.saturating_add(count.saturating_mul(size));
        let limit = self.limits.max_memory;
        if self.built > limit { Err(DecodeError::TooMuchMemory { limit }) } else { Ok(()) }
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { pos: self.pos, pending: self.pending, elements: self.elements }
    }

    pub(crate) fn reset(&mut self, mark: Mark) {
        (self.pos, self.pending, self.elements) = (mark.pos, mark.pending, mark.elements);
    }

    /// The bytes from a position up to here.
    pub(crate) fn since(&self, start: usize) -> &'a [u8] {
        &self.data[start..self.pos]
    }

    /// Refuses bytes after the term.
    pub(crate) fn finish(&self) -> Result<(), DecodeError> {
        match self.left() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing { offset: self.pos, left }),
        }
    }

    /// The next token.
    pub(crate) fn token(&mut self) -> Result<Token<'a>, DecodeError> {
        let token = self.next()?;
        self.heap = self.heap.saturating_add(heap::words(&token));
        let limit = self.limits.max_heap;
        if self.heap > limit / WORD { Err(DecodeError::TooMuchHeap { limit }) } else { Ok(token) }
    }

    fn next(&mut self) -> Result<Token<'a>, DecodeError> {
        debug_assert!(self.pending > 0, "a token more than the containers announced");
        let offset = self.pos;
        let tag = self.u8()?;
        self.pending -= 1;
        Ok(match tag {
            tags::SMALL_INTEGER_EXT => Token::Integer(self.u8()?.into()),
            tags::INTEGER_EXT => Token::Integer(self.i32()?.into()),
            tags::SMALL_BIG_EXT => {
                let len = self.u8()?.into();
                self.big(len)?
            }
            tags::LARGE_BIG_EXT => {
                let len = self.length()?;
                self.big(len)?
            }
            tags::NEW_FLOAT_EXT => finite(f64::from_bits(self.u64()?), offset)?,
            tags::FLOAT_EXT => self.float_text(offset)?,
            tags::ATOM_EXT | tags::SMALL_ATOM_EXT | tags::ATOM_UTF8_EXT | tags::SMALL_ATOM_UTF8_EXT => {
                Token::Atom(self.name_of(tag, offset)?)
            }
            tags::BINARY_EXT => {
                let len = self.length()?;
                Token::Binary(self.take(len)?)
            }
            tags::BIT_BINARY_EXT => self.bits(offset)?,
            tags::STRING_EXT => {
                let len = self.u16()?.into();
                match self.take(len)? {
                    [] => Token::Nil,
                    bytes => {
                        self.count_elements(bytes.len())?;
                        Token::String(bytes)
                    }
                }
            }
            tags::NIL_EXT => Token::Nil,
            tags::SMALL_TUPLE_EXT => {
                let arity = self.u8()?.into();
                Token::Tuple(self.expect_terms(offset, arity, arity)?)
            }
            tags::LARGE_TUPLE_EXT => {
                let arity = self.length()?;
                Token::Tuple(self.expect_terms(offset, arity, arity)?)
            }
            tags::LIST_EXT => match self.length()? {
                // No elements: the list is its tail.
                0 => {
                    self.pending += 1;
                    return self.after_empty_lists();
                }
                len => Token::List(self.expect_terms(offset, len, len.saturating_add(1))?),
            },
            tags::MAP_EXT => {
                let len = self.length()?;
                self.largest_map = self.largest_map.max(len);
                Token::Map(self.expect_terms(offset, len, len.saturating_mul(2))?)
            }
            tags::PID_EXT | tags::NEW_PID_EXT => self.pid_of(tag)?,
            tags::PORT_EXT | tags::NEW_PORT_EXT | tags::V4_PORT_EXT => self.port_of(tag)?,
            tags::REFERENCE_EXT | tags::NEW_REFERENCE_EXT | tags::NEWER_REFERENCE_EXT => {
                self.reference_of(tag, offset)?
            }
            tags::NEW_FUN_EXT => self.fun(offset)?,
            tags::RECORD_EXT => {
                let fields = self.length()?;
                let _flags = self.u8()?;
                let terms = fields.saturating_mul(2).saturating_add(2);
                self.expect_terms(offset, fields, terms)?;
                Token::Record(terms)
            }
            tags::EXPORT_EXT => {
                let (module, function) = (self.name()?, self.name()?);
                let arity = self.small_arity()?;
                Token::Export(Box::new(ExportParts { module, function, arity }))
            }
            // Its end is known only to the node that wrote it, so it is a whole document.
            tags::LOCAL_EXT if self.pending == 0 && self.elements == 1 => {
                Token::Local(self.take(self.left())?)
            }
            tag => return Err(DecodeError::UnknownTag { tag, offset }),
        })
    }

    /// The next token if it is an integer in one of the two short forms: the short way for lists of numbers.
    pub(crate) fn short_integer(&mut self) -> Option<i64> {
        let (value, len) = match self.data[self.pos..] {
            [tags::SMALL_INTEGER_EXT, byte, ..] => (i64::from(byte), 2),
            [tags::INTEGER_EXT, a, b, c, d, ..] => (i64::from(i32::from_be_bytes([a, b, c, d])), 5),
            _ => return None,
        };
        self.pos += len;
        self.pending -= 1;
        Some(value)
    }

    /// The next token if it is of a usual kind in its usual form: the short way for those who have no use for what else tokens
    /// may be. Otherwise nothing is read.
    #[inline]
    pub(crate) fn usual(&mut self) -> Option<Usual<'a>> {
        let (&tag, body) = self.data.get(self.pos..)?.split_first()?;
        // How many bytes of the body are used, terms have to follow, and elements there are.
        let (usual, used, terms, elements) = match tag {
            tags::SMALL_INTEGER_EXT => (Usual::Integer((*body.first()?).into()), 1, 0, 0),
            tags::INTEGER_EXT => (Usual::Integer(i32::from_be_bytes(*body.first_chunk()?).into()), 4, 0, 0),
            tags::SMALL_BIG_EXT => {
                let &[len @ 0..8, sign, ref rest @ ..] = body else { return None };
                let mut word = [0; 8];
                word[..usize::from(len)].copy_from_slice(rest.get(..usize::from(len))?);
                let value = i64::from_le_bytes(word);
                (Usual::Integer(if sign == 0 { value } else { -value }), 2 + usize::from(len), 0, 0)
            }
            tags::NEW_FLOAT_EXT => {
                let value = f64::from_be_bytes(*body.first_chunk()?);
                (value.is_finite().then_some(Usual::Float(value))?, 8, 0, 0)
            }
            tags::SMALL_ATOM_EXT | tags::SMALL_ATOM_UTF8_EXT => {
                let used = 1 + usize::from(*body.first()?);
                (Usual::Atom(self.data.get(self.pos..self.pos + 1 + used)?), used, 0, 0)
            }
            tags::ATOM_EXT | tags::ATOM_UTF8_EXT => {
                let used = 2 + usize::from(u16::from_be_bytes(*body.first_chunk()?));
                (Usual::Atom(self.data.get(self.pos..self.pos + 1 + used)?), used, 0, 0)
            }
            tags::NIL_EXT => (Usual::String(&[]), 0, 0, 0),
            tags::STRING_EXT => {
                let len = usize::from(u16::from_be_bytes(*body.first_chunk()?));
                (Usual::String(body.get(2..2 + len)?), 2 + len, 0, len)
            }
            tags::BINARY_EXT => {
                let len = u32::from_be_bytes(*body.first_chunk()?) as usize;
                (Usual::Binary(body[4..].get(..len)?), 4 + len, 0, 0)
            }
            tags::SMALL_TUPLE_EXT => {
                let arity = usize::from(*body.first()?);
                (Usual::Tuple(arity), 1, arity, arity)
            }
            tags::LIST_EXT => {
                let len = u32::from_be_bytes(*body.first_chunk()?) as usize;
                let terms = len.checked_add(1).filter(|_| len > 0)?;
                (Usual::List(len), 4, terms, terms)
            }
            _ => return None,
        };
        let pos = self.pos + 1 + used;
        let pending = (self.pending - 1).checked_add(terms)?;
        let elements = self.elements.checked_add(elements)?;
        let heap = self.heap.saturating_add(heap::words_usual(&usual));
        if terms > 0 && pending > self.data.len() - pos
            || elements > self.limits.max_elements
            || heap > self.limits.max_heap / WORD
        {
            return None;
        }
        (self.pos, self.pending, self.elements, self.heap) = (pos, pending, elements, heap);
        Some(usual)
    }

    /// True if nothing has to follow.
    pub(crate) fn is_done(&self) -> bool {
        self.pending == 0
    }

    /// Skips the next term, however deep it is.
    pub(crate) fn skip(&mut self) -> Result<(), DecodeError> {
        self.skip_terms(1)
    }

    /// Skips everything that has to follow.
    pub(crate) fn skip_rest(&mut self) -> Result<(), DecodeError> {
        self.skip_terms(self.pending)
    }

    /// Skips what follows a token that is no container to the caller: the free variables of a fun, or what is in a record.
    pub(crate) fn skip_inside(&mut self, token: &Token<'a>) -> Result<(), DecodeError> {
        match token {
            Token::Fun(head) => self.fun_body(head).map(|_| ()),
            Token::Record(terms) => self.skip_terms(*terms),
            _ => Ok(()),
        }
    }

    /// Skips the free variables of a fun and returns all its bytes after tag and size.
    pub(crate) fn fun_body(&mut self, head: &FunHead<'a>) -> Result<&'a [u8], DecodeError> {
        self.skip_terms(head.free)?;
        self.check_fun_end(head.end)?;
        Ok(self.since(head.start))
    }

    fn skip_terms(&mut self, count: usize) -> Result<(), DecodeError> {
        let target = self.pending - count;
        // Funs that are open: how many terms are left after each, and where it has to end.
        let mut funs: SmallVec<[(usize, usize); 4]> = SmallVec::new();
        while self.pending > target {
            let after = self.pending - 1;
            if let Token::Fun(head) = self.token()? {
                funs.push((after, head.end));
            }
            while let Some(&(after, end)) = funs.last() {
                if self.pending > after {
                    break;
                }
                self.check_fun_end(end)?;
                funs.pop();
            }
        }
        Ok(())
    }

    fn check_fun_end(&self, end: usize) -> Result<(), DecodeError> {
        if self.pos == end { Ok(()) } else { Err(malformed("fun", self.pos)) }
    }

    /// Empty lists with a tail may come in a row of any length.
    fn after_empty_lists(&mut self) -> Result<Token<'a>, DecodeError> {
        while self.data[self.pos..].starts_with(&[tags::LIST_EXT, 0, 0, 0, 0]) {
            self.pos += 5;
        }
        self.next()
    }

    /// Notes that this many terms have to follow.
    fn expect_terms(&mut self, offset: usize, arity: usize, terms: usize) -> Result<usize, DecodeError> {
        self.pending = self.pending.saturating_add(terms);
        let left = self.left();
        if self.pending > left {
            return Err(DecodeError::Arity { offset, arity, left });
        }
        self.count_elements(terms)?;
        Ok(arity)
    }

    fn count_elements(&mut self, more: usize) -> Result<(), DecodeError> {
        self.elements = self.elements.saturating_add(more);
        if self.elements > self.limits.max_elements {
            return Err(DecodeError::TooManyElements { limit: self.limits.max_elements });
        }
        Ok(())
    }

    fn big(&mut self, len: usize) -> Result<Token<'a>, DecodeError> {
        let negative = self.u8()? != 0;
        let bytes = self.take(len)?;
        let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let magnitude = &bytes[..used];
        if let Some(word) = little_endian(magnitude) {
            let value = if negative { -i128::from(word) } else { i128::from(word) };
            if let Ok(small) = i64::try_from(value) {
                return Ok(Token::Integer(small));
            }
        }
        Ok(Token::Big(Big { negative, magnitude }))
    }

    fn float_text(&mut self, offset: usize) -> Result<Token<'a>, DecodeError> {
        let field = self.take(31)?;
        let used = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
        let value = std::str::from_utf8(&field[..used]).ok().and_then(|text| text.trim().parse().ok());
        finite(value.ok_or_else(|| malformed("float", offset))?, offset)
    }

    fn bits(&mut self, offset: usize) -> Result<Token<'a>, DecodeError> {
        let len = self.length()?;
        let used = self.u8()?;
        let bytes = self.take(len)?;
        match used {
            0 if len == 0 => Ok(Token::Binary(bytes)),
            8 if len > 0 => Ok(Token::Binary(bytes)),
            1..=7 if len > 0 => Ok(Token::Bits(bytes, used)),
            _ => Err(malformed("bit string", offset)),
        }
    }

    fn pid_of(&mut self, tag: u8) -> Result<Token<'a>, DecodeError> {
        let node = self.node()?;
        let (id, serial) = (self.u32()?, self.u32()?);
        let creation = self.creation(tag == tags::PID_EXT)?;
        Ok(Token::Pid(Pid { node, id, serial, creation }))
    }

    fn port_of(&mut self, tag: u8) -> Result<Token<'a>, DecodeError> {
        let node = self.node()?;
        let id = if tag == tags::V4_PORT_EXT { self.u64()? } else { self.u32()?.into() };
        let creation = self.creation(tag == tags::PORT_EXT)?;
        Ok(Token::Port(Box::new(Port { node, id, creation })))
    }

    fn reference_of(&mut self, tag: u8, offset: usize) -> Result<Token<'a>, DecodeError> {
        if tag == tags::REFERENCE_EXT {
            let (node, word) = (self.node()?, self.u32()?);
            let creation = self.creation(true)?;
            return reference(node, creation, &[word], offset);
        }
        let count = usize::from(self.u16()?);
        let node = self.node()?;
        let creation = self.creation(tag == tags::NEW_REFERENCE_EXT)?;
        let mut words = [0; Reference::MAX_WORDS];
        let words = words.get_mut(..count).ok_or_else(|| malformed("reference", offset))?;
        for word in &mut *words {
            *word = self.u32()?;
        }
        reference(node, creation, words, offset)
    }

    fn creation(&mut self, one_byte: bool) -> Result<u32, DecodeError> {
        if one_byte { self.u8().map(u32::from) } else { self.u32() }
    }

    fn fun(&mut self, offset: usize) -> Result<Token<'a>, DecodeError> {
        let size = self.length()?;
        // The size counts itself.
        let body = size.checked_sub(4).ok_or_else(|| malformed("fun", offset))?;
        if body > self.left() {
            return Err(self.truncated(body));
        }
        let start = self.pos;
        let end = start + body;
        let arity = self.u8()?;
        let _uniq_and_index = self.take(16 + 4)?;
        let free = self.length()?;
        let module = self.name()?;
        let (old_index, old_uniq) = (self.small_integer()?, self.small_integer()?);
        let tag = self.u8()?;
        match tag {
            tags::PID_EXT | tags::NEW_PID_EXT => self.pid_of(tag)?,
            _ => return Err(malformed("fun", offset)),
        };
        self.expect_terms(offset, free, free)?;
        Ok(Token::Fun(Box::new(FunHead { module, arity, old_index, old_uniq, start, end, free })))
    }

    fn small_integer(&mut self) -> Result<i64, DecodeError> {
        let offset = self.pos;
        match self.u8()? {
            tags::SMALL_INTEGER_EXT => self.u8().map(i64::from),
            tags::INTEGER_EXT => self.i32().map(i64::from),
            _ => Err(malformed("fun", offset)),
        }
    }

    fn small_arity(&mut self) -> Result<u8, DecodeError> {
        let offset = self.pos;
        match self.u8()? {
            tags::SMALL_INTEGER_EXT => self.u8(),
            _ => Err(malformed("export", offset)),
        }
    }

    /// A node name; the last one is kept, since a document tends to name one node many times.
    fn node(&mut self) -> Result<Atom, DecodeError> {
        let name = self.name()?;
        if let (Name::Utf8(text), Some(last)) = (name, &self.last_node)
            && last == text
        {
            return Ok(last.clone());
        }
        Ok(self.last_node.insert(name.to_atom()).clone())
    }

    /// An atom inside another term.
    fn name(&mut self) -> Result<Name<'a>, DecodeError> {
        let offset = self.pos;
        let tag = self.u8()?;
        self.name_of(tag, offset)
    }

    fn name_of(&mut self, tag: u8, offset: usize) -> Result<Name<'a>, DecodeError> {
        let len = match tag {
            tags::SMALL_ATOM_EXT | tags::SMALL_ATOM_UTF8_EXT => self.u8()?.into(),
            tags::ATOM_EXT | tags::ATOM_UTF8_EXT => self.u16()?.into(),
            _ => return Err(malformed("atom", offset)),
        };
        let bytes = self.take(len)?;
        let name = match tag {
            tags::ATOM_UTF8_EXT | tags::SMALL_ATOM_UTF8_EXT => Name::Utf8(utf8(bytes, offset)?),
            _ if bytes.is_ascii() => Name::Utf8(utf8(bytes, offset)?),
            _ => Name::Latin1(bytes),
        };
        let short_enough = match name {
            Name::Utf8(text) => atom::check_len(text).is_ok(),
            Name::Latin1(bytes) => bytes.len() <= Atom::MAX_CHARS,
        };
        if !short_enough {
            return Err(malformed("atom", offset));
        }
        if let Some(check) = &mut self.on_atom
            && !check(&name.text())
        {
            return Err(DecodeError::AtomRefused { offset });
        }
        Ok(name)
    }

    fn left(&self) -> usize {
        self.data.len() - self.pos
    }

    fn truncated(&self, needed: usize) -> DecodeError {
        DecodeError::Truncated { offset: self.pos, needed, left: self.left() }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let Some((bytes, _)) = self.data[self.pos..].split_at_checked(len) else {
            return Err(self.truncated(len));
        };
        self.pos += len;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some(&bytes) = self.data[self.pos..].first_chunk() else {
            return Err(self.truncated(N));
        };
        self.pos += N;
        Ok(bytes)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A 32-bit length or number.
    fn length(&mut self) -> Result<usize, DecodeError> {
        self.u32().map(|len| len as usize)
    }
}

fn malformed(what: &'static str, offset: usize) -> DecodeError {
    DecodeError::Malformed { what, offset }
}

fn reference<'a>(node: Atom, creation: u32, words: &[u32], offset: usize) -> Result<Token<'a>, DecodeError> {
    let reference = Reference::new(node, creation, words).ok_or_else(|| malformed("reference", offset))?;
    Ok(Token::Reference(Box::new(reference)))
}

fn finite<'a>(value: f64, offset: usize) -> Result<Token<'a>, DecodeError> {
    if value.is_finite() { Ok(Token::Float(value)) } else { Err(malformed("float", offset)) }
}

fn utf8(bytes: &[u8], offset: usize) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| malformed("atom", offset))
}
