//! Members play the same beat at the same moment.

use std::{collections::BTreeMap, time::Duration};

use super::{Checker, Fact, NodeMoment};
use crate::{clock::WorldTime, network::HostId};

/// What a node states not to know of a clock becomes an error of its beat, and when it learns better it takes the error
/// away by an eighth with each exchange, of which there are four a second: what is left of it after a tenth of a second.
const STEERED: f64 = 0.948;
/// But by no more than this in a tenth of a second, ms: a thousandth of it.
const STEERED_MS: f64 = 0.1;

/// The beat of any two members of one session differs by less than a bound, once settled, beyond what the two state not
/// to know of the clocks they follow.
pub(super) struct BeatPhase {
    bound: Duration,
    settling: Duration,
    /// What each host lately did not know, ms.
    unknown_ms: BTreeMap<HostId, f64>,
    worst_ms: f64,
}

impl BeatPhase {
    pub(super) fn new(bound: Duration, settling: Duration) -> Self {
        Self { bound, settling, unknown_ms: BTreeMap::new(), worst_ms: 0.0 }
    }
}

/// How far apart two nodes are in the music, ms.
fn apart_ms(one: &NodeMoment, other: &NodeMoment) -> f64 {
    (one.beat - other.beat).abs() * 60_000.0 / one.tempo_bpm
}

/// What a node states not to know of the clock that its session time follows, ms.
fn unknown_ms(host: HostId, node: &NodeMoment) -> f64 {
    let follows = node.clocks.iter().find(|clock| clock.of == node.reference && node.reference != host);
    follows.map_or(0.0, |clock| clock.stated.error_ns as f64 / 1e6)
}

impl Checker for BeatPhase {
    fn name(&self) -> &'static str {
        "beat_phase"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Moment(moment) = fact else { return Ok(()) };
        for (host, node) in moment.nodes.iter().enumerate() {
            let Some(node) = node else {
                self.unknown_ms.remove(&host);
                continue;
            };
            let lately = self.unknown_ms.entry(host).or_default();
            *lately = unknown_ms(host, node).max((*lately * STEERED).max(*lately - STEERED_MS));
        }
        let lately = |host: HostId| self.unknown_ms.get(&host).copied().unwrap_or_default();
        if moment.calm_for < self.settling {
            return Ok(());
        }
        for (a, one) in moment.nodes.iter().enumerate() {
            let Some(one) = one else { continue };
            for b in one.members.iter().copied().filter(|b| *b > a) {
                let Some(Some(other)) = moment.nodes.get(b) else { continue };
                // Whether both should know each other is another checker's question.
                if !other.members.contains(&a) {
                    continue;
                }
                if one.tempo_bpm != other.tempo_bpm {
                    return Err(format!(
                        "host {a} plays at {} bpm and host {b}, a member of its session, at {}",
                        one.tempo_bpm, other.tempo_bpm
                    ));
                }
                let apart = apart_ms(one, other);
                self.worst_ms = self.worst_ms.max(apart);
                let allowed = self.bound.as_secs_f64() * 1e3 + lately(a) + lately(b);
                if apart > allowed {
                    return Err(format!(
                        "hosts {a} and {b}, who follow {} and {}, are {apart:.3} ms apart, allowed are {allowed:.3} ms",
                        one.reference, other.reference
                    ));
                }
            }
        }
        Ok(())
    }

    fn figures(&self, into: &mut BTreeMap<&'static str, f64>) {
        into.insert("beat_phase_worst_ms", self.worst_ms);
    }
}

/// Stretch over which the pace is measured: steps of at most one in a second are small in it.
const PACED: Duration = Duration::from_secs(3);
/// How much faster or slower than true time a beat may go: two thousandths by steering to others, and the clocks of two hosts.
const PACE: f64 = 2.2e-3;
/// What one step that makes up for a second comes to, twice, ms.
const STEP_MS: f64 = 2.0;

/// Once settled, the beat goes neither faster nor slower than a musician could hear, whoever is in the band.
pub(super) struct SteadyPace {
    settling: Duration,
    since: BTreeMap<HostId, Stretch>,
    worst_ppm: f64,
}

