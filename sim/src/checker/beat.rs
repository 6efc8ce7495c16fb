//! Members play the same beat at the same moment.

use std::{collections::BTreeMap, time::Duration};

use super::{Checker, Fact, NodeMoment};

/// The beat of any two members of one session differs by less than a bound, once settled.
pub(super) struct BeatPhase {
    bound: Duration,
    settling: Duration,
    worst_ms: f64,
}

impl BeatPhase {
    pub(super) fn new(bound: Duration, settling: Duration) -> Self {
        Self { bound, settling, worst_ms: 0.0 }
    }
}

/// How far apart two nodes are in the music, ms.
fn apart_ms(one: &NodeMoment, other: &NodeMoment) -> f64 {
    (one.beat - other.beat).abs() * 60_000.0 / one.tempo_bpm
}

impl Checker for BeatPhase {
    fn name(&self) -> &'static str {
        "beat_phase"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Moment(moment) = fact else { return Ok(()) };
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
                if apart > self.bound.as_secs_f64() * 1e3 {
                    return Err(format!(
                        "hosts {a} and {b} are {apart:.3} ms apart, allowed are {:?}",
                        self.bound
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
