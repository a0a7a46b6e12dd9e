//! The bodies of the fuzz targets on a seeded stream of damaged documents, so that every run of the tests tries them.

#![allow(clippy::unwrap_used, reason = "tests")]

use teleport_testkit::terms::generate::{self, Seeded};
use teleport_testkit::terms::properties;

#[test]
fn generated_terms_survive_every_way_of_encoding() {
    let mut from = Seeded(9);
    (0..1000).for_each(|n| properties::round_trip(&generate::term(&mut from, n % 5)));
}

#[test]
fn damaged_documents_are_refused_or_are_other_terms() {
    let mut from = Seeded(6);
    let mut accepted = 0;
    for n in 0..20_000 {
        let term = generate::term(&mut from, n % 3);
        let document = term.encode().unwrap().into_contiguous();
        let document = &document[..document.len().min(2000)];
        accepted += usize::from(properties::any_bytes(&generate::damage(&mut from, document)));
    }
    // Both sides of the line are tried.
    assert!((2_000..18_000).contains(&accepted), "{accepted} accepted");
}

#[test]
fn the_seeds_of_the_fuzzer_cut_short_anywhere_are_no_documents() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/etf_decode");
    for entry in std::fs::read_dir(seeds).unwrap() {
        let path = entry.unwrap().path();
        let document = std::fs::read(&path).unwrap();
        (0..document.len())
            .for_each(|end| assert!(!properties::any_bytes(&document[..end]), "{path:?} cut at {end}"));
    }
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
