//! What holds for any bytes: the bodies of the fuzz targets.

use std::collections::HashMap;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use teleport_etf::{Atom, Binary, DecodeError, Limits, Peek, Pid, RawTerm, Seen, Segments, Term};
use teleport_etf::{from_bytes, from_bytes_with, to_segments, validate, validate_with};

use super::{apart, generate};

/// Decoding ends with a term or an error, all ways to decode agree, and what was decoded survives another round.
/// Returns whether it was a document.
pub fn any_bytes(bytes: &[u8]) -> bool {
    let limits = Limits { max_inflated: 1 << 20, ..Limits::default() };
    let document = Bytes::copy_from_slice(bytes);
    let decoded = Term::decode_with(&document, &limits);
    let summary = validate(bytes, &limits);
    match (&decoded, &summary) {
        (Ok(_), Ok(summary)) => assert!(summary.depth <= limits.max_depth),
        (Err(DecodeError::DuplicateKey { .. }), _) => {}
        (Err(a), Err(b)) => assert_eq!(a, b),
        (a, b) => panic!("decode says {a:?}, validate says {b:?}"),
    }
    as_serde_types(&document, &limits);
    peeked(bytes, decoded.as_ref().ok(), summary.as_ref().is_ok_and(|summary| summary.elements < 60_000));
    for large in [1, 7, 100, 1024] {
        apart::agrees(&document, large, &decoded, summary.as_ref().ok());
    }
    let raw = RawTerm::from_bytes_with(document.clone(), &limits);
    assert_eq!(raw.as_ref().err(), summary.as_ref().err());
    if let Ok(raw) = &raw {
        raw_term(raw, &decoded);
    }
    let Ok(term) = decoded else { return false };
    memory_is_limited(&document, &term, &limits);
    if !matches!(term, Term::Local(_)) {
        from_bytes_with::<IgnoredAny>(&document, &limits).unwrap();
    }
    assert_eq!(from_bytes_with::<Term>(&document, &limits).as_ref(), Ok(&term));
    let atoms_refused = validate_with(bytes, &limits, |_| false);
    assert!(atoms_refused == summary || matches!(atoms_refused, Err(DecodeError::AtomRefused { .. })));
    round_trip(&term);
    true
}

/// Who looks at the first tokens sees what is decoded; or nothing, if there is no term or it is large.
fn peeked(bytes: &[u8], term: Option<&Term>, is_small: bool) {
    let (Some(mut peek), Some(mut list)) = (Peek::new(bytes), Peek::new(bytes)) else { return };
    let (first, second, len) = (peek.next(), peek.next(), list.list());
    let Some(term) = term.filter(|_| is_small) else { return };
    assert_eq!(len, term.as_list().map(<[Term]>::len), "{term}");
    let seen = |term: &Term| match term {
        Term::Atom(atom) => Some(Seen::Atom(atom.as_str().to_owned().into())),
        term => term.as_tuple().map(|elements| Seen::Tuple(elements.len())),
    };
    if let Some(expected) = seen(term) {
        assert_eq!(first, Some(expected));
        let element = term.as_tuple().and_then(<[Term]>::first);
        assert_eq!(second.is_some(), element.is_some(), "{term}");
        assert!(element.and_then(seen).is_none_or(|expected| second == Some(expected)), "{term}");
    }
}

/// What a term takes in its containers is counted, whatever it is made of; a limit below that refuses it.
fn memory_is_limited(document: &Bytes, term: &Term, limits: &Limits) {
    let built = size_of::<Term>() * generate::slots(term);
    let below = |limit: usize| Limits { max_memory: limit, ..limits.clone() };
    if let Some(limit) = built.checked_sub(1) {
        let refused = DecodeError::TooMuchMemory { limit };
        assert_eq!(Term::decode_with(document, &below(limit)), Err(refused.clone()));
        assert_eq!(from_bytes_with::<Term>(document, &below(limit)), Err(refused));
    }
    // Beside the containers there is not much more than the document's own bytes.
    let inflated = document.len().max(validate(document, limits).map_or(0, |summary| 16 * summary.elements));
    let enough = built + 128 * (1 + generate::slots(term)) + 2 * inflated + (1 << 20);
    assert_eq!(Term::decode_with(document, &below(enough)).as_ref(), Ok(term));
}

