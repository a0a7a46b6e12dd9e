//! Large maps, which only a scheduler can make on releases of OTP with a bug.
//!
//! There the virtual machine crashes when another thread makes a map of more than 128 pairs (erlang/otp#8208). It is mended in
//! OTP 27.3, 26.2.5.9 and 25.3.2.18: `teleport_nif` says at load which one runs.

use memchr::memmem::Finder;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// A map of at most this many pairs can be made on any thread, on all releases.
pub(crate) const MAX_MAP: usize = 128;

static ANYWHERE: AtomicBool = AtomicBool::new(false);

/// Sets whether any thread can make maps of any size.
pub(crate) fn set_anywhere(anywhere: bool) {
    ANYWHERE.store(anywhere, Ordering::Relaxed);
}

/// The largest number of pairs of a map that any thread can make.
pub(crate) fn limit() -> usize {
    if ANYWHERE.load(Ordering::Relaxed) { usize::MAX } else { MAX_MAP }
}

/// Whether a document of at most 64 KiB may be one that only a scheduler can build: whether it may have a map of more than
/// [`limit`] pairs. It is not parsed: what looks like the beginning of such a map may be part of something else.
pub(crate) fn may_need_scheduler(document: &[u8]) -> bool {
    let limit = limit();
    if limit == usize::MAX {
        return false;
    }
    // Such a map begins with its tag and a number of four bytes, of which the first two are 0 where it has room.
    static MAP: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(&[116, 0, 0]));
    MAP.find_iter(document).any(|at| {
        let pairs = document[at + 3..].first_chunk().map(|pairs| usize::from(u16::from_be_bytes(*pairs)));
        pairs.is_some_and(|pairs| pairs > limit && pairs <= (document.len() - at) / 2)
    })
}
