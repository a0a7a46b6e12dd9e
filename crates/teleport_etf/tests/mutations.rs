//! The bodies of the fuzz targets on a seeded stream of damaged documents, so that every run of the tests tries them.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use support::generate::{self, Seeded};
use support::properties;

#[test]
fn damaged_documents_are_refused_or_are_other_terms() {
    let mut from = Seeded(6);
    let mut accepted = 0;
    for n in 0..30_000 {
        let term = generate::term(&mut from, n % 3);
        let document = term.encode().unwrap().into_contiguous();
        let document = &document[..document.len().min(2000)];
        accepted += usize::from(properties::any_bytes(&generate::damage(&mut from, document)));
    }
    // Both sides of the line are tried.
    assert!((3_000..27_000).contains(&accepted), "{accepted} accepted");
}

#[test]
fn noise_is_refused_or_is_a_term() {
    let mut from = Seeded(7);
    for _ in 0..30_000 {
        let len = from.below(40);
        let mut document = vec![131];
        document.extend((0..len).map(|_| generate::tag_or_byte(&mut from)));
        properties::any_bytes(&document);
    }
}
