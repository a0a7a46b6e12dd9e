//! The serde deserializer: values out of documents, with binaries by reference.

mod access;

use bytes::Bytes;
use serde::de::{self, DeserializeOwned, Visitor};

use super::leaf::Name;
use super::reader::Reader;
use super::term::read_term;
use super::token::Token;
use super::validate::walk;
use super::{Source, opened};
use crate::error::DecodeError;
use crate::limits::Limits;
use crate::term::Term;
use crate::{handoff, tags, tokens};
use access::{Elements, Pairs, Run, Variant};

/// Decodes a document into a value, within the default [`Limits`].
///
/// How Erlang's types map to Rust's is in the table at [the crate's top](crate).
///
/// A [`Binary`](crate::Binary) is a slice of `document`, which thereby stays alive as a whole. So that a small one does not
/// keep a large buffer, it is copied if it is of at most 64 bytes, or of less than a quarter of the buffer and of less
/// than 64 KiB.
///
/// # Errors
///
/// [`DecodeError`] if the document is malformed, is more than the limits allow, or holds another type than `T`.
pub fn from_bytes<T: DeserializeOwned>(document: &Bytes) -> Result<T, DecodeError> {
    from_bytes_with(document, &Limits::default())
}

/// Decodes a document into a value, within limits of the caller's choice; see [`from_bytes`].
///
/// # Errors
///
/// As [`from_bytes`].
pub fn from_bytes_with<T: DeserializeOwned>(document: &Bytes, limits: &Limits) -> Result<T, DecodeError> {
    opened(document, limits, read_value)
}

/// Decodes a term without the version byte before it.
pub(crate) fn from_term_with<T: DeserializeOwned>(term: &Bytes, limits: &Limits) -> Result<T, DecodeError> {
    read_value(Reader::new(term, 0, limits), Source::new(term, limits.backing_len))
}

fn read_value<'a, T: DeserializeOwned>(reader: Reader<'a>, source: Source<'a>) -> Result<T, DecodeError> {
    let mut deserializer = Deserializer { reader, source, depth: 0, injected: None, token_at: 0 };
    let value = T::deserialize(&mut deserializer)?;
    deserializer.reader.finish()?;
    Ok(value)
}

struct Deserializer<'a> {
    reader: Reader<'a>,
    source: Source<'a>,
    depth: usize,
    /// An element of a string, which has no token of its own: to be read next.
    injected: Option<u8>,
    /// Where the last token began, for messages.
    token_at: usize,
}

