//! Another implementation as the judge: `erltf` reads and writes what is generated here.

#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use teleport_etf::Term;
use teleport_testkit::terms::generate::{self, Seeded};

#[test]
fn generated_terms_pass_through_erltf() {
    let mut from = Seeded(16);
    let mut tried = 0;
    for n in 0..8000 {
        let term = generate::term(&mut from, n % 4);
        if is_beyond_erltf(&term) {
            continue;
        }
        tried += 1;
        let theirs = erltf::decode(&term.encode().unwrap().into_contiguous())
            .unwrap_or_else(|e| panic!("{e}: {term}"));
        let back = Term::decode(&Bytes::from(erltf::encode(&theirs).unwrap())).unwrap();
        assert!(back == term, "{term} came back as {back}");
    }
    assert!(tried > 4000, "{tried}");
}

/// It does not know tag 89, and takes some lists and bit strings that differ for the same key of a map.
fn is_beyond_erltf(term: &Term) -> bool {
    let is_in_new_port_ext = |leaf: &Term| matches!(leaf, Term::Port(port) if port.id < 1 << 28);
    generate::any(term, &is_in_new_port_ext) || has_hard_key(term)
}

fn has_hard_key(term: &Term) -> bool {
    let is_hard = |key: &Term| {
        matches!(
            key,
            Term::Tuple(_) | Term::List(_) | Term::ImproperList(_) | Term::Map(_) | Term::BitString(_)
        )
    };
    match term {
        Term::Tuple(items) | Term::List(items) => items.iter().any(has_hard_key),
        Term::ImproperList(list) => list.elements().iter().any(has_hard_key) || has_hard_key(list.tail()),
        Term::Map(map) => map.iter().any(|(key, value)| is_hard(key) || has_hard_key(value)),
        _ => false,
    }
}
