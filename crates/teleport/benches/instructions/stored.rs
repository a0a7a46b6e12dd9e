//! The figures that are kept: a line for each part, behind one for the compiler.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/stored.txt");

/// Instructions per message of each part, and who compiled them.
pub(crate) struct Stored {
    pub(crate) compiler: String,
    pub(crate) parts: Vec<(String, f64)>,
}

impl Stored {
    pub(crate) fn read() -> Result<Self, Box<dyn Error>> {
        let text = fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}"))?;
        let mut lines = text.lines();
        let compiler = lines.next().ok_or("no compiler is stored")?.to_owned();
        let parts = lines.map(|line| {
            let (part, count) = line.split_once(' ').ok_or_else(|| format!("{FILE}: {line}"))?;
            Ok((part.to_owned(), count.trim().parse()?))
        });
        Ok(Self { compiler, parts: parts.collect::<Result<_, Box<dyn Error>>>()? })
    }

    pub(crate) fn write(&self) -> Result<(), Box<dyn Error>> {
        let mut text = format!("{}\n", self.compiler);
        for (part, count) in &self.parts {
            writeln!(text, "{part} {count:.1}")?;
        }
        print!("{text}");
        Ok(fs::write(FILE, text)?)
    }
}

/// The compiler and what it compiles for.
pub(crate) fn compiler() -> Result<String, Box<dyn Error>> {
    let output = Command::new(env::var_os("RUSTC").unwrap_or("rustc".into())).arg("-V").output()?;
    let version = String::from_utf8(output.stdout)?;
    Ok(format!("{}, {}-{}", version.trim(), env::consts::ARCH, env::consts::OS))
}
