//! Terms taken apart around their large binaries. That what is put together is what is decoded, for any term and any damaged
//! document, is among the properties that `mutations.rs` tries.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use bytes::Bytes;
use support::apart::Assembly;
use teleport_etf::{Binary, Limits, Parts, Term, take_apart};

const LARGE: usize = 1000;

fn large() -> Term {
    Term::from(Binary::from(vec![7; LARGE]))
}

fn small() -> Term {
    Term::from(Binary::from(vec![7; LARGE - 1]))
}

fn document(term: &Term) -> Bytes {
    term.encode().unwrap().into_contiguous()
}

/// Takes it apart and puts it together again.
fn around(term: &Term) -> Assembly {
    let document = document(term);
    let mut assembly = Assembly::new(&document);
    assert!(take_apart(&document, LARGE, &Limits::default(), &mut assembly), "{term:?}");
    assembly
}

#[test]
fn a_large_binary_is_found_at_every_kind_of_position() {
    let one = || Term::from(1);
    let terms = [
        large(),
        Term::tuple([large()]),
        Term::tuple([one(), large(), one()]),
        Term::list([large()]),
        Term::list([one(), large()]),
        Term::list([large(), one(), small(), one()]),
        Term::improper_list([one()], large()),
        Term::improper_list([large()], one()),
        Term::improper_list([one(), large(), one()], small()),
        Term::Map([(one(), large())].into_iter().collect()),
        Term::Map([(large(), one()), (one(), Term::nil())].into_iter().collect()),
        Term::list([Term::tuple([]), Term::list([Term::tuple([large(), one()]), one()]), Term::nil()]),
        Term::tuple(vec![large(); 300]),
    ];
    for term in terms {
        assert_eq!(around(&term).finish(), term);
    }
}

#[test]
fn what_is_between_large_binaries_comes_in_runs() {
    let numbers = || (0..5000).map(Term::from).collect::<Vec<_>>();
    let term = Term::tuple([
        Term::list(numbers()),
        Term::Map(numbers().into_iter().map(|n| (n.clone(), n)).collect()),
        Term::list([vec![large()], numbers()].concat()),
        Term::list(numbers()),
    ]);
    let assembly = around(&term);
    assert_eq!((assembly.runs, &assembly.binaries[..]), (3, &[LARGE][..]));
    assert_eq!(assembly.finish(), term);
}

/// Told nothing, it stays what it was.
struct Nothing;

impl Parts for Nothing {
    fn terms(&mut self, _: usize, _: &[u8]) -> bool {
        panic!("told of terms")
    }
    fn rest_of_list(&mut self, _: usize, _: &[u8]) -> bool {
        panic!("told of a list")
    }
    fn binary(&mut self, _: std::ops::Range<usize>) -> bool {
        panic!("told of a binary")
    }
    fn tuple(&mut self, _: usize) -> bool {
        panic!("told of a tuple")
    }
    fn list(&mut self, _: usize) -> bool {
        panic!("told of a list")
    }
    fn map(&mut self, _: usize) -> bool {
        panic!("told of a map")
    }
}

#[test]
fn without_a_large_binary_nothing_is_told() {
    let bit_string = [&[131, 104, 1, 77][..], &2000u32.to_be_bytes(), &[3], &[0; 2000]].concat();
    for document in [
        document(&Term::list([small(), small()])),
        document(&Term::list((0..5000).map(Term::from).collect::<Vec<_>>())),
        bit_string.into(),
        Bytes::new(),
        Bytes::from_static(&[131]),
        Bytes::from(vec![131; 5000]),
    ] {
        assert!(!take_apart(&document, LARGE, &Limits::default(), &mut Nothing));
    }
}

/// Counts, and keeps nothing.
#[derive(Default)]
struct Counted {
    calls: usize,
    bytes: usize,
}

impl Counted {
    fn call(&mut self, bytes: usize) -> bool {
        self.calls += 1;
        self.bytes += bytes;
        true
    }
}

impl Parts for Counted {
    fn terms(&mut self, _: usize, encoded: &[u8]) -> bool {
        self.call(encoded.len())
    }
    fn rest_of_list(&mut self, _: usize, encoded: &[u8]) -> bool {
        self.call(encoded.len())
    }
    fn binary(&mut self, at: std::ops::Range<usize>) -> bool {
        self.call(at.len())
    }
    fn tuple(&mut self, _: usize) -> bool {
        self.call(0)
    }
    fn list(&mut self, _: usize) -> bool {
        self.call(0)
    }
    fn map(&mut self, _: usize) -> bool {
        self.call(0)
    }
}

#[test]
fn depth_costs_time_and_no_stack_and_has_a_limit() {
    let binary = [&[109][..], &(LARGE as u32).to_be_bytes(), &[7; LARGE]].concat();
    let limits = Limits { max_elements: usize::MAX, ..Limits::default() };
    // Beside the large binary at its end, each level has one in front of the next.
    let nested = |levels: usize, front: &[u8]| {
        let mut document = vec![131];
        for _ in 0..levels {
            document.extend([104, 2]);
            document.extend(front);
        }
        document.extend(&binary);
        document
    };
    let mut counted = Counted::default();
    assert!(take_apart(&nested(60_000, &[97, 1]), LARGE, &limits, &mut counted));
    assert_eq!(counted.calls, 60_000 * 2 + 1, "a run and a tuple per level");
    let mut counted = Counted::default();
    let document = nested(20_000, &binary);
    assert!(take_apart(&document, LARGE, &limits, &mut counted));
    assert!(counted.calls == 20_000 * 2 + 1 && counted.bytes < document.len());
    assert!(!take_apart(&nested(10_000_000, &[97, 1]), LARGE, &limits, &mut Nothing));
}

#[test]
fn whoever_builds_can_stop() {
    struct Stops(usize);
    impl Parts for Stops {
        fn terms(&mut self, _: usize, _: &[u8]) -> bool {
            self.binary(0..0)
        }
        fn rest_of_list(&mut self, _: usize, _: &[u8]) -> bool {
            self.binary(0..0)
        }
        fn binary(&mut self, _: std::ops::Range<usize>) -> bool {
            assert!(self.0 > 0, "told after it had stopped");
            self.0 -= 1;
            self.0 > 0
        }
        fn tuple(&mut self, _: usize) -> bool {
            self.binary(0..0)
        }
        fn list(&mut self, _: usize) -> bool {
            self.binary(0..0)
        }
        fn map(&mut self, _: usize) -> bool {
            self.binary(0..0)
        }
    }
    let map = Term::Map([(Term::from(1), large())].into_iter().collect());
    let document =
        document(&Term::tuple([Term::list([large(), map, Term::from(1), Term::from(2)]), small()]));
    let calls = (1..).find(|&calls| take_apart(&document, LARGE, &Limits::default(), &mut Stops(calls)));
    assert_eq!(calls, Some(9), "two binaries, three containers and three runs, and then one more");
}
