//! Waits for what has to become true.

use std::time::{Duration, Instant};

/// Far above what anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Returns when the condition holds.
///
/// # Panics
///
/// If it does not within [`PATIENCE`].
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    // Not by the other one: its futures cannot be sent to other threads.
    let end = Instant::now() + PATIENCE;
    while !condition() {
        pause_before(end, what).await;
    }
}

/// Like [`eventually`], for what has to be asked for.
///
/// # Panics
///
/// If it does not hold within [`PATIENCE`].
pub async fn eventually_async(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition().await {
        pause_before(end, what).await;
    }
}

async fn pause_before(end: Instant, what: &str) {
    assert!(Instant::now() < end, "never: {what}");
    tokio::time::sleep(Duration::from_millis(1)).await;
}
