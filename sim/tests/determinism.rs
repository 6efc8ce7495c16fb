//! The same seed does the same in another process: no address, hash order, thread or wall clock gets into a run.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::Command;

/// The reports of a command, without the one figure that is about this machine.
fn reports(arguments: &[&str]) -> Vec<serde_json::Value> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_bandmesh-sim")).args(arguments).arg("--json").output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let mut reports: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for report in &mut reports {
        report.as_object_mut().unwrap().remove("wall_s").unwrap();
    }
    assert!(!reports.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    reports
}

#[test]
fn two_processes_play_the_same_seed_alike() {
    for scenario in ["chaos", "power-cut", "first-jam", "roaming", "card-stall", "path-replay"] {
        let run = ["run", scenario, "--seed", "7"];
        assert_eq!(reports(&run), reports(&run), "{scenario}");
    }
}

#[test]
fn a_swarm_says_the_same_in_the_same_order_on_one_thread_and_on_three() {
    let swarm = |jobs: &str| reports(&["swarm", "--seeds", "8", "--first", "40", "--jobs", jobs]);
    let alone = swarm("1");
    assert_eq!(alone, swarm("3"));
    let seeds: Vec<u64> = alone.iter().map(|report| report["seed"].as_u64().unwrap()).collect();
    assert_eq!(seeds, [40, 41, 42, 43, 44, 45, 46, 47]);
}

#[test]
fn a_run_with_some_of_its_faults_says_so_and_can_be_replayed() {
    let whole = &reports(&["run", "chaos", "--seed", "7"])[0];
    let part = &reports(&["run", "chaos", "--seed", "7", "--only=1,3"])[0];
    let none = &reports(&["run", "chaos", "--seed", "7", "--only="])[0];
    assert_eq!(part["only"], serde_json::json!([1, 3]));
    assert_eq!(none["only"], serde_json::json!([]));
    assert!(whole.get("only").is_none());
    assert_ne!(whole["log_hash"], part["log_hash"]);
    assert_ne!(part["log_hash"], none["log_hash"]);
}

#[test]
fn nonsense_is_refused_with_exit_code_2() {
    for arguments in [&["run", "no-such-scenario"][..], &["run", "chaos", "--only=x"], &["swarm"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_bandmesh-sim")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}
