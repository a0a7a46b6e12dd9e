//! The program `teleport`.

mod args;
mod bench;
mod rate;
mod ring;
mod size;

use std::error::Error;
use std::process::ExitCode;

use args::{Cli, Command};

fn main() -> ExitCode {
    let outcome = match Cli::parse_and_check().command {
        Command::Ring(options) => ring::run(&options).map_err(Box::<dyn Error>::from),
        Command::Rate(options) => rate::run(&options).map_err(Box::<dyn Error>::from),
        Command::RateNode(options) => rate::run_node(&options).map_err(Box::<dyn Error>::from),
        Command::RingNode(options) => ring::run_node(&options).map_err(Box::<dyn Error>::from),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// An error and what caused it, on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}
