//! The program `teleport`.

fn main() {}
