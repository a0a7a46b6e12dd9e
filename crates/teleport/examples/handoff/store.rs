//! The receiver's side: partitions as files, written in order and verified at the end.

use super::{Chunk, Stored};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A directory with a file for each partition: `7` once it is complete, `7.part` before.
pub(crate) struct Store {
    directory: PathBuf,
    incoming: HashMap<u64, Incoming>,
}

struct Incoming {
    file: File,
    path: PathBuf,
    bytes: u64,
    /// What there will be when it is complete.
    size: u64,
    hash: Sha256,
}

impl Store {
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self { directory: directory.to_owned(), incoming: HashMap::new() })
    }

    /// Opens a partition, and says how much of it is there: all, if only the answer to `finish` was lost.
    pub(crate) fn begin(&mut self, partition: u64, size: u64) -> io::Result<Stored> {
        let complete = self.complete(partition);
        let is_there = fs::metadata(&complete).is_ok_and(|file| file.len() == size);
        let path = if is_there { complete } else { self.part(partition) };
        let mut file = File::options().read(true).append(true).create(true).open(&path)?;
        let mut hash = Sha256::new();
        let bytes = io::copy(&mut file, &mut HashWriter(&mut hash))?;
        Ok(self.insert(partition, Incoming { file, path, bytes, size, hash }))
    }

    /// Opens a partition from nothing.
    pub(crate) fn restart(&mut self, partition: u64, size: u64) -> io::Result<Stored> {
        let path = self.part(partition);
        let file = File::create(&path)?;
        Ok(self.insert(partition, Incoming { file, path, bytes: 0, size, hash: Sha256::new() }))
    }

    pub(crate) fn append(&mut self, chunk: &Chunk) -> io::Result<()> {
        let incoming = self.incoming.get_mut(&chunk.partition).ok_or_else(|| not_open(chunk.partition))?;
        let (offset, length) = (chunk.offset, chunk.data.len() as u64);
        if offset != incoming.bytes || length > incoming.size - incoming.bytes {
            let Incoming { bytes, size, .. } = incoming;
            return Err(io::Error::other(format!("{length} bytes for {offset}, after {bytes} of {size}")));
        }
        if let Err(error) = incoming.file.write_all(&chunk.data) {
            // How much of it was written is not known; the next `begin` looks.
            self.incoming.remove(&chunk.partition);
            return Err(error);
        }
        incoming.bytes += length;
        incoming.hash.update(&chunk.data);
        Ok(())
    }

    /// Makes a partition complete if it is what the sender sent.
    pub(crate) fn finish(&mut self, partition: u64, sha256: &[u8]) -> io::Result<Stored> {
        let incoming = self.incoming.remove(&partition).ok_or_else(|| not_open(partition))?;
        let (stored, size) = (incoming.stored(), incoming.size);
        if stored.bytes != size {
            return Err(io::Error::other(format!("{} bytes are there, of {size}", stored.bytes)));
        }
        if *stored.sha256 != *sha256 {
            return Err(io::Error::other("the checksums differ"));
        }
        incoming.file.sync_all()?;
        fs::rename(&incoming.path, self.complete(partition))?;
        File::open(&self.directory)?.sync_all()?; // the new name
        Ok(stored)
    }

    fn insert(&mut self, partition: u64, incoming: Incoming) -> Stored {
        let stored = incoming.stored();
        self.incoming.insert(partition, incoming);
        stored
    }

    fn complete(&self, partition: u64) -> PathBuf {
        self.directory.join(partition.to_string())
    }

    fn part(&self, partition: u64) -> PathBuf {
        self.directory.join(format!("{partition}.part"))
    }
}

impl Incoming {
    fn stored(&self) -> Stored {
        Stored { bytes: self.bytes, sha256: self.hash.clone().finalize().to_vec().into() }
    }
}

fn not_open(partition: u64) -> io::Error {
    io::Error::other(format!("partition {partition} is not being received"))
}

/// Lets `io::copy` write into a hash.
pub(crate) struct HashWriter<'a>(pub(crate) &'a mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
