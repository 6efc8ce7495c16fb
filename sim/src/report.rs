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
    /// Events that happened.
    pub events: u64,
    /// SHA-256 of all of them.
    pub log_hash: String,
    /// What the checkers measured.
    pub figures: BTreeMap<&'static str, f64>,
}

impl Report {
    /// Whether no checker objected.
    pub fn is_ok(&self) -> bool {
        self.verdict == OK
    }

    /// The command that plays this run again.
    pub fn replay(&self) -> String {
        format!("./dev sim run {} --seed {}", self.scenario, self.seed)
    }
}
