//! The few seeds of a swarm that play the whole stack as well.
//!
//! A run of the whole stack costs as much as several of the cores, and is a program of its own ([`super`] says why). So one
//! seed in [`ONE_IN`] plays one, beside the run of the cores that it draws anyway: what a seed means to those stays as it
//! was.

use std::{
    io::{self, Write as _},
    process::{Command, Output},
};

use super::scenario::{Scenario, find};
use crate::random::Random;

/// One seed in so many.
pub const ONE_IN: u64 = 24;
/// Those that take a second or so.
const CHEAP: [&str; 4] =
    ["stack-lossy-line", "stack-split-and-heal", "stack-other-network", "stack-router-restarts"];

/// The scenario of the whole stack that a swarm plays for `seed`, if any.
pub fn of_seed(seed: u64) -> Option<&'static Scenario> {
    let mut random = Random::new(seed).fork(0x5354_4B53);
    if random.below(ONE_IN) > 0 {
        return None;
    }
    find(CHEAP.get(random.below(CHEAP.len() as u64) as usize)?)
}

/// What came of one such run.
#[derive(Debug)]
pub struct Drawn {
    replay: String,
    outcome: io::Result<Output>,
}

/// Plays `scenario` in a program of its own.
pub fn play(scenario: &Scenario, seed: u64, json: bool) -> Drawn {
    let player = std::env::current_exe().map(|program| program.with_file_name("bandmesh-sim-stack"));
    let outcome = player.and_then(|player| {
        let mut command = Command::new(player);
        command.args([scenario.name, "--seed", &seed.to_string()]).args(json.then_some("--json"));
        command.output()
    });
    Drawn { replay: crate::report::replay(scenario.name, seed, None), outcome }
}

impl Drawn {
    /// Whether it ran and no check objected.
    pub fn is_ok(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|output| output.status.success())
    }

    /// Prints what the program has printed.
    ///
    /// # Errors
    /// Nobody reads stdout any more.
    pub fn show(&self) -> io::Result<()> {
        let mut err = io::stderr().lock();
        // With stderr gone there is no other place to complain.
        let _ = match &self.outcome {
            Ok(output) => {
                io::stdout().lock().write_all(&output.stdout)?;
                err.write_all(&output.stderr)
            }
            Err(error) => {
                let replay = &self.replay;
                writeln!(err, "bandmesh-sim-stack: {error}; build it with the simulator\nreplay: {replay}")
            }
        };
        // Whoever was killed has not said how to see it again.
        if self.outcome.as_ref().is_ok_and(|output| output.status.code().is_none()) {
            let _ = writeln!(err, "bandmesh-sim-stack was killed\nreplay: {}", self.replay);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_share_of_seeds_plays_each_of_the_cheap_ones() {
        let drawn: Vec<&str> = (0..6_000).filter_map(of_seed).map(|it| it.name).collect();
        assert!((200..300).contains(&drawn.len()), "{}", drawn.len());
        assert!(CHEAP.iter().all(|name| drawn.contains(name)));
    }
}
