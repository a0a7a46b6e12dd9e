//! Results in a file, and what every one of them says about where it was measured.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::thread::available_parallelism;

use serde::Serialize;

use super::BenchError;

/// Tells before the run whether its results can be stored after it.
pub(crate) fn check_writable(path: &Path) -> Result<(), BenchError> {
    let check = || {
        let existed = path.exists();
        OpenOptions::new().append(true).create(true).open(path)?;
        if existed { Ok(()) } else { fs::remove_file(path) }
    };
    check().map_err(unwritable(path))
}

/// Stores the results as JSON.
pub(crate) fn write(results: &impl Serialize, path: &Path) -> Result<(), BenchError> {
    let mut json = serde_json::to_string_pretty(results)?;
    json.push('\n');
    fs::write(path, json).map_err(unwritable(path))
}

/// Versions of this program and of the kernel.
pub(crate) fn versions() -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    versions.insert("program".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    if let Some(kernel) = kernel("osrelease") {
        versions.insert("kernel".to_owned(), kernel);
    }
    versions
}

/// The congestion control asked for, or the system's; empty if that is unknown.
pub(crate) fn congestion(asked: Option<&str>) -> String {
    let system = || kernel("../net/ipv4/tcp_congestion_control");
    asked.map(str::to_owned).or_else(system).unwrap_or_default()
}

/// Processors that this process may use.
pub(crate) fn cores() -> usize {
    available_parallelism().map_or(0, usize::from)
}

fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> BenchError {
    move |source| BenchError::Write { path: path.to_owned(), source }
}

fn kernel(name: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc/sys/kernel").join(name)).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unwritable_file_is_known_before_the_run() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results.json");
        check_writable(&path).unwrap();
        assert!(!path.exists(), "the check leaves nothing behind");
        let error = check_writable(&directory.path().join("missing/results.json")).unwrap_err();
        assert!(error.to_string().contains("missing/results.json"), "{error}");
        write(&[1, 2], &path).unwrap();
        assert_eq!(serde_json::from_slice::<Vec<u8>>(&fs::read(&path).unwrap()).unwrap(), [1, 2]);
    }
}
