//! A stated clock error is honest.

use std::{collections::BTreeMap, time::Duration};

use super::{Checker, Fact};
use crate::{clock::WorldTime, network::HostId};

/// Estimates below this number are too few to judge a share by.
const FEWEST: u64 = 500;

/// How long one piece of bad luck of an estimate may be seen: until there are several times as many exchanges as in the
/// opening burst of 0.9 s, which is asked the fastest.
const STRETCH: Duration = Duration::from_secs(5);
/// Beyond this multiple of the stated error it is no luck: 7.5 standard errors instead of 3.75.
const BY_CHANCE: u64 = 2;

/// The true offset is always inside the bound that follows from causality, and inside the stated error but
/// for the few estimates that an error of 3.75 sigmas admits.
///
/// Errors wander slowly, so these few come in a row instead of spread over all runs: of the clock core alone, on a path with
/// jitter that remembers itself for 20 ms, 3 of 100 000 estimates are outside, but 5 of 12 000 runs of half a minute have
/// more than one in a hundred outside. No bound made of standard errors avoids that. So the longest such stretch of a run,
/// of one pair, is not held against it; two of them, or one far outside, are.
pub(super) struct ClockBound {
    allowed_misses: f64,
    slack_ns: u64,
    estimates: u64,
    misses: u64,
    /// Misses that may be luck, in stretches: by pair, for both ends measure with the same packets, when the latest
    /// stretch began, and how many it has.
    stretches: BTreeMap<(HostId, HostId), (WorldTime, u64)>,
    longest_stretch: u64,
    /// Misses by observer and observed, with the time of the latest.
    by_pair: BTreeMap<(HostId, HostId), (u64, WorldTime)>,
    worst_us: f64,
    /// Largest true error as a multiple of the stated one.
    worst_ratio: f64,
    stated_us: f64,
}

impl ClockBound {
    pub(super) fn new(allowed_misses: f64, slack: Duration) -> Self {
        Self {
            allowed_misses,
            slack_ns: u64::try_from(slack.as_nanos()).unwrap_or(u64::MAX),
            estimates: 0,
            misses: 0,
            stretches: BTreeMap::new(),
            longest_stretch: 0,
            by_pair: BTreeMap::new(),
            worst_us: 0.0,
            worst_ratio: 0.0,
            stated_us: 0.0,
        }
    }

    /// The share of misses beyond the one stretch that may be luck.
    fn missed_share(&self) -> f64 {
        (self.misses - self.longest_stretch) as f64 / self.estimates.max(1) as f64
    }

    /// Notes a miss that may be luck.
    fn miss_by_chance(&mut self, at: WorldTime, one: HostId, other: HostId) {
        let (began, misses) = self.stretches.entry((one.min(other), one.max(other))).or_insert((at, 0));
        if at.since(*began) > STRETCH {
            (*began, *misses) = (at, 0);
        }
        *misses += 1;
        self.longest_stretch = self.longest_stretch.max(*misses);
    }
}

