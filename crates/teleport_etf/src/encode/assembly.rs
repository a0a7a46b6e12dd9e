//! Documents written term by term.

use super::writer::Writer;
use crate::atom;
use crate::error::EncodeError;
use crate::ident::{Pid, Reference};
use crate::tags;
use bytes::Bytes;

/// A document in the making, for callers that walk terms of their own kind; see
/// [`Encoder::assemble`](crate::Encoder::assemble).
///
/// A header of a tuple, list or map says how many terms follow; that they do is up to the caller.
pub struct Assembly {
    writer: Writer,
}

/// A list of which the length is told when its elements have been written.
#[derive(Debug)]
#[must_use = "a list has to be ended"]
pub struct OpenList(usize);

impl Assembly {
    pub(crate) fn new(writer: Writer) -> Self {
        Self { writer }
    }

    pub(crate) fn into_writer(self) -> Writer {
        self.writer
    }

    /// Bytes written so far, but for binaries by reference.
    pub fn len(&self) -> usize {
        self.writer.position()
    }

    /// Never: a document has its version to begin with.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An atom, by its text of at most 255 characters.
    ///
    /// # Errors
    ///
    /// [`EncodeError::Atom`] if it has more characters.
    pub fn put_atom(&mut self, name: &str) -> Result<(), EncodeError> {
        atom::check_len(name)?;
        self.writer.put_atom_text(name);
        Ok(())
    }

    /// An integer.
    pub fn put_integer(&mut self, value: i64) {
        self.writer.put_i64_integer(value);
    }

    /// A float; Erlang has finite ones only.
    ///
    /// # Errors
    ///
    /// [`EncodeError::NotFinite`] for NaN and infinity.
    pub fn put_float(&mut self, value: f64) -> Result<(), EncodeError> {
        self.writer.put_float(value)
    }

    /// A binary, by copy.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooLong`] from 4 GiB on.
    pub fn put_binary(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.writer.put_binary_copied(bytes)
    }

    /// A binary, by reference if it is long enough (see [`BY_REFERENCE`](crate::BY_REFERENCE)).
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooLong`] from 4 GiB on.
    pub fn put_shared_binary(&mut self, bytes: Bytes) -> Result<(), EncodeError> {
        self.writer.put_binary(bytes)
    }

    /// A pid.
    pub fn put_pid(&mut self, pid: &Pid) {
        self.writer.put_pid(pid);
    }

    /// A reference.
    pub fn put_reference(&mut self, reference: &Reference) {
        self.writer.put_reference(reference);
    }

    /// The header of a tuple of this many elements.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooLong`] from 2^32 elements on.
    pub fn put_tuple(&mut self, arity: usize) -> Result<(), EncodeError> {
        self.writer.put_tuple_header(arity)
    }

    /// The header of a map of this many pairs, each a key and its value.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooLong`] from 2^32 pairs on.
    pub fn put_map(&mut self, pairs: usize) -> Result<(), EncodeError> {
        self.writer.put_map_header(pairs)
    }

    /// The empty list; also the tail of a proper one.
    pub fn put_nil(&mut self) {
        self.writer.put_u8(tags::NIL_EXT);
    }

    /// A list of bytes, at least one and at most 65,535.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooLong`] if there are more.
    pub fn put_string(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let len = u16::try_from(bytes.len());
        let [high, low] =
            len.map_err(|_| EncodeError::TooLong { what: "string", len: bytes.len() })?.to_be_bytes();
        self.writer.put_slice(&[tags::STRING_EXT, high, low]);
        self.writer.put_slice(bytes);
        Ok(())
    }

    /// Begins a list of at least one element.
    pub fn begin_list(&mut self) -> OpenList {
        self.writer.put_tag_u32(tags::LIST_EXT, 0);
        OpenList(self.writer.position() - 4)
    }

    /// Ends the elements of a list, and notes how many there were. Its tail comes next.
    pub fn end_list(&mut self, list: OpenList, elements: u32) {
        self.writer.patch_u32(list.0, elements);
    }

    /// A term that is encoded already, as a document. `None` if it does not begin like one.
    pub fn put_document(&mut self, document: &[u8]) -> Option<()> {
        let [tags::VERSION, term @ ..] = document else { return None };
        self.writer.put_slice(term);
        Some(())
    }
}

impl std::fmt::Debug for Assembly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Assembly").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::{Atom, BY_REFERENCE, Encoder, Pid, Reference, Term};
    use bytes::Bytes;

    #[test]
    fn what_is_assembled_is_what_was_meant() {
        let node = Atom::new("n@h").unwrap();
        let pid = Pid { node: node.clone(), id: 1, serial: 2, creation: 3 };
        let reference = Reference::new(node, 3, &[4, 5, 6]).unwrap();
        let mut encoder = Encoder::new();
        let document = encoder.assemble(|assembly| {
            assembly.put_tuple(4).ok()?;
            assembly.put_map(1).ok()?;
            assembly.put_atom("κλειδί").ok()?;
            assembly.put_float(-0.5).ok()?;
            let list = assembly.begin_list();
            [i64::MIN, -1, 255, 256, i64::MAX].iter().for_each(|&i| assembly.put_integer(i));
            assembly.put_pid(&pid);
            assembly.end_list(list, 6);
            assembly.put_reference(&reference);
            assembly.put_binary(b"bytes").ok()?;
            assembly.put_document(&crate::to_segments(&()).ok()?.into_contiguous())
        });
        let term = Term::decode(&document.unwrap().into_contiguous()).unwrap();
        let expected = "{#{'κλειδί' => -0.5},\
            [-9223372036854775808,-1,255,256,9223372036854775807,<n@h.1.2>|#Ref<n@h.6.5.4>],<<\"bytes\">>,nil}";
        assert_eq!(
            term.to_string().split_whitespace().collect::<String>(),
            expected.split_whitespace().collect::<String>()
        );
    }

    #[test]
    fn a_large_binary_is_shared() {
        let large = Bytes::from(vec![7; BY_REFERENCE]);
        let document = Encoder::new().assemble(|assembly| {
            assembly.put_tuple(3).ok()?;
            assembly.put_shared_binary(large.clone()).ok()?;
            assembly.put_shared_binary(large.slice(1..)).ok()?;
            assembly.put_integer(1);
            Some(())
        });
        let document = document.unwrap();
        let shared = document.iter().filter(|part| part.as_ptr() == large.as_ptr()).count();
        assert_eq!((document.count(), shared), (3, 1));
        let expected = crate::to_segments(&(
            crate::Binary::from(large.clone()),
            crate::Binary::from(large.slice(1..)),
            1,
        ));
        assert_eq!(document.into_contiguous(), expected.unwrap().into_contiguous());
    }

    #[test]
    fn one_that_is_given_up_leaves_nothing_behind() {
        let mut encoder = Encoder::new();
        let given_up = encoder.assemble(|assembly| {
            assembly.put_integer(1);
            assembly.put_document(b"no document")
        });
        assert!(given_up.is_none());
        let next = encoder.assemble(|assembly| {
            assembly.put_integer(2);
            Some(())
        });
        assert_eq!(next.unwrap(), crate::to_segments(&2).unwrap());
    }

    #[test]
    fn one_that_is_given_up_keeps_no_binary() {
        let large = Bytes::from(vec![7; BY_REFERENCE]);
        let mut encoder = Encoder::new();
        let given_up = encoder.assemble(|assembly| {
            assembly.put_shared_binary(large.clone()).ok()?;
            None
        });
        assert!(given_up.is_none());
        assert!(large.is_unique(), "the encoder refers to it, too");
    }
}
