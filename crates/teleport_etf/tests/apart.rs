//! Terms taken apart around their large binaries. That what is put together is what is decoded, for any term and any damaged
//! document, is among the properties that `mutations.rs` tries.

#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use teleport_etf::{
    Apart, Binary, Leaves, Limits, Parts, Term, has_few_terms, has_many_atoms, is_plain, take_all_apart,
    take_apart, validate_with,
};
use teleport_testkit::terms::apart::Assembly;

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

fn apart(document: &[u8], parts: &mut impl Parts) -> Apart {
    let limits = Limits { max_elements: usize::MAX, ..Limits::default() };
    take_apart(document, LARGE, 5000, &limits, parts)
}

/// Takes it apart and puts it together again.
fn around(term: &Term) -> Assembly {
    let document = document(term);
    let mut assembly = Assembly::new(&document);
    assert_eq!(apart(&document, &mut assembly), Apart::Told, "{term:?}");
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
    ] {
        assert_eq!(apart(&document, &mut Nothing), Apart::Whole);
    }
}

#[test]
fn a_large_map_is_found_wherever_it_is() {
    let map = |len: i64| Term::Map((0..len).map(|n| (Term::from(n), Term::nil())).collect());
    let within = |map: Term| {
        [
            map.clone(),
            Term::tuple([small(), map.clone()]),
            Term::improper_list([Term::from(1)], map.clone()),
            Term::Map([(map.clone(), Term::nil())].into_iter().collect()),
            Term::Map([(Term::nil(), Term::list([map.clone()]))].into_iter().collect()),
            (0..500).fold(map, |inner, _| Term::tuple([inner])),
        ]
    };
    for term in within(map(5000)) {
        assert_eq!(apart(&document(&term), &mut Nothing), Apart::Whole);
    }
    for term in within(map(5001)) {
        assert_eq!(apart(&document(&term), &mut Nothing), Apart::LargeMap);
    }
    let after = document(&Term::tuple([large(), map(5001)]));
    assert_eq!(apart(&after, &mut Counted::default()), Apart::LargeMap);
    // Below more levels than are kept account of, and in a fun.
    let map = document(&map(5001));
    let deep = [&[131][..], &[104, 1].repeat(100_000), &map[1..]].concat();
    assert_eq!(apart(&deep, &mut Nothing), Apart::LargeMap);
    let atom = [119, 1, b'a'];
    let pid = [&[88][..], &atom, &[0; 12]].concat();
    let fun = [&[0][..], &[0; 20], &1u32.to_be_bytes(), &atom, &[97, 0, 97, 0], &pid, &map[1..]].concat();
    let fun = [&[131, 104, 1, 112][..], &(fun.len() as u32 + 4).to_be_bytes(), &fun].concat();
    assert!(teleport_etf::validate(&fun, &Limits::default()).is_ok());
    assert_eq!(apart(&fun, &mut Nothing), Apart::LargeMap);
}

