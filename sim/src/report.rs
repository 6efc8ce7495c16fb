//! What a run came to, as one JSON object.

use std::collections::BTreeMap;

use serde::Serialize;

/// The verdict of a run that no checker objected to.
pub const OK: &str = "ok";

/// The outcome of one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Name of the scenario.
    pub scenario: &'static str,
    /// Seed it was drawn from.
    pub seed: u64,
    /// How long it lasted in the world, s.
    pub virtual_s: f64,
    /// How long it took here, s.
    pub wall_s: f64,
    /// Hosts in it.
    pub nodes: usize,
    /// [`OK`], or the name of the checker that objected first.
    pub verdict: &'static str,
    /// What it objected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The faults it was played with, by their numbers in the plan from 1; absent: with all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<Vec<usize>>,
    /// The fewest faults that were found to fail alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shrunk: Option<ShrunkReport>,
    /// Events that happened.
    pub events: u64,
    /// SHA-256 of all of them.
    pub log_hash: String,
    /// What the checkers measured.
    pub figures: BTreeMap<&'static str, f64>,
}

/// A failed run made short.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShrunkReport {
    /// The command that plays it.
    pub replay: String,
    /// What goes wrong in it, each with its number in the plan.
    pub faults: Vec<String>,
    /// How many sets of faults were tried to find it.
    pub tries: usize,
}

impl Report {
    /// Whether no checker objected.
    pub fn is_ok(&self) -> bool {
        self.verdict == OK
    }

    /// The command that plays this run again.
    pub fn replay(&self) -> String {
        replay(self.scenario, self.seed, self.only.as_deref())
    }
}

/// The command that plays a run, with only these of its faults.
pub fn replay(scenario: &str, seed: u64, only: Option<&[usize]>) -> String {
    let numbers = |only: &[usize]| only.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let only = only.map_or_else(String::new, |only| format!(" --only={}", numbers(only)));
    format!("./dev sim run {scenario} --seed {seed}{only}")
}
