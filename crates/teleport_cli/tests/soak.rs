//! `teleport soak` as a user runs it.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::process::{Command, Output};

use serde_json::Value;

/// Three nodes for a while.
fn soak(minutes: &str, arguments: &[&str]) -> (Output, Value) {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("results.json");
    let output = Command::new(env!("CARGO_BIN_EXE_teleport"))
        .args(["soak", "--minutes", minutes, "--nodes", "3", "--size", "1MiB", "--seed", "7", "--json"])
        .arg(&json)
        .args(arguments)
        .output()
        .unwrap();
    let results = std::fs::read(&json).map_or(Value::Null, |json| serde_json::from_slice(&json).unwrap());
    (output, results)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_promise_is_kept_while_nodes_are_killed() {
    let (output, results) = soak("0.05", &["--faults", "cut,control,disconnect,exit,stop,kill,restart"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let keys: Vec<_> = results.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = [
        "seed",
        "messages",
        "delivered",
        "unconfirmed",
        "lost",
        "doubled",
        "reordered",
        "calls",
        "calls_unended",
        "faults",
        "gauges_at_end",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    let number = |key: &str| results[key].as_u64().unwrap();
    assert_eq!(number("seed"), 7);
    for key in ["lost", "doubled", "reordered", "calls_unended"] {
        assert_eq!(number(key), 0, "{key}");
    }
    assert_eq!(number("messages"), number("delivered") + number("unconfirmed"));
    assert!(number("delivered") > 100 && number("calls") > 100, "{results}");
    for (kind, count) in results["faults"].as_object().unwrap() {
        assert!(count.as_u64().unwrap() > 0, "{kind} never struck");
    }
    let gauges = results["gauges_at_end"].as_object().unwrap();
    assert!(gauges.len() > 10 && gauges.values().all(|value| value == 0), "{gauges:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("--seed 7") && table.contains("messages accepted"), "{table}");
}

/// Connections that break end no session and lose nothing, so what a node does wrong has no excuse.
#[test]
fn a_broken_promise_is_noticed_and_named() {
    for (plant, key, said) in [
        ("lose", "lost", "while no session ended"),
        ("double", "doubled", "took 1 again"),
        ("swap", "reordered", "1 too late"),
    ] {
        let (output, results) = soak("0.02", &["--faults", "cut", "--plant", plant]);
        assert_eq!(output.status.code(), Some(1), "{plant}: {}", stderr(&output));
        assert_eq!(results[key], 1, "{plant}: {results}");
        assert!(stderr(&output).contains(said), "{plant}: {}", stderr(&output));
    }
}

#[test]
fn a_call_without_an_end_is_noticed() {
    let (output, results) = soak("0.02", &["--faults", "cut", "--plant", "hang", "--deadline", "10"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    // The server may end meanwhile, and with it what is left at the end; nobody has said how the call has ended.
    assert_eq!(results["calls_unended"], 1, "{results}");
    assert!(stderr(&output).contains("1 calls have not ended"), "{}", stderr(&output));
}

#[test]
fn what_cannot_be_run_is_refused_at_once() {
    for (arguments, said) in [
        (&["--faults", "flood"][..], "'flood'"),
        (&["--minutes", "0"], "number of minutes"),
        (&["--nodes", "64", "--size", "1GiB"], "64 nodes with messages up to 1GiB may take"),
    ] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_teleport")).arg("soak").args(arguments).output().unwrap();
        assert!(!output.status.success() && stderr(&output).contains(said), "{}", stderr(&output));
    }
}
