//! Terms taken apart around their large binaries, and put together again.

use std::ops::Range;

use bytes::Bytes;
use teleport_etf::{
    Apart, Binary, DecodeError, Leaves, Limits, Parts, Summary, Term, is_plain, take_all_apart, take_apart,
};

/// Puts terms together, and keeps account of what it was told.
pub struct Assembly {
    document: Bytes,
    values: Vec<Term>,
    /// Bytes that were told, in order.
    told: Vec<Range<usize>>,
    /// Lengths of the large binaries.
    pub binaries: Vec<usize>,
    /// How many runs there were.
    pub runs: usize,
}

impl Assembly {
    /// Of a document of which nothing has been told.
    pub fn new(document: &Bytes) -> Assembly {
        let document = document.clone();
        Assembly { document, values: Vec::new(), told: Vec::new(), binaries: Vec::new(), runs: 0 }
    }

    /// The term, if nothing else was left over.
    pub fn finish(mut self) -> Term {
        assert_eq!(self.values.len(), 1);
        assert!(self.told.is_sorted_by(|a, b| a.end <= b.start), "told twice: {:?}", self.told);
        self.values.pop().unwrap()
    }

    /// What this many terms are as a list, with this behind them.
    fn decode(&mut self, count: usize, encoded: &[u8], end: &[u8]) -> Option<Term> {
        let start = encoded.as_ptr() as usize - self.document.as_ptr() as usize;
        self.told.push(start..start + encoded.len());
        self.runs += 1;
        let head = [&[131, 108], &(count as u32).to_be_bytes()[..]].concat();
        let limits = Limits { max_depth: 600, ..Limits::default() };
        Term::decode_with(&Bytes::from([&head, encoded, end].concat()), &limits).ok()
    }
}

impl Parts for Assembly {
    fn terms(&mut self, count: usize, encoded: &[u8]) -> bool {
        let Some(Term::List(terms)) = self.decode(count, encoded, &[106]) else { return false };
        assert_eq!(terms.len(), count);
        self.values.extend(terms);
        true
    }

    fn rest_of_list(&mut self, count: usize, encoded: &[u8]) -> bool {
        let rest = self.decode(count, encoded, &[]);
        rest.map(|rest| self.values.push(rest)).is_some()
    }

    fn binary(&mut self, at: Range<usize>) -> bool {
        self.binaries.push(at.len());
        self.values.push(Term::Binary(Binary::from(self.document.slice(at.clone()))));
        self.told.push(at);
        true
    }

    fn tuple(&mut self, arity: usize) -> bool {
        let elements = self.values.split_off(self.values.len() - arity);
        self.values.push(Term::Tuple(elements));
        true
    }

    fn list(&mut self, len: usize) -> bool {
        let tail = self.values.pop().unwrap();
        let elements = self.values.split_off(self.values.len() - len);
        self.values.push(Term::improper_list(elements, tail));
        true
    }

    fn map(&mut self, len: usize) -> bool {
        let flat = self.values.split_off(self.values.len() - 2 * len);
        let pairs = flat.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone()));
        let map: teleport_etf::Map = pairs.collect();
        let no_duplicates = map.len() == len;
        self.values.push(Term::Map(map));
        no_duplicates
    }
}

impl Leaves for Assembly {
    fn integer(&mut self, value: i64) -> bool {
        self.values.push(Term::from(value));
        true
    }

    fn float(&mut self, value: f64) -> bool {
        self.values.push(Term::from(value));
        true
    }

    fn atom(&mut self, encoded: &[u8]) -> bool {
        let atom = Term::decode(&Bytes::from([&[131], encoded].concat())).ok();
        assert!(matches!(atom, None | Some(Term::Atom(_))));
        atom.map(|atom| self.values.push(atom)).is_some()
    }

    fn small_binary(&mut self, bytes: &[u8]) -> bool {
        self.values.push(Term::from(Binary::from(bytes.to_vec())));
        true
    }

    fn string(&mut self, bytes: &[u8]) -> bool {
        self.values
            .push(Term::list(bytes.iter().map(|&byte| Term::from(i64::from(byte))).collect::<Vec<_>>()));
        true
    }
}