struct Stretch {
    from: WorldTime,
    beat: f64,
    tempo_bpm: f64,
    timebase: [u8; 16],
}

impl SteadyPace {
    pub(super) fn new(settling: Duration) -> Self {
        Self { settling, since: BTreeMap::new(), worst_ppm: 0.0 }
    }
}

impl Checker for SteadyPace {
    fn name(&self) -> &'static str {
        "steady_pace"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Moment(moment) = fact else { return Ok(()) };
        if moment.calm_for < self.settling {
            self.since.clear();
            return Ok(());
        }
        for (host, node) in moment.nodes.iter().enumerate() {
            let Some(node) = node else {
                self.since.remove(&host);
                continue;
            };
            let now = || Stretch {
                from: moment.at,
                beat: node.beat,
                tempo_bpm: node.tempo_bpm,
                timebase: node.timebase,
            };
            let begun = self.since.entry(host).or_insert_with(now);
            if begun.tempo_bpm != node.tempo_bpm || begun.timebase != node.timebase {
                *begun = now();
            }
            let took = moment.at.since(begun.from);
            if took < PACED {
                continue;
            }
            let took_ms = took.as_secs_f64() * 1e3;
            let ahead_ms = (node.beat - begun.beat) * 60e3 / node.tempo_bpm - took_ms;
            *begun = now();
            self.worst_ppm = self.worst_ppm.max(ahead_ms.abs() / took_ms * 1e6);
            if ahead_ms.abs() > took_ms * PACE + STEP_MS {
                return Err(format!(
                    "the beat of host {host} has gone {ahead_ms:.3} ms too far in {took_ms:.0} ms"
                ));
            }
        }
        Ok(())
    }

    fn figures(&self, into: &mut BTreeMap<&'static str, f64>) {
        into.insert("pace_worst_ppm", self.worst_ppm);
    }
}

#[cfg(test)]
mod tests {
    use transport::clock::Estimate;

    use super::*;
    use crate::checker::{ClockMoment, Moment};

    fn moment(apart_ms: f64, stated_error_ms: f64) -> Moment {
        let node = |other: HostId, beat: f64| {
            let stated = Estimate {
                offset_ns: 0,
                error_ns: (stated_error_ms * 1e6) as u64,
                worst_case_ns: 1_000_000_000,
                drift_ppm: 0.0,
                rtt_ns: 2_000,
                min_rtt_ns: 2_000,
            };
            let clocks = vec![ClockMoment { of: other, stated, true_offset_ns: 0 }];
            Some(NodeMoment {
                members: vec![other],
                reference: 0,
                beat,
                tempo_bpm: 60.0,
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
            })
        };
        Moment {
            calm_for: Duration::from_secs(60),
            nodes: vec![node(1, 0.0), node(0, apart_ms / 1e3)],
            ..Moment::default()
        }
    }

    #[test]
    fn beats_may_be_apart_by_the_bound_and_what_the_clocks_do_not_know() {
        let judge = |apart_ms, stated_error_ms| {
            BeatPhase::new(Duration::from_millis(3), Duration::from_secs(12))
                .observe(&Fact::Moment(&moment(apart_ms, stated_error_ms)))
        };
        assert!(judge(2.9, 0.0).is_ok());
        assert!(judge(3.1, 0.0).is_err());
        assert!(judge(7.9, 5.0).is_ok());
        assert!(judge(8.1, 5.0).is_err());
    }

    #[test]
    fn what_was_not_known_a_moment_ago_may_still_be_heard_and_later_not() {
        let mut checker = BeatPhase::new(Duration::from_millis(3), Duration::from_secs(12));
        assert!(checker.observe(&Fact::Moment(&moment(12.0, 10.0))).is_ok());
        assert!(checker.observe(&Fact::Moment(&moment(12.0, 0.1))).is_ok());
        // Steered by a thousandth, ten seconds take 10 ms away.
        for _ in 0..100 {
            assert!(checker.observe(&Fact::Moment(&moment(3.0, 0.1))).is_ok());
        }
        assert!(checker.observe(&Fact::Moment(&moment(4.5, 0.1))).is_err());
    }
}
