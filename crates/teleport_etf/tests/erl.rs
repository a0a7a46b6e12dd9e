//! A real Erlang as the judge, both ways.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::ops::Range;

use bytes::Bytes;
use teleport_etf::{Apart, Leaves, Parts, is_plain, take_all_apart, take_apart};
use teleport_etf::{Atom, DecodeError, Export, Limits, Pid, Port, Reference, Term, validate};
use teleport_testkit::erl::{Erl, Run};
use teleport_testkit::terms::generate::{self, Seeded};
use teleport_testkit::terms::properties;

fn run(module: &str, files: &[(&str, &[u8])]) -> Run {
    let erl = Erl::find().unwrap_or_else(|error| panic!("{error}"));
    erl.run(module, files).unwrap_or_else(|error| panic!("{error}"))
}

/// Items with their lengths before them, as the Erlang programs write and read them.
fn packed<T: AsRef<[u8]>>(items: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut packed = Vec::new();
    for item in items {
        packed.extend((item.as_ref().len() as u32).to_be_bytes());
        packed.extend(item.as_ref());
    }
    packed
}

fn unpacked(packed: Vec<u8>) -> Vec<Bytes> {
    let mut rest = Bytes::from(packed);
    let mut items = Vec::new();
    while !rest.is_empty() {
        let len = rest.split_to(4);
        items.push(rest.split_to(u32::from_be_bytes(len[..].try_into().unwrap()) as usize));
    }
    items
}

/// True if Erlang's parser makes the same term of the text.
fn is_literal(term: &Term) -> bool {
    let has_no_syntax = |leaf: &Term| {
        matches!(leaf, Term::Pid(_) | Term::Port(_) | Term::Reference(_) | Term::Fun(_) | Term::Local(_))
    };
    !generate::any(term, &has_no_syntax)
}

#[test]
fn a_corpus_from_erlang_comes_back_equal_and_reads_as_the_same_text() {
    let corpus = run(include_str!("erl/corpus.erl"), &[]).file("corpus").unwrap();
    let documents = unpacked(corpus.clone());
    let limits = Limits { max_inflated: 1 << 20, ..Limits::default() };
    let (mut encoded, mut texts) = (Vec::new(), Vec::new());
    let mut compressed = 0;
    for document in &documents {
        let term =
            Term::decode_with(document, &limits).unwrap_or_else(|error| panic!("{error}: {document:?}"));
        compressed += usize::from(validate(document, &limits).unwrap().compressed);
        if document.len() < 2000 {
            properties::any_bytes(document);
        }
        encoded.push(term.encode().unwrap().into_contiguous());
        texts.push(if is_literal(&term) { term.to_string() } else { String::new() });
    }
    let files = [("corpus", &corpus[..]), ("encoded", &packed(encoded)), ("texts", &packed(texts))];
    let judged = run(include_str!("erl/judge.erl"), &files);
    let counts: Vec<usize> = judged.stdout().split(' ').map(|count| count.parse().unwrap()).collect();
    assert_eq!(counts[0], documents.len());
    assert!(counts[0] > 2500 && counts[1] > 1200 && compressed > 100, "{counts:?}, {compressed} compressed");
}

/// What is counted is never less than it is there, and not much more.
#[test]
fn on_a_heap_of_erlangs_terms_take_what_is_counted() {
    let mut random = Seeded(7);
    let terms = (0..1000).map(|_| generate::term(&mut random, 5).encode().unwrap().into_contiguous());
    let documents: Vec<_> = terms.filter(|document| document.get(1) != Some(&121)).collect();
    let corpus = run(include_str!("erl/corpus.erl"), &[]).file("corpus").unwrap();
    let uncompressed = |document: &Bytes| document[1] != 80 && document[1] != 121;
    let documents: Vec<_> =
        documents.into_iter().chain(unpacked(corpus).into_iter().filter(uncompressed)).collect();
    let sizes = run(include_str!("erl/sizes.erl"), &[("documents", &packed(&documents))]);
    let sizes: Vec<usize> = sizes.stdout().split_whitespace().map(|size| size.parse().unwrap()).collect();
    assert_eq!(sizes.len(), documents.len());
    for (document, size) in documents.iter().zip(sizes) {
        let heap = validate(document, &Limits::default()).unwrap().heap;
        // Pids and the like of that node's own take nothing there.
        assert!(
            (size..=2 * size + 4 * document.len()).contains(&heap),
            "{heap} counted, {size} taken: {document:?}"
        );
        assert!(heap <= 20 * document.len(), "{heap} of {} bytes", document.len());
        // One byte less is refused, in whatever way it is looked at.
        let limits = Limits { max_heap: heap.saturating_sub(8), ..Limits::default() };
        if heap > 0 {
            let refused = DecodeError::TooMuchHeap { limit: limits.max_heap };
            assert_eq!(validate(document, &limits), Err(refused));
            assert_eq!(take_apart(document, 1, usize::MAX, &limits, &mut Nothing), Apart::TooLarge);
            assert_eq!(take_all_apart(document, 1, usize::MAX, &limits, &mut Nothing), Apart::TooLarge);
            assert!(!is_plain(document, 1, usize::MAX, &limits));
        }
    }
}

