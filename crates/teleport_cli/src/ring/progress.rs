//! How far the run has come: a bar on a terminal, else plain lines. Always on stderr.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::report::Round;
use crate::args::RingOptions;

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
            None => eprintln!("{text}"),
        }
    }

    /// The rounds begin.
    pub(crate) fn begin(&self, rounds: u64) {
        let Some(bar) = &self.bar else { return };
        // Redrawn only between rounds: a ticker would take processor time from what is measured.
        bar.disable_steady_tick();
        bar.set_length(rounds);
        bar.set_message("");
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} [{elapsed}, {eta} to go] {msg}")
        {
            bar.set_style(style);
        }
    }

    /// A round is over.
    pub(crate) fn round(&self, label: &str, options: &RingOptions, round: u32, figures: &Round) {
        let number = match round.checked_sub(options.warmup) {
            None | Some(0) => format!("warm-up {round}/{}", options.warmup),
            Some(timed) => format!("round {timed}/{}", options.rounds),
        };
        let text = format!(
            "{number} {label}: {:.3} s, {:.0} MB/s, {:.2} CPU s/GB",
            figures.seconds, figures.megabytes_per_second, figures.cpu_seconds_per_gigabyte
        );
        match &self.bar {
            Some(bar) => {
                bar.set_message(text);
                bar.inc(1);
            }
            None => eprintln!("{text}"),
        }
    }

    /// All rounds are over.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
