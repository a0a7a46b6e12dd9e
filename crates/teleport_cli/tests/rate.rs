//! `teleport rate` as a user runs it.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

fn teleport() -> Command {
    Command::new(env!("CARGO_BIN_EXE_teleport"))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// One short round; returns its table and its JSON.
fn short_round(further: &[&str]) -> (String, Value) {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("results.json");
    let mut command = teleport();
    // Long enough that something arrives, however busy the machine is: a round without any message is an error.
    command.args(["rate", "--seconds", "1", "--rounds", "1"]).args(further).arg("--json").arg(&json);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let results = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    (String::from_utf8(output.stdout).unwrap(), results)
}

fn check_run(run: &Value, transport: &str) {
    assert_eq!(run["transport"], transport);
    let rounds = run["messages_per_second"].as_array().unwrap();
    assert!(rounds.len() == 1 && rounds[0].as_f64().unwrap() > 0.0, "{run}");
    assert!(run["cpu_microseconds_per_message"].as_f64().unwrap() > 0.0, "{run}");
}

/// More pairs than cores.
#[test]
fn a_round_of_messages_has_all_transports() {
    let (table, results) = short_round(&["--pairs", "3", "--size", "100B"]);
    assert!(table.contains("messages/s") && table.contains("x raw"), "{table}");
    let config = &results["config"];
    assert_eq!((&config["size_bytes"], &config["pairs"]), (&100.into(), &3.into()));
    let runs = results["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3);
    for (run, transport) in runs.iter().zip(["teleport", "raw", "inline"]) {
        check_run(run, transport);
        assert_eq!(run["call_us"], Value::Null);
    }
}

#[test]
fn tls_is_measured_beside_plain() {
    let (table, results) = short_round(&["--transport", "teleport", "--tls"]);
    assert!(table.contains("tls"), "{table}");
    let runs = results["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    for (run, transport) in runs.iter().zip(["tls", "teleport"]) {
        check_run(run, transport);
    }
}

#[test]
fn a_node_may_share_its_threads_with_the_application() {
    for threads in ["shared", "single"] {
        let (_, results) = short_round(&["--transport", "teleport", "--threads", threads]);
        check_run(&results["runs"][0], "teleport");
        assert_eq!(results["config"]["threads"], threads);
    }
}

#[test]
fn a_round_of_calls_has_all_transports() {
    let (table, results) = short_round(&["--mode", "call", "--pairs", "2"]);
    assert!(table.contains("calls/s") && table.contains("p99"), "{table}");
    let runs = results["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    for (run, transport) in runs.iter().zip(["teleport", "raw"]) {
        check_run(run, transport);
        let us = |name: &str| run["call_us"][name].as_f64().unwrap();
        assert!(us("p50") > 0.0 && us("p50") <= us("p99") && us("p99") <= us("max"), "{run}");
    }
}

#[test]
fn calls_without_handing_over_are_refused() {
    let output = teleport().args(["rate", "--mode", "call", "--transport", "inline"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = stderr(&output);
    assert!(error.contains("--transport inline") && error.contains("`raw`"), "{error}");
}

#[test]
fn a_node_that_cannot_start_gives_its_reason() {
    let output = teleport().args(["rate", "--congestion", "no-such"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = stderr(&output);
    assert!(error.contains("teleport: node") && error.contains("no-such"), "{error}");
}

/// Also while nothing is asked of it, in the middle of a round that would last for minutes.
#[test]
fn a_node_that_dies_is_reported() {
    for transport in ["teleport", "raw", "inline"] {
        let mut coordinator = teleport()
            .args(["rate", "--seconds", "600", "--transport", transport])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(coordinator.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("warm-up 1/1") {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended before the first round");
        }
        let pid = coordinator.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let receiver = children.split_whitespace().nth(1).unwrap();
        kill(Pid::from_raw(receiver.parse().unwrap()), Signal::SIGKILL).unwrap();
        let mut error = String::new();
        stderr.read_to_string(&mut error).unwrap();
        assert_eq!(coordinator.wait().unwrap().code(), Some(1));
        assert!(error.contains(&format!("error: {transport}: node ")), "{error}");
    }
}
