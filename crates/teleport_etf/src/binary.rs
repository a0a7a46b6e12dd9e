//! Binaries that pass through serde as the same memory.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
/// An Erlang binary that passes through serde as the same memory.
///
/// [`to_segments`](crate::to_segments) makes it a segment of its own, and [`from_bytes`](crate::from_bytes) takes it as
/// a slice of the buffer, without copying; small ones are copied, see there. With another serde format it is plain
/// bytes.
///
/// ```
/// use bytes::Bytes;
/// use teleport_etf::{Binary, from_bytes, to_segments};
///
/// let picture = Binary::from(vec![0u8; 1 << 20]);
/// let doc = to_segments(&(1u8, picture.clone()))?;
/// assert!(doc.iter().any(|segment| segment.as_ptr() == picture.as_ptr()));
///
/// let received = doc.into_contiguous();
/// let (_, picture): (u8, Binary) = from_bytes(&received)?;
/// assert!(received.as_ptr_range().contains(&picture.as_ptr()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Binary(Bytes);

impl Binary {
    /// A binary that is this memory.
    pub fn new(bytes: impl Into<Bytes>) -> Binary {
        Binary(bytes.into())
    }

    /// The memory.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The memory, by value.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Deref for Binary {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Binary {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Binary {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<Bytes> for Binary {
    fn from(bytes: Bytes) -> Binary {
        Binary(bytes)
    }
}

impl From<Binary> for Bytes {
    fn from(binary: Binary) -> Bytes {
        binary.0
    }
}

impl From<Vec<u8>> for Binary {
    fn from(bytes: Vec<u8>) -> Binary {
        Binary(bytes.into())
    }
}

impl From<String> for Binary {
    fn from(text: String) -> Binary {
        Binary(text.into())
    }
}

impl From<&'static [u8]> for Binary {
    fn from(bytes: &'static [u8]) -> Binary {
        Binary(Bytes::from_static(bytes))
    }
}

impl From<&'static str> for Binary {
    fn from(text: &'static str) -> Binary {
        Binary(Bytes::from_static(text.as_bytes()))
    }
}

/// The length only: payloads do not belong in logs.
impl fmt::Debug for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Binary({} bytes)", self.0.len())
    }
}
