//! Large maps, which only a scheduler can make.
//!
//! On a thread that is no scheduler the virtual machine crashes when it makes a map of more than 128 pairs, before OTP 27.3 and
//! where older releases were not mended (erlang/otp#8208).

use memchr::memmem::Finder;
use std::sync::LazyLock;

/// A map of at most so many pairs can be made on any thread.
pub(crate) const MAX_MAP: usize = 128;

/// Whether a document of at most 64 KiB may be one that only a scheduler can build: whether it may have a map of more than
/// [`MAX_MAP`] pairs. It is not parsed: what looks like the beginning of such a map may be part of something else.
pub(crate) fn may_need_scheduler(document: &[u8]) -> bool {
    // Such a map begins with its tag and a number of four bytes, of which the first two are 0 where it has room.
    static MAP: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(&[116, 0, 0]));
    MAP.find_iter(document).any(|at| {
        let pairs = document[at + 3..].first_chunk().map(|pairs| usize::from(u16::from_be_bytes(*pairs)));
        pairs.is_some_and(|pairs| pairs > MAX_MAP && pairs <= (document.len() - at) / 2)
    })
}
