//! The whole network stack in virtual time, as a program: it repeats itself, and its scenarios hold.

#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::{Command, Output};

use serde_json::Value;

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

fn play(scenario: &str, seed: &str) -> Value {
    let output = run(env!("CARGO_BIN_EXE_bandmesh-sim-stack"), &[scenario, "--seed", seed, "--json"]);
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{scenario} {seed}: {complaint}");
    // It says so if the cryptography could not be seeded.
    assert_eq!(complaint, "");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Two processes, one seed: the same events at the same nanoseconds, and every byte of every encrypted packet.
#[test]
fn a_seed_repeats_itself_and_another_does_not() {
    for scenario in ["stack-lossy-line", "stack-split-and-heal", "stack-other-network"] {
        let [first, again] = [play(scenario, "7"), play(scenario, "7")];
        for field in ["log_hash", "events", "virtual_s", "figures"] {
            assert_eq!(first[field], again[field], "{scenario}: {field}");
        }
        assert_ne!(first["log_hash"], play(scenario, "8")["log_hash"], "{scenario}");
    }
}

#[test]
fn a_few_seeds_of_each_story_hold() {
    for scenario in
        ["stack-lossy-line", "stack-split-and-heal", "stack-other-network", "stack-router-restarts"]
    {
        for seed in ["1", "2", "3"] {
            play(scenario, seed);
        }
    }
}

#[test]
fn strangers_neither_disturb_nor_stay() {
    play("stack-strangers", "1");
}

/// What the congestion controller claims: see `transport/src/driver/congestion.rs`.
#[test]
fn a_transfer_does_not_delay_the_music() {
    for scenario in ["stack-bulk-fibre", "stack-bulk-dsl", "stack-bulk-loss", "stack-bulk-busy-path"] {
        play(scenario, "1");
    }
}

/// The judge of the test above can say no: a controller that fills the queue is found out.
#[test]
fn a_controller_that_fills_the_queue_is_found_out() {
    let cubic = ["stack-bulk-fibre", "--json", "--congestion", "cubic"];
    let output = run(env!("CARGO_BIN_EXE_bandmesh-sim-stack"), &cubic);
    assert!(!output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["verdict"], "datagram-delay");
}

#[test]
fn the_simulator_lists_and_plays_them_by_name() {
    let listed = run(env!("CARGO_BIN_EXE_bandmesh-sim"), &["list", "--json"]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("\"stack-lossy-line\""));
    let arguments = ["run", "stack-lossy-line", "--seed", "7", "--json"];
    let output = run(env!("CARGO_BIN_EXE_bandmesh-sim"), &arguments);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["log_hash"], play("stack-lossy-line", "7")["log_hash"]);
}
