//! One run from its scenario's name and its seed, whole, in part, or made short.

use std::{collections::BTreeSet, time::Instant};

use crate::{
    log::Reader,
    plan::Plan,
    report::{self, Report, ShrunkReport},
    scenario::Scenario,
    shrink::shrink,
    world,
};

/// How many sets of faults are tried to make one failed run short.
pub const MOST_TRIES: usize = 48;

/// Plays one run and times it. `only`: with these of its faults, by number from 1; numbers that the plan does not have
/// mean nothing.
pub fn play(scenario: &Scenario, seed: u64, only: Option<&[usize]>, reader: Option<Reader>) -> Report {
    let whole = scenario.draw(seed);
    match only {
        None => timed(whole, seed, None, reader),
        Some(only) => {
            let kept = only.iter().filter_map(|number| number.checked_sub(1)).collect();
            timed(whole.with_only(&kept), seed, Some(numbers(&kept)), reader)
        }
    }
}

/// Plays one run, and if it fails looks for the fewest faults that fail alike.
pub fn play_and_shrink(scenario: &Scenario, seed: u64) -> Report {
    let mut report = play(scenario, seed, None, None);
    if report.is_ok() {
        return report;
    }
    let whole = scenario.draw(seed);
    let shrunk = shrink(whole.faults.len(), MOST_TRIES, |kept| {
        world::run(whole.with_only(kept), seed, None).verdict == report.verdict
    });
    let describe = |(place, fault): (usize, &crate::plan::Fault)| {
        shrunk.kept.contains(&place).then(|| format!("{}: {}", place + 1, fault.about))
    };
    report.shrunk = Some(ShrunkReport {
        replay: report::replay(scenario.name, seed, Some(&numbers(&shrunk.kept))),
        faults: whole.faults.iter().enumerate().filter_map(describe).collect(),
        tries: shrunk.tries,
    });
    report
}

fn numbers(kept: &BTreeSet<usize>) -> Vec<usize> {
    kept.iter().map(|place| place + 1).collect()
}

fn timed(plan: Plan, seed: u64, only: Option<Vec<usize>>, reader: Option<Reader>) -> Report {
    let begun = Instant::now();
    let report = world::run(plan, seed, reader);
    Report { wall_s: begun.elapsed().as_secs_f64(), only, ..report }
}
