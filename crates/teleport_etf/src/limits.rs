/// What a decoder accepts before it refuses, and what it assumes of its buffer.
///
/// ```
/// use teleport_etf::Limits;
///
/// let strict = Limits { max_depth: 32, max_inflated: 0, ..Limits::default() };
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
    ///
    /// As a [`Term`](crate::Term) a document takes at most 40 bytes per term, plus its binaries, atoms and big
    /// integers, and no term is shorter than one byte.
    pub max_elements: usize,
    /// The largest size in bytes to which a compressed document may inflate; 0 refuses compressed documents. Default 64
    /// MiB.
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
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_depth: Limits::MAX_DEPTH,
            max_recursion: Limits::MAX_RECURSION,
            max_elements: 1 << 24,
            max_inflated: 64 << 20,
            backing_len: 0,
        }
    }
}
