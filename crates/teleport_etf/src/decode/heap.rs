//! What terms take on a heap of an Erlang virtual machine of 64 bits, in words, or slightly more: releases differ.

use super::token::{Token, Usual};

/// Longer binaries are kept apart from heaps.
const ON_HEAP: usize = 64;

/// A binary's header and size; or what refers to one that is kept apart.
const BINARY: usize = 2;
const REFERENCE: usize = 8;

/// A map of more pairs is a tree.
const FLAT_MAP: usize = 32;

/// Of pids, ports and references of other nodes, at most.
const IDENTIFIER: usize = 10;

/// Without its environment.
const FUN: usize = 8;

/// Without its fields.
const RECORD: usize = 8;

/// What a leaf takes, or a container without what its elements take.
#[inline]
pub(super) fn words(token: &Token<'_>) -> usize {
    match token {
        Token::Integer(value) if (-(1 << 59)..1 << 59).contains(value) => 0,
        Token::Integer(_) | Token::Float(_) => 2,
        Token::Big(big) => 1 + big.magnitude.len().div_ceil(8),
        Token::Atom(_) | Token::Nil => 0,
        Token::Binary(bytes) => of_binary(bytes),
        Token::Bits(bytes, _) => of_binary(bytes) + REFERENCE,
        Token::String(bytes) => 2 * bytes.len(),
        Token::Tuple(arity) => of_tuple(*arity),
        Token::List(len) => of_list(*len),
        Token::Map(len) if *len <= FLAT_MAP => 4 + 2 * len,
        Token::Map(len) => len.saturating_mul(5),
        Token::Pid(_) | Token::Port(_) | Token::Reference(_) => IDENTIFIER,
        Token::Fun(head) => head.free().saturating_add(FUN),
        Token::Record(terms) => terms.saturating_add(RECORD),
        Token::Export(_) => FUN,
        // Not looked into.
        Token::Local(bytes) => bytes.len().saturating_mul(2),
    }
}

/// The weight of the usual tokens.
#[inline]
pub(super) fn words_usual(usual: &Usual<'_>) -> usize {
    match usual {
        Usual::Integer(_) | Usual::Atom(_) => 0, // integers of at most 56 bits
        Usual::Float(_) => 2,
        Usual::String(bytes) => 2 * bytes.len(),
        Usual::Binary(bytes) => of_binary(bytes),
        Usual::Tuple(arity) => of_tuple(*arity),
        Usual::List(len) => of_list(*len),
    }
}

fn of_binary(bytes: &[u8]) -> usize {
    if bytes.len() > ON_HEAP { REFERENCE } else { BINARY + bytes.len().div_ceil(8) }
}

fn of_tuple(arity: usize) -> usize {
    arity.saturating_add(1)
}

fn of_list(len: usize) -> usize {
    len.saturating_mul(2)
}
