//! From values to segments.

mod assembly;
mod ser;
mod term;
mod writer;

pub use assembly::{Assembly, OpenList};
pub use ser::{Encoder, to_segments};
pub(crate) use term::encode;
pub use writer::BY_REFERENCE;
pub(crate) use writer::Writer;