impl Checker for ClockBound {
    fn name(&self) -> &'static str {
        "clock_bound"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Moment(moment) => {
                let nodes = moment.nodes.iter().enumerate();
                for (host, clock) in nodes.flat_map(|(host, node)| {
                    node.iter().flat_map(move |node| node.clocks.iter().map(move |clock| (host, clock)))
                }) {
                    let error_ns = clock.stated.offset_ns.abs_diff(clock.true_offset_ns);
                    self.estimates += 1;
                    if error_ns > clock.stated.error_ns.saturating_add(self.slack_ns) {
                        self.misses += 1;
                        if error_ns <= clock.stated.error_ns.saturating_mul(BY_CHANCE) {
                            self.miss_by_chance(moment.at, host, clock.of);
                        }
                        let pair = self.by_pair.entry((host, clock.of)).or_default();
                        *pair = (pair.0 + 1, moment.at);
                    }
                    self.worst_us = self.worst_us.max(error_ns as f64 / 1e3);
                    self.worst_ratio =
                        self.worst_ratio.max(error_ns as f64 / clock.stated.error_ns.max(1) as f64);
                    self.stated_us += clock.stated.error_ns as f64 / 1e3;
                    if error_ns > clock.stated.worst_case_ns {
                        return Err(format!(
                            "host {host} states host {}'s clock within {} ns on any path; it is {error_ns} ns off",
                            clock.of, clock.stated.worst_case_ns
                        ));
                    }
                }
                Ok(())
            }
            Fact::End(_) if self.estimates >= FEWEST && self.missed_share() > self.allowed_misses => {
                let worst = self.by_pair.iter().max_by_key(|(_, (misses, _))| *misses);
                let worst = worst.map_or_else(String::new, |((host, of), (misses, at))| {
                    format!("; {misses} are host {host}'s of host {of}, the last at {:.1} s", at.as_seconds())
                });
                Err(format!(
                    "{:.2} % of {} clock estimates are further off than they state, allowed are {:.2} %{worst}",
                    100.0 * self.missed_share(),
                    self.estimates,
                    100.0 * self.allowed_misses
                ))
            }
            _ => Ok(()),
        }
    }

    fn figures(&self, into: &mut BTreeMap<&'static str, f64>) {
        into.insert("clock_error_worst_us", self.worst_us);
        into.insert("clock_error_stated_mean_us", self.stated_us / self.estimates.max(1) as f64);
        into.insert("clock_error_worst_ratio", self.worst_ratio);
        into.insert("clock_missed_share", self.missed_share());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::{ClockMoment, Moment, NodeMoment};
    use transport::clock::Estimate;

    fn moment(index: u64, true_offset_ns: i64) -> Moment {
        let stated = Estimate {
            offset_ns: 0,
            error_ns: 100,
            worst_case_ns: 1_000,
            drift_ppm: 0.0,
            rtt_ns: 2_000,
            min_rtt_ns: 2_000,
        };
        let clocks = vec![ClockMoment { of: 1, stated, true_offset_ns }];
        let node = NodeMoment {
            members: vec![1],
            reference: 0,
            beat: 0.0,
            tempo_bpm: 120.0,
            playing: false,
            beats_per_bar: 4,
            timebase: [0; 16],
            clocks,
            sounding: vec![],
            held: vec![],
            instruments_peak: None,
            holds: BTreeMap::new(),
            sees_held: BTreeMap::new(),
            says: crate::checker::People::default(),
            hears: BTreeMap::new(),
        };
        Moment { at: WorldTime(index * 100_000_000), nodes: vec![Some(node)], ..Moment::default() }
    }

    #[test]
    fn an_offset_outside_causality_is_refused_at_once_and_many_small_misses_at_the_end() {
        let mut checker = ClockBound::new(0.01, Duration::ZERO);
        assert!(checker.observe(&Fact::Moment(&moment(0, 1_001))).is_err());
        let mut checker = ClockBound::new(0.01, Duration::ZERO);
        for index in 0..1_000 {
            let offset = if index % 50 == 0 { 101 } else { 99 };
            assert!(checker.observe(&Fact::Moment(&moment(index, offset))).is_ok());
        }
        assert!(checker.observe(&Fact::End(&[])).is_err());
    }

    #[test]
    fn one_stretch_just_outside_is_luck_and_two_or_one_far_outside_are_not() {
        let judge = |missed: &[(u64, u64)], outside| {
            let mut checker = ClockBound::new(0.01, Duration::ZERO);
            for index in 0..1_000 {
                let is_missed = missed.iter().any(|(from, to)| (*from..*to).contains(&index));
                let offset = if is_missed { outside } else { 99 };
                assert!(checker.observe(&Fact::Moment(&moment(index, offset))).is_ok());
            }
            checker.observe(&Fact::End(&[]))
        };
        assert!(judge(&[(10, 40)], 150).is_ok());
        assert!(judge(&[(10, 40)], 201).is_err());
        assert!(judge(&[(10, 40), (500, 530)], 150).is_err());
        assert!(judge(&[(10, 90)], 150).is_err(), "longer than luck lasts");
    }
}
