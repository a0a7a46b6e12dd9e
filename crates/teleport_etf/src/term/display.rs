//! Terms in Erlang syntax, written without recursion.

use std::fmt::{self, Write};
use std::slice;

use num_bigint::BigInt;

use super::{Map, Term};
use crate::atom::write_atom;

/// Longer integers are written in base 16: base 10 takes time quadratic in their length.
const MAX_DECIMAL_BITS: u64 = 16 << 10;

/// Bytes that `Debug` writes.
const DEBUG_LEN: usize = 1000;

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_limited(f, f.precision().unwrap_or(usize::MAX), Todo::Term(self))
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_limited(f, f.precision().unwrap_or(DEBUG_LEN), Todo::Term(self))
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_limited(f, f.precision().unwrap_or(DEBUG_LEN), Todo::Map(self))
    }
}

impl fmt::Debug for super::ImproperList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_limited(f, f.precision().unwrap_or(DEBUG_LEN), Todo::Improper(self))
    }
}

fn write_limited(f: &mut fmt::Formatter<'_>, left: usize, term: Todo<'_>) -> fmt::Result {
    let mut out = Limited { out: f, left, cut: false };
    match write_terms(&mut out, term) {
        Err(_) if out.cut => f.write_str("..."),
        result => result,
    }
}

/// Ends the writing after this many bytes.
struct Limited<'a, 'f> {
    out: &'a mut fmt::Formatter<'f>,
    left: usize,
    cut: bool,
}

impl Write for Limited<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.len() <= self.left {
            self.left -= text.len();
            return self.out.write_str(text);
        }
        self.cut = true;
        self.out.write_str(&text[..text.floor_char_boundary(self.left)])?;
        Err(fmt::Error)
    }
}

/// What is still to be written.
enum Todo<'a> {
    Term(&'a Term),
    Map(&'a Map),
    Improper(&'a super::ImproperList),
    /// More elements, each after a comma.
    More(slice::Iter<'a, Term>),
    /// More pairs, each after a comma.
    MorePairs(slice::Iter<'a, (Term, Term)>),
    Text(&'static str),
}

fn write_terms(out: &mut impl Write, first: Todo<'_>) -> fmt::Result {
    let mut todo = vec![first];
    while let Some(next) = todo.pop() {
        match next {
            Todo::Text(text) => out.write_str(text)?,
            Todo::Term(term) => write_head(out, term, &mut todo)?,
            Todo::Map(map) => open_map(out, map, &mut todo)?,
            Todo::Improper(list) => open_improper(out, list, &mut todo)?,
            Todo::More(mut rest) => {
                if let Some(term) = rest.next() {
                    out.write_str(",")?;
                    todo.extend([Todo::More(rest), Todo::Term(term)]);
                }
            }
            Todo::MorePairs(mut rest) => {
                if let Some((key, value)) = rest.next() {
                    out.write_str(",")?;
                    todo.extend([
                        Todo::MorePairs(rest),
                        Todo::Term(value),
                        Todo::Text(" => "),
                        Todo::Term(key),
                    ]);
                }
            }
        }
    }
    Ok(())
}

/// Writes a leaf, or the beginning of a container whose elements it puts on the list of what is to be done.
fn write_head<'a>(out: &mut impl Write, term: &'a Term, todo: &mut Vec<Todo<'a>>) -> fmt::Result {
    match term {
        Term::Atom(atom) => write_atom(out, atom),
        Term::Integer(value) => write!(out, "{value}"),
        Term::BigInt(value) => write_bigint(out, value),
        Term::Float(value) => write_float(out, *value),
        Term::Binary(bytes) => write_bits(out, bytes, 8),
        Term::BitString(bits) => write_bits(out, bits.bytes(), bits.last_bits()),
        Term::Tuple(items) => open(out, "{", items, "}", todo),
        Term::List(items) => match printable(items) {
            true => write_string(out, items),
            false => open(out, "[", items, "]", todo),
        },
        Term::ImproperList(list) => open_improper(out, list, todo),
        Term::Map(map) => open_map(out, map, todo),
        Term::Pid(pid) => write!(out, "{pid}"),
        Term::Port(port) => write!(out, "{port}"),
        Term::Reference(reference) => write!(out, "{reference}"),
        Term::Fun(fun) => {
            out.write_str("#Fun<")?;
            write_atom(out, fun.module())?;
            write!(out, ".{}.{}>", fun.index(), fun.uniq())
        }
        Term::Export(export) => {
            write!(out, "fun {}:{}/{}", export.module, export.function, export.arity)
        }
        Term::Local(bytes) => write!(out, "#Local<{} bytes>", bytes.len()),
    }
}

fn open<'a>(
    out: &mut impl Write,
    begin: &'static str,
    items: &'a [Term],
    end: &'static str,
    todo: &mut Vec<Todo<'a>>,
) -> fmt::Result {
    out.write_str(begin)?;
    todo.push(Todo::Text(end));
    if let Some((first, rest)) = items.split_first() {
        todo.extend([Todo::More(rest.iter()), Todo::Term(first)]);
    }
    Ok(())
}

fn open_improper<'a>(
    out: &mut impl Write,
    list: &'a super::ImproperList,
    todo: &mut Vec<Todo<'a>>,
) -> fmt::Result {
    todo.extend([Todo::Text("]"), Todo::Term(&list.tail)]);
    open(out, "[", &list.elements, "|", todo)
}

fn open_map<'a>(out: &mut impl Write, map: &'a Map, todo: &mut Vec<Todo<'a>>) -> fmt::Result {
    out.write_str("#{")?;
    todo.push(Todo::Text("}"));
    if let Some(((key, value), rest)) = map.pairs().split_first() {
        todo.extend([Todo::MorePairs(rest.iter()), Todo::Term(value), Todo::Text(" => "), Todo::Term(key)]);
    }
    Ok(())
}

fn write_bigint(out: &mut impl Write, value: &BigInt) -> fmt::Result {
    if value.bits() <= MAX_DECIMAL_BITS {
        return write!(out, "{value}");
    }
    let sign = if value.sign() == num_bigint::Sign::Minus { "-" } else { "" };
    write!(out, "{sign}16#{}", value.magnitude().to_str_radix(16))
}

/// The shortest decimal that reads back as the same float, with the point that Erlang insists on.
fn write_float(out: &mut impl Write, value: f64) -> fmt::Result {
    let text = format!("{value:?}");
    match text.split_once('e') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => write!(out, "{mantissa}.0e{exponent}"),
        _ => out.write_str(&text),
    }
}

