//! The bodies of the fuzz targets on their seeds, and on what is close to them.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use teleport_testkit::fuzz::{TARGETS, Target, seeds};
use teleport_testkit::terms::generate::{Seeded, damage};

/// How many damaged forms of each seed are tried.
const FORMS: usize = 500;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The files in a target's folder, by their names.
fn corpus(target: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = fuzz().join("seeds").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let files = entries
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()));
    let corpus: BTreeMap<_, _> = files.collect();
    assert!(!corpus.is_empty(), "{} has no seeds", folder.display());
    corpus
}

#[test]
fn every_target_has_a_program_and_seeds() {
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let programs = manifest.split("[[bin]]").skip(1).map(|bin| bin.split('"').nth(1).unwrap());
    assert_eq!(programs.collect::<Vec<_>>(), TARGETS.map(|target| target.name));
    TARGETS.iter().for_each(|target| drop(corpus(target.name)));
}

#[test]
fn the_seeds_are_what_this_version_writes_and_are_good() {
    for (target, name, bytes) in seeds() {
        assert!(
            corpus(target).get(&name) == Some(&bytes),
            "fuzz/seeds/{target}/{name} is not what is written now: `make fuzz-seeds`"
        );
        let Target { body, .. } = TARGETS.into_iter().find(|known| known.name == target).unwrap();
        assert!(body(&bytes), "fuzz/seeds/{target}/{name} is refused");
    }
}

/// Inputs that once failed are among the seeds. `TELEPORT_SEEDS=10000` tries that many forms of each.
#[test]
fn the_seeds_and_what_is_close_to_them_break_nothing() {
    let forms = env::var("TELEPORT_SEEDS").map_or(FORMS, |forms| forms.parse().unwrap());
    for Target { name, body } in TARGETS {
        let mut from = Seeded(8);
        let mut good = 0;
        for (file, bytes) in corpus(name) {
            body(&bytes);
            for end in 0..bytes.len().min(FORMS) {
                body(&bytes[..end]);
            }
            let bytes = if bytes.is_empty() { file.into_bytes() } else { bytes };
            good += (0..forms).filter(|_| body(&damage(&mut from, &bytes))).count();
        }
        println!("{name}: {good} good");
        assert!(good > 0 || name == "handshake", "no damaged input of {name} is good any more");
    }
}
