//! The edges of the format, byte by byte: what is written at each, and that it reads back.

#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use teleport_etf::{
    Atom, BigInt, Binary, BitString, DecodeError, EncodeError, Limits, Map, Pid, Port, Reference, Term,
};
use teleport_etf::{from_bytes, to_segments, validate, validate_with};

fn encoded(term: &Term) -> Bytes {
    term.encode().unwrap().into_contiguous()
}

/// Begins with these bytes after the version, is of this length with it, and reads back.
#[track_caller]
fn edge(term: Term, head: &[u8], len: usize) {
    let document = encoded(&term);
    assert_eq!((&document[1..=head.len()], document.len()), (head, len));
    assert!(Term::decode(&document).unwrap() == term);
}

#[track_caller]
fn refused(document: &[u8]) -> DecodeError {
    let error = Term::decode(&Bytes::copy_from_slice(document)).unwrap_err();
    assert_eq!(validate(document, &Limits::default()), Err(error.clone()));
    error
}

#[test]
fn tuples_change_their_tag_at_256_elements() {
    for arity in [0usize, 1, 255] {
        edge(Term::Tuple(vec![Term::nil(); arity]), &[104, arity as u8], 3 + arity);
    }
    edge(Term::Tuple(vec![Term::nil(); 256]), &[105, 0, 0, 1, 0, 106], 6 + 256);
    edge(Term::Tuple(vec![Term::nil(); 300]), &[105, 0, 0, 1, 44, 106], 6 + 300);
    let by_serde = to_segments(&[[0u8; 16]; 16]).unwrap().into_contiguous();
    assert_eq!(by_serde[..5], [131, 104, 16, 104, 16]);
    assert_eq!(from_bytes::<[[u8; 16]; 16]>(&by_serde).unwrap(), [[0; 16]; 16]);
}

#[test]
fn lists_of_bytes_are_strings_up_to_65535() {
    edge(Term::nil(), &[106], 2);
    edge(Term::charlist("a"), &[107, 0, 1, 97], 5);
    edge(Term::charlist(&"a".repeat(65_535)), &[107, 255, 255, 97], 4 + 65_535);
    edge(Term::charlist(&"a".repeat(65_536)), &[108, 0, 1, 0, 0, 97, 97], 7 + 2 * 65_536);
    edge(Term::list([255.into(), 256.into()]), &[108, 0, 0, 0, 2, 97, 255, 98, 0, 0, 1, 0, 106], 14);
    edge(Term::list([(-1).into()]), &[108, 0, 0, 0, 1, 98, 255, 255, 255, 255, 106], 12);
    // The same value in the other form.
    let as_list = Bytes::from_static(&[131, 108, 0, 0, 0, 2, 97, 104, 97, 105, 106]);
    assert_eq!(Term::decode(&as_list).unwrap(), Term::charlist("hi"));
    assert_ne!(Term::decode(&as_list).unwrap(), Term::Binary(Binary::from("hi")));
}

#[test]
fn improper_lists_keep_their_tail_and_only_improper_ones() {
    edge(Term::improper_list([1.into()], 2.into()), &[108, 0, 0, 0, 1, 97, 1, 97, 2], 10);
    edge(Term::improper_list([1.into()], Term::charlist("x")), &[107, 0, 2, 1, 120], 6);
    assert_eq!(Term::improper_list([1.into()], Term::nil()), Term::list([1.into()]));
    assert_eq!(Term::improper_list([], 2.into()), 2.into());
    let tail = Term::improper_list([2.into()], 3.into());
    assert_eq!(Term::improper_list([1.into()], tail).to_string(), "[1,2|3]");
    let alias = Term::from(Reference::new(Atom::from_static("a@host"), 1, &[1, 2, 3]).unwrap());
    let tag = Term::improper_list([Term::improper_list([Term::atom("alias")], alias)], 7.into());
    assert_eq!(tag.to_string(), "[[alias|#Ref<a@host.3.2.1>]|7]");
    edge(tag, &[108, 0, 0, 0, 1, 108, 0, 0, 0, 1, 119, 5], 47);
}

#[test]
fn atoms_have_255_characters_of_up_to_four_bytes() {
    edge(Term::atom(""), &[119, 0], 3);
    let atom = |text: String| Term::Atom(Atom::new(text).unwrap());
    edge(atom("a".repeat(255)), &[119, 255, 97], 3 + 255);
    edge(atom("é".repeat(127)), &[119, 254], 3 + 254);
    edge(atom("é".repeat(128)), &[118, 1, 0], 4 + 256);
    edge(atom("\u{1F980}".repeat(255)), &[118, 3, 252], 4 + 1020);

    let long = [&[131, 118, 1, 0][..], &[97; 256]].concat();
    assert_eq!(refused(&long), DecodeError::Malformed { what: "atom", offset: 1 });
    assert_eq!(refused(&[131, 119, 1, 0xe9]), DecodeError::Malformed { what: "atom", offset: 1 });
    assert!(matches!(to_segments(&AtomOf256), Err(EncodeError::Atom(_))));
}

