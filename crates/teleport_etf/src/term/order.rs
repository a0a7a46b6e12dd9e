//! Equality, order and hash, without recursion.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::iter::Zip;
use std::slice;

use num_bigint::{BigInt, Sign};
use smallvec::SmallVec;

use super::{Map, Term};

impl Ord for Term {
    fn cmp(&self, other: &Term) -> Ordering {
        compare(self, other)
    }
}

impl PartialOrd for Term {
    fn partial_cmp(&self, other: &Term) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Term {
    fn eq(&self, other: &Term) -> bool {
        compare(self, other).is_eq()
    }
}

impl Eq for Term {}

impl PartialEq for Map {
    fn eq(&self, other: &Map) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Map {}

impl PartialOrd for Map {
    fn partial_cmp(&self, other: &Map) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By size, then keys, then values.
impl Ord for Map {
    fn cmp(&self, other: &Map) -> Ordering {
        let mut todo = Todo::new();
        compare_maps(self, other, &mut todo).then_with(|| compare_rest(todo))
    }
}

impl Hash for Map {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.len().hash(state);
        self.iter().for_each(|pair| pair.hash(state));
    }
}

impl Hash for Term {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut todo: SmallVec<[&Term; 16]> = SmallVec::new();
        todo.push(self);
        while let Some(term) = todo.pop() {
            hash_head(term, state);
            match term {
                Term::Tuple(items) | Term::List(items) => todo.extend(items),
                Term::ImproperList(list) => {
                    todo.extend(&list.elements);
                    todo.push(&list.tail);
                }
                Term::Map(map) => map.iter().for_each(|(key, value)| todo.extend([key, value])),
                _ => {}
            }
        }
    }
}

/// Everything but the elements of containers.
fn hash_head<H: Hasher>(term: &Term, state: &mut H) {
    state.write_u8(rank(term));
    match term {
        Term::Atom(atom) => atom.hash(state),
        Term::Integer(value) => value.hash(state),
        Term::BigInt(value) => match i64::try_from(&**value) {
            Ok(small) => small.hash(state),
            Err(_) => value.hash(state),
        },
        Term::Float(value) => value.to_bits().hash(state),
        Term::Binary(bytes) => bytes.hash(state),
        Term::BitString(bits) => bits.hash(state),
        Term::Tuple(items) | Term::List(items) => items.len().hash(state),
        Term::ImproperList(list) => list.elements.len().hash(state),
        Term::Map(map) => map.len().hash(state),
        Term::Pid(pid) => pid.hash(state),
        Term::Port(port) => port.hash(state),
        Term::Reference(reference) => reference.hash(state),
        Term::Fun(fun) => fun.hash(state),
        Term::Export(export) => export.hash(state),
        Term::Local(bytes) => bytes.hash(state),
    }
}

const NIL: u8 = 9;
const LIST: u8 = 10;

/// Place of the type in Erlang's order of terms; integers before floats, as among the keys of maps.
fn rank(term: &Term) -> u8 {
    match term {
        Term::Integer(_) | Term::BigInt(_) => 0,
        Term::Float(_) => 1,
        Term::Atom(_) => 2,
        Term::Reference(_) => 3,
        Term::Fun(_) | Term::Export(_) => 4,
        Term::Port(_) => 5,
        Term::Pid(_) => 6,
        Term::Tuple(_) => 7,
        Term::Map(_) => 8,
        Term::List(items) if items.is_empty() => NIL,
        Term::List(_) | Term::ImproperList(_) => LIST,
        Term::Binary(_) | Term::BitString(_) => 11,
        Term::Local(_) => 12,
    }
}

type Todo<'a> = SmallVec<[Work<'a>; 8]>;
type Terms<'a> = slice::Iter<'a, Term>;
type Pairs<'a> = slice::Iter<'a, (Term, Term)>;

/// Terms that have yet to be compared.
enum Work<'a> {
    Elements(Zip<Terms<'a>, Terms<'a>>),
    Lists(List<'a>, List<'a>),
    Keys(Zip<Pairs<'a>, Pairs<'a>>),
    Values(Zip<Pairs<'a>, Pairs<'a>>),
}

struct List<'a> {
    elements: Terms<'a>,
    /// `None` for a proper list.
    tail: Option<&'a Term>,
}

