//! What every benchmark of this program needs: node processes and a coordinator that leads them, figures, tables.
//!
//! A benchmark's coordinator ([`lead`]) starts its nodes as child processes ([`cluster`]) and speaks a [`protocol`] with
//! them; a node that is a process of this program follows it with [`child`].

pub(crate) mod child;
pub(crate) mod cluster;
mod error;
pub(crate) mod payload;
pub(crate) mod process;
pub(crate) mod progress;
pub(crate) mod protocol;
pub(crate) mod results;
pub(crate) mod socket;
pub(crate) mod spawned;
pub(crate) mod stats;
pub(crate) mod table;
pub(crate) mod tls;

use std::io::{self, Write};
use std::time::{Duration, Instant};

use tokio::process::Command as Program;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use error::BenchError;

/// The cookie of the product's nodes: all of them are on this machine and trust one another.
pub(crate) const COOKIE: &str = "benchmark on loopback";

/// How long nodes that were killed may take to be gone.
const PARTING: Duration = Duration::from_secs(5);

/// Runs a coordinator to its end, or until the program is told to end.
pub(crate) fn lead<T, E: From<BenchError>>(coordinator: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| BenchError::Setup { what: "start the coordinator's runtime", source })?;
    runtime.block_on(async {
        let outcome = tokio::select! {
            outcome = coordinator => outcome,
            interrupt = interrupted() => Err(interrupt.into()),
        };
        // Whatever it has dropped is killed by now, and not yet gone.
        let begin = Instant::now();
        while process::reap_children() && begin.elapsed() < PARTING {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        outcome
    })
}

/// This program, to be run as a node: a hidden command with options.
pub(crate) fn own_program(arguments: &[String]) -> Result<Program, BenchError> {
    let path = std::env::current_exe()
        .map_err(|source| BenchError::Setup { what: "find the path of this program", source })?;
    let mut program = Program::new(path);
    program.args(arguments);
    Ok(program)
}

/// Prints results. Who reads them may have seen enough, and closed the pipe.
pub(crate) fn print(results: &str) -> Result<(), BenchError> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{results}").and_then(|()| stdout.flush()) {
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => {
            Err(BenchError::Setup { what: "print the results", source })
        }
        _ => Ok(()),
    }
}

/// Says something on stderr. Whether or not anybody can read it changes nothing.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The reason why a run ends early.
async fn interrupted() -> BenchError {
    let watch = |kind| signal(kind).map_err(|source| BenchError::Setup { what: "watch for signals", source });
    match (watch(SignalKind::interrupt()), watch(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            let signal = tokio::select! {
                _ = interrupt.recv() => SignalKind::interrupt(),
                _ = terminate.recv() => SignalKind::terminate(),
            };
            BenchError::Interrupted { signal: signal.as_raw_value() }
        }
        (Err(error), _) | (_, Err(error)) => error,
    }
}
