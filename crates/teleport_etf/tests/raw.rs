//! Terms kept as the bytes they came in.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::io::Write;
use std::thread;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use teleport_etf::{Atom, BY_REFERENCE, Binary, DecodeError, EncodeError, Limits, RawTerm, Term};
use teleport_etf::{from_bytes, from_bytes_with, to_segments};

fn encoded<T: Serialize + ?Sized>(value: &T) -> Bytes {
    to_segments(value).unwrap().into_contiguous()
}

fn raw<T: Serialize + ?Sized>(value: &T) -> RawTerm {
    RawTerm::new(value).unwrap()
}

fn is_within(term: &RawTerm, buffer: &Bytes) -> bool {
    let (part, whole) = (term.as_slice().as_ptr_range(), buffer.as_ptr_range());
    whole.start <= part.start && part.end <= whole.end
}

fn compressed(term: &[u8]) -> Bytes {
    let mut document = vec![131, 80];
    document.extend((term.len() as u32).to_be_bytes());
    let mut encoder = flate2::write::ZlibEncoder::new(document, flate2::Compression::fast());
    encoder.write_all(term).unwrap();
    encoder.finish().unwrap().into()
}

fn levels(count: usize) -> Vec<u8> {
    let mut term = [104, 1].repeat(count);
    term.push(106);
    term
}

/// A message with this term between two others.
fn between(term: &[u8]) -> Bytes {
    [&[131, 104, 3, 119, 1, b'a'], term, &[97, 7]].concat().into()
}

#[test]
fn an_element_is_exactly_its_part_of_the_document() {
    let terms = [
        Term::from(5),
        Term::nil(),
        Term::atom("undefined"),
        Term::from(1.5),
        Term::charlist("text"),
        Term::tuple([Term::nil(), Term::tuple([])]),
        Term::improper_list([1.into()], Term::atom("tail")),
        Term::list([Term::from(Binary::from(vec![1; 3000])), 300.into()]),
        Term::Map([(Term::atom("k"), Term::from(1u64 << 63))].into_iter().collect()),
    ];
    for term in terms {
        let alone = encoded(&term);
        let document = between(&alone[1..]);
        let (before, middle, after): (Atom, RawTerm, u8) = from_bytes(&document).unwrap();
        assert_eq!((before, after), (Atom::from_static("a"), 7));
        assert_eq!(middle.as_slice().as_ptr(), document[6..].as_ptr(), "{term}");
        assert_eq!(middle.as_slice(), &alone[1..], "{term}");
        assert_eq!(middle.len(), alone.len() - 1);
        assert_eq!(middle.decode::<Term>().unwrap(), term);
        assert_eq!(middle.to_bytes(), alone);
        assert_eq!(middle.clone().into_document().into_contiguous(), alone);
        assert_eq!(encoded(&(Atom::from_static("a"), middle, 7u8)), document);
    }
}

#[test]
fn large_ones_are_the_same_memory_through_any_number_of_hands() {
    for (len, by_reference) in [(BY_REFERENCE - 6, false), (BY_REFERENCE - 5, true), (1 << 20, true)] {
        let received = encoded(&(1u8, Binary::from(vec![9; len])));
        let (_, first): (u8, RawTerm) = from_bytes(&received).unwrap();
        let memory = first.as_slice().as_ptr();
        let goes_along = |document: &teleport_etf::Segments| document.iter().any(|s| s.as_ptr() == memory);
        for document in [
            to_segments(&(Atom::from_static("x"), &first, [&first])).unwrap(),
            to_segments(&first).unwrap(),
            first.clone().into_document(),
        ] {
            assert_eq!(goes_along(&document), by_reference, "{len}");
        }
        let second: RawTerm = first.decode().unwrap();
        assert_eq!(second.as_slice().as_ptr(), memory);
    }
    let received = encoded(&Binary::from(vec![9; 1 << 20]));
    let whole = RawTerm::from_bytes(received.clone()).unwrap();
    assert_eq!(whole.as_slice().as_ptr(), received[1..].as_ptr());
    let inside: Binary = whole.decode().unwrap();
    assert_eq!(inside.as_ptr(), received[6..].as_ptr());
    // The way out of keeping all of a buffer alive.
    let copy = raw(&whole);
    assert!(copy == whole && !is_within(&copy, &received));
    let small = RawTerm::from_bytes(encoded(&1u8)).unwrap();
    assert_ne!(raw(&small).as_slice().as_ptr(), small.as_slice().as_ptr());
}

