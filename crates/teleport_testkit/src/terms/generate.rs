//! Terms and damaged documents from a seed.

use bytes::Bytes;
use teleport_etf::{Atom, BigInt, Binary, BitString, Export, Pid, Port, Reference, Term};

/// A sequence of numbers that is the same for ever (SplitMix64).
pub struct Seeded(pub u64);

impl Seeded {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// One of those.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Random bytes, `len` of them.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.bits() as u8).collect()
    }
}

const LENGTHS: [usize; 14] = [0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 8, 255, 256, 300];

/// A term of any type, containers nested up to `depth`.
pub fn term(from: &mut Seeded, depth: usize) -> Term {
    if depth == 0 {
        return leaf(from);
    }
    let len = if depth > 1 { from.below(5) } else { from.pick(&LENGTHS) };
    match from.below(8) {
        0 => Term::Tuple(terms(from, len, depth - 1)),
        1 => Term::List(terms(from, len, depth - 1)),
        2 => Term::improper_list(terms(from, len, depth - 1), term(from, depth - 1)),
        3 => {
            let keys = terms(from, len, depth - 1).into_iter().filter(|key| !has_negative_zero(key));
            Term::Map(keys.map(|key| (key, leaf(from))).collect())
        }
        4 => Term::charlist(&"c".repeat(len)),
        5 => Term::Map((0..len).map(|n| (Term::from(n), leaf(from))).collect()),
        _ => leaf(from),
    }
}

fn terms(from: &mut Seeded, len: usize, depth: usize) -> Vec<Term> {
    (0..len).map(|_| term(from, depth)).collect()
}

fn leaf(from: &mut Seeded) -> Term {
    let len = from.pick(&LENGTHS);
    match from.below(14) {
        0 => Term::from(from.bits() as u8),
        1 => Term::from(from.bits() as i32),
        2 => Term::from(from.bits() as i64),
        3 => Term::from(i64::from(from.bits() as i8)),
        4 => Term::from(BigInt::from_signed_bytes_le(&from.bytes(len))),
        5 => Term::Float(float(from)),
        6 => Term::Atom(atom(from)),
        7 => Term::Binary(Binary::from(from.bytes(len))),
        8 => {
            let size = from.pick(&[1023, 1024, 1025, 5000]);
            Term::Binary(Binary::from(from.bytes(size)))
        }
        9 => {
            let bits = from.below(9) as u8;
            BitString::new(Bytes::from(from.bytes(len)), bits)
        }
        10 => Term::from(Pid {
            node: node(from),
            id: number(from, 15),
            serial: number(from, 13),
            creation: creation(from),
        }),
        11 => {
            let id = if from.below(2) == 0 { from.bits() >> 36 } else { from.bits() >> from.below(64) };
            Term::from(Port { node: node(from), id, creation: creation(from) })
        }
        12 => {
            let mut words: Vec<u32> = (0..1 + from.below(5)).map(|_| from.bits() as u32).collect();
            // OTP keeps 18 bits of the first word.
            words[0] &= 0x3ffff;
            Term::from(Reference::new(node(from), creation(from), &words).unwrap())
        }
        _ => Term::Export(Box::new(Export {
            module: atom(from),
            function: atom(from),
            arity: from.bits() as u8,
        })),
    }
}

fn float(from: &mut Seeded) -> f64 {
    match from.below(4) {
        0 => from.pick(&[0.0, -0.0, 1.0, -1.0, 0.1, 1e22, 1e16, 1e-5, 5e-324, f64::MAX, f64::MIN]),
        _ => Some(f64::from_bits(from.bits())).filter(|value| value.is_finite()).unwrap_or(0.5),
    }
}

/// One of a few hundred, so that Erlang's table of atoms stays small.
fn atom(from: &mut Seeded) -> Atom {
    let c = from.pick(&['a', 'Z', ' ', 'é', 'ß', 'Ω', '€', '\u{1F980}', '\'', '\n']);
    let len = from.pick(&[0, 1, 2, 5, 23, 24, 63, 64, 127, 128, 254, 255]);
    Atom::new(c.to_string().repeat(len)).unwrap()
}

fn node(from: &mut Seeded) -> Atom {
    Atom::from_static(from.pick(&["a@host", "a-longer-name@some.host.example.org", "ü@host"]))
}

fn number(from: &mut Seeded, bits: u32) -> u32 {
    (from.bits() as u32) >> (32 - bits)
}

fn creation(from: &mut Seeded) -> u32 {
    (from.bits() as u32).max(1)
}

/// Up to OTP 26 `-0.0` and `0.0` are the same key.
fn has_negative_zero(term: &Term) -> bool {
    any(term, &|leaf| matches!(leaf, Term::Float(value) if value.to_bits() == (-0.0f64).to_bits()))
}

/// True if one of the term's leaves passes.
pub fn any(term: &Term, test: &dyn Fn(&Term) -> bool) -> bool {
    match term {
        Term::Tuple(items) | Term::List(items) => items.iter().any(|item| any(item, test)),
        Term::ImproperList(list) => {
            list.elements().iter().any(|item| any(item, test)) || any(list.tail(), test)
        }
        Term::Map(map) => map.iter().any(|(key, value)| any(key, test) || any(value, test)),
        leaf => test(leaf),
    }
}

/// How many terms are elements, keys, values or tails of others.
pub fn slots(term: &Term) -> usize {
    match term {
        Term::Tuple(items) | Term::List(items) => items.iter().map(|item| 1 + slots(item)).sum(),
        Term::ImproperList(list) => {
            1 + slots(list.tail()) + list.elements().iter().map(|item| 1 + slots(item)).sum::<usize>()
        }
        Term::Map(map) => map.iter().map(|(key, value)| 2 + slots(key) + slots(value)).sum(),
        _ => 0,
    }
}

/// A document with some of its bytes changed, by one or more, cut out, doubled or replaced by numbers that are wrong on purpose.
pub fn damage(from: &mut Seeded, document: &[u8]) -> Vec<u8> {
    let mut bytes = document.to_vec();
    for _ in 0..=from.below(3) {
        if bytes.len() < 2 {
            return bytes;
        }
        let at = 1 + from.below(bytes.len() - 1);
        match from.below(8) {
            0 => bytes[at] ^= 1 << from.below(8),
            6 => bytes[at] = bytes[at].wrapping_add(from.pick(&[1, u8::MAX])),
            1 => bytes[at] = from.bits() as u8,
            2 => bytes[at] = from.pick(&TAGS),
            3 => bytes.truncate(at),
            4 => {
                let end = (at + from.below(16)).min(bytes.len());
                drop(bytes.drain(at..end));
            }
            5 => {
                let end = (at + from.below(16)).min(bytes.len());
                bytes.extend_from_within(at..end);
            }
            _ => {
                let word =
                    from.pick(&[0, 1, 255, 256, 65535, 65536, i32::MAX as u32, u32::MAX]).to_be_bytes();
                bytes.iter_mut().skip(at).zip(word).for_each(|(byte, new)| *byte = new);
            }
        }
    }
    bytes
}

const TAGS: [u8; 32] = [
    131, 80, 70, 77, 88, 89, 90, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112,
    113, 114, 115, 116, 117, 118, 119, 120, 121,
];

/// A byte that is likely to mean something.
pub fn tag_or_byte(from: &mut Seeded) -> u8 {
    match from.below(3) {
        0 => from.pick(&TAGS),
        1 => from.below(4) as u8,
        _ => from.bits() as u8,
    }
}