/// A raw term decodes as its document does, and stays the same bytes wherever it goes.
fn raw_term(raw: &RawTerm, decoded: &Result<Term, DecodeError>) {
    assert_eq!(raw.decode::<Term>().ok().as_ref(), decoded.as_ref().ok());
    let document = raw.to_bytes();
    assert_eq!((document[0], &document[1..]), (131, raw.as_slice()));
    assert_eq!(RawTerm::from_bytes(document.clone()).as_ref(), Ok(raw));
    assert_eq!(to_segments(raw).unwrap(), Segments::from(document));
    if let Ok(nested) = to_segments(&(1u8, [raw], 2u8)) {
        let nested = nested.into_contiguous();
        let (_, [same], _): (u8, [RawTerm; 1], u8) = from_bytes(&nested).unwrap();
        assert_eq!(same, *raw);
    } else {
        assert!(matches!(decoded, Ok(Term::Local(_))));
    }
}

/// Encoding gives a document that decodes to the same term, by whichever way, and then to the same bytes.
pub fn round_trip(term: &Term) {
    let encoded = term.encode().unwrap();
    let document = encoded.clone().into_contiguous();
    let again = Term::decode(&document).unwrap_or_else(|error| panic!("{error}: {term} as {document:?}"));
    assert!(again == *term, "{term} came back as {again}");
    assert_eq!(again.encode().unwrap(), encoded, "{term}");
    assert_eq!(to_segments(term).unwrap(), encoded);
    let raw = RawTerm::new(term).unwrap();
    assert!(raw.decode::<Term>().as_ref() == Ok(term), "{term} raw");
    let spliced = to_segments(&(&raw, [Some(&raw)], HashMap::from([("k", &raw)])));
    assert_eq!(spliced, to_segments(&(term, [Some(term)], HashMap::from([("k", term)]))));
    assert!(again.to_string() == term.to_string());
    assert!(validate(&document, &Limits::default()).is_ok());
    let middle = encoded.len() / 2;
    let halves: Segments = encoded.slice(..middle).into_iter().chain(encoded.slice(middle..)).collect();
    assert_eq!(halves, encoded);
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only decoded")]
enum Message {
    #[serde(rename = "ok")]
    Ok,
    #[serde(rename = "error")]
    Error(Option<Box<Message>>),
    #[serde(rename = "a")]
    Pair(Binary, Vec<Message>),
    #[serde(rename = "b")]
    Fields { a: u8, b: HashMap<String, Message> },
}

#[derive(Deserialize)]
#[serde(untagged)]
#[allow(dead_code, reason = "only decoded")]
enum Untagged {
    Number(i128),
    Text(String),
    Pid(Pid),
    Atom(Atom),
    Data(Vec<Untagged>),
    Fields(HashMap<String, Untagged>),
}

/// Typed decoding must not panic, whatever it says.
fn as_serde_types(document: &Bytes, limits: &Limits) {
    let _ = from_bytes_with::<Message>(document, limits);
    let _ = from_bytes_with::<Untagged>(document, limits);
    let _ = from_bytes_with::<Vec<(Atom, Binary)>>(document, limits);
    let _ = from_bytes_with::<HashMap<String, Vec<Option<f64>>>>(document, limits);
    let _ = from_bytes_with::<(u8, char, Result<(), String>)>(document, limits);
    let _ = from_bytes_with::<Vec<Term>>(document, limits);
    let _ = from_bytes_with::<IgnoredAny>(document, limits);
}
