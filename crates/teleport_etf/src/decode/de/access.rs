//! How elements, pairs and variants are handed to serde.

use serde::de::value::{StrDeserializer, UnitDeserializer};
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

use super::super::leaf::Name;
use super::super::token::Token;
use super::Deserializer;
use crate::error::DecodeError;

/// Elements that lie ahead.
pub(super) enum Run<'a> {
    Tuple(usize),
    /// With nothing left, the tail is due.
    List(usize),
    Bytes(&'a [u8]),
    End,
}

impl<'a> Run<'a> {
    pub(super) fn of_list(token: &Token<'a>) -> Option<Run<'a>> {
        match *token {
            Token::List(len) => Some(Run::List(len)),
            Token::String(bytes) => Some(Run::Bytes(bytes)),
            Token::Nil => Some(Run::End),
            _ => None,
        }
    }
}

pub(super) struct Elements<'d, 'a> {
    pub(super) deserializer: &'d mut Deserializer<'a>,
    pub(super) run: Run<'a>,
    pub(super) seen: usize,
    /// Where the list or tuple began.
    pub(super) offset: usize,
}

impl Elements<'_, '_> {
    /// Makes the next element the next token; false at the end.
    pub(super) fn advance(&mut self) -> Result<bool, DecodeError> {
        loop {
            match &mut self.run {
                Run::End | Run::Tuple(0) | Run::Bytes([]) => {
                    self.run = Run::End;
                    return Ok(false);
                }
                Run::Tuple(left) | Run::List(left) if *left > 0 => *left -= 1,
                Run::Bytes([first, rest @ ..]) => {
                    self.deserializer.injected = Some(*first);
                    self.run = Run::Bytes(rest);
                }
                Run::Tuple(_) | Run::List(_) => {
                    let tail = self.deserializer.token()?;
                    self.run = Run::of_list(&tail)
                        .ok_or_else(|| self.deserializer.unexpected("the end of a proper list", &tail))?;
                    continue;
                }
            }
            self.seen += 1;
            return Ok(true);
        }
    }

    /// Refuses elements that the visitor has left.
    pub(super) fn expect_end(&mut self) -> Result<(), DecodeError> {
        let expected = self.seen;
        if !self.advance()? {
            return Ok(());
        }
        let found = match self.run {
            Run::Tuple(left) | Run::List(left) => self.seen + left,
            Run::Bytes(rest) => self.seen + rest.len(),
            Run::End => self.seen,
        };
        Err(DecodeError::Length { expected, found, offset: self.offset })
    }
}

impl<'de> de::SeqAccess<'de> for &mut Elements<'_, '_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        if !self.advance()? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.deserializer).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        match self.run {
            Run::Tuple(left) | Run::List(left) => Some(left),
            Run::Bytes(bytes) => Some(bytes.len()),
            Run::End => Some(0),
        }
    }
}

pub(super) struct Pairs<'d, 'a> {
    pub(super) deserializer: &'d mut Deserializer<'a>,
    pub(super) left: usize,
}

impl<'de> de::MapAccess<'de> for &mut Pairs<'_, '_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.deserializer).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        seed.deserialize(&mut *self.deserializer)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// A variant whose tag has been read; `arity` terms follow.
pub(super) struct Variant<'d, 'a> {
    pub(super) deserializer: &'d mut Deserializer<'a>,
    pub(super) tag: Name<'a>,
    pub(super) arity: usize,
    pub(super) is_result: bool,
}

impl Variant<'_, '_> {
    pub(super) fn expect_arity(&self, expected: usize) -> Result<(), DecodeError> {
        if self.arity == expected {
            return Ok(());
        }
        Err(DecodeError::Length { expected, found: self.arity, offset: self.deserializer.token_at })
    }
}

impl<'de> de::EnumAccess<'de> for Variant<'_, '_> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), DecodeError> {
        let text = self.tag.text();
        let variant = match &*text {
            "ok" if self.is_result => "Ok",
            "error" if self.is_result => "Err",
            other => other,
        };
        let tag: StrDeserializer<'_, DecodeError> = variant.into_deserializer();
        let value = seed.deserialize(tag)?;
        Ok((value, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, '_> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        self.expect_arity(0)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, DecodeError> {
        if self.arity == 0 {
            // A bare `ok` is `Ok(())`.
            return seed.deserialize(UnitDeserializer::new());
        }
        self.expect_arity(1)?;
        seed.deserialize(self.deserializer)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, DecodeError> {
        self.expect_arity(len)?;
        self.deserializer.visit_elements(Run::Tuple(len), visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.expect_arity(1)?;
        de::Deserializer::deserialize_map(self.deserializer, visitor)
    }
}
