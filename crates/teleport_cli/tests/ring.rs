//! `teleport ring` as a user runs it.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const SMALL: [&str; 6] = ["ring", "--workers", "2", "--size", "64KiB", "--transport"];

fn teleport() -> Command {
    Command::new(env!("CARGO_BIN_EXE_teleport"))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a small ring, and returns its table and its JSON.
fn small_ring(transport: &str, further: &[&str]) -> (String, Value) {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("results.json");
    let output =
        teleport().args(SMALL).arg(transport).args(further).arg("--json").arg(&json).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let results = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    (String::from_utf8(output.stdout).unwrap(), results)
}

/// What holds for every transport: 3 nodes with 2 workers, 1 round after 3 of warm-up.
fn check_run(run: &Value, transport: &str) {
    assert_eq!(run["transport"], transport);
    let rounds = run["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 1);
    let seconds = rounds[0]["seconds"].as_f64().unwrap();
    let megabytes = 3.0 * 2.0 * 2.0 * 65536.0 / 1e6;
    let speed = rounds[0]["megabytes_per_second"].as_f64().unwrap();
    assert!((speed * seconds - megabytes).abs() < 1e-6, "{speed} MB/s for {seconds} s");
    assert!(rounds[0]["mean_sender_seconds"].as_f64().unwrap() <= seconds);
    assert!(rounds[0]["cpu_seconds_per_gigabyte"].as_f64().unwrap() > 0.0);
    assert!(run["cold_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(run["messages"], 3 * 2 * 4);
    for count in ["lost", "doubled", "reordered", "probes_unanswered", "connections_killed", "frames_resent"]
    {
        assert_eq!(run[count], 0, "{count}");
    }
    let peaks = run["peak_rss_mib"].as_array().unwrap();
    assert!(peaks.len() == 3 && peaks.iter().all(|peak| peak.as_f64().unwrap() > 0.5));
}

#[test]
fn a_small_ring_of_raw_sockets_ends() {
    let (table, results) = small_ring("raw", &["--nodes", "3", "--rounds", "1"]);
    assert!(table.contains("raw") && table.contains("CPU s/GB"), "{table}");
    assert_eq!(results["config"]["size_bytes"], 65536);
    assert_eq!(results["runs"].as_array().unwrap().len(), 1);
    check_run(&results["runs"][0], "raw");
}

#[test]
fn two_nodes_are_a_ring() {
    let (_, results) = small_ring("raw", &["--nodes", "2", "--rounds", "1"]);
    assert_eq!((&results["runs"][0]["messages"], &results["runs"][0]["lost"]), (&16.into(), &0.into()));
}

/// As with `| head -1`: nobody reads what is printed, and the results are there all the same.
#[test]
fn results_are_stored_though_nobody_reads_what_is_printed() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("results.json");
    let mut program = teleport();
    program.args(SMALL).args(["raw", "--nodes", "2", "--rounds", "1", "--json"]).arg(&json);
    let mut running = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop((running.stdout.take(), running.stderr.take()));
    assert_eq!(running.wait().unwrap().code(), Some(0));
    let results: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(results["runs"][0]["lost"], 0);
    // A full disk is another matter.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = program.stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot print the results"), "{}", stderr(&output));
}

#[test]
fn nothing_is_lost_under_chaos() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("results.json");
    let output = teleport()
        .args(["ring", "--chaos", "--nodes", "3", "--workers", "2", "--seconds", "5", "--size", "1MiB"])
        .args(["--seed", "7", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("5 s under chaos, --seed 7") && table.contains("frames resent"), "{table}");

    let results: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(results["runs"].as_array().unwrap().len(), 1);
    let run = &results["runs"][0];
    assert_eq!((&run["transport"], &run["label"]), (&"teleport".into(), &"teleport chaos".into()));
    let killed = run["connections_killed"].as_u64().unwrap();
    assert!(killed >= 25 && run["frames_resent"].as_u64().unwrap() > 0, "{run}");
    // Every kill is a loss that both sides see; one that is not has hit a connection already dead.
    assert!(run["connections_retired"].as_u64().unwrap() >= killed, "{run}");
    for count in ["lost", "doubled", "reordered", "damaged", "nodedowns", "unconfirmed"] {
        assert_eq!(run[count], 0, "{count}");
    }
    assert!(run["messages"].as_u64().unwrap() > 0 && run["tick_ms"]["count"].as_u64().unwrap() > 0);
    assert_eq!(run["rounds"].as_array().unwrap().len(), 1);
}

#[test]
fn chaos_is_for_teleport_alone() {
    let output = teleport().args(["ring", "--chaos", "--transport", "raw"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--chaos is for teleport only"), "{}", stderr(&output));
}

/// Needs Erlang; the failure tells how to install it.
#[test]
fn a_small_ring_of_erlang_nodes_ends() {
    let (_, results) = small_ring(
        "raw,disterl",
        &["--nodes", "3", "--rounds", "1", "--erl-flags", "", "--erl-flags", "+zdbbl 131072"],
    );
    let left_out = &results["config"]["left_out"];
    assert_eq!(left_out.as_array().map(Vec::len), Some(0), "{left_out}");
    let runs = results["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3);
    check_run(&runs[0], "raw");
    for (run, label) in runs[1..].iter().zip(["disterl", "disterl +zdbbl 131072"]) {
        check_run(run, "disterl");
        assert_eq!(run["label"], label);
    }
    assert!(results["config"]["versions"]["disterl"].as_str().unwrap().starts_with("OTP "));
}

#[test]
fn without_erlang_the_table_says_how_to_install_it() {
    let empty = tempfile::tempdir().unwrap();
    let output = teleport().args(SMALL).arg("raw,disterl").env("PATH", empty.path()).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("disterl is left out: `erlc` not found; install"), "{table}");

    let output = teleport().args(SMALL).arg("disterl").env("PATH", empty.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("nothing to measure: disterl: `erlc` not found"), "{}", stderr(&output));
}

#[test]
fn a_node_that_cannot_start_gives_its_reason() {
    let output = teleport().args(SMALL).args(["raw", "--congestion", "no-such"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = stderr(&output);
    assert!(error.contains("raw: node") && error.contains("congestion control `no-such`"), "{error}");
}

#[test]
fn what_nobody_has_memory_for_is_refused_at_once() {
    for (size, said) in [("100GiB", "up to `1GiB`"), ("1GiB", "--size 1GiB for 16384 workers takes")] {
        let arguments = ["ring", "--nodes", "64", "--workers", "256", "--size", size];
        let output = teleport().args(arguments).output().unwrap();
        assert!(!output.status.success() && stderr(&output).contains(said), "{}", stderr(&output));
        assert!(!stderr(&output).contains("round"), "nothing was begun");
    }
}

/// By what `/proc` says of their parents.
fn children_of(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_child = |process: &u32| {
        // Another process may end meanwhile.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{process}/stat")) else { return false };
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        after_name.split(' ').nth(1) == Some(&parent.to_string())
    };
    processes.filter(is_child).collect()
}

/// Nodes end with their coordinator, whether it can still kill them or not.
#[test]
fn no_node_outlives_its_coordinator() {
    for (signal, code) in [(Signal::SIGINT, Some(130)), (Signal::SIGTERM, Some(143)), (Signal::SIGKILL, None)]
    {
        let mut coordinator = teleport()
            .args(SMALL)
            .args(["raw", "--rounds", "1000000000"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(coordinator.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("round 1/") {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended before the first round");
        }
        let id = coordinator.id();
        let nodes = children_of(id);
        assert!(nodes.len() >= 6, "{nodes:?}");
        kill(Pid::from_raw(i32::try_from(id).unwrap()), signal).unwrap();
        if signal != Signal::SIGKILL {
            // It ends last.
            coordinator.wait().unwrap();
            let left: Vec<_> =
                nodes.iter().filter(|node| Path::new(&format!("/proc/{node}")).exists()).collect();
            assert!(left.is_empty(), "{left:?} of {nodes:?}");
        }
        // The nodes have the same stderr, so its end is the end of all of them.
        stderr.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(coordinator.wait().unwrap().code(), code, "{signal}");
    }
}
