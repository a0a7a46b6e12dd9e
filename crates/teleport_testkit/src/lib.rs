//! What teleport's tests have in common; not published.

pub mod erl;
