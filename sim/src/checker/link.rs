//! Link apps play the session's beat, and nobody's joining changes the session's tempo.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Checker, Fact, Moment};
use crate::{link::apart, network::HostId};

/// How far an app's beat may be from that of a node beside it, ms: 2 ms that the bridge tolerates between the register and
/// its own Link, and 3 ms by which two clocks of 50 ppm each part in the half minute between two of Link's measurements,
/// and 1 ms for the measurement itself.
const BOUND_MS: f64 = 6.0;
/// Tempi closer than this are the same: Link keeps whole microseconds a beat.
const SAME_TEMPO_BPM: f64 = 0.02;

/// Once settled, a Link app has the tempo, playback and, within a bound, the beat of the session.
pub(super) struct LinkPhase {
    settling: Duration,
    compared: u64,
    worst_ms: f64,
}

impl LinkPhase {
    pub(super) fn new(settling: Duration) -> Self {
        Self { settling, compared: 0, worst_ms: 0.0 }
    }
}

impl Checker for LinkPhase {
    fn name(&self) -> &'static str {
        "link_phase"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Moment(moment) = fact else { return Ok(()) };
        if moment.calm_for < self.settling {
            return Ok(());
        }
        for app in &moment.apps {
            for host in &app.beside {
                let Some(Some(node)) = moment.nodes.get(*host) else { continue };
                let at = format!("the Link app on host {} beside host {host}", app.host);
                if (app.tempo_bpm - node.tempo_bpm).abs() > SAME_TEMPO_BPM {
                    return Err(format!("{at} plays at {} bpm instead of {}", app.tempo_bpm, node.tempo_bpm));
                }
                if app.playing != node.playing {
                    return Err(format!(
                        "{at}: does it play? {}; does the session? {}",
                        app.playing, node.playing
                    ));
                }
                let apart_ms =
                    apart(app.beat, node.beat, f64::from(node.beats_per_bar)) * 60e3 / node.tempo_bpm;
                self.compared += 1;
                self.worst_ms = self.worst_ms.max(apart_ms);
                if apart_ms > BOUND_MS {
                    return Err(format!(
                        "{at} is {apart_ms:.3} ms off the session's beat, allowed are {BOUND_MS} ms"
                    ));
                }
            }
        }
        Ok(())
    }

    fn figures(&self, into: &mut BTreeMap<&'static str, f64>) {
        if self.compared > 0 {
            into.insert("link_phase_worst_ms", self.worst_ms);
            into.insert("link_phase_compared", self.compared as f64);
        }
    }
}

/// The tempo of a session of several, as one of its members plays it, only becomes what somebody has set, or what one of
/// its members took while it was alone.
#[derive(Default)]
pub(super) struct TempoKept {
    set: BTreeSet<i64>,
    taken_alone: BTreeSet<([u8; 16], i64)>,
    before: BTreeMap<HostId, Before>,
}

struct Before {
    timebase: [u8; 16],
    tempo_bpm: f64,
    in_company: bool,
}

fn hundredths(tempo_bpm: f64) -> i64 {
    (tempo_bpm * 100.0).round() as i64
}

impl TempoKept {
    fn look(&mut self, moment: &Moment) -> Result<(), String> {
        for (host, node) in moment.nodes.iter().enumerate() {
            let Some(node) = node else {
                self.before.remove(&host);
                continue;
            };
            let now = Before {
                timebase: node.timebase,
                tempo_bpm: node.tempo_bpm,
                in_company: !node.members.is_empty(),
            };
            let Some(before) = self.before.insert(host, now) else { continue };
            let stays = before.timebase == node.timebase;
            if !stays || (before.tempo_bpm - node.tempo_bpm).abs() < SAME_TEMPO_BPM {
                continue;
            }
            let tempo = hundredths(node.tempo_bpm);
            if !before.in_company {
                self.taken_alone.insert((node.timebase, tempo));
            } else if !self.set.contains(&tempo) && !self.taken_alone.contains(&(node.timebase, tempo)) {
                return Err(format!(
                    "the session of host {host} went from {} to {} bpm, which nobody has set",
                    before.tempo_bpm, node.tempo_bpm
                ));
            }
        }
        Ok(())
    }
}

impl Checker for TempoKept {
    fn name(&self) -> &'static str {
        "tempo_kept"
    }

    fn observe(&mut self, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::TempoSet { tempo_bpm } => {
                self.set.insert(hundredths(*tempo_bpm));
                Ok(())
            }
            Fact::Moment(moment) => self.look(moment),
            _ => Ok(()),
        }
    }
}
