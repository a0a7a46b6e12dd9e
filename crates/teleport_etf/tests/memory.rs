//! What is built stays within its limit, measured by the allocator.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use teleport_etf::{Atom, Binary, DecodeError, Limits, Term, from_bytes_with, validate};

/// Counts what is allocated.
mod counting {
    #![allow(unsafe_code, reason = "an allocator is")]

    use std::alloc::{GlobalAlloc, Layout, System};
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    struct Counting;

    #[global_allocator]
    static COUNTING: Counting = Counting;

    static NOW: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);

    // SAFETY: everything is left to the system's allocator.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            let now = NOW.fetch_add(layout.size(), SeqCst) + layout.size();
            MOST.fetch_max(now, SeqCst);
            // SAFETY: the caller keeps what it has to.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
            NOW.fetch_sub(layout.size(), SeqCst);
            // SAFETY: as above.
            unsafe { System.dealloc(memory, layout) }
        }
    }

    /// The result, and how many bytes more than before there were at most.
    pub(super) fn most<R>(measured: impl FnOnce() -> R) -> (R, usize) {
        let before = NOW.load(SeqCst);
        MOST.store(before, SeqCst);
        let result = measured();
        (result, MOST.load(SeqCst) - before)
    }
}

const MIB: usize = 1 << 20;

/// A list of this many terms that are encoded so.
fn list(count: usize, term: &[u8]) -> Bytes {
    let mut document = vec![131, 108];
    document.extend_from_slice(&(count as u32).to_be_bytes());
    (0..count).for_each(|_| document.extend_from_slice(term));
    document.push(106);
    document.into()
}

/// A compressed document.
fn compressed(plain: &[u8]) -> Bytes {
    use std::io::Write;
    let mut document = vec![131, 80];
    document.extend_from_slice(&(plain.len() as u32 - 1).to_be_bytes());
    let mut encoder = flate2::write::ZlibEncoder::new(document, flate2::Compression::best());
    encoder.write_all(&plain[1..]).unwrap();
    encoder.finish().unwrap().into()
}

fn decoded<T: DeserializeOwned>(document: &Bytes, limits: &Limits) -> (Option<DecodeError>, usize) {
    let (result, most) = counting::most(|| from_bytes_with::<T>(document, limits).map(drop));
    (result.err(), most)
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only decoded")]
enum Chain {
    #[serde(rename = "end")]
    End,
    #[serde(rename = "a")]
    Of(Box<Chain>, [u64; 16]),
}

/// One test: others at the same time would be counted too.
#[test]
fn what_is_built_stays_within_the_limit() {
    // What 15.5 KB made 625 MiB of: 16 million empty lists.
    let bomb = compressed(&list((1 << 24) - 10, &[106]));
    assert!(bomb.len() < 20_000, "{}", bomb.len());
    let (error, most) = decoded::<Term>(&bomb, &Limits::default());
    assert_eq!(error, Some(DecodeError::TooLarge { size: (1 << 24) - 4, limit: 0 }));
    assert!(most < 1000, "{most} bytes");
    // If compressed ones are taken they are inflated, and nothing is built.
    let inflating = Limits { max_inflated: 64 * MIB, ..Limits::default() };
    let (error, most) = decoded::<Term>(&bomb, &inflating);
    let limit = Limits::MAX_MEMORY;
    assert_eq!(error, Some(DecodeError::TooMuchMemory { limit }));
    assert!(error.unwrap().to_string().contains("Limits::max_memory"));
    assert!(most < 17 * MIB, "{most} bytes");

    // Plain documents of all kinds, with one MiB allowed.
    let small = Limits { max_memory: MIB, max_elements: usize::MAX, ..Limits::default() };
    let long_atom = [&[119, 200][..], &[b'x'; 200]].concat();
    let binary = [&[109, 0, 0, 0, 60][..], &[7; 60]].concat();
    let nested = [&[104, 1].repeat(500)[..], &[106]].concat();
    for (what, term) in [
        ("empty lists", &[106][..]),
        ("empty tuples", &[104, 0]),
        ("empty maps", &[116, 0, 0, 0, 0]),
        ("lists of one", &[108, 0, 0, 0, 1, 106, 106]),
        ("improper lists", &[108, 0, 0, 0, 1, 106, 97, 1]),
        ("tuples in tuples", &nested),
        ("maps of one", &[116, 0, 0, 0, 1, 106, 106]),
        ("strings", &[107, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]),
        ("big integers", &[110, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ("bit strings", &[77, 0, 0, 0, 1, 3, 224]),
        ("binaries", &binary),
        ("long atoms", &long_atom),
        ("exports", &[113, 119, 1, b'm', 119, 1, b'f', 97, 3]),
    ] {
        // As many as there is memory for, by far; that much in all is asked for at once, or piece by piece.
        let documents = [list(40_000, term), {
            let inner = list(100, term).slice(1..);
            list(400, &inner)
        }];
        for document in documents {
            assert!(validate(&document, &small).is_ok(), "{what}");
            let (error, most) = decoded::<Term>(&document, &small);
            assert_eq!(error, Some(DecodeError::TooMuchMemory { limit: MIB }), "{what}");
            assert!(most <= MIB + MIB / 2, "{what}: {most} bytes");
            let (error, _) = decoded::<Vec<Term>>(&document, &small);
            assert_eq!(error, Some(DecodeError::TooMuchMemory { limit: MIB }), "{what}");
        }
    }

    // Values of serde types: what grows may have reserved as much again.
    let (error, most) = decoded::<Vec<Vec<Option<u64>>>>(&list(1_000_000, &[106]), &small);
    assert_eq!(error, Some(DecodeError::TooMuchMemory { limit: MIB }));
    assert!(most <= 4 * MIB, "{most} bytes");
    let (error, most) =
        decoded::<Vec<[u64; 8]>>(&list(1_000_000, &[107, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]), &small);
    assert_eq!(error, Some(DecodeError::TooMuchMemory { limit: MIB }));
    assert!(most <= 4 * MIB, "{most} bytes");
    let pairs = list(100_000, &[104, 2, 109, 0, 0, 0, 1, b'k', 116, 0, 0, 0, 0]);
    let (error, most) = decoded::<Vec<(String, HashMap<String, Atom>)>>(&pairs, &small);
    assert_eq!(error, Some(DecodeError::TooMuchMemory { limit: MIB }));
    assert!(most <= 4 * MIB, "{most} bytes");
    // Each link of the chain takes 136 bytes and more, and is read from 25.
    let link =
        [&[104, 3, 119, 1, b'a'][..], &[104, 3, 119, 1, b'a', 119, 3], b"end", &[107, 0, 16], &[1; 16]]
            .concat();
    let link = [&link[..], &[107, 0, 16], &[1; 16]].concat();
    let (error, most) = decoded::<Vec<Chain>>(&list(100_000, &link), &small);
    assert_eq!(error, Some(DecodeError::TooMuchMemory { limit: MIB }));
    assert!(most <= 4 * MIB, "{most} bytes");

    // What refers to the document takes nothing: a large binary passes whatever it weighs.
    let large = [&[131, 109, 0, 160, 0, 0][..], &vec![1; 10 * MIB]].concat();
    let (error, most) = decoded::<Binary>(&large.into(), &small);
    assert_eq!(error, None);
    assert!(most < 1000, "{most} bytes");
}
