//! `teleport scale` as a user runs it.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::process::{Command, Output};

use serde_json::Value;

fn scale(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_teleport")).arg("scale").args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_node_meets_every_other_and_is_measured() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("results.json");
    let output = scale(&["--nodes", "4", "--seconds", "3", "--json", json.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("6/6 s: 4 used nodes"), "{}", stderr(&output));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("4 nodes, each with 3 peers") && table.contains("wake-ups"), "{table}");

    let results: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!((&results["nodes"], &results["peers"]), (&4.into(), &3.into()));
    let median = |phase: &str, name: &str| results[phase][name]["median"].as_f64().unwrap();
    assert!(median("alone", "rss_kib") > 1000.0 && median("alone", "anonymous_kib") > 100.0, "{results}");
    // One for control, one for small messages, and none that opens more threads.
    assert_eq!(median("idle", "descriptors_per_peer"), 2.0, "{results}");
    assert_eq!(median("idle", "threads_per_peer"), 0.0, "{results}");
    assert!(median("idle", "anonymous_kib_per_peer") > 0.0, "{results}");
    // In a second there are 3 calls of each node, and 3 of others.
    let wakeups = |phase| median(phase, "wakeups_per_peer_and_minute");
    assert!(wakeups("used") > 60.0 && wakeups("used") > wakeups("idle"), "{results}");
    assert!(results["calls"].as_u64().unwrap() >= 4, "{results}");
    assert!(results["call_us"]["p50"].as_f64().unwrap() > 0.0, "{results}");
}

#[test]
fn what_cannot_be_run_is_refused_at_once() {
    for (arguments, said) in
        [(&["--nodes", "1"][..], "--nodes"), (&["--json", "/nowhere/results.json"], "/nowhere/results.json")]
    {
        let output = scale(arguments);
        assert!(!output.status.success() && stderr(&output).contains(said), "{}", stderr(&output));
    }
}
