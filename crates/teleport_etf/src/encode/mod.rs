//! From values to segments.

mod assembly;
mod ser;
mod term;
mod values;
mod writer;

pub use assembly::{Assembly, OpenList};
pub use ser::{Encoded, Encoder, to_segments};
pub use writer::BY_REFERENCE;
pub(crate) use writer::Writer;
