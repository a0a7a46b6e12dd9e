//! The virtual cluster for many seeds: `simulate --seeds 100000 [--from SEED]`; or for one, with every step: `simulate --seed SEED`.

#![allow(clippy::print_stdout)] // what it is for

use std::process::ExitCode;
use std::time::Instant;
use teleport_testkit::cluster::{Scenario, kept_seeds, outcome, run_many};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    match (number("--seed"), number("--seeds")) {
        (Some(seed), _) => one(seed),
        (None, Some(count)) => {
            let from = number("--from").unwrap_or(0);
            many(&kept_seeds().into_iter().chain(from..from + count).collect::<Vec<_>>())
        }
        (None, None) => {
            eprintln!("usage: simulate --seeds COUNT [--from SEED] | --seed SEED");
            ExitCode::FAILURE
        }
    }
}

fn one(seed: u64) -> ExitCode {
    match outcome(seed, &Scenario { trace: true, ..Scenario::of(seed) }) {
        Ok(coverage) => {
            println!("{coverage}");
            ExitCode::SUCCESS
        }
        Err(what) => {
            println!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn many(seeds: &[u64]) -> ExitCode {
    let begin = Instant::now();
    let report = run_many(seeds, |done| {
        let per_second = done as f64 / begin.elapsed().as_secs_f64();
        eprintln!("{done} of {} seeds, {per_second:.0} per second", seeds.len());
    });
    let coverage = report.coverage;
    print!("{coverage}");
    for (_, what) in &report.failures {
        println!("{what}");
    }
    println!(
        "{} seeds in {:.1} s: {} messages delivered, {} sides of sessions begun, {} connections cut, {} restarts, {} stops, {} jumps \
         of clocks; {} broken promises",
        report.seeds,
        begin.elapsed().as_secs_f64(),
        coverage.delivered,
        coverage.sessions_begun,
        coverage.cuts + coverage.control_cuts,
        coverage.restarts,
        coverage.stops,
        coverage.jumps,
        report.failures.len()
    );
    if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
