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
                "{:20} seed {:<6} {} nodes {:6.1} s in {:5.2} s  {:16} {}",
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
            // With stderr gone there is no other place to complain.
            let _ = writeln!(
                std::io::stderr().lock(),
                "{}: {detail}\nreplay: {}",
                self.verdict,
                self.replay()
            );
        }
        Ok(())
    }
}
