//! The command line as scripts see it: one JSON object a run, and an exit code to trust.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::{Command, Output};

use serde_json::Value;

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bandmesh-sim")).args(arguments).output().unwrap()
}

fn objects(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_run_gives_one_object_with_the_promised_fields() {
    let output = sim(&["run", "two-founders", "--seed", "3", "--json"]);
    assert!(output.status.success());
    let [report] = &objects(&output)[..] else { panic!("one object") };
    assert_eq!(report["scenario"], "two-founders");
    assert_eq!(report["seed"], 3);
    assert_eq!(report["nodes"], 2);
    assert_eq!(report["verdict"], "ok");
    assert!(report["virtual_s"].as_f64().unwrap() > 10.0);
    assert!(report["wall_s"].as_f64().unwrap() > 0.0);
    assert_eq!(report["log_hash"].as_str().unwrap().len(), 64);
}

#[test]
fn a_swarm_gives_one_object_for_each_seed_from_the_first() {
    let output = sim(&["swarm", "--seeds", "3", "--first", "40", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut seeds: Vec<u64> =
        objects(&output).iter().map(|report| report["seed"].as_u64().unwrap()).collect();
    seeds.sort_unstable();
    assert_eq!(seeds, [40, 41, 42]);
}

#[test]
fn scenarios_are_listed_and_an_unknown_one_exits_2_naming_them() {
    let names: Vec<Value> = objects(&sim(&["list", "--json"]));
    assert!(names.iter().any(|it| it["scenario"] == "first-jam"));
    let output = sim(&["run", "frist-jam"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("first-jam"));
}
