//! One-way messages on a connection: each with its length in front.

use std::io::{self, Read};
use std::net::TcpStream;

use crate::bench::child::NodeError;

/// Bytes written at once.
pub(super) const WRITE_BLOCK: usize = 64 * 1024;

/// Bytes read at once, if there are as many.
const READ_BLOCK: usize = 256 * 1024;

/// In front of every message.
pub(super) const LENGTH: usize = 4;

/// Adds a message to what is to be written.
pub(super) fn put(message: &[u8], block: &mut Vec<u8>) {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    block.extend_from_slice(&length.to_le_bytes());
    block.extend_from_slice(message);
}

/// Reads large blocks and splits them.
pub(super) struct Reader {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The beginning of a message whose end has not been read.
    filled: usize,
}

impl Reader {
    /// For messages up to that size.
    pub(super) fn new(stream: TcpStream, size: usize) -> Self {
        Self { stream, buffer: vec![0; READ_BLOCK.max(2 * (LENGTH + size))], filled: 0 }
    }

    /// Reads what there is, and hands on what is complete; false if the connection has been closed.
    pub(super) fn read(
        &mut self,
        mut each: impl FnMut(&[u8]) -> Result<(), NodeError>,
    ) -> Result<bool, NodeError> {
        let read = match self.stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) => return Ok(false),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(NodeError::io("cannot receive")(error)),
        };
        let filled = self.filled + read;
        let mut at = 0;
        while let Some((message, rest)) = split(&self.buffer[at..filled]) {
            each(message)?;
            at = filled - rest;
        }
        self.buffer.copy_within(at..filled, 0);
        self.filled = filled - at;
        if self.filled == self.buffer.len() {
            let what = format!("a message larger than {} bytes", self.filled);
            return Err(NodeError::Protocol { from: "the sender".to_owned(), what });
        }
        Ok(true)
    }
}

/// The first message, and how many bytes follow it; none if it is not complete.
fn split(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
    let (message, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((message, rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_split_only_when_complete() {
        let bytes = [3, 0, 0, 0, 7, 8, 9, 2, 0, 0, 0, 1];
        assert_eq!(split(&bytes), Some((&[7, 8, 9][..], 5)));
        assert_eq!(split(&bytes[7..]), None);
        assert_eq!(split(&bytes[..3]), None);
        assert_eq!(split(&[0, 0, 0, 0]), Some((&[][..], 0)));
    }
}
