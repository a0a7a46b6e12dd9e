//! How far the run has come: a bar on a terminal, else plain lines. Always on stderr.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::chaos::figures::Counts;
use super::report::Round;
use crate::args::RingOptions;

/// Under chaos, plain lines come only so often.
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
            None => eprintln!("{text}"),
        }
    }

    /// So many rounds, or seconds, begin.
    pub(crate) fn begin(&self, steps: u64) {
        let Some(bar) = &self.bar else { return };
        // Redrawn only between rounds: a ticker would take processor time from what is measured.
        bar.disable_steady_tick();
        bar.set_length(steps);
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

    /// Another second under chaos is over.
    pub(crate) fn chaos(&self, elapsed: Duration, of: u64, counts: &Counts) {
        let seconds = elapsed.as_secs().min(of);
        let Counts { received, pool_killed, control_killed, frames_resent, .. } = counts;
        let text = format!(
            "{received} messages, {pool_killed} pool and {control_killed} control connections killed, {frames_resent} frames resent"
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(seconds);
                bar.set_message(text);
            }
            None if seconds == of || seconds.is_multiple_of(PLAIN_LINE_SECONDS) => {
                eprintln!("{seconds}/{of} s: {text}");
            }
            None => {}
        }
    }

    /// All rounds are over.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
