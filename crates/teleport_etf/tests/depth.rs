//! Deep terms neither overflow a stack nor hang; lies about lengths are found out before memory is reserved.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashSet;
use std::thread;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use teleport_etf::{DecodeError, Limits, Map, Term, from_bytes, to_segments, validate};

const LEVELS: usize = 10_000_000;

/// `head` as often as there are levels, then `end` once, then `foot` as often.
fn nested(levels: usize, head: &[u8], end: &[u8], foot: &[u8]) -> Bytes {
    let mut document = Vec::with_capacity(2 + levels * (head.len() + foot.len()));
    document.push(131);
    (0..levels).for_each(|_| document.extend(head));
    document.extend(end);
    (0..levels).for_each(|_| document.extend(foot));
    Bytes::from(document)
}

/// Half of what threads get, so that there is room for what a caller has on the stack already.
fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    thread::Builder::new().stack_size(1 << 20).spawn(test).unwrap().join().unwrap();
}

#[test]
fn ten_million_levels_are_refused_whatever_they_are_made_of() {
    let limit = DecodeError::TooDeep { limit: Limits::MAX_DEPTH };
    let containers: [(&[u8], &[u8]); 5] = [
        (&[104, 1], &[]),
        (&[105, 0, 0, 0, 1], &[]),
        (&[108, 0, 0, 0, 1], &[106]),
        (&[116, 0, 0, 0, 1, 106], &[]),
        (&[116, 0, 0, 0, 1], &[106]),
    ];
    for (head, foot) in containers {
        let document = nested(LEVELS / 5, head, &[106], foot);
        assert_eq!(Term::decode(&document), Err(limit.clone()));
        assert_eq!(validate(&document, &Limits::default()), Err(limit.clone()));
    }
}

#[test]
fn a_list_whose_tails_are_lists_is_flat_however_long() {
    let document = nested(LEVELS / 10, &[108, 0, 0, 0, 1, 97, 7], &[106], &[]);
    on_a_small_stack(move || {
        let term = Term::decode(&document).unwrap();
        assert_eq!(term.as_list().map(<[Term]>::len), Some(LEVELS / 10));
        assert_eq!(validate(&document, &Limits::default()).unwrap().depth, 1);
        assert_eq!(from_bytes::<Vec<u8>>(&document).unwrap().len(), LEVELS / 10);
        assert_eq!(term, term.clone());
    });
    let empty = nested(LEVELS, &[108, 0, 0, 0, 0], &[97, 7], &[]);
    on_a_small_stack(move || {
        assert_eq!(Term::decode(&empty), Ok(Term::from(7)));
        assert_eq!(validate(&empty, &Limits::default()).unwrap().depth, 0);
    });
}

#[test]
fn everything_works_at_the_limit_on_a_small_stack() {
    on_a_small_stack(|| {
        let wrap: [fn(Term) -> Term; 5] = [
            |inner| Term::tuple([inner]),
            |inner| Term::list([inner]),
            |inner| Term::improper_list([inner], Term::atom("tail")),
            |inner| Term::Map(Map::from_iter([(inner, Term::nil())])),
            |inner| Term::Map(Map::from_iter([(Term::nil(), inner)])),
        ];
        for wrap in wrap {
            let deep = (0..Limits::MAX_DEPTH).fold(Term::nil(), |inner, _| wrap(inner));
            let document = deep.encode().unwrap().into_contiguous();
            assert_eq!(validate(&document, &Limits::default()).unwrap().depth, Limits::MAX_DEPTH);
            let decoded = Term::decode(&document).unwrap();
            assert_eq!(decoded, deep.clone());
            assert!(decoded <= deep && !decoded.to_string().is_empty() && !format!("{deep:#?}").is_empty());
            assert!(HashSet::from([deep]).contains(&decoded));
            let in_serde: (Term,) =
                from_bytes(&to_segments(&(Term::nil(),)).unwrap().into_contiguous()).unwrap();
            assert_eq!(in_serde, (Term::nil(),));

            let too_deep = wrap(decoded).encode().unwrap().into_contiguous();
            assert_eq!(Term::decode(&too_deep), Err(DecodeError::TooDeep { limit: Limits::MAX_DEPTH }));
            assert!(validate(&too_deep, &Limits::default()).is_err());
        }
    });
}

