//! How far the run has come: a bar on a terminal, else plain lines. Always on stderr.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::say;

/// Seconds make a plain line only so often.
const PLAIN_LINE_SECONDS: u64 = 5;

/// Shows what is going on.
pub(crate) struct Progress {
    /// None if stderr is no terminal.
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Nothing to see yet.
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
        if let Some(bar) = &bar {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self { bar }
    }

    /// Something else is going on now.
    pub(crate) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => say(text),
        }
    }

    /// Begins a run of this many steps, or seconds.
    pub(crate) fn begin(&self, steps: u64) {
        let Some(bar) = &self.bar else { return };
        // Redrawn only between steps: a ticker would take processor time from what is measured.
        bar.disable_steady_tick();
        bar.set_length(steps);
        bar.set_message("");
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} [{elapsed}, {eta} to go] {msg}")
        {
            bar.set_style(style);
        }
    }

    /// Another step is done.
    pub(crate) fn step(&self, text: String) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(text);
                bar.inc(1);
            }
            None => say(&text),
        }
    }

    /// Shows how many seconds of all are over.
    pub(crate) fn second(&self, seconds: u64, of: u64, text: String) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(seconds);
                bar.set_message(text);
            }
            None if seconds == of || seconds.is_multiple_of(PLAIN_LINE_SECONDS) => {
                say(&format!("{seconds}/{of} s: {text}"));
            }
            None => {}
        }
    }

    /// All steps are done.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// What to call a round, counted from the first of the warm-up.
pub(crate) fn round_name(round: u32, warmup: u32, rounds: u32) -> String {
    match round.checked_sub(warmup) {
        None | Some(0) => format!("warm-up {round}/{warmup}"),
        Some(timed) => format!("round {timed}/{rounds}"),
    }
}
