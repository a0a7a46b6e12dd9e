//! The serde serializer: values into documents, with large binaries by reference.

use bytes::{Bytes, BytesMut};
use serde::ser::{self, Serialize};
use std::fmt;

use super::assembly::Assembly;
use super::writer::{Writer, count, join};
use crate::error::EncodeError;
use crate::segments::Segments;
use crate::{atom, handoff, tags, tokens};

/// Encodes a value as a document in the external term format.
///
/// Every [`Binary`](crate::Binary) of at least [`BY_REFERENCE`](crate::BY_REFERENCE) bytes becomes a segment of its own,
/// the same memory; all the rest goes into one block. How Rust's types map to Erlang's is in the table at
/// [the crate's top](crate).
///
/// # Errors
///
/// [`EncodeError`] for what Erlang has no term for, for a length above 32 bits, and where the value's own `Serialize` fails.
///
/// ```
/// #[derive(serde::Serialize)]
/// struct Move { x: i32, y: i32 }
///
/// let doc = teleport_etf::to_segments(&Move { x: 1, y: -1 })?;
/// assert_eq!(teleport_etf::Term::decode(&doc.into_contiguous())?.to_string(), "#{x => 1,y => -1}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn to_segments<T: Serialize + ?Sized>(value: &T) -> Result<Segments, EncodeError> {
    let mut out = Writer::document();
    write(value, &mut out)?;
    Ok(out.finish())
}

fn write<T: Serialize + ?Sized>(value: &T, out: &mut Writer) -> Result<(), EncodeError> {
    value.serialize(&mut Serializer { out, inside: Inside::Value, unit_at: usize::MAX })
}

/// Encodes one small document after the other without an allocation for each.
///
/// What is small of a document, if it is no more than 1 KiB, shares a block of 4 KiB with others; it is freed when the
/// last of them is dropped. For documents that
/// are of use for about the same time, as messages on their way are. Those that are to be kept, [`to_segments`] encodes
/// into memory of their own.
///
/// ```
/// let mut encoder = teleport_etf::Encoder::new();
/// let one = encoder.to_segments(&("deposit", 100))?;
/// let two = encoder.to_segments(&("deposit", 200))?;
/// assert_eq!(one, teleport_etf::to_segments(&("deposit", 100))?);
/// assert_eq!(two, teleport_etf::to_segments(&("deposit", 200))?);
/// # Ok::<(), teleport_etf::EncodeError>(())
/// ```
#[derive(Default)]
pub struct Encoder {
    out: Writer,
    block: BytesMut,
}

/// A document as its [`Encoder`] has written it, in memory that is used again for the next one.
pub struct Encoded<'a>(&'a mut Encoder);

/// Bytes of a block that documents share, and the most that one of them may take.
const BLOCK: usize = 4 * 1024;
const SHARES_BLOCK: usize = 1024;

impl Encoder {
    /// An encoder that has no block yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes a value; see [`to_segments`].
    ///
    /// # Errors
    ///
    /// [`EncodeError`] for what Erlang has no term for, for a length above 32 bits, and where the value's own `Serialize` fails.
    pub fn to_segments<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<Segments, EncodeError> {
        self.encode(value).map(Encoded::into_segments)
    }