#[test]
fn of_what_cannot_be_looked_through_nothing_is_said() {
    let compressed = [131, 80, 0, 0, 0, 1, 120];
    for document in
        [&[][..], &[131], &[131, 255], &[131, 106, 106], &[131, 104, 2, 106], &compressed, &[131; 5000]]
    {
        assert_eq!(apart(document, &mut Nothing), Apart::LargeMap, "{document:?}");
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
    assert_eq!(apart(&nested(60_000, &[97, 1]), &mut counted), Apart::Told);
    assert_eq!(counted.calls, 60_000 * 2 + 1, "a run and a tuple per level");
    let mut counted = Counted::default();
    let document = nested(20_000, &binary);
    assert_eq!(apart(&document, &mut counted), Apart::Told);
    assert!(counted.calls == 20_000 * 2 + 1 && counted.bytes < document.len());
    assert_eq!(apart(&nested(10_000_000, &[97, 1]), &mut Nothing), Apart::Whole);
}

#[test]
fn a_builder_can_stop() {
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
    let calls = (1..).find(|&calls| apart(&document, &mut Stops(calls)) == Apart::Told);
    assert_eq!(calls, Some(9), "two binaries, three containers and three runs, and then one more");
}

#[test]
fn down_to_the_leaves_depth_has_a_limit_too() {
    let limits = Limits { max_elements: usize::MAX, ..Limits::default() };
    let nested = |levels: usize| [&[131][..], &[104, 1].repeat(levels), &[106]].concat();
    let mut levels = Levels(0);
    let told = take_all_apart(&nested(60_000), LARGE, 5000, &limits, &mut levels);
    assert_eq!((told, levels.0), (Apart::Told, 60_000));
    assert_eq!(take_all_apart(&nested(10_000_000), LARGE, 5000, &limits, &mut Levels(0)), Apart::Whole);
    // A map that is too large is found below it.
    let map: Vec<_> = (0..5001u16).flat_map(|n| [98, 0, 0, (n >> 8) as u8, n as u8, 106]).collect();
    let map = [&[116][..], &5001u32.to_be_bytes(), &map].concat();
    let deep = [&[131][..], &[104, 1].repeat(100_000), &map].concat();
    assert_eq!(take_all_apart(&deep, LARGE, 5000, &limits, &mut Levels(0)), Apart::LargeMap);
    assert_eq!(take_all_apart(&deep, LARGE, 5001, &limits, &mut Levels(0)), Apart::Whole);
}

/// Counts tuples.
struct Levels(usize);

impl Parts for Levels {
    fn terms(&mut self, _: usize, _: &[u8]) -> bool {
        panic!("every term is of a kind of its own")
    }
    fn rest_of_list(&mut self, _: usize, _: &[u8]) -> bool {
        panic!("told of a list")
    }
    fn binary(&mut self, _: std::ops::Range<usize>) -> bool {
        panic!("told of a binary")
    }
    fn tuple(&mut self, _: usize) -> bool {
        self.0 += 1;
        true
    }
    fn list(&mut self, _: usize) -> bool {
        panic!("told of a list")
    }
    fn map(&mut self, _: usize) -> bool {
        panic!("told of a map")
    }
}

impl Leaves for Levels {
    fn integer(&mut self, _: i64) -> bool {
        panic!("told of an integer")
    }
    fn float(&mut self, _: f64) -> bool {
        panic!("told of a float")
    }
    fn atom(&mut self, _: &[u8]) -> bool {
        panic!("told of an atom")
    }
    fn small_binary(&mut self, _: &[u8]) -> bool {
        panic!("told of a binary")
    }
    fn string(&mut self, bytes: &[u8]) -> bool {
        bytes.is_empty()
    }
}

#[test]
fn many_atoms_are_a_tenth_of_the_first_terms() {
    let limits = Limits { max_elements: usize::MAX, ..Limits::default() };
    let list = |atoms: usize, numbers: usize| {
        let atoms = vec![Term::from(teleport_etf::Atom::new("a").unwrap()); atoms];
        Term::list([atoms, vec![Term::from(1000); numbers]].concat())
    };
    for (atoms, numbers, many) in [(1, 7, true), (1, 20, false), (100, 5000, true), (99, 5000, false)] {
        let document = document(&list(atoms, numbers));
        assert_eq!(has_many_atoms(&document, &limits), many, "{atoms} {numbers}");
    }
    for none in [&[][..], &[131], &[131, 119], &[131, 104, 2, 119, 1, b'a'], &[131, 80, 0, 0, 0, 1, 120]] {
        assert!(!has_many_atoms(none, &limits), "{none:?}");
    }
}

#[test]
fn large_binaries_and_few_terms_are_built_at_once() {
    const LARGE: usize = 64 * 1024;
    let limits = Limits::default();
    let binary = |len: usize| Term::from(Binary::from(vec![7; len]));
    let has_few = |term: Term| has_few_terms(&document(&term), LARGE, &limits);
    assert!(has_few(binary(10 * LARGE)));
    assert!(has_few(Term::Tuple(vec![Term::from(1), binary(LARGE), Term::list(vec![binary(2 * LARGE)])])));
    // The number of terms counts, and so do bytes that are copied.
    assert!(has_few(Term::Tuple([vec![binary(LARGE)], vec![Term::from(1); 62]].concat())));
    assert!(!has_few(Term::Tuple([vec![binary(LARGE)], vec![Term::from(1); 63]].concat())));
    assert!(has_few(Term::Tuple(vec![binary(LARGE), binary(LARGE - 100)])));
    assert!(!has_few(Term::Tuple(vec![binary(LARGE), binary(LARGE - 1), binary(LARGE - 1)])));
    // What cannot be read is left to those who say why.
    let whole = document(&Term::Tuple(vec![binary(LARGE), Term::from(1)]));
    for none in [&whole[..whole.len() - 1], &[&whole[..], &[0]].concat(), &[], &[131, 80, 0, 0, 0, 1, 120]] {
        assert!(!has_few_terms(none, LARGE, &limits));
    }
}

#[test]
fn what_is_plain_has_nothing_large_in_it_nor_what_looks_like_that() {
    let limits = Limits { max_elements: usize::MAX, ..Limits::default() };
    let plain = |document: &[u8]| is_plain(document, LARGE, 100, &limits);
    let map = |len: i64| Term::Map((0..len).map(|n| (Term::from(n), Term::nil())).collect());
    let numbers = || Term::list((0..5000).map(Term::from).collect::<Vec<_>>());
    assert!(plain(&document(&Term::tuple([small(), map(100), numbers(), map(0)]))));
    assert!(!plain(&document(&Term::tuple([small(), map(101)]))));
    assert!(!plain(&document(&Term::tuple([numbers(), large()]))));
    // The same bytes within another term, where they have room.
    let text = |head: &[u8], len: usize| Term::from(Binary::from([head, &vec![7; len]].concat()));
    assert!(!plain(&document(&text(&[116, 0, 0, 0, 101], 202))));
    assert!(plain(&document(&text(&[116, 0, 0, 0, 101], 201))));
    assert!(is_plain(&document(&map(101)), LARGE, usize::MAX, &limits));
    for none in [&[][..], &[131], &[106], &[131, 80, 0, 0, 0, 1, 120], &[131, 121, 0]] {
        assert!(!plain(none), "{none:?}");
    }
    let empty = document(&Term::list(vec![Term::nil(); 100]));
    assert!(plain(&empty));
    assert!(!is_plain(&empty, LARGE, 100, &Limits { max_heap: 19 * empty.len(), ..limits.clone() }));
    assert!(!is_plain(&empty, LARGE, 100, &Limits { max_elements: 99, ..limits }));
}

/// `{#rec:point{x = 1, y = Binary}, Binary}` of OTP 29.
fn with_record(binary: usize) -> Vec<u8> {
    let mut document = vec![131, 104, 2, 67, 0, 0, 0, 2, 0];
    for atom in ["rec", "point", "x", "y"] {
        document.extend([119, atom.len() as u8]);
        document.extend(atom.as_bytes());
    }
    document.extend([97, 1]);
    for _ in 0..2 {
        document.extend([109, 0, 0, (binary >> 8) as u8, binary as u8]);
        document.extend(vec![7; binary]);
    }
    document
}

#[test]
fn native_records_are_walked_over() {
    let limits = Limits::default();
    let mut atoms = Vec::new();
    let summary = validate_with(&with_record(10), &limits, |atom| {
        atoms.push(atom.to_owned());
        true
    });
    assert_eq!(summary.unwrap().elements, 9);
    assert_eq!(atoms, ["rec", "point", "x", "y"]);
    assert!(has_few_terms(&with_record(10), LARGE, &limits));
    // A large binary in one is left where it is, as one in a fun.
    let document = with_record(LARGE);
    let mut told = Told::default();
    assert_eq!(apart(&document, &mut told), Apart::Told);
    let record = 3..document.len() - LARGE - 5;
    assert_eq!(told.0, [format!("terms 1 {}", record.len()), "binary".into(), "tuple 2".into()]);
    assert_eq!(apart(&with_record(10), &mut Told::default()), Apart::Whole);
    for end in 1..document.len() {
        assert!(validate_with(&document[..end], &limits, |_| true).is_err());
    }
}

/// What was told, as text.
#[derive(Default)]
struct Told(Vec<String>);

impl Parts for Told {
    fn terms(&mut self, count: usize, encoded: &[u8]) -> bool {
        self.0.push(format!("terms {count} {}", encoded.len()));
        true
    }

    fn rest_of_list(&mut self, count: usize, _encoded: &[u8]) -> bool {
        self.0.push(format!("rest {count}"));
        true
    }

    fn binary(&mut self, _at: std::ops::Range<usize>) -> bool {
        self.0.push("binary".into());
        true
    }

    fn tuple(&mut self, arity: usize) -> bool {
        self.0.push(format!("tuple {arity}"));
        true
    }

    fn list(&mut self, len: usize) -> bool {
        self.0.push(format!("list {len}"));
        true
    }

    fn map(&mut self, len: usize) -> bool {
        self.0.push(format!("map {len}"));
        true
    }
}
