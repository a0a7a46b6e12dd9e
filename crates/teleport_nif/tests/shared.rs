//! The numbers that both Erlang and Rust use have the same names and values on both sides.

#[path = "../src/nifs/shared.rs"]
#[allow(unreachable_pub, reason = "it is a module of the library")]
mod shared;

use shared::{ASYNC, MOST_PLACES, NOCONNECT, NOSUSPEND, UNORDERED};

#[test]
fn numbers_have_the_same_names_and_values_in_erlang() {
    let header = include_str!("../../../erlang/src/teleport_nif.hrl");
    let defined: Vec<(&str, u32)> = header
        .lines()
        .filter_map(|line| line.strip_prefix("-define(")?.strip_suffix(").")?.split_once(", "))
        .filter_map(|(name, value)| Some((name, value.parse().ok()?)))
        .collect();
    let here = [
        ("UNORDERED", UNORDERED),
        ("NOSUSPEND", NOSUSPEND),
        ("ASYNC", ASYNC),
        ("NOCONNECT", NOCONNECT),
        ("MOST_PLACES", u32::try_from(MOST_PLACES).expect("a small number")),
    ];
    assert_eq!(defined, here);
}