impl<'a> List<'a> {
    fn of(term: &'a Term) -> Option<List<'a>> {
        match term {
            Term::List(items) => Some(List { elements: items.iter(), tail: None }),
            Term::ImproperList(list) => Some(List { elements: list.elements.iter(), tail: Some(&list.tail) }),
            _ => None,
        }
    }

    fn tail_rank(&self) -> u8 {
        self.tail.map_or(NIL, rank)
    }
}

fn compare<'a>(a: &'a Term, b: &'a Term) -> Ordering {
    let mut todo = Todo::new();
    compare_heads(a, b, &mut todo).then_with(|| compare_rest(todo))
}

fn compare_rest(mut todo: Todo<'_>) -> Ordering {
    while let Some(work) = todo.last_mut() {
        let pair = match work {
            Work::Elements(pairs) => pairs.next(),
            Work::Keys(pairs) => pairs.next().map(|(a, b)| (&a.0, &b.0)),
            Work::Values(pairs) => pairs.next().map(|(a, b)| (&a.1, &b.1)),
            Work::Lists(a, b) => match (a.elements.next(), b.elements.next()) {
                (Some(a), Some(b)) => Some((a, b)),
                (None, Some(_)) => return a.tail_rank().cmp(&LIST),
                (Some(_), None) => return LIST.cmp(&b.tail_rank()),
                (None, None) => match (a.tail.take(), b.tail.take()) {
                    (Some(a), Some(b)) => Some((a, b)),
                    (None, None) => None,
                    (a, b) => return a.map_or(NIL, rank).cmp(&b.map_or(NIL, rank)),
                },
            },
        };
        let Some((a, b)) = pair else {
            todo.pop();
            continue;
        };
        let ordering = compare_heads(a, b, &mut todo);
        if ordering.is_ne() {
            return ordering;
        }
    }
    Ordering::Equal
}

/// Compares two terms except for their elements, which it puts on the list of what is to be done.
fn compare_heads<'a>(a: &'a Term, b: &'a Term, todo: &mut Todo<'a>) -> Ordering {
    match (a, b) {
        (Term::Integer(a), Term::Integer(b)) => a.cmp(b),
        (Term::Integer(a), Term::BigInt(b)) => compare_integers(*a, b),
        (Term::BigInt(a), Term::Integer(b)) => compare_integers(*b, a).reverse(),
        (Term::BigInt(a), Term::BigInt(b)) => a.cmp(b),
        (Term::Float(a), Term::Float(b)) => a.total_cmp(b),
        (Term::Atom(a), Term::Atom(b)) => a.cmp(b),
        (Term::Reference(a), Term::Reference(b)) => a.cmp(b),
        (Term::Fun(a), Term::Fun(b)) => a.cmp(b),
        (Term::Fun(_), Term::Export(_)) => Ordering::Less,
        (Term::Export(_), Term::Fun(_)) => Ordering::Greater,
        (Term::Export(a), Term::Export(b)) => a.cmp(b),
        (Term::Port(a), Term::Port(b)) => a.cmp(b),
        (Term::Pid(a), Term::Pid(b)) => a.cmp(b),
        (Term::Tuple(a), Term::Tuple(b)) => a.len().cmp(&b.len()).then_with(|| {
            todo.push(Work::Elements(a.iter().zip(b)));
            Ordering::Equal
        }),
        (Term::Map(a), Term::Map(b)) => compare_maps(a, b, todo),
        (Term::Binary(_) | Term::BitString(_), Term::Binary(_) | Term::BitString(_)) => bits(a).cmp(&bits(b)),
        (Term::Local(a), Term::Local(b)) => a.cmp(b),
        _ => match (List::of(a), List::of(b)) {
            (Some(a), Some(b)) => {
                todo.push(Work::Lists(a, b));
                Ordering::Equal
            }
            _ => rank(a).cmp(&rank(b)),
        },
    }
}

fn compare_maps<'a>(a: &'a Map, b: &'a Map, todo: &mut Todo<'a>) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| {
        todo.push(Work::Values(a.pairs().iter().zip(b.pairs())));
        todo.push(Work::Keys(a.pairs().iter().zip(b.pairs())));
        Ordering::Equal
    })
}

fn compare_integers(small: i64, big: &BigInt) -> Ordering {
    match i64::try_from(big) {
        Ok(value) => small.cmp(&value),
        Err(_) if big.sign() == Sign::Minus => Ordering::Greater,
        Err(_) => Ordering::Less,
    }
}

/// Whole bytes in order, then the shorter first: bits of a last, partly used byte are 0 where unused.
fn bits(term: &Term) -> (&[u8], u8) {
    match term {
        Term::BitString(bits) => (bits.bytes(), bits.last_bits()),
        Term::Binary(bytes) => (bytes, 8),
        _ => (&[], 0),
    }
}