/// A type whose name is too long for an atom.
struct AtomOf256;

impl serde::Serialize for AtomOf256 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = "a".repeat(256);
        serializer.serialize_unit_struct(Box::leak(name.into_boxed_str()))
    }
}

#[test]
fn integers_take_the_shortest_tag() {
    edge(0.into(), &[97, 0], 3);
    edge(255.into(), &[97, 255], 3);
    edge(256.into(), &[98, 0, 0, 1, 0], 6);
    edge((-1).into(), &[98, 255, 255, 255, 255], 6);
    edge(i32::MIN.into(), &[98, 128, 0, 0, 0], 6);
    edge((i64::from(i32::MAX) + 1).into(), &[110, 4, 0, 0, 0, 0, 128], 8);
    edge((i64::from(i32::MIN) - 1).into(), &[110, 4, 1, 1, 0, 0, 128], 8);
    edge(i64::MIN.into(), &[110, 8, 1, 0], 12);
    edge(u64::MAX.into(), &[110, 8, 0, 255], 12);
    edge(i128::MIN.into(), &[110, 16, 1, 0], 20);
    let power = |exponent: usize| BigInt::from(1u8) << exponent;
    edge(power(8 * 254 + 7).into(), &[110, 255, 0, 0], 4 + 255);
    edge(power(8 * 255).into(), &[111, 0, 0, 1, 0, 0, 0], 7 + 256);
    edge((-power(8 * 255)).into(), &[111, 0, 0, 1, 0, 1, 0], 7 + 256);
    edge(power(800_000).into(), &[111, 0, 1, 134, 161, 0], 7 + 100_001);
    // Small values in a large form, and what is written of a small one in `BigInt`.
    let zeros = Bytes::from_static(&[131, 110, 9, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(Term::decode(&zeros), Ok(Term::Integer(-5)));
    assert_eq!(Term::decode(&Bytes::from_static(&[131, 110, 0, 1])), Ok(Term::Integer(0)));
    let not_normal = Term::BigInt(Box::new(BigInt::from(7)));
    assert_eq!((encoded(&not_normal), &not_normal), (encoded(&7.into()), &7.into()));
    for value in [i128::from(i64::MIN), i128::from(i64::MIN) - 1, i128::from(u64::MAX), i128::MAX, i128::MIN]
    {
        assert_eq!(from_bytes::<i128>(&to_segments(&value).unwrap().into_contiguous()).unwrap(), value);
    }
    assert!(from_bytes::<i64>(&encoded(&u64::MAX.into())).is_err());
    assert!(from_bytes::<u128>(&encoded(&power(128).into())).is_err());
}

#[test]
fn floats_are_not_integers_and_minus_zero_is_not_zero() {
    edge(1.0.into(), &[70, 63, 240, 0], 10);
    edge((-0.0).into(), &[70, 128, 0], 10);
    assert_ne!(Term::Float(1.0), Term::Integer(1));
    assert_ne!(Term::Float(0.0), Term::Float(-0.0));
    assert!(Term::Float(-0.0) < Term::Float(0.0) && Term::Integer(5) < Term::Float(0.5));
    for not_finite in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(matches!(Term::Float(not_finite).encode(), Err(EncodeError::NotFinite(_))));
        let document = [&[131, 70][..], &not_finite.to_be_bytes()].concat();
        assert_eq!(refused(&document), DecodeError::Malformed { what: "float", offset: 1 });
    }
    for text in ["inf", "nan", "", "1e999", "x"] {
        let mut document = vec![131, 99];
        document.extend(text.as_bytes());
        document.resize(33, 0);
        assert_eq!(refused(&document), DecodeError::Malformed { what: "float", offset: 1 });
    }
}

#[test]
fn binaries_and_bits_keep_every_byte_and_bit() {
    edge(Binary::default().into(), &[109, 0, 0, 0, 0], 6);
    edge(Binary::from(vec![7; 70_000]).into(), &[109, 0, 1, 17, 112, 7], 6 + 70_000);
    edge(BitString::new(Bytes::from_static(&[1, 0b1010_0000]), 3), &[77, 0, 0, 0, 2, 3, 1, 0b1010_0000], 9);
    // Unused bits mean nothing.
    let dirty = Bytes::from_static(&[131, 77, 0, 0, 0, 1, 1, 0b1111_1111]);
    assert_eq!(Term::decode(&dirty).unwrap(), BitString::new(Bytes::from_static(&[0x80]), 1));
    assert_eq!(Term::decode(&dirty).unwrap().to_string(), "<<1:1>>");
    let whole = Bytes::from_static(&[131, 77, 0, 0, 0, 1, 8, 255]);
    assert_eq!(Term::decode(&whole).unwrap(), Term::Binary(Binary::from(vec![255])));
    for (len, bits) in [(0, 1), (1, 0), (1, 9)] {
        let document = [&[131, 77, 0, 0, 0, len, bits][..], &vec![0; len.into()]].concat();
        assert_eq!(refused(&document), DecodeError::Malformed { what: "bit string", offset: 1 });
    }
    assert_eq!(BitString::new(Bytes::new(), 3), Binary::default().into());
    assert_eq!(BitString::new(Bytes::from_static(b"x"), 0).to_string(), "<<0:1>>");
}

#[test]
fn maps_are_equal_in_any_order_and_have_no_key_twice() {
    edge(Term::Map(Map::new()), &[116, 0, 0, 0, 0], 6);
    let pairs: Vec<(Term, Term)> = (0..300).map(|n| (n.into(), Term::tuple([n.into()]))).collect();
    let forward: Map = pairs.iter().cloned().collect();
    let backward: Map = pairs.iter().rev().cloned().collect();
    assert_eq!(forward, backward);
    edge(Term::Map(backward), &[116, 0, 0, 1, 44, 97, 0, 104, 1, 97, 0], encoded(&Term::Map(forward)).len());
    let other_order = Bytes::from_static(&[131, 116, 0, 0, 0, 2, 97, 2, 106, 97, 1, 106]);
    assert_eq!(Term::decode(&other_order).unwrap().to_string(), "#{1 => [],2 => []}");
    let twice = Bytes::from_static(&[131, 116, 0, 0, 0, 2, 97, 1, 106, 97, 1, 106]);
    assert_eq!(Term::decode(&twice), Err(DecodeError::DuplicateKey { offset: 12 }));
}

#[test]
fn names_of_processes_ports_and_references() {
    let node = Atom::from_static("a@host");
    let pid = Pid { node: node.clone(), id: u32::MAX, serial: u32::MAX, creation: u32::MAX };
    edge(pid.into(), &[88, 119, 6], 22);
    let port = |id| Term::from(Port { node: node.clone(), id, creation: 1 });
    edge(port((1 << 28) - 1), &[89, 119, 6], 18);
    edge(port(1 << 28), &[120, 119, 6], 22);
    edge(port(u64::MAX), &[120, 119, 6], 22);
    for count in 1..=5u8 {
        let words: Vec<u32> = (1..=count.into()).collect();
        let reference = Term::from(Reference::new(node.clone(), 7, &words).unwrap());
        edge(reference, &[90, 0, count, 119, 6], 16 + 4 * usize::from(count));
    }
    assert!(Reference::new(node.clone(), 7, &[]).is_none() && Reference::new(node, 7, &[0; 6]).is_none());
    for count in [0, 6] {
        let document =
            [&[131, 90, 0, count, 119, 1, b'n', 0, 0, 0, 1][..], &vec![0; usize::from(count) * 4]].concat();
        assert_eq!(refused(&document), DecodeError::Malformed { what: "reference", offset: 1 });
    }
}

#[test]
fn a_term_in_local_format_is_a_whole_document() {
    let document = Bytes::from_static(b"\x83\x79any bytes at all");
    let term = Term::decode(&document).unwrap();
    assert_eq!(encoded(&term), document);
    assert_eq!(term.to_string(), "#Local<16 bytes>");
    assert_eq!(refused(b"\x83\x68\x01\x79abc"), DecodeError::UnknownTag { tag: 121, offset: 3 });
    assert_eq!(refused(b"\x83\x6c\0\0\0\x01\x6a\x79abc"), DecodeError::UnknownTag { tag: 121, offset: 7 });
}

#[test]
fn what_is_no_document() {
    assert_eq!(refused(&[]), DecodeError::Version { found: None });
    assert_eq!(refused(&[130, 106]), DecodeError::Version { found: Some(130) });
    assert_eq!(refused(&[131]), DecodeError::Truncated { offset: 1, needed: 1, left: 0 });
    assert_eq!(refused(&[131, 106, 1, 2]), DecodeError::Trailing { offset: 2, left: 2 });
    assert_eq!(refused(&[131, 131, 106]), DecodeError::UnknownTag { tag: 131, offset: 1 });
    assert_eq!(refused(&[131, 104, 1, 82, 0]), DecodeError::UnknownTag { tag: 82, offset: 3 });
    assert_eq!(refused(&[131, 98, 0, 0]), DecodeError::Truncated { offset: 2, needed: 4, left: 2 });
}

#[test]
fn every_atom_is_asked_about() {
    let document = b"\x83\x68\x03\x73\x02\xe9a\x74\0\0\0\x01\x77\x01k\x77\x01v\x71\x77\x01m\x77\x01f\x61\0";
    let mut seen = Vec::new();
    let summary = validate_with(document, &Limits::default(), |atom| {
        seen.push(atom.to_string());
        true
    })
    .unwrap();
    assert_eq!(seen, ["éa", "k", "v", "m", "f"]);
    assert_eq!((summary.depth, summary.elements, summary.largest_binary), (2, 6, 0));
    let refused = validate_with(document, &Limits::default(), |atom| atom != "v");
    assert_eq!(refused, Err(DecodeError::AtomRefused { offset: 15 }));
}

#[test]
fn large_binaries_are_segments_with_the_small_parts_in_one_block() {
    let large = Binary::from(vec![1; 10 << 20]);
    let small = Binary::from(vec![2; 100]);
    let term = Term::tuple([
        small.clone().into(),
        large.clone().into(),
        small.into(),
        large.clone().into(),
        7.into(),
    ]);
    let document = term.encode().unwrap();
    let segments: Vec<&Bytes> = document.iter().collect();
    assert_eq!(segments.len(), 5);
    assert_eq!(segments[1].as_ptr(), large.as_ptr());
    assert_eq!(segments[3].as_ptr(), large.as_ptr());
    let decoded = Term::decode(&document.clone().into_contiguous()).unwrap();
    assert_eq!(decoded, term);
}

#[test]
fn text_is_what_erlang_prints() {
    let shown = |term: Term| term.to_string();
    assert_eq!(shown(Term::charlist("a\"b\\\n")), r#""a\"b\\\n""#);
    assert_eq!(shown(Term::charlist("é")), "[233]");
    assert_eq!(shown(Term::Binary(Binary::from("a\tb"))), r#"<<"a\tb">>"#);
    assert_eq!(shown(Term::Binary(Binary::from(vec![0, 255]))), "<<0,255>>");
    let floats =
        [1.0, -0.0, 1e22, 1.5e300, 5e-324, 0.1, 123_456_789.125].map(|value| shown(Term::Float(value)));
    assert_eq!(floats, ["1.0", "-0.0", "1.0e22", "1.5e300", "5.0e-324", "0.1", "123456789.125"]);
    let long: BigInt = BigInt::from(-1) << 20_000usize;
    assert!(shown(long.into()).starts_with("-16#1000"));
    let list = Term::list(vec![Term::atom("abc"); 1000]);
    assert_eq!(format!("{list:.10}"), "[abc,abc,a...");
    assert_eq!(format!("{list:?}").len(), 1003);
    assert_eq!(format!("{:.4}", Term::atom("é")), "'é'");
    assert_eq!(format!("{:.2}", Term::atom("é")), "'...");
}

#[test]
fn terms_order_by_type_and_then_by_value() {
    let node = Atom::from_static("n@h");
    let power: BigInt = BigInt::from(1) << 100usize;
    let bits = |bytes: &'static [u8], bits| BitString::new(Bytes::from_static(bytes), bits);
    let ascending = [
        Term::from(-power.clone()),
        i64::MIN.into(),
        1.into(),
        2.into(),
        power.into(),
        (-1.0).into(),
        0.5.into(),
        Term::atom("a"),
        Term::atom("b"),
        Reference::new(node.clone(), 1, &[1]).unwrap().into(),
        Port { node: node.clone(), id: 1, creation: 1 }.into(),
        Pid { node, id: 1, serial: 0, creation: 1 }.into(),
        Term::tuple([]),
        Term::tuple([Term::atom("z")]),
        Term::tuple([1.into(), 1.into()]),
        Term::Map(Map::new()),
        Term::Map(Map::from_iter([(1.into(), 9.into())])),
        Term::Map(Map::from_iter([(2.into(), 1.into())])),
        Term::Map(Map::from_iter([(2.into(), 2.into())])),
        Term::nil(),
        Term::improper_list([1.into()], 0.into()),
        Term::list([1.into()]),
        Term::list([1.into(), 1.into()]),
        Term::improper_list([1.into()], Binary::from("t").into()),
        Term::list([2.into()]),
        bits(&[1, 0x80], 1),
        bits(&[1, 0x80], 8),
        bits(&[2], 8),
    ];
    for (i, a) in ascending.iter().enumerate() {
        for (j, b) in ascending.iter().enumerate() {
            assert_eq!(a.cmp(b), i.cmp(&j), "{a} and {b}");
        }
    }
}
