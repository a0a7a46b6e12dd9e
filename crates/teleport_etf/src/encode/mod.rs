//! From values to segments.

mod ser;
mod term;
mod writer;

pub use ser::{Encoder, to_segments};
pub(crate) use term::encode;
pub use writer::BY_REFERENCE;
pub(crate) use writer::Writer;
