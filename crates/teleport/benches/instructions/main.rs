//! Instructions per message of each part of a message's way, by callgrind: the same in every run, however busy the machine is.
//!
//!     make bench-compare                       # beside what is stored; fails where it is more by a twentieth
//!     make bench-compare ARGS="--store"        # stores what it is now
//!
//! A part is run for some messages and for twice as many; what the second half took is what is counted. So it does not matter what
//! it takes to begin, to grow and to end.

#![allow(clippy::print_stdout, reason = "a program for a terminal")]

mod parts;
mod stored;

use std::env;
use std::error::Error;
use std::process::{Command, ExitCode};

use parts::{PARTS, Part};
use stored::Stored;

/// The most that a part may take of what is stored.
const ALLOWED: f64 = 1.05;

fn main() -> ExitCode {
    // Cargo adds an argument of its own.
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(),
        ["--store"] => count_all().and_then(|now| now.write()).map(|()| true),
        ["--run", part, messages] => run(part, messages).map(|()| true),
        _ => Err("no argument, or --store".into()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what is stored beside what is. Whether no part takes too much.
fn compare() -> Result<bool, Box<dyn Error>> {
    let (stored, now) = (Stored::read()?, count_all()?);
    if stored.compiler != now.compiler {
        println!("stored with {}, now {}", stored.compiler, now.compiler);
    }
    println!("{:<26} {:>10} {:>10} {:>7}", "instructions per message", "now", "stored", "ratio");
    let mut good = true;
    for (part, now) in &now.parts {
        let stored = stored.parts.iter().find(|(name, _)| name == part);
        let Some((_, stored)) = stored else {
            println!("{part:<26} {now:>10.0} {:>10} {:>7}", "-", "new");
            good = false;
            continue;
        };
        let ratio = now / stored;
        let verdict = if ratio > ALLOWED { "  too much" } else { "" };
        println!("{part:<26} {now:>10.0} {stored:>10.0} {ratio:>7.3}{verdict}");
        good &= ratio <= ALLOWED;
    }
    if !good {
        println!("find out why, or store it with what it is for: make bench-compare ARGS=\"--store\"");
    }
    Ok(good)
}

fn count_all() -> Result<Stored, Box<dyn Error>> {
    let parts = PARTS.iter().map(|part| {
        let (once, twice) = (count(part, part.messages)?, count(part, 2 * part.messages)?);
        Ok((part.name.to_owned(), (twice.saturating_sub(once)) as f64 / part.messages as f64))
    });
    Ok(Stored { compiler: stored::compiler()?, parts: parts.collect::<Result<_, Box<dyn Error>>>()? })
}

/// Instructions of a process that does this part for this many messages.
fn count(part: &Part, messages: usize) -> Result<u64, Box<dyn Error>> {
    let valgrind = ["--tool=callgrind", "--callgrind-out-file=/dev/null"];
    let output = Command::new("valgrind")
        .args(valgrind)
        .args(part.only.map(|function| format!("--toggle-collect={function}")))
        .arg(env::current_exe()?)
        .args(["--run", part.name, &messages.to_string()])
        .output()
        .map_err(|error| format!("valgrind: {error}; apt-get install valgrind"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    match collected.and_then(|(_, count)| count.trim().parse().ok()).filter(|_| output.status.success()) {
        Some(count) => Ok(count),
        None => Err(format!("valgrind counted nothing of {}:\n{said}", part.name).into()),
    }
}

fn run(name: &str, messages: &str) -> Result<(), Box<dyn Error>> {
    let part = PARTS.iter().find(|part| part.name == name).ok_or("there is no such part")?;
    (part.run)(messages.parse()?);
    Ok(())
}