    /// Encodes a value for a caller that copies small documents to where they belong.
    ///
    /// ```
    /// let mut encoder = teleport_etf::Encoder::new();
    /// let encoded = encoder.encode(&("deposit", 100))?;
    /// assert_eq!(encoded.as_small(), Some(&teleport_etf::to_segments(&("deposit", 100))?.into_contiguous()[..]));
    /// # Ok::<(), teleport_etf::EncodeError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`to_segments`].
    pub fn encode<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<Encoded<'_>, EncodeError> {
        self.out.begin();
        let written = write(value, &mut self.out);
        if written.is_err() {
            self.out.forget(BLOCK);
        }
        written.map(|()| Encoded(self))
    }

    /// Encodes the one term that is put into the [`Assembly`], or nothing if that is given up, with `None`: then no binary that was
    /// put by reference is kept.
    ///
    /// ```
    /// let mut encoder = teleport_etf::Encoder::new();
    /// let pair = encoder.assemble(|assembly| {
    ///     assembly.put_tuple(2).ok()?;
    ///     assembly.put_atom("deposit").ok()?;
    ///     assembly.put_integer(100);
    ///     Some(())
    /// });
    /// let decoded = teleport_etf::Term::decode(&pair.unwrap().into_contiguous())?;
    /// assert_eq!(decoded.to_string(), "{deposit,100}");
    /// # Ok::<(), teleport_etf::DecodeError>(())
    /// ```
    pub fn assemble(&mut self, put: impl FnOnce(&mut Assembly) -> Option<()>) -> Option<Segments> {
        let mut out = std::mem::take(&mut self.out);
        out.begin();
        let mut assembly = Assembly::new(out);
        let whole = put(&mut assembly);
        self.out = assembly.into_writer();
        if whole.is_none() {
            // The next term may be long in coming.
            self.out.forget(BLOCK);
        }
        whole.map(|()| Encoded(self).into_segments())
    }
}

impl Encoded<'_> {
    /// The document, if it is small, up to 1 KiB, and no part of it is kept by reference.
    pub fn as_small(&self) -> Option<&[u8]> {
        self.0.out.as_whole().filter(|document| document.len() <= SHARES_BLOCK)
    }

    /// The document, as [`to_segments`] gives it.
    pub fn into_segments(self) -> Segments {
        let Encoder { out, block } = self.0;
        if out.position() > SHARES_BLOCK {
            return std::mem::take(out).finish();
        }
        if block.capacity() < out.position() {
            *block = BytesMut::with_capacity(BLOCK);
        }
        block.extend_from_slice(out.block());
        join(block.split().freeze(), out.take_cuts())
    }
}

impl fmt::Debug for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoded").finish_non_exhaustive()
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not what it has encoded: payloads do not belong in logs.
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

struct Serializer<'w> {
    out: &'w mut Writer,
    inside: Inside,
    /// Where the last unit was written; `Ok(())` is the bare atom `ok`.
    unit_at: usize,
}

/// What the next string or byte string stands for.
#[derive(Clone, Copy, PartialEq)]
enum Inside {
    Value,
    Atom,
    /// A complete document, to be inserted as a term.
    Document,
}

impl<'w> Serializer<'w> {
    fn put_atom(&mut self, name: &str) -> Result<(), EncodeError> {
        atom::check_len(name)?;
        self.out.put_atom_text(name);
        Ok(())
    }

    fn within<T: Serialize + ?Sized>(&mut self, inside: Inside, value: &T) -> Result<(), EncodeError> {
        self.inside = inside;
        let result = value.serialize(&mut *self);
        self.inside = Inside::Value;
        result
    }

    /// A term that hands over its segments, or else its document as bytes.
    fn put_term<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        let (result, segments) = handoff::requesting_segments(|| self.within(Inside::Document, value));
        result?;
        segments.map_or(Ok(()), |segments| self.put_document(segments))
    }

    /// A raw term that hands over its bytes, or else its document as bytes.
    fn put_raw_term<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        let is_whole = self.out.position() == 1;
        let (result, segments) = handoff::requesting_segments(|| self.within(Inside::Document, value));
        result?;
        for bytes in segments.into_iter().flatten() {
            if !is_whole && is_local(&bytes) {
                return Err(EncodeError::NestedLocal);
            }
            self.out.put_shared(bytes);
        }
        Ok(())
    }

    fn put_document(&mut self, document: Segments) -> Result<(), EncodeError> {
        let is_whole = self.out.position() == 1;
        let mut parts = document.into_iter();
        let head = parts.next().unwrap_or_default();
        match *head {
            [tags::VERSION, tags::LOCAL_EXT, ..] if !is_whole => return Err(EncodeError::NestedLocal),
            [tags::VERSION, tag, ..] if tag != tags::COMPRESSED => self.out.put_shared(head.slice(1..)),
            _ => return Err(ser::Error::custom("not an uncompressed document in the external term format")),
        }
        parts.for_each(|bytes| self.out.put_shared(bytes));
        Ok(())
    }

    fn tagged(&mut self, tag: &str, arity: usize) -> Result<(), EncodeError> {
        self.out.put_tuple_header(arity)?;
        self.put_atom(tag)
    }

    fn counted(&mut self, what: &'static str, announced: usize) -> Counted<'_, 'w> {
        Counted { serializer: self, what, announced, written: 0 }
    }
}

