//! What a run came to, as one JSON object.

use std::{collections::BTreeMap, io::Write as _};

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

    /// Prints it on stdout, as a line of text or as JSON; what a checker objected to, and how to see it again, on stderr.
    ///
    /// # Errors
    /// Nobody reads stdout any more.
    pub fn show(&self, json: bool) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        if json {
            let text = serde_json::to_string(self).map_err(std::io::Error::other)?;
            writeln!(out, "{text}")?;
        } else {
            writeln!(
                out,
                "{:22} seed {:<6} {} nodes {:6.1} s in {:5.2} s  {:16} {}",
                self.scenario,
                self.seed,
                self.nodes,
                self.virtual_s,
                self.wall_s,
                self.log_hash.get(..16).unwrap_or_default(),
                self.verdict
            )?;
        }
        if !self.is_ok() {
            let detail = self.detail.as_deref().unwrap_or_default();
            let mut err = std::io::stderr().lock();
            // With stderr gone there is no other place to complain.
            let _ = writeln!(err, "{}: {detail}\nreplay: {}", self.verdict, self.replay());
            if let Some(shrunk) = &self.shrunk {
                let _ = writeln!(err, "shorter: {} ({} tries)", shrunk.replay, shrunk.tries);
                shrunk.faults.iter().for_each(|fault| {
                    let _ = writeln!(err, "  fault {fault}");
                });
            }
        }
        Ok(())
    }
}

/// The command that plays a run, with only these of its faults.
pub fn replay(scenario: &str, seed: u64, only: Option<&[usize]>) -> String {
    let numbers = |only: &[usize]| only.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let only = only.map_or_else(String::new, |only| format!(" --only={}", numbers(only)));
    format!("./dev sim run {scenario} --seed {seed}{only}")
}