#[test]
fn small_binaries_of_a_raw_term_go_by_the_memory_behind_it() {
    let term = raw(&Binary::from(vec![1; 1000]));
    let is_slice = |limits: &Limits| {
        let binary: Binary = term.decode_with(limits).unwrap();
        term.as_slice().as_ptr_range().contains(&binary.as_ptr())
    };
    assert!(is_slice(&Limits::default()));
    assert!(!is_slice(&Limits { backing_len: 1 << 20, ..Limits::default() }));
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Envelope<T: std::hash::Hash + Eq> {
    to: Atom,
    body: T,
    reply: Option<T>,
    no_reply: Option<T>,
    list: Vec<T>,
    by_key: BTreeMap<u8, T>,
    keys: HashMap<T, u8>,
    pair: (T, T),
    result: Result<T, T>,
    id: Id<T>,
    request: Request<T>,
    call: Request<T>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Id<T>(T);

#[derive(Serialize, Deserialize, PartialEq, Debug)]
#[serde(rename_all = "snake_case")]
enum Request<T> {
    Cast(T),
    Call { from: T, body: T },
}

fn envelope<T: std::hash::Hash + Eq>(term: impl Fn() -> T) -> Envelope<T> {
    Envelope {
        to: Atom::from_static("server"),
        body: term(),
        reply: Some(term()),
        no_reply: None,
        list: vec![term(), term()],
        by_key: BTreeMap::from([(1, term()), (2, term())]),
        keys: HashMap::from([(term(), 3)]),
        pair: (term(), term()),
        result: Err(term()),
        id: Id(term()),
        request: Request::Cast(term()),
        call: Request::Call { from: term(), body: term() },
    }
}

#[test]
fn wherever_a_type_has_one_splicing_equals_encoding() {
    fn check<T>(value: &T)
    where
        T: Serialize + DeserializeOwned + PartialEq + Eq + std::hash::Hash + Clone + Debug,
    {
        let direct = encoded(&envelope(|| value.clone()));
        assert_eq!(encoded(&envelope(|| raw(value))), direct);
        let taken: Envelope<RawTerm> = from_bytes(&direct).unwrap();
        assert!(is_within(&taken.body, &direct) && is_within(&taken.call_body(), &direct));
        assert_eq!(taken, envelope(|| raw(value)));
        assert_eq!(encoded(&taken), direct);
        assert_eq!(taken.pair.1.decode::<T>().unwrap(), *value);
        assert_eq!(from_bytes::<Envelope<T>>(&encoded(&taken)).unwrap(), envelope(|| value.clone()));
    }
    check(&7u8);
    check(&String::from("text"));
    check(&vec![Some(1u64), None]);
    check(&Binary::from(vec![1; 5000]));
    check(&(Atom::from_static("x"), BTreeMap::from([(1u8, String::from("a"))])));
}

impl Envelope<RawTerm> {
    fn call_body(&self) -> RawTerm {
        match &self.call {
            Request::Call { body, .. } => body.clone(),
            Request::Cast(_) => panic!("is a call"),
        }
    }
}

#[test]
fn elements_of_a_string_have_no_bytes_of_their_own_and_still_are_terms() {
    let document = encoded(&Term::charlist("ab"));
    assert_eq!(document[1], 107);
    let bytes: Vec<RawTerm> = from_bytes(&document).unwrap();
    assert_eq!(bytes, [raw(&97u8), raw(&98u8)]);
    assert_eq!(from_bytes::<Vec<Option<RawTerm>>>(&document).unwrap().len(), 2);
}

#[test]
fn older_forms_stay_as_they_are() {
    // A Latin-1 atom and a float as text.
    let mut old = vec![104, 2, 100, 0, 1, 0xe9, 99];
    old.extend(b"1.50000000000000000000e+00\0\0\0\0\0");
    let term: (Atom, RawTerm, u8) = from_bytes(&between(&old)).unwrap();
    assert_eq!(term.1.as_slice(), old);
    assert_eq!(encoded(&term), between(&old));
    assert_eq!(
        term.1.decode::<(String, f64)>().unwrap_err().to_string(),
        "expected text, found an atom at byte 2"
    );
    assert_eq!(term.1.decode::<(Atom, f64)>().unwrap(), (Atom::new("é").unwrap(), 1.5));
}

#[test]
fn a_compressed_document_is_kept_inflated() {
    let value = (Atom::from_static("data"), Binary::from(vec![5; 10_000]), 9u8);
    let plain = encoded(&value);
    let document = compressed(&plain[1..]);
    let inflating = Limits { max_inflated: 1 << 20, ..Limits::default() };
    let whole = RawTerm::from_bytes_with(document.clone(), &inflating).unwrap();
    assert_eq!(whole, raw(&value));
    assert_eq!(whole.to_bytes(), plain);
    let (_, middle, _): (Atom, RawTerm, u8) = from_bytes_with(&document, &inflating).unwrap();
    assert_eq!(middle, raw(&value.1));
    assert_eq!(encoded(&(&value.0, middle, 9u8)), plain);

    let limits = Limits { max_inflated: 10_000, ..Limits::default() };
    let too_large = DecodeError::TooLarge { size: plain.len() - 1, limit: 10_000 };
    assert_eq!(RawTerm::from_bytes_with(document.clone(), &limits), Err(too_large));
    let refused = RawTerm::from_bytes(document.clone()).unwrap_err();
    assert_eq!(refused, DecodeError::TooLarge { size: plain.len() - 1, limit: 0 });
    assert!(refused.to_string().contains("Limits::max_inflated"), "{refused}");
    let mut damaged = document.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let damaged = RawTerm::from_bytes_with(damaged.into(), &inflating);
    assert_eq!(damaged, Err(DecodeError::Inflate { declared: plain.len() - 1 }));
}

#[test]
fn what_is_cut_or_goes_on_is_refused() {
    let whole = encoded(&envelope(|| Binary::from("content")));
    let document = between(&whole[1..]);
    for end in 0..document.len() {
        assert!(RawTerm::from_bytes(document.slice(..end)).is_err(), "cut at {end}");
        assert!(from_bytes::<(Atom, RawTerm, u8)>(&document.slice(..end)).is_err(), "cut at {end}");
    }
    let more: Bytes = [&document, &b"x"[..]].concat().into();
    let trailing = DecodeError::Trailing { offset: document.len(), left: 1 };
    assert_eq!(RawTerm::from_bytes(more), Err(trailing));
    let lie = between(&[105, 255, 255, 255, 255]);
    let refused = DecodeError::Arity { offset: 6, arity: u32::MAX as usize, left: 2 };
    assert_eq!(from_bytes::<(Atom, RawTerm, u8)>(&lie), Err(refused));
    assert_eq!(RawTerm::from_bytes(Bytes::new()), Err(DecodeError::Version { found: None }));
    let version = RawTerm::from_bytes(Bytes::from_static(&[97, 1]));
    assert_eq!(version, Err(DecodeError::Version { found: Some(97) }));
    // Compression is of whole documents only.
    let nested = between(&compressed(&[97, 1])[1..]);
    let unknown = DecodeError::UnknownTag { tag: 80, offset: 6 };
    assert_eq!(from_bytes::<(Atom, RawTerm, u8)>(&nested), Err(unknown));
}

#[test]
fn limits_hold_inside() {
    let many = encoded(&vec![300u16; 100]);
    let limits = Limits { max_elements: 100, ..Limits::default() };
    let refused = DecodeError::TooManyElements { limit: 100 };
    assert_eq!(RawTerm::from_bytes_with(many.clone(), &limits), Err(refused.clone()));
    assert_eq!(from_bytes_with::<(Atom, RawTerm, u8)>(&between(&many[1..]), &limits), Err(refused.clone()));
    // Those before it count too.
    let half = encoded(&(vec![300u16; 60], vec![300u16; 60]));
    assert_eq!(from_bytes_with::<(RawTerm, RawTerm)>(&half, &limits), Err(refused.clone()));
    let kept = RawTerm::from_bytes(many).unwrap();
    assert_eq!(kept.decode_with::<Vec<u16>>(&limits), Err(refused));
    assert_eq!(kept.decode::<Vec<u16>>().unwrap().len(), 100);
}

#[test]
fn depth_is_limited_and_walked_over_without_recursion() {
    let too_deep = DecodeError::TooDeep { limit: Limits::MAX_DEPTH };
    let walk = move || {
        for count in [Limits::MAX_DEPTH + 1, 1_000_000] {
            let term = levels(count);
            let document: Bytes = [&[131], &term[..]].concat().into();
            assert_eq!(RawTerm::from_bytes(document), Err(too_deep.clone()));
            assert_eq!(from_bytes::<(Atom, RawTerm, u8)>(&between(&term)), Err(too_deep.clone()));
        }
        // Depth counts from the term itself.
        let term = levels(Limits::MAX_DEPTH);
        let (_, kept, _): (Atom, RawTerm, u8) = from_bytes(&between(&term)).unwrap();
        assert_eq!(kept.as_slice(), term);
        assert!(kept.decode::<Term>().is_ok());
        // With the limit out of the way only the heap bounds it: to walk, copy, compare and drop takes no stack.
        let limits = Limits { max_depth: usize::MAX, ..Limits::default() };
        let deep = levels(1_000_000);
        let (_, kept, _): (Atom, RawTerm, u8) = from_bytes_with(&between(&deep), &limits).unwrap();
        assert_eq!(kept.clone().as_slice(), deep);
        assert_eq!(kept.decode::<Term>(), Err(too_deep));
    };
    thread::Builder::new().stack_size(256 << 10).spawn(walk).unwrap().join().unwrap();
}

#[test]
fn a_term_in_local_format_is_a_whole_document_only() {
    let document = Bytes::from_static(b"\x83\x79opaque");
    // A list without elements is its tail.
    let behind_lists = Bytes::from_static(b"\x83\x6c\0\0\0\0\x6c\0\0\0\0\x79opaque");
    for document in [document, behind_lists] {
        let local = RawTerm::from_bytes(document.clone()).unwrap();
        assert_eq!(encoded(&local), document);
        assert_eq!(local.to_bytes(), document);
        assert_eq!(local.decode::<Term>().unwrap(), Term::Local(Binary::from("opaque")));
        assert_eq!(to_segments(&(1u8, &local)), Err(EncodeError::NestedLocal));
        assert_eq!(RawTerm::new(&[&local]), Err(EncodeError::NestedLocal));
    }
    assert!(from_bytes::<(Atom, RawTerm, u8)>(&between(b"\x79opaque")).is_err());
}

#[test]
fn the_bytes_of_a_binary_never_pass_for_a_term() {
    // Has a deserializer show whatever comes next as what it is.
    #[derive(Debug)]
    struct Shown(Result<RawTerm, String>);
    impl<'de> Deserialize<'de> for Shown {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Shown, D::Error> {
            #[derive(Deserialize)]
            #[serde(untagged)]
            enum Buffered {
                Raw(RawTerm),
                Other(serde::de::IgnoredAny),
            }
            Ok(Shown(match Buffered::deserialize(deserializer)? {
                Buffered::Raw(term) => Ok(term),
                Buffered::Other(_) => Err("no term".into()),
            }))
        }
    }
    let shown = |content: Vec<u8>| from_bytes::<Shown>(&encoded(&Binary::from(content))).unwrap().0;
    // Not a term at all, a term without the version byte, and one that is far too deep.
    assert!(shown(vec![255; 5000]).is_err());
    assert!(shown(raw(&Binary::from(vec![1; 5000])).as_slice().to_vec()).is_err());
    assert!(shown([vec![131], levels(5000)].concat()).is_err());
    // Nor do small compressed documents become large terms.
    assert!(shown(compressed(&encoded(&Binary::from(vec![0; 1 << 20]))[1..]).to_vec()).is_err());
}

#[test]
fn another_format_sees_a_document() {
    let pair = (raw(&(1u8, Atom::from_static("x"))), Some(raw(&Binary::from(vec![1; 2000]))));
    let json = serde_json::to_string(&pair).unwrap();
    assert!(json.starts_with("[[131,104,2,97,1,"));
    assert_eq!(serde_json::from_str::<(RawTerm, Option<RawTerm>)>(&json).unwrap(), pair);
    let message = |json: &str| serde_json::from_str::<RawTerm>(json).unwrap_err().to_string();
    assert!(message("null").contains("invalid type: null, expected a term"), "{}", message("null"));
    assert!(message("7").contains("expected a term, or a document"), "{}", message("7"));
    assert!(message("[104,1]").contains("it begins with Some(104), not 131"));
    assert!(message("[131,104,1]").contains("arity 1"));
    let deep = serde_json::to_string(&[vec![131], levels(5000)].concat()).unwrap();
    assert!(message(&deep).contains("nested deeper than"));
    let compressed = serde_json::to_string(&compressed(&[106; 1]).to_vec()).unwrap();
    assert!(message(&compressed).contains("over the limit of 0"));
}

#[test]
fn debug_shows_the_length_only() {
    let term = raw("a secret");
    assert_eq!(format!("{term:?}"), "RawTerm(13 bytes)");
    assert_eq!(format!("{:#?}", term), "RawTerm(13 bytes)");
    assert_ne!(term, raw("another secret"));
    assert_eq!(term, raw(&Binary::from("a secret")));
}
