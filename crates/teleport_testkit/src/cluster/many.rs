//! Many seeds, on all processors.

use super::{Coverage, Scenario, run};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

/// So many failures are enough.
const MOST_FAILURES: usize = 20;

/// From one word on how far it is to the next.
const PROGRESS: Duration = Duration::from_secs(10);

/// What has become of many seeds.
#[derive(Debug, Default)]
pub struct Report {
    /// How many were run.
    pub seeds: u64,
    /// What they have reached.
    pub coverage: Coverage,
    /// Those that failed, and how.
    pub failures: Vec<(u64, String)>,
}

/// The seeds that are always run: each has failed once.
pub fn kept_seeds() -> Vec<u64> {
    let lines = include_str!("../../kept_seeds.txt").lines();
    lines.filter_map(|line| line.split('#').next()?.trim().parse().ok()).collect()
}

/// Runs one seed; a panic is a failure like any other.
///
/// # Errors
///
/// What was wrong, in words.
pub fn outcome(seed: u64, scenario: &Scenario) -> Result<Coverage, String> {
    thread_local! {
        static QUIET: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                usual(info);
            }
        }));
    });
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| run(seed, scenario)));
    QUIET.set(false);
    match result {
        Ok(result) => result.map_err(|failure| failure.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("seed {seed}: panic: {}", text.unwrap_or_default()))
        }
    }
}

/// Runs the scenarios that belong to some seeds. `progress` is told now and then how many are done.
pub fn run_many(seeds: &[u64], progress: impl Fn(u64) + Sync) -> Report {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    let (next, report, said) = (AtomicU64::new(0), Mutex::new(Report::default()), Mutex::new(Instant::now()));
    let work = || {
        while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            let outcome = outcome(seed, &Scenario::of(seed));
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            report.seeds += 1;
            match outcome {
                Ok(coverage) => report.coverage.add(&coverage),
                Err(what) => report.failures.push((seed, what)),
            }
            if report.failures.len() >= MOST_FAILURES {
                return;
            }
            let done = report.seeds;
            drop(report);
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            if said.elapsed() >= PROGRESS {
                *said = Instant::now();
                progress(done);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.failures.sort_unstable();
    report
}
