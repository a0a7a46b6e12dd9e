//! How Rust types map to terms, both ways, and that binaries stay the same memory.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use bytes::Bytes;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use teleport_etf::{
    Atom, BY_REFERENCE, Binary, DecodeError, EncodeError, Encoder, Limits, Pid, Port, Reference, Term,
};
use teleport_etf::{from_bytes, from_bytes_with, to_segments};

fn encoded<T: Serialize + ?Sized>(value: &T) -> Bytes {
    to_segments(value).unwrap().into_contiguous()
}

fn shown<T: Serialize + ?Sized>(value: &T) -> String {
    Term::decode(&encoded(value)).unwrap().to_string()
}

/// Encodes to what Erlang would show so, and comes back equal.
fn maps<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T, erlang: &str) {
    assert_eq!(shown(&value), erlang);
    assert_eq!(from_bytes::<T>(&encoded(&value)).unwrap(), value);
}

/// A term decodes to this value.
fn reads<T: DeserializeOwned + PartialEq + Debug>(term: Term, value: T) {
    let document = term.encode().unwrap().into_contiguous();
    assert_eq!(from_bytes::<T>(&document).unwrap(), value, "from {term}");
}

fn refuses<T: DeserializeOwned + Debug>(term: Term) -> DecodeError {
    from_bytes::<T>(&term.encode().unwrap().into_contiguous()).unwrap_err()
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Stop;

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Id(u32);

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Pair(i8, String);

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
struct Point {
    x: i32,
    y: Option<f64>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
#[serde(rename_all = "snake_case")]
enum Request {
    Stop,
    Put(u64),
    Move(i8, i8),
    Go { to: Point },
    Nested(Box<Request>),
    Pair((u8, u8)),
}

fn pid() -> Pid {
    Pid { node: Atom::from_static("a@host"), id: 85, serial: 1, creation: 0x6543_2100 }
}

#[test]
fn the_table_of_types() {
    maps(true, "true");
    maps(0u8, "0");
    maps(u64::MAX, "18446744073709551615");
    maps(i64::MIN, "-9223372036854775808");
    maps(u128::MAX, "340282366920938463463374607431768211455");
    maps(i128::MIN, "-170141183460469231731687303715884105728");
    maps(1.5f64, "1.5");
    maps(-2.0f32, "-2.0");
    maps('é', "233");
    maps(String::from("héllo"), "<<104,195,169,108,108,111>>");
    maps(String::new(), "<<>>");
    maps(Binary::from("bytes"), r#"<<"bytes">>"#);
    maps(Atom::from_static("an atom"), "'an atom'");
    maps(None::<u8>, "undefined");
    maps(Some(7u8), "7");
    maps((), "nil");
    maps(Vec::<u8>::new(), "[]");
    maps(vec![1u64, 2, 300], "[1,2,300]");
    maps((1u8, Atom::from_static("x")), "{1,x}");
    maps([1u8, 2, 3], "{1,2,3}");
    maps(Stop, "'Stop'");
    maps(Id(9), "9");
    maps(Pair(-1, "s".into()), r#"{-1,<<"s">>}"#);
    maps(Point { x: 1, y: Some(0.5) }, "#{x => 1,y => 0.5}");
    maps(Point { x: 1, y: None }, "#{x => 1,y => undefined}");
    maps(BTreeMap::from([(2u8, 'b'), (1, 'a')]), "#{1 => 97,2 => 98}");
    maps(Request::Stop, "stop");
    maps(Request::Put(300), "{put,300}");
    maps(Request::Move(1, -1), "{move,1,-1}");
    maps(Request::Go { to: Point { x: 0, y: None } }, "{go,#{to => #{x => 0,y => undefined}}}");
    maps(Request::Nested(Box::new(Request::Pair((1, 2)))), "{nested,{pair,{1,2}}}");
    maps(Ok::<u8, Atom>(1), "{ok,1}");
    maps(Err::<u8, Atom>(Atom::from_static("enoent")), "{error,enoent}");
    maps(Ok::<(), Atom>(()), "ok");
    maps(Err::<u8, ()>(()), "error");
    maps((pid(), 1u8), "{<a@host.85.1>,1}");
    maps(Port { node: Atom::from_static("a@host"), id: 1 << 40, creation: 3 }, "#Port<a@host.1099511627776>");
    maps(Reference::new(Atom::from_static("a@host"), 3, &[1, 2, 3]).unwrap(), "#Ref<a@host.3.2.1>");
}

#[test]
fn what_is_also_accepted() {
    reads(Term::atom("nil"), None::<u8>);
    reads(Term::atom("ok"), ());
    reads(Term::tuple([]), ());
    reads(Term::from(2), 2.0f64);
    reads(Term::charlist("hello"), String::from("hello"));
    reads(Term::charlist("ein €"), String::from("ein €"));
    reads(Term::nil(), String::new());
    reads(Term::charlist("bytes"), Binary::from("bytes"));
    reads(Term::list([256.into()]), vec![256u16]);
    reads(Term::charlist("abc"), vec![Id(97), Id(98), Id(99)]);
    reads(Term::charlist("abc"), vec![Some(97u8), Some(98), Some(99)]);
    reads(Term::charlist("ab"), ('a', 'b'));
    reads(Term::charlist("ab"), vec![Term::from(97), Term::from(98)]);
    reads(Term::list([Term::atom("x"), 1.into()]), (Atom::from_static("x"), 1u8));
    reads(Term::tuple([Term::atom("stop")]), Request::Stop);
    reads(Term::tuple([Term::atom("ok"), Term::atom("nil")]), Ok::<(), ()>(()));
    let text_keys = [("x", Term::from(1)), ("y", Term::from(2.0))];
    reads(
        Term::Map(text_keys.map(|(key, value)| (Term::from(key.to_string()), value)).into_iter().collect()),
        Point { x: 1, y: Some(2.0) },
    );
    // The tail of a list may be written as another list.
    let in_pieces =
        Bytes::from_static(&[131, 108, 0, 0, 0, 1, 97, 1, 108, 0, 0, 0, 1, 97, 2, 107, 0, 2, 3, 4]);
    assert_eq!(from_bytes::<Vec<u8>>(&in_pieces).unwrap(), [1, 2, 3, 4]);
    assert_eq!(Term::decode(&in_pieces).unwrap(), Term::charlist("\x01\x02\x03\x04"));
}

#[test]
fn other_types_are_refused_with_what_was_expected_and_found() {
    let message = |error: DecodeError| error.to_string();
    assert_eq!(message(refuses::<u8>(Term::Float(1.0))), "expected an integer, found a float at byte 1");
    assert_eq!(message(refuses::<String>(Term::atom("x"))), "expected text, found an atom at byte 1");
    assert_eq!(
        message(refuses::<(u8, u8)>(Term::tuple([1.into()]))),
        "expected 2 elements, found 1 at byte 1"
    );
    assert_eq!(message(refuses::<(u8, u8)>(Term::charlist("abc"))), "expected 2 elements, found 3 at byte 1");
    assert!(matches!(refuses::<u8>(Term::from(256)), DecodeError::Custom(_)));
    assert!(matches!(refuses::<Request>(Term::atom("fly")), DecodeError::Custom(_)));
    assert!(matches!(refuses::<Request>(Term::tuple([Term::atom("put")])), DecodeError::Custom(_)));
    assert!(matches!(refuses::<Point>(Term::Map(Default::default())), DecodeError::Custom(_)));
    assert_eq!(
        message(refuses::<Pid>(Term::atom("x"))),
        "expected a pid, port or reference, found an atom at byte 1"
    );
    let port = Port { node: Atom::from_static("a@host"), id: 1, creation: 1 };
    assert!(message(refuses::<Pid>(port.into())).contains("expected a pid, found a port"));
    assert!(matches!(refuses::<Stop>(Term::atom("stop")), DecodeError::Custom(_)));
    let improper = || Term::improper_list([1.into()], 2.into());
    assert!(matches!(refuses::<Vec<u8>>(improper()), DecodeError::Unexpected { .. }));
    assert!(matches!(refuses::<(u8,)>(improper()), DecodeError::Unexpected { .. }));
    let invalid = Term::Binary(Binary::from(&b"\xff"[..]));
    assert!(message(refuses::<String>(invalid)).contains("not UTF-8"));
}

#[test]
fn a_large_binary_is_the_same_memory_on_both_ways() {
    #[derive(Serialize, Deserialize)]
    struct Message {
        id: u64,
        body: Binary,
        more: Vec<Option<Binary>>,
    }
    let body = Binary::from(vec![1; 1 << 20]);
    let more = Binary::from(vec![2; BY_REFERENCE]);
    let message = Message { id: 1, body: body.clone(), more: vec![Some(more.clone()), None] };
    let document = to_segments(&message).unwrap();
    let pointers: Vec<_> = document.iter().map(|segment| segment.as_ptr()).collect();
    assert!(pointers.contains(&body.as_ptr()) && pointers.contains(&more.as_ptr()));
    assert_eq!(document.count(), 5);

    let received = document.into_contiguous();
    let message: Message = from_bytes(&received).unwrap();
    assert_eq!(message.id, 1);
    assert!(received.as_ptr_range().contains(&message.body.as_ptr()));
    assert_eq!(message.body, body);
    // A small one must not keep the whole buffer.
    let small = message.more[0].as_ref().unwrap();
    assert_eq!(small, &more);
    assert!(!received.as_ptr_range().contains(&small.as_ptr()));
    drop(received);
    assert_eq!(message.body.len(), 1 << 20);
}

#[test]
fn which_binaries_are_slices() {
    let is_slice = |len: usize, limits: &Limits, rest: usize| {
        let document = encoded(&(Binary::from(vec![0; len]), Binary::from(vec![0; rest])));
        let (first, _): (Binary, Binary) = from_bytes_with(&document, limits).unwrap();
        document.as_ptr_range().contains(&first.as_ptr())
    };
    let default = Limits::default();
    assert!(!is_slice(64, &default, 0));
    assert!(is_slice(65, &default, 0));
    assert!(!is_slice(65, &default, 1000));
    assert!(!is_slice(32 << 10, &default, 1 << 20));
    assert!(is_slice(64 << 10, &default, 1 << 20));
    assert!(!is_slice(1000, &Limits { backing_len: 1 << 20, ..default.clone() }, 0));
}

#[test]
fn a_term_in_a_struct_goes_by_reference_too() {
    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Envelope {
        to: Atom,
        body: Term,
        list: Vec<Term>,
    }
    let large = Binary::from(vec![3; 100_000]);
    let envelope = Envelope {
        to: Atom::from_static("server"),
        body: Term::tuple([large.clone().into(), Term::improper_list([Term::atom("alias")], pid().into())]),
        list: vec![Term::nil(), Term::atom("nil"), 7.into()],
    };
    let document = to_segments(&envelope).unwrap();
    assert!(document.iter().any(|segment| segment.as_ptr() == large.as_ptr()));
    let received = document.into_contiguous();
    let back: Envelope = from_bytes(&received).unwrap();
    assert_eq!(back, envelope);
    let first = back.body.as_tuple().unwrap()[0].as_binary().unwrap();
    assert!(received.as_ptr_range().contains(&first.as_ptr()));
}

#[test]
fn adapters_that_buffer_still_work() {
    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    #[serde(untagged)]
    enum Any {
        Number(i64),
        Data(Point),
        Blob { blob: Binary },
        Who { who: Pid },
        Text(String),
    }
    maps(Any::Number(-1), "-1");
    maps(Any::Data(Point { x: 1, y: None }), "#{x => 1,y => undefined}");
    maps(Any::Text("t".into()), r#"<<"t">>"#);
    maps(Any::Who { who: pid() }, "#{who => <a@host.85.1>}");
    let blob = Any::Blob { blob: Binary::from(vec![1; 10_000]) };
    assert_eq!(from_bytes::<Any>(&encoded(&blob)).unwrap(), blob);

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Flat {
        id: u8,
        #[serde(flatten)]
        rest: HashMap<String, u8>,
    }
    // What serde flattens is a map with text as keys.
    maps(Flat { id: 1, rest: HashMap::from([("a".into(), 2)]) }, r#"#{<<"a">> => 2,<<"id">> => 1}"#);
}

#[test]
fn another_format_sees_plain_values() {
    let json = serde_json::to_string(&(Binary::from("ab"), Atom::from_static("x"))).unwrap();
    assert_eq!(json, r#"[[97,98],"x"]"#);
    let back: (Binary, Atom) = serde_json::from_str(&json).unwrap();
    assert_eq!(back, (Binary::from("ab"), Atom::from_static("x")));
    let terms = (pid(), Term::tuple([1.into(), Term::nil()]));
    let json = serde_json::to_string(&terms).unwrap();
    assert_eq!(serde_json::from_str::<(Pid, Term)>(&json).unwrap(), terms);
}

#[test]
fn what_cannot_be_encoded_is_an_error() {
    assert_eq!(to_segments(&f64::NAN), Err(EncodeError::NotFinite("NaN".into())));
    let local = Term::Local(Binary::from("opaque"));
    assert_eq!(encoded(&local), b"\x83\x79opaque"[..]);
    assert_eq!(to_segments(&(1, local.clone())), Err(EncodeError::NestedLocal));
    assert_eq!(Term::list([local]).encode(), Err(EncodeError::NestedLocal));
    let atom = HashMap::from([("k", Term::Float(f64::INFINITY))]);
    assert_eq!(
        to_segments(&atom),
        Err(EncodeError::Custom("inf is not an Erlang float; send an atom instead".into()))
    );
}

#[test]
fn unwanted_fields_of_any_kind_are_skipped() {
    let fields = [
        ("x", Term::from(1)),
        ("deep", (0..300).fold(Term::nil(), |term, _| Term::tuple([term]))),
        ("pid", pid().into()),
        ("improper", Term::improper_list([1.into()], Term::atom("x"))),
        ("string", Term::charlist("text")),
    ];
    let map = fields.map(|(key, value)| (Term::Atom(Atom::new(key).unwrap()), value)).into_iter().collect();
    reads(Term::Map(map), Point { x: 1, y: None });
    from_bytes::<Vec<IgnoredAny>>(&encoded(&[1u8, 2][..])).unwrap();
    let deep = (0..10_000_000).fold(vec![131], |mut bytes, _| {
        bytes.extend([104, 1]);
        bytes
    });
    let deep = Bytes::from([&deep[..], &[106]].concat());
    from_bytes::<IgnoredAny>(&deep).unwrap();
}

#[test]
fn types_that_recurse_end_at_the_limit() {
    #[derive(Deserialize, Debug)]
    #[allow(dead_code)]
    enum Tree {
        Leaf,
        Node(Box<Tree>, Box<Tree>),
        List(Vec<Tree>),
    }
    #[derive(Deserialize, Debug)]
    #[allow(dead_code)]
    struct Endless(Option<Box<Endless>>);

    let deep = |levels: usize| {
        let node = b"\x68\x03\x77\x04Node\x77\x04Leaf";
        let mut bytes = vec![131];
        (0..levels).for_each(|_| bytes.extend(node));
        bytes.extend(b"\x77\x04Leaf");
        Bytes::from(bytes)
    };
    // Each level is two of serde's: the variant and its fields.
    from_bytes::<Tree>(&deep(Limits::MAX_RECURSION / 2 - 1)).unwrap();
    let limit = DecodeError::TooRecursive { limit: Limits::MAX_RECURSION };
    assert_eq!(from_bytes::<Tree>(&deep(10_000)).unwrap_err(), limit);
    assert_eq!(refuses::<Endless>(1.into()), limit);
}

#[test]
fn an_encoder_encodes_as_if_each_document_were_the_only_one() {
    let mut encoder = Encoder::new();
    let large = Binary::from(vec![3; BY_REFERENCE]);
    let mut documents = Vec::new();
    for len in [0, 1, 10, 1000, 2000, 5, 4000, 900, 900, 900, 900, 900, 7] {
        let value = ("text", "x".repeat(len), large.clone());
        let document = encoder.to_segments(&value).unwrap();
        assert!(document.iter().any(|segment| segment.as_ptr() == large.as_ptr()));
        documents.push((document, to_segments(&value).unwrap()));
        assert!(matches!(encoder.to_segments(&("lost", f64::NAN)), Err(EncodeError::NotFinite(_))));
        documents.push((encoder.to_segments(&len).unwrap(), to_segments(&len).unwrap()));
    }
    documents.iter().for_each(|(shared, alone)| assert_eq!(shared, alone));
    let ends = |i: usize| documents[i].0.iter().next().map(|segment| segment.as_ptr_range().end);
    let begins = |i: usize| documents[i].0.iter().next().map(|segment| segment.as_ptr());
    assert_eq!(ends(1), begins(2), "small ones lie side by side");
}
