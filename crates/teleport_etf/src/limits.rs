//! What a decoder refuses.

/// What a decoder accepts before it refuses, and what it assumes of its buffer.
///
/// ```
/// use teleport_etf::Limits;
///
/// let strict = Limits { max_depth: 32, max_memory: 1 << 20, ..Limits::default() };
/// # let _ = strict;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How deep tuples, lists and maps may nest; a list's length is not depth. Default [`Limits::MAX_DEPTH`].
    ///
    /// Above the default, dropping or cloning a decoded [`Term`](crate::Term) may overflow the stack of a thread with 2
    /// MiB.
    pub max_depth: usize,
    /// How deep values of serde types may nest, where serde recurses on the stack: lists, tuples, maps and enums, and every
    /// `Some` and newtype too. A [`Term`](crate::Term) inside may be deeper. Default [`Limits::MAX_RECURSION`].
    pub max_recursion: usize,
    /// How many terms a document may hold, all levels together, every byte of a string included. Default 2^24 (16
    /// Mi).
    pub max_elements: usize,
    /// Bytes of memory that a decoded value may take, beyond the document: counted while it is built, before memory is
    /// reserved. Default [`Limits::MAX_MEMORY`].
    ///
    /// No term is shorter than one byte, and as a [`Term`](crate::Term) it takes 40; a list of empty lists is 40 times
    /// as large as its document. Counted are the elements of containers, and binaries, text and long names that are copied;
    /// not what stays a slice of the document, nor the allocator's own. A value of a serde type counts with its size, and so
    /// does every value in it; collections that grow (`Vec`, `HashMap`) may have reserved two to three times as much as they
    /// hold.
    pub max_memory: usize,
    /// Bytes that the term may take on a heap of an Erlang virtual machine of 64 bits, counted by everything that walks over a
    /// document; for faces that have it built there. A list of empty lists takes 16 bytes for each byte of its document, and
    /// nothing takes more than 20. Binaries of more than 64 bytes are not on the heap, so their bytes are not counted. Default
    /// `usize::MAX`.
    pub max_heap: usize,
    /// The largest size in bytes to which a compressed document may inflate. Default 0: compressed documents are refused,
    /// since no node compresses what it sends, and one of 15 KB can be made to inflate to 16 MB.
    pub max_inflated: usize,
    /// Bytes of memory that a slice of the buffer keeps alive, if that is more than the document itself; say, because
    /// many messages were read into one block. Default 0: the document's length.
    ///
    /// Decides which binaries are copied out of the buffer and which stay slices of it, see
    /// [`from_bytes`](crate::from_bytes).
    pub backing_len: usize,
}

impl Limits {
    /// Default of [`Limits::max_depth`]: a term of this depth can be dropped and cloned on half a stack of 2 MiB, in a debug
    /// build.
    pub const MAX_DEPTH: usize = 512;

    /// Default of [`Limits::max_recursion`]: derived types decode to this depth on half a stack of 2 MiB, in a debug build,
    /// where one level of a small enum takes 3 KiB.
    pub const MAX_RECURSION: usize = 256;

    /// Default of [`Limits::max_memory`], 256 MiB: a list of 6.7 million integers as [`Term`](crate::Term)s. A message that takes
    /// more without large binaries is hardly meant.
    pub const MAX_MEMORY: usize = 256 << 20;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_depth: Limits::MAX_DEPTH,
            max_recursion: Limits::MAX_RECURSION,
            max_elements: 1 << 24,
            max_memory: Limits::MAX_MEMORY,
            max_heap: usize::MAX,
            max_inflated: 0,
            backing_len: 0,
        }
    }
}
