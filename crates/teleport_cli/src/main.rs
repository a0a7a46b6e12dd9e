//! The program `teleport`.

mod args;
mod bench;
mod rate;
mod ring;
mod scale;
mod size;
mod soak;

use std::error::Error;
use std::process::ExitCode;

use args::{Cli, Command};

fn main() -> ExitCode {
    let outcome = match Cli::parse_and_check().command {
        Command::Ring(options) => ring::run(&options).map_err(Box::<dyn Error>::from),
        Command::Rate(options) => rate::run(&options).map_err(Box::<dyn Error>::from),
        Command::RateNode(options) => rate::run_node(&options).map_err(Box::<dyn Error>::from),
        Command::RingNode(options) => ring::run_node(&options).map_err(Box::<dyn Error>::from),
        Command::Soak(options) => soak::run(&options).map_err(Box::<dyn Error>::from),
        Command::SoakNode(options) => soak::run_node(&options).map_err(Box::<dyn Error>::from),
        Command::Scale(options) => scale::run(&options).map_err(Box::<dyn Error>::from),
        Command::ScaleNode(options) => scale::run_node(&options).map_err(Box::<dyn Error>::from),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            bench::say(&format!("error: {}", chain(error.as_ref())));
            ExitCode::from(exit_code(error.as_ref()))
        }
    }
}

fn exit_code(error: &(dyn Error + 'static)) -> u8 {
    let ring = error.downcast_ref().and_then(|error| match error {
        ring::RingError::Bench(error) => Some(error),
        _ => None,
    });
    let rate = error.downcast_ref().and_then(|error| match error {
        rate::RateError::Bench(error) => Some(error),
        _ => None,
    });
    let soak = error.downcast_ref().and_then(|error| match error {
        soak::SoakError::Bench(error) => Some(error),
        _ => None,
    });
    let scale = error.downcast_ref().and_then(|error| match error {
        scale::ScaleError::Bench(error) => Some(error),
        scale::ScaleError::NoMemory { .. } => None,
    });
    ring.or(rate).or(soak).or(scale).map_or(1, bench::BenchError::exit_code)
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