impl<'a> Deserializer<'a> {
    fn token(&mut self) -> Result<Token<'a>, DecodeError> {
        match self.injected.take() {
            Some(byte) => Ok(Token::Integer(byte.into())),
            None => {
                self.token_at = self.reader.position();
                self.reader.token()
            }
        }
    }

    /// The next token if it is an atom that passes; otherwise it is left to be read.
    fn atom_if(&mut self, accept: impl FnOnce(Name<'_>) -> bool) -> Result<bool, DecodeError> {
        if self.injected.is_some() {
            return Ok(false);
        }
        let mark = self.reader.mark();
        match self.reader.token()? {
            Token::Atom(name) if accept(name) => Ok(true),
            _ => {
                self.reader.reset(mark);
                Ok(false)
            }
        }
    }

    /// A value is about to be made, in whatever it is part of.
    fn count<'de, V: Visitor<'de>>(&mut self) -> Result<(), DecodeError> {
        self.reader.build(1, size_of::<V::Value>())
    }

    fn unexpected(&self, expected: &'static str, found: &Token<'_>) -> DecodeError {
        DecodeError::Unexpected { expected, found: found.name(), offset: self.token_at }
    }

    /// One level deeper: serde recurses here, on the stack.
    fn nested<R>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<R, DecodeError>,
    ) -> Result<R, DecodeError> {
        let limit = self.reader.limits().max_recursion;
        if self.depth >= limit {
            return Err(DecodeError::TooRecursive { limit });
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn visit_elements<'de, V: Visitor<'de>>(
        &mut self,
        run: Run<'a>,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let offset = self.token_at;
        self.nested(|deserializer| {
            let mut elements = Elements { deserializer, run, seen: 0, offset };
            let value = visitor.visit_seq(&mut elements)?;
            elements.expect_end()?;
            Ok(value)
        })
    }

    fn visit_pairs<'de, V: Visitor<'de>>(&mut self, len: usize, visitor: V) -> Result<V::Value, DecodeError> {
        let offset = self.token_at;
        self.nested(|deserializer| {
            let mut pairs = Pairs { deserializer, left: len };
            let value = visitor.visit_map(&mut pairs)?;
            match pairs.left {
                0 => Ok(value),
                left => Err(DecodeError::Length { expected: len - left, found: len, offset }),
            }
        })
    }

    fn visit_integer<'de, V: Visitor<'de>>(
        &mut self,
        token: Token<'a>,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        const EXPECTED: &str = "an integer of at most 128 bits";
        match token {
            Token::Integer(value) => match u64::try_from(value) {
                Ok(value) => visitor.visit_u64(value),
                Err(_) => visitor.visit_i64(value),
            },
            Token::Big(big) => match (big.negative, big.to_u128()) {
                (false, Some(value)) => match u64::try_from(value) {
                    Ok(value) => visitor.visit_u64(value),
                    Err(_) => match i128::try_from(value) {
                        Ok(value) => visitor.visit_i128(value),
                        Err(_) => visitor.visit_u128(value),
                    },
                },
                (true, Some(value)) => match 0i128.checked_sub_unsigned(value) {
                    Some(value) => visitor.visit_i128(value),
                    None => Err(self.unexpected(EXPECTED, &token)),
                },
                (_, None) => Err(self.unexpected(EXPECTED, &token)),
            },
            other => Err(self.unexpected("an integer", &other)),
        }
    }

    fn visit_binary<'de, V: Visitor<'de>>(
        &mut self,
        bytes: &'a [u8],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.reader.build(1, self.source.copied(bytes))?;
        if !self.source.is_sliced(bytes) {
            return visitor.visit_bytes(bytes);
        }
        handoff::with_bytes(self.source.bytes(bytes), || visitor.visit_bytes(bytes))
    }

    /// The integers of a list or string.
    fn small_integers(
        &mut self,
        token: Token<'a>,
        expected: &'static str,
        mut each: impl FnMut(u32) -> Option<()>,
    ) -> Result<(), DecodeError> {
        let offset = self.token_at;
        let Some(run) = Run::of_list(&token) else { return Err(self.unexpected(expected, &token)) };
        let mut elements = Elements { deserializer: self, run, seen: 0, offset };
        while elements.advance()? {
            let token = elements.deserializer.token()?;
            let Token::Integer(value) = token else {
                return Err(elements.deserializer.unexpected(expected, &token));
            };
            let value = u32::try_from(value).ok().and_then(&mut each);
            value.ok_or(DecodeError::Unexpected {
                expected,
                found: "a list with an integer out of range",
                offset,
            })?;
        }
        Ok(())
    }

    /// Text from a binary in UTF-8, a string or a list of code points.
    fn visit_text<'de, V: Visitor<'de>>(
        &mut self,
        token: Token<'a>,
        expected: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match token {
            Token::Binary(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => {
                    self.reader.build(1, text.len())?;
                    visitor.visit_str(text)
                }
                Err(_) => Err(DecodeError::Unexpected {
                    expected,
                    found: "a binary that is not UTF-8",
                    offset: self.token_at,
                }),
            },
            token => {
                let mut text = String::new();
                self.small_integers(token, expected, |code| char::from_u32(code).map(|c| text.push(c)))?;
                visitor.visit_string(text)
            }
        }
    }

    /// The next pid, port or reference as a document of its own.
    fn identifier(&mut self) -> Result<Vec<u8>, DecodeError> {
        let start = self.reader.position();
        match self.token()? {
            Token::Pid(_) | Token::Port(_) | Token::Reference(_) => Ok(as_document(self.reader.since(start))),
            other => Err(self.unexpected("a pid, port or reference", &other)),
        }
    }

    fn term(&mut self) -> Result<Term, DecodeError> {
        if let Some(byte) = self.injected.take() {
            return Ok(Term::Integer(byte.into()));
        }
        read_term(&mut self.reader, &self.source)
    }

    /// The bytes of the next term, after a walk over it.
    fn raw_term(&mut self) -> Result<Bytes, DecodeError> {
        if let Some(byte) = self.injected.take() {
            return Ok(Bytes::copy_from_slice(&[tags::SMALL_INTEGER_EXT, byte]));
        }
        let start = self.reader.position();
        walk(&mut self.reader)?;
        Ok(self.source.slice(self.reader.since(start)))
    }
}

fn as_document(term: &[u8]) -> Vec<u8> {
    let mut document = Vec::with_capacity(1 + term.len());
    document.push(tags::VERSION);
    document.extend_from_slice(term);
    document
}

macro_rules! deserialize_integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            self.count::<V>()?;
            if self.injected.is_none()
                && let Some(value) = self.reader.short_integer()
            {
                return visitor.visit_i64(value);
            }
            let token = self.token()?;
            self.visit_integer(token, visitor)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for &mut Deserializer<'_> {
    type Error = DecodeError;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.count::<V>()?;
        let mark = self.reader.position();
        match self.token()? {
            token @ (Token::Integer(_) | Token::Big(_)) => self.visit_integer(token, visitor),
            Token::Float(value) => visitor.visit_f64(value),
            Token::Atom(name) if name.is("true") => visitor.visit_bool(true),
            Token::Atom(name) if name.is("false") => visitor.visit_bool(false),
            Token::Atom(name) if name.is("undefined") || name.is("nil") => visitor.visit_unit(),
            Token::Atom(name) => visitor.visit_str(&name.text()),
            Token::Binary(bytes) => self.visit_binary(bytes, visitor),
            Token::Tuple(arity) => self.visit_elements(Run::Tuple(arity), visitor),
            Token::Map(len) => self.visit_pairs(len, visitor),
            token => {
                if let Some(run) = Run::of_list(&token) {
                    return self.visit_elements(run, visitor);
                }
                // Types that serde has no notion of go as documents; `Pid` and its like take them back from there.
                self.reader.skip_inside(&token)?;
                visitor.visit_byte_buf(as_document(self.reader.since(mark)))
            }
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.count::<V>()?;
        match self.token()? {
            Token::Atom(name) if name.is("true") => visitor.visit_bool(true),
            Token::Atom(name) if name.is("false") => visitor.visit_bool(false),
            other => Err(self.unexpected("true or false", &other)),
        }
    }

    deserialize_integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.count::<V>()?;
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.count::<V>()?;
        match self.token()? {
            Token::Float(value) => visitor.visit_f64(value),
            token @ Token::Integer(_) => self.visit_integer(token, visitor),
            other => Err(self.unexpected("a float", &other)),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.count::<V>()?;
        const EXPECTED: &str = "a character";
        match self.token()? {
            Token::Integer(code) => match u32::try_from(code).ok().and_then(char::from_u32) {
                Some(c) => visitor.visit_char(c),
                None => Err(self.unexpected(EXPECTED, &Token::Integer(code))),
            },
            token => self.visit_text(token, EXPECTED, visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.count::<V>()?;
        let token = self.token()?;
        self.visit_text(token, "text", visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.count::<V>()?;
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.count::<V>()?;
        match self.token()? {
            Token::Binary(bytes) => self.visit_binary(bytes, visitor),
            Token::String(bytes) => visitor.visit_bytes(bytes),
            token => {
                let mut bytes = Vec::new();
                self.small_integers(token, "a binary", |value| {
                    u8::try_from(value).ok().map(|byte| bytes.push(byte))
                })?;
                visitor.visit_byte_buf(bytes)
            }
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.count::<V>()?;
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.count::<V>()?;
        if self.atom_if(|name| name.is("undefined") || name.is("nil"))? {
            return visitor.visit_none();
        }
        // Counts as a level: a type of nothing but options would recurse without end.
        self.nested(|deserializer| visitor.visit_some(deserializer))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.count::<V>()?;
        match self.token()? {
            Token::Atom(name) if ["nil", "ok", "undefined"].iter().any(|unit| name.is(unit)) => {
                visitor.visit_unit()
            }
            Token::Tuple(0) => visitor.visit_unit(),
            other => Err(self.unexpected("nil", &other)),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.count::<V>()?;
        match self.token()? {
            Token::Atom(atom) if atom.is(name) => visitor.visit_unit(),
            Token::Atom(atom) => Err(de::Error::invalid_value(de::Unexpected::Str(&atom.text()), &name)),
            other => Err(self.unexpected(name, &other)),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.count::<V>()?;
        match name {
            tokens::ATOM => match self.token()? {
                Token::Atom(name) => visitor.visit_str(&name.text()),
                other => Err(self.unexpected("an atom", &other)),
            },
            tokens::RAW => visitor.visit_byte_buf(self.identifier()?),
            tokens::TERM => {
                let term = self.term()?;
                handoff::with_term(term, || visitor.visit_unit())
            }
            tokens::RAW_TERM => {
                let term = self.raw_term()?;
                handoff::with_raw_term(term, || visitor.visit_unit())
            }
            _ => self.nested(|deserializer| visitor.visit_newtype_struct(deserializer)),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.count::<V>()?;
        let token = self.token()?;
        match Run::of_list(&token) {
            Some(run) => self.visit_elements(run, visitor),
            None => Err(self.unexpected("a list", &token)),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.count::<V>()?;
        match self.token()? {
            Token::Tuple(arity) if arity == len => self.visit_elements(Run::Tuple(arity), visitor),
            Token::Tuple(arity) => {
                Err(DecodeError::Length { expected: len, found: arity, offset: self.token_at })
            }
            token => match Run::of_list(&token) {
                Some(run) => self.visit_elements(run, visitor),
                None => Err(self.unexpected("a tuple", &token)),
            },
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.count::<V>()?;
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.count::<V>()?;
        match self.token()? {
            Token::Map(len) => self.visit_pairs(len, visitor),
            other => Err(self.unexpected("a map", &other)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.count::<V>()?;
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.count::<V>()?;
        let is_result = name == "Result" && variants == ["Ok", "Err"];
        self.nested(|deserializer| match deserializer.token()? {
            Token::Atom(tag) => visitor.visit_enum(Variant { deserializer, tag, arity: 0, is_result }),
            Token::Tuple(arity) if arity > 0 => match deserializer.token()? {
                Token::Atom(tag) => {
                    visitor.visit_enum(Variant { deserializer, tag, arity: arity - 1, is_result })
                }
                other => Err(deserializer.unexpected("an atom as the first element", &other)),
            },
            other => Err(deserializer.unexpected("an atom or a tuple that begins with one", &other)),
        })
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.count::<V>()?;
        match self.token()? {
            Token::Atom(name) => visitor.visit_str(&name.text()),
            token => self.visit_text(token, "a name", visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.count::<V>()?;
        if self.injected.take().is_none() {
            self.reader.skip()?;
        }
        visitor.visit_unit()
    }
}