/// True if the term is in local format, be it as the tail of lists without elements.
fn is_local(mut term: &[u8]) -> bool {
    while let Some(tail) = term.strip_prefix(&[tags::LIST_EXT, 0, 0, 0, 0]) {
        term = tail;
    }
    term.first() == Some(&tags::LOCAL_EXT)
}

/// `Ok` and `Err` of Rust's `Result` are `ok` and `error` in Erlang.
fn variant_tag(enum_name: &str, variant: &'static str) -> &'static str {
    match (enum_name, variant) {
        ("Result", "Ok") => "ok",
        ("Result", "Err") => "error",
        _ => variant,
    }
}

impl<'a, 'w> ser::Serializer for &'a mut Serializer<'w> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Seq<'a, 'w>;
    type SerializeTuple = Counted<'a, 'w>;
    type SerializeTupleStruct = Counted<'a, 'w>;
    type SerializeTupleVariant = Counted<'a, 'w>;
    type SerializeMap = Map<'a, 'w>;
    type SerializeStruct = Counted<'a, 'w>;
    type SerializeStructVariant = Counted<'a, 'w>;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_bool(self, value: bool) -> Result<(), EncodeError> {
        self.put_atom(if value { "true" } else { "false" })
    }

    fn serialize_i8(self, value: i8) -> Result<(), EncodeError> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), EncodeError> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), EncodeError> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), EncodeError> {
        self.out.put_i64_integer(value);
        Ok(())
    }

    fn serialize_i128(self, value: i128) -> Result<(), EncodeError> {
        self.out.put_i128_integer(value);
        Ok(())
    }

    fn serialize_u8(self, value: u8) -> Result<(), EncodeError> {
        self.serialize_u64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), EncodeError> {
        self.serialize_u64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), EncodeError> {
        self.serialize_u64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), EncodeError> {
        self.out.put_u64_integer(value);
        Ok(())
    }

    fn serialize_u128(self, value: u128) -> Result<(), EncodeError> {
        self.out.put_u128_integer(value);
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<(), EncodeError> {
        self.out.put_float(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), EncodeError> {
        self.out.put_float(value)
    }

    fn serialize_char(self, value: char) -> Result<(), EncodeError> {
        self.serialize_u32(value.into())
    }

    fn serialize_str(self, value: &str) -> Result<(), EncodeError> {
        match self.inside {
            Inside::Atom => self.put_atom(value),
            _ => self.out.put_binary_copied(value.as_bytes()),
        }
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), EncodeError> {
        if self.inside == Inside::Document {
            return self.put_document(Bytes::copy_from_slice(value).into());
        }
        match handoff::claim_bytes(value) {
            Some(owner) => self.out.put_binary(owner),
            None => self.out.put_binary_copied(value),
        }
    }

    fn serialize_none(self) -> Result<(), EncodeError> {
        self.put_atom("undefined")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), EncodeError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), EncodeError> {
        if self.inside == Inside::Document {
            // A term that has handed over its segments instead.
            return Ok(());
        }
        self.unit_at = self.out.position();
        self.put_atom("nil")
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<(), EncodeError> {
        self.put_atom(name)
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), EncodeError> {
        self.put_atom(variant_tag(name, variant))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        match name {
            tokens::ATOM => self.within(Inside::Atom, value),
            tokens::RAW => self.within(Inside::Document, value),
            tokens::TERM => self.put_term(value),
            tokens::RAW_TERM => self.put_raw_term(value),
            _ => value.serialize(self),
        }
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        let tag = variant_tag(name, variant);
        let start = self.out.position();
        self.tagged(tag, 2)?;
        let value_at = self.out.position();
        self.unit_at = usize::MAX;
        value.serialize(&mut *self)?;
        if name == "Result" && self.unit_at == value_at {
            self.out.truncate(start);
            self.put_atom(tag)?;
        }
        Ok(())
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Seq<'a, 'w>, EncodeError> {
        let header_at = self.out.position();
        let announced = count("list", len.unwrap_or(0))?;
        self.out.put_list_header(announced as usize)?;
        Ok(Seq { serializer: self, header_at, announced, written: 0 })
    }

    fn serialize_tuple(self, len: usize) -> Result<Counted<'a, 'w>, EncodeError> {
        self.out.put_tuple_header(len)?;
        Ok(self.counted("tuple", len))
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Counted<'a, 'w>, EncodeError> {
        self.serialize_tuple(len)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Counted<'a, 'w>, EncodeError> {
        self.tagged(variant_tag(name, variant), len.saturating_add(1))?;
        Ok(self.counted("tuple variant", len))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Map<'a, 'w>, EncodeError> {
        let header_at = self.out.position();
        let announced = count("map", len.unwrap_or(0))?;
        self.out.put_map_header(announced as usize)?;
        Ok(Map { serializer: self, header_at, announced, written: 0, key_pending: false })
    }

    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Counted<'a, 'w>, EncodeError> {
        self.out.put_map_header(len)?;
        Ok(self.counted("struct", len))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Counted<'a, 'w>, EncodeError> {
        self.tagged(variant, 2)?;
        self.out.put_map_header(len)?;
        Ok(self.counted("struct variant", len))
    }
}

/// A list, whose length may be known only at its end.
pub(super) struct Seq<'a, 'w> {
    serializer: &'a mut Serializer<'w>,
    header_at: usize,
    announced: u32,
    written: usize,
}

impl ser::SerializeSeq for Seq<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.written += 1;
        value.serialize(&mut *self.serializer)
    }

    fn end(self) -> Result<(), EncodeError> {
        let out = &mut self.serializer.out;
        if self.written == 0 {
            out.truncate(self.header_at);
        } else if self.written != self.announced as usize {
            out.patch_u32(self.header_at + 1, count("list", self.written)?);
        }
        out.put_u8(tags::NIL_EXT);
        Ok(())
    }
}

/// A map, whose size may be known only at its end.
pub(super) struct Map<'a, 'w> {
    serializer: &'a mut Serializer<'w>,
    header_at: usize,
    announced: u32,
    written: usize,
    key_pending: bool,
}

impl ser::SerializeMap for Map<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        if self.key_pending {
            return Err(EncodeError::MapEntry("a value"));
        }
        self.key_pending = true;
        self.written += 1;
        key.serialize(&mut *self.serializer)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        if !self.key_pending {
            return Err(EncodeError::MapEntry("a key"));
        }
        self.key_pending = false;
        value.serialize(&mut *self.serializer)
    }

    fn end(self) -> Result<(), EncodeError> {
        if self.key_pending {
            return Err(EncodeError::MapEntry("a value"));
        }
        if self.written != self.announced as usize {
            let written = count("map", self.written)?;
            self.serializer.out.patch_u32(self.header_at + 1, written);
        }
        Ok(())
    }
}

/// A tuple or struct: the length has been written and must turn out right.
pub(super) struct Counted<'a, 'w> {
    serializer: &'a mut Serializer<'w>,
    what: &'static str,
    announced: usize,
    written: usize,
}

impl Counted<'_, '_> {
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.written += 1;
        value.serialize(&mut *self.serializer)
    }

    fn field<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), EncodeError> {
        self.serializer.put_atom(key)?;
        self.element(value)
    }

    fn finish(self) -> Result<(), EncodeError> {
        if self.written == self.announced {
            return Ok(());
        }
        Err(EncodeError::Count { what: self.what, announced: self.announced, written: self.written })
    }
}

impl ser::SerializeTuple for Counted<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.element(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

impl ser::SerializeTupleStruct for Counted<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.element(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

impl ser::SerializeTupleVariant for Counted<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.element(value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

impl ser::SerializeStruct for Counted<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.field(key, value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}

impl ser::SerializeStructVariant for Counted<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.field(key, value)
    }

    fn end(self) -> Result<(), EncodeError> {
        self.finish()
    }
}
