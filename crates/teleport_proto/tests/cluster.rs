//! The promises of a node in a virtual cluster, checked for thousands of seeds, and faults that are planted to be caught.
//!
//! `TELEPORT_SEEDS` says how many seeds (default 4,000); `make simulate SEEDS=100000` runs many more. A failure names its seed:
//! `cargo run -p teleport_testkit --example simulate -- --seed SEED` runs just that one and prints every step.

#![allow(clippy::print_stdout)] // the table of what was reached
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use teleport_proto::Faults;
use teleport_testkit::cluster::{Scenario, kept_seeds, outcome, run_many};

/// A planted fault has to be caught by one of this many seeds.
const SEEDS_PER_FAULT: u64 = 4_000;

#[test]
fn nodes_keep_every_promise() {
    let count = std::env::var("TELEPORT_SEEDS").map_or(4_000, |count| count.parse().unwrap());
    let seeds: Vec<u64> = kept_seeds().into_iter().chain(0..count).collect();
    let report = run_many(&seeds, |done| println!("{done} of {} seeds", seeds.len()));
    println!("{}", report.coverage);
    assert!(report.failures.is_empty(), "{:#?}", report.failures);
    // What was never put to the test has not been shown.
    let missed: Vec<_> = report.coverage.rows().into_iter().filter(|(_, count)| *count == 0).collect();
    assert!(missed.is_empty() || count < 2_000, "never reached: {missed:?}");
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
    caught("pass_those_waiting", Faults { pass_those_waiting: true, ..Faults::default() });
}

#[test]
fn taking_batches_as_they_come_is_caught() {
    caught("ignore_position", Faults { ignore_position: true, ..Faults::default() });
}

#[test]
fn leaving_what_lies_in_a_tray_for_later_is_caught() {
    caught("late_trays", Faults { late_trays: true, ..Faults::default() });
}

#[test]
fn keeping_the_room_of_a_tray_is_caught() {
    caught("keep_room", Faults { keep_room: true, ..Faults::default() });
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

#[test]
fn keeping_the_room_of_what_the_host_has_taken_is_caught() {
    caught("keep_queued", Faults { keep_queued: true, ..Faults::default() });
}

#[test]
fn holding_an_absence_of_ones_own_against_the_peer_is_caught() {
    caught("absence_counts", Faults { absence_counts: true, ..Faults::default() });
}

#[test]
fn keeping_a_silent_control_connection_is_caught() {
    caught("keep_silent_control", Faults { keep_silent_control: true, ..Faults::default() });
}

#[test]
fn taking_a_peer_for_gone_at_once_is_caught() {
    caught("gone_at_once", Faults { gone_at_once: true, ..Faults::default() });
}

#[test]
fn taking_stale_resumes_is_caught() {
    caught("stale_resumes", Faults { stale_resumes: true, ..Faults::default() });
}

#[test]
fn believing_what_is_not_proved_is_caught() {
    caught("believe_unproved", Faults { believe_unproved: true, ..Faults::default() });
}

#[test]
fn taking_a_pool_connection_twice_is_caught() {
    caught("ids_twice", Faults { ids_twice: true, ..Faults::default() });
}

#[test]
fn keeping_the_former_life_of_a_peer_is_caught() {
    caught("keep_old_lives", Faults { keep_old_lives: true, ..Faults::default() });
}

#[test]
fn believing_an_earlier_life_is_caught() {
    caught("late_lives", Faults { late_lives: true, ..Faults::default() });
}

#[test]
fn believing_a_claim_of_a_peers_name_is_caught() {
    caught("trust_claims", Faults { trust_claims: true, ..Faults::default() });
}

#[test]
fn giving_a_session_up_for_its_control_connection_alone_is_caught() {
    caught("deaf_probe", Faults { deaf_probe: true, ..Faults::default() });
}

#[test]
fn calls_that_outlive_their_session_are_caught() {
    caught("calls_outlive", Faults { calls_outlive: true, ..Faults::default() });
}

#[test]
fn taking_a_late_answer_for_that_of_another_call_is_caught() {
    caught("any_call", Faults { any_call: true, ..Faults::default() });
}

#[test]
fn challenging_with_the_same_nonce_is_caught() {
    caught("same_nonce", Faults { same_nonce: true, ..Faults::default() });
}