/// Takes a document apart down to the leaves.
fn leaves_agree(document: &Bytes, large: usize, decoded: &Result<Term, DecodeError>) {
    let mut assembly = Assembly::new(document);
    let apart = take_all_apart(document, large, usize::MAX, &Limits::default(), &mut assembly);
    match decoded {
        Ok(term) if apart == Apart::Told => {
            assert!(assembly.binaries.iter().all(|&len| len >= large));
            assert_eq!(assembly.finish(), *term);
        }
        Ok(term) => {
            assert_eq!(apart, Apart::LargeMap);
            assert!(matches!(term, Term::Local(_)) || document.get(1) == Some(&80), "{term:?}");
        }
        Err(DecodeError::TooDeep { .. }) => {}
        Err(_) => assert!(matches!(apart, Apart::LargeMap | Apart::Stopped), "{apart:?} {decoded:?}"),
    }
    let small_maps = take_all_apart(document, large, 2, &Limits::default(), &mut Assembly::new(document));
    if let Ok(term) = decoded
        && apart == Apart::Told
    {
        let expected = if has_map_over_two(term) { Apart::LargeMap } else { Apart::Told };
        // Maps in funs count too.
        assert!(small_maps == expected || small_maps == Apart::LargeMap, "{small_maps:?} {term:?}");
    }
}

/// What is put together is what is decoded, for every document; and none with a large binary in reach is left whole.
pub fn agrees(
    document: &Bytes,
    large: usize,
    decoded: &Result<Term, DecodeError>,
    summary: Option<&Summary>,
) {
    leaves_agree(document, large, decoded);
    let mut assembly = Assembly::new(document);
    let apart = take_apart(document, large, usize::MAX, &Limits::default(), &mut assembly);
    match (decoded, summary) {
        (Ok(Term::Local(_)), _) => assert_eq!(apart, Apart::LargeMap),
        (Ok(_), Some(summary)) if summary.compressed => assert_eq!(apart, Apart::LargeMap),
        (Ok(_), Some(summary)) if summary.largest_binary >= large => assert_eq!(apart, Apart::Told),
        (Ok(_), _) => assert_eq!((apart, assembly.runs), (Apart::Whole, 0)),
        (Err(DecodeError::TooDeep { .. } | DecodeError::DuplicateKey { .. }), _) => {}
        // What an atom is called is left to those who make it.
        (Err(DecodeError::Malformed { what: "atom", .. }), _) if apart == Apart::Whole => {}
        (Err(_), _) => assert!(matches!(apart, Apart::LargeMap | Apart::Stopped), "{apart:?} {decoded:?}"),
    }
    if apart == Apart::Told {
        match decoded {
            Ok(term) => assert_eq!(assembly.finish(), *term),
            Err(DecodeError::TooDeep { .. }) => {}
            Err(error) => panic!("{error}, and yet it is {:?}", assembly.finish()),
        }
    }
    if is_plain(document, large, usize::MAX, &Limits::default()) && decoded.is_ok() {
        assert_eq!(apart, Apart::Whole);
    }
    // No map of more than two pairs gets through, wherever it is.
    let small_maps = take_apart(document, large, 2, &Limits::default(), &mut Assembly::new(document));
    if let Ok(term) = decoded
        && matches!(small_maps, Apart::Told | Apart::Whole)
    {
        assert!(!has_map_over_two(term), "{term:?}");
        assert_eq!(small_maps, apart);
    }
    if let Ok(term) = decoded
        && is_plain(document, large, 2, &Limits::default())
    {
        assert!(!has_map_over_two(term), "{term:?}");
    }
}

fn has_map_over_two(term: &Term) -> bool {
    match term {
        Term::Tuple(terms) | Term::List(terms) => terms.iter().any(has_map_over_two),
        Term::Map(map) => {
            map.len() > 2 || map.iter().any(|(key, value)| has_map_over_two(key) || has_map_over_two(value))
        }
        _ => false,
    }
}
