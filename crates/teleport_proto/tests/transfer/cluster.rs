//! The promises of a session, checked in a virtual cluster for thousands of seeds.
//!
//! `TELEPORT_SEEDS` says how many seeds (default 2,000 for two nodes; six nodes get a seventh of them). A failure names
//! its seed; `TELEPORT_SEED=<seed>` runs just that one and prints every step.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use teleport_proto::transfer::Faults;
use teleport_testkit::cluster::{Coverage, Scenario, run};

/// Seeds that have failed once, and what was wrong. A change of the cluster gives every seed another meaning, so what was
/// wrong is planted below, too.
const REGRESSIONS: &[u64] = &[
    111, // the acceptor let a connection come up that it had given up
    958, // idle connections were closed by one side and opened again for the other, without end
];

/// A planted fault has to be caught by one of this many seeds.
const SEEDS_PER_FAULT: u64 = 1_000;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs one seed; a panic is a failure like any other.
fn outcome(seed: u64, scenario: &Scenario) -> Result<Coverage, String> {
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
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
            Err(format!("seed {seed}: panic: {}", text.unwrap_or_default()))
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().expect("a number"))
}

fn check(test: &str, scenario: &Scenario, seeds: impl Iterator<Item = u64>) -> Coverage {
    let mut coverage = Coverage::default();
    let one = number("TELEPORT_SEED");
    let scenario = Scenario { trace: one.is_some(), ..scenario.clone() };
    let seeds: Box<dyn Iterator<Item = u64>> = match one {
        Some(seed) => Box::new(std::iter::once(seed)),
        None => Box::new(seeds),
    };
    for seed in seeds {
        match outcome(seed, &scenario) {
            Ok(run) => coverage.add(&run),
            Err(what) => panic!(
                "{what}\nreproduce with: TELEPORT_SEED={seed} cargo test -p teleport_proto --test transfer {test}"
            ),
        }
    }
    println!("{coverage}");
    coverage
}

/// What was never put to the test has not been shown.
fn assert_reached(coverage: &Coverage, but: &[&str]) {
    let missed: Vec<_> =
        coverage.rows().into_iter().filter(|(name, count)| *count == 0 && !but.contains(name)).collect();
    assert!(missed.is_empty(), "never reached: {missed:?}");
}

#[test]
fn two_nodes_keep_every_promise() {
    let seeds = number("TELEPORT_SEEDS").unwrap_or(2_000);
    let all = REGRESSIONS.iter().copied().chain(0..seeds);
    let coverage = check("two_nodes_keep_every_promise", &Scenario::two_nodes(), all);
    if seeds >= 500 && number("TELEPORT_SEED").is_none() {
        assert_reached(&coverage, &["put_off"]);
    }
}

#[test]
fn six_nodes_keep_every_promise() {
    let seeds = number("TELEPORT_SEEDS").unwrap_or(2_000) / 7;
    let coverage = check("six_nodes_keep_every_promise", &Scenario::six_nodes(), 0..seeds);
    if seeds >= 200 && number("TELEPORT_SEED").is_none() {
        assert_reached(&coverage, &["put_off"]);
    }
}

#[test]
fn nodes_that_stand_still_keep_nothing_from_the_others() {
    let seeds = number("TELEPORT_SEEDS").unwrap_or(2_000) / 7;
    let coverage =
        check("nodes_that_stand_still_keep_nothing_from_the_others", &Scenario::standing_still(), 0..seeds);
    if seeds >= 200 && number("TELEPORT_SEED").is_none() {
        assert_reached(&coverage, &["sessions_ended", "unconfirmed"]);
    }
}

/// Finds the first seed that catches the fault.
fn caught(name: &str, planted: Faults) {
    caught_in(&Scenario::two_nodes(), name, planted);
}

fn caught_in(scenario: &Scenario, name: &str, planted: Faults) {
    let faulty = Scenario { planted, ..scenario.clone() };
    let found = (0..SEEDS_PER_FAULT).find_map(|seed| outcome(seed, &faulty).err().map(|what| (seed, what)));
    let Some((seed, what)) = found else { panic!("{name}: not caught by {SEEDS_PER_FAULT} seeds") };
    println!("{name}: caught by {what}");
    outcome(seed, scenario).expect("the same seed without the fault");
}

#[test]
fn queueing_again_too_early_is_caught() {
    caught("requeue_early", Faults { requeue_early: true, ..Faults::default() });
}

#[test]
fn acknowledging_one_frame_too_many_is_caught() {
    caught("acknowledge_one_more", Faults { acknowledge_one_more: true, ..Faults::default() });
}

#[test]
fn ignoring_the_predecessor_is_caught() {
    caught("ignore_predecessor", Faults { ignore_predecessor: true, ..Faults::default() });
    caught("ignore_barrier", Faults { ignore_barrier: true, ..Faults::default() });
}

#[test]
fn taking_batches_as_they_come_is_caught() {
    caught("ignore_position", Faults { ignore_position: true, ..Faults::default() });
}

#[test]
fn a_budget_for_those_who_come_first_is_caught() {
    let unfair = Faults { unfair_budget: true, ..Faults::default() };
    caught_in(&Scenario::standing_still(), "unfair_budget", unfair);
}

#[test]
fn losing_credit_on_retirement_is_caught() {
    caught("lose_credit", Faults { lose_credit: true, ..Faults::default() });
}

#[test]
fn resuming_control_without_repeating_is_caught() {
    caught("resume_silently", Faults { resume_silently: true, ..Faults::default() });
}

#[test]
fn readmitting_a_connection_is_caught() {
    caught("readmit_connections", Faults { readmit_connections: true, ..Faults::default() });
}

#[test]
fn opening_idle_connections_again_is_caught() {
    caught("reopen_idle", Faults { reopen_idle: true, ..Faults::default() });
}

#[test]
fn counting_before_the_reader_has_stopped_is_caught() {
    caught("count_before_stopped", Faults { count_before_stopped: true, ..Faults::default() });
}

#[test]
fn granting_without_asking_the_node_is_caught() {
    let unasked = Faults { grant_unasked: true, ..Faults::default() };
    caught_in(&Scenario::six_nodes(), "grant_unasked", unasked);
}

#[test]
fn forgetting_what_a_peer_needs_is_caught() {
    let forgetful = Faults { forget_needs: true, ..Faults::default() };
    caught_in(&Scenario::six_nodes(), "forget_needs", forgetful);
}