/// Takes everything, and makes nothing of it.
struct Nothing;

impl Parts for Nothing {
    fn terms(&mut self, _: usize, _: &[u8]) -> bool {
        true
    }
    fn rest_of_list(&mut self, _: usize, _: &[u8]) -> bool {
        true
    }
    fn binary(&mut self, _: Range<usize>) -> bool {
        true
    }
    fn tuple(&mut self, _: usize) -> bool {
        true
    }
    fn list(&mut self, _: usize) -> bool {
        true
    }
    fn map(&mut self, _: usize) -> bool {
        true
    }
}

impl Leaves for Nothing {
    fn integer(&mut self, _: i64) -> bool {
        true
    }
    fn float(&mut self, _: f64) -> bool {
        true
    }
    fn atom(&mut self, _: &[u8]) -> bool {
        true
    }
    fn small_binary(&mut self, _: &[u8]) -> bool {
        true
    }
    fn string(&mut self, _: &[u8]) -> bool {
        true
    }
}

#[test]
fn generated_terms_pass_through_erlang() {
    let mut from = Seeded(2015);
    let mut terms: Vec<Term> = (0..3000).map(|n| generate::term(&mut from, n % 5)).collect();
    terms.push(Term::list(vec![Term::nil(); 65_536]));
    terms.extend([65_535, 65_536].map(|len| Term::charlist(&"s".repeat(len))));
    let documents = packed(terms.iter().map(|term| term.encode().unwrap().into_contiguous()));
    let echoed =
        unpacked(run(include_str!("erl/echo.erl"), &[("documents", &documents)]).file("echoed").unwrap());
    assert_eq!(echoed.len(), terms.len());
    for (term, document) in terms.iter().zip(&echoed) {
        let echo = Term::decode(document).unwrap();
        assert!(echo == *term, "{term} came back as {echo}");
    }
}

/// Tags that no release writes any more, but every release reads.
#[test]
fn legacy_tags_mean_what_erlang_takes_them_for() {
    let documents: [(&[u8], Term); 12] = [
        (b"\x83\x64\x00\x03abc", Term::atom("abc")),
        (b"\x83\x73\x02\xe9a", Term::atom("éa")),
        (b"\x83\x63-1.50000000000000000000e+00\0\0\0\0", Term::Float(-1.5)),
        (b"\x83\x67\x64\x00\x06a@host\0\0\0\x55\0\0\0\x01\x02", Term::from(pid(2))),
        (b"\x83\x58\x77\x06a@host\0\0\0\x55\0\0\0\x01\0\0\x01\0", Term::from(pid(256))),
        (b"\x83\x66\x73\x06a@host\0\0\0\x09\x03", Term::from(Port { node: node(), id: 9, creation: 3 })),
        (
            b"\x83\x78\x77\x06a@host\0\0\0\x01\0\0\0\0\0\0\0\x03",
            Term::from(Port { node: node(), id: 1 << 32, creation: 3 }),
        ),
        (b"\x83\x65\x64\x00\x06a@host\0\0\0\x07\x01", Term::from(Reference::new(node(), 1, &[7]).unwrap())),
        (
            b"\x83\x72\x00\x02\x64\x00\x06a@host\x01\0\0\0\x07\0\0\0\x08",
            Term::from(Reference::new(node(), 1, &[7, 8]).unwrap()),
        ),
        (b"\x83\x6b\x00\x00", Term::nil()),
        (b"\x83\x6e\x02\x01\x07\x00", Term::from(-7)),
        (
            b"\x83\x71\x64\x00\x01m\x73\x01f\x61\x02",
            Term::Export(Box::new(Export {
                module: Atom::from_static("m"),
                function: Atom::from_static("f"),
                arity: 2,
            })),
        ),
    ];
    for (document, term) in &documents {
        assert_eq!(Term::decode(&Bytes::copy_from_slice(document)).as_ref(), Ok(term));
        properties::any_bytes(document);
    }
    let inputs = packed(documents.iter().map(|(document, _)| document));
    let echoed =
        unpacked(run(include_str!("erl/echo.erl"), &[("documents", &inputs)]).file("echoed").unwrap());
    for ((_, term), document) in documents.iter().zip(&echoed) {
        assert_eq!(Term::decode(document).as_ref(), Ok(term));
    }
}

#[test]
fn what_is_refused_here_and_there() {
    let twice = [131, 116, 0, 0, 0, 2, 97, 1, 97, 2, 97, 1, 97, 3];
    assert_eq!(Term::decode(&Bytes::copy_from_slice(&twice)), Err(DecodeError::DuplicateKey { offset: 14 }));
    let module = r#"
        -module(program).
        -export([main/0]).
        main() ->
            {ok, Document} = file:read_file("document"),
            {'EXIT', {badarg, _}} = catch binary_to_term(Document).
    "#;
    run(module, &[("document", &twice)]);
}

fn node() -> Atom {
    Atom::from_static("a@host")
}

fn pid(creation: u32) -> Pid {
    Pid { node: node(), id: 85, serial: 1, creation }
}