#[test]
fn derived_types_that_recurse_work_up_to_the_limit_on_a_small_stack() {
    #[derive(Serialize, Deserialize, PartialEq)]
    enum Tree {
        Leaf,
        Unary(Box<Tree>),
        Binary(Box<Tree>, Box<Tree>),
        Many(Vec<Tree>),
        Named { name: String, tree: Box<Tree>, other: Option<Box<Tree>> },
    }
    let wrap: [fn(Tree) -> Tree; 4] = [
        |tree| Tree::Unary(Box::new(tree)),
        |tree| Tree::Binary(Box::new(Tree::Leaf), Box::new(tree)),
        |tree| Tree::Many(vec![tree]),
        |tree| Tree::Named { name: "n".into(), tree: Box::new(Tree::Leaf), other: Some(Box::new(tree)) },
    ];
    on_a_small_stack(move || {
        for wrap in wrap {
            let mut tree = Tree::Leaf;
            let mut decoded = 0;
            for levels in 1.. {
                tree = wrap(tree);
                match from_bytes::<Tree>(&to_segments(&tree).unwrap().into_contiguous()) {
                    Ok(same) => assert!(same == tree),
                    Err(DecodeError::TooRecursive { .. }) => break,
                    Err(error) => panic!("{error}"),
                }
                decoded = levels;
            }
            assert!(decoded >= Limits::MAX_RECURSION / 4, "{decoded}");
        }
    });
}

#[test]
fn funs_in_funs_are_skipped_without_recursion() {
    // arity, uniq and index, one free variable, module, old index and uniq, pid; the free variable is the next fun.
    let mut document = Vec::new();
    let mut fun: Vec<u8> = Vec::new();
    for _ in 0..3000 {
        let mut outer = vec![1];
        outer.extend([0; 20]);
        outer.extend([0, 0, 0, u8::from(!fun.is_empty())]);
        outer.extend(b"\x77\x01m\x61\x00\x61\x00\x58\x77\x01n\0\0\0\0\0\0\0\0\0\0\0\x01");
        outer.extend(&fun);
        fun = vec![112];
        fun.extend((outer.len() as u32 + 4).to_be_bytes());
        fun.extend(outer);
    }
    document.push(131);
    document.extend(&fun);
    let document = Bytes::from(document);
    on_a_small_stack(move || {
        let term = Term::decode(&document).unwrap();
        assert_eq!(term.to_string(), "#Fun<m.0.0>");
        assert_eq!(term.encode().unwrap().into_contiguous(), document);
        assert_eq!(validate(&document, &Limits::default()).unwrap().depth, 0);
        // The innermost fun, one byte longer than it says: every fun around it notices.
        let mut wrong = document.to_vec();
        let end = wrong.len();
        wrong[end - 1] = 2;
        wrong.push(0);
        assert!(Term::decode(&Bytes::from(wrong)).is_err());
    });
}

#[test]
fn lengths_beyond_the_input_are_refused_at_once() {
    let lies: [&[u8]; 12] = [
        &[131, 105, 255, 255, 255, 255],
        &[131, 104, 255, 97, 1],
        &[131, 108, 255, 255, 255, 255, 97, 1],
        &[131, 116, 127, 255, 255, 255, 97, 1],
        &[131, 109, 255, 255, 255, 255, 1],
        &[131, 77, 255, 255, 255, 255, 1, 1],
        &[131, 107, 255, 255, 1],
        &[131, 111, 255, 255, 255, 255, 0, 1],
        &[131, 112, 255, 255, 255, 255, 0],
        &[131, 90, 255, 255, 119, 1, b'n', 0, 0, 0, 1],
        &[131, 118, 255, 255, b'a'],
        &[131, 100, 255, 255, b'a'],
    ];
    for lie in lies {
        let error = Term::decode(&Bytes::copy_from_slice(lie)).unwrap_err();
        let is_refusal = matches!(
            error,
            DecodeError::Truncated { .. }
                | DecodeError::Arity { .. }
                | DecodeError::Malformed { what: "reference", .. }
        );
        assert!(is_refusal, "{lie:?}: {error}");
        assert_eq!(validate(lie, &Limits::default()), Err(error));
    }
}

/// Each list would be credible by itself; together they announce more terms than there are bytes.
#[test]
fn nested_containers_share_the_bytes_that_are_left() {
    let mut document = vec![131];
    document.extend([108, 0, 0, 3, 0xe8]);
    document.extend([108, 0, 0, 3, 0xe8]);
    document.extend([106; 1500]);
    let error = Term::decode(&Bytes::from(document)).unwrap_err();
    assert_eq!(error, DecodeError::Arity { offset: 6, arity: 1000, left: 1500 });
}

#[test]
fn the_number_of_terms_is_limited_and_each_takes_forty_bytes() {
    assert_eq!(size_of::<Term>(), 40);
    let limits = Limits { max_elements: 1000, ..Limits::default() };
    let decode = |term: Term| Term::decode_with(&term.encode().unwrap().into_contiguous(), &limits);
    assert!(decode(Term::list(vec![Term::nil(); 998])).is_ok());
    let refused = Err(DecodeError::TooManyElements { limit: 1000 });
    assert_eq!(decode(Term::list(vec![Term::nil(); 999])), refused);
    assert_eq!(decode(Term::list(vec![Term::tuple(vec![Term::nil(); 100]); 11])), refused);
    assert_eq!(decode(Term::charlist(&"x".repeat(1001))), refused);
}
