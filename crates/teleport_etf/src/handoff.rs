//! Hands values past serde, which knows byte slices only, without copying what they refer to.
//!
//! One side lays a value down for the duration of a call into serde, the other side, further down the same call, picks
//! it up. What does not know about it (another serde format, an adapter in between) sees plain serde.

use std::cell::{Cell, RefCell};
use std::thread::LocalKey;

use bytes::Bytes;

use crate::segments::Segments;
use crate::term::Term;

thread_local! {
    static BYTES: RefCell<Option<Bytes>> = const { RefCell::new(None) };
    static SEGMENTS: Cell<Request> = const { Cell::new(Request::None) };
    static TERM: RefCell<Option<Term>> = const { RefCell::new(None) };
    // Not `BYTES`: the bytes of a binary, which are whatever a peer sent, must never pass for a term that was checked.
    static RAW_TERM: RefCell<Option<Bytes>> = const { RefCell::new(None) };
}

/// Runs `call`, during which [`claim_bytes`] of exactly this memory finds the owner.
pub(crate) fn with_bytes<R>(bytes: Bytes, call: impl FnOnce() -> R) -> R {
    let _cleared = Cleared(&BYTES);
    put(&BYTES, bytes);
    call()
}

/// The owner of this very memory, if it has been laid down.
pub(crate) fn claim_bytes(slice: &[u8]) -> Option<Bytes> {
    let bytes = take(&BYTES)?;
    (bytes.as_ptr() == slice.as_ptr() && bytes.len() == slice.len()).then_some(bytes)
}

/// Runs `call`, during which [`claim_term`] finds the term.
pub(crate) fn with_term<R>(term: Term, call: impl FnOnce() -> R) -> R {
    let _cleared = Cleared(&TERM);
    put(&TERM, term);
    call()
}

/// The term that has been laid down, if there is one.
pub(crate) fn claim_term() -> Option<Term> {
    take(&TERM)
}

/// Runs `call`, during which [`claim_raw_term`] finds the bytes of a term that has been checked.
pub(crate) fn with_raw_term<R>(term: Bytes, call: impl FnOnce() -> R) -> R {
    let _cleared = Cleared(&RAW_TERM);
    put(&RAW_TERM, term);
    call()
}

/// The bytes of the term that has been laid down, if there is one.
pub(crate) fn claim_raw_term() -> Option<Bytes> {
    take(&RAW_TERM)
}

/// Runs `call`, during which [`offer_segments`] is answered; returns what was offered.
pub(crate) fn requesting_segments<R>(call: impl FnOnce() -> R) -> (R, Option<Segments>) {
    // Restored even if `call` panics: a request left standing would swallow a later term.
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            let _ = SEGMENTS.try_with(|request| request.set(Request::None));
        }
    }
    let _reset = Reset;
    let _ = SEGMENTS.try_with(|request| request.set(Request::Wanted));
    let result = call();
    match SEGMENTS.try_with(Cell::take) {
        Ok(Request::Answered(segments)) => (result, Some(segments)),
        _ => (result, None),
    }
}

/// Answers a standing request with what `encode` makes; false if there is none.
pub(crate) fn offer_segments<E>(encode: impl FnOnce() -> Result<Segments, E>) -> Result<bool, E> {
    match SEGMENTS.try_with(Cell::take) {
        Ok(Request::Wanted) => {}
        _ => return Ok(false),
    }
    let segments = encode()?;
    Ok(SEGMENTS.try_with(|request| request.set(Request::Answered(segments))).is_ok())
}

#[derive(Default)]
enum Request {
    #[default]
    None,
    Wanted,
    Answered(Segments),
}

/// Clears a slot at the end of the call, so that nothing outlives it.
struct Cleared<T: 'static>(&'static LocalKey<RefCell<Option<T>>>);

impl<T> Drop for Cleared<T> {
    fn drop(&mut self) {
        take(self.0);
    }
}

// `try_with` fails only while the thread is being torn down: the value is then not found and the plain way is taken.

fn put<T>(slot: &'static LocalKey<RefCell<Option<T>>>, value: T) {
    let _ = slot.try_with(|slot| slot.replace(Some(value)));
}

fn take<T>(slot: &'static LocalKey<RefCell<Option<T>>>) -> Option<T> {
    slot.try_with(|slot| slot.take()).ok().flatten()
}
