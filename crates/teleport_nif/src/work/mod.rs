//! The library's own threads, and the order of what they do.

pub(crate) mod freeing;
pub(crate) mod lines;
pub(crate) mod turns;
pub(crate) mod workers;
