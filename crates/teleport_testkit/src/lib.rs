//! What teleport's tests have in common; not published.

pub mod cluster;
pub mod erl;
pub mod fuzz;
pub mod proxy;
pub mod terms;
pub mod wait;
