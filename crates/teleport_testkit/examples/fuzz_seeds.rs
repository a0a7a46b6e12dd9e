//! Writes what the encoders make as seeds of the fuzz targets, in place of what earlier versions made.
//!
//!     make fuzz-seeds

use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    for target in teleport_testkit::fuzz::TARGETS {
        let folder = root.join(target.name);
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("made_") {
                fs::remove_file(entry.path())?;
            }
        }
    }
    for (target, name, bytes) in teleport_testkit::fuzz::seeds() {
        fs::write(root.join(target).join(name), bytes)?;
    }
    Ok(())
}