fn write_bits(out: &mut impl Write, bytes: &[u8], last_bits: u8) -> fmt::Result {
    if last_bits == 8 && !bytes.is_empty() && bytes.iter().all(|&byte| is_printable(byte)) {
        out.write_str("<<\"")?;
        bytes.iter().try_for_each(|&byte| write_escaped(out, byte))?;
        return out.write_str("\">>");
    }
    out.write_str("<<")?;
    let mut separator = "";
    let (whole, last) = match bytes.split_last() {
        Some((last, whole)) if last_bits < 8 => (whole, Some(last)),
        _ => (bytes, None),
    };
    for byte in whole {
        write!(out, "{separator}{byte}")?;
        separator = ",";
    }
    if let Some(last) = last {
        write!(out, "{separator}{}:{last_bits}", last >> (8 - last_bits))?;
    }
    out.write_str(">>")
}

fn printable(items: &[Term]) -> bool {
    !items.is_empty() && items.iter().all(|item| as_byte(item).is_some_and(is_printable))
}

fn as_byte(item: &Term) -> Option<u8> {
    if let Term::Integer(value) = item { u8::try_from(*value).ok() } else { None }
}

/// ASCII only, so that the text reads back whatever encoding it is read in.
fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t')
}

fn write_string(out: &mut impl Write, items: &[Term]) -> fmt::Result {
    out.write_str("\"")?;
    items.iter().filter_map(as_byte).try_for_each(|byte| write_escaped(out, byte))?;
    out.write_str("\"")
}

fn write_escaped(out: &mut impl Write, byte: u8) -> fmt::Result {
    match byte {
        b'\n' => out.write_str("\\n"),
        b'\r' => out.write_str("\\r"),
        b'\t' => out.write_str("\\t"),
        b'"' | b'\\' => write!(out, "\\{}", char::from(byte)),
        byte => out.write_char(char::from(byte)),
    }
}
