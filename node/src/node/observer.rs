//! What the brain looks at again and again to tell the player how it goes: levels, loudness, the last minutes, the culprit.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use transport::{PeerId, driver::PathKind};

use super::{
    brain::{Inner, PeerView, lock},
    cpu::CpuMeter,
    diagnosis::{Figures, PeerFigures, WINDOW_S, diagnose},
    history::{DeviceRow, History, MachineSample, PeerNow, PeerSample, ROWS},
    listening::{Heard, Listening},
    wake::WakeMeter,
};
use crate::{
    control::Notice,
    device::{AudioRunning, MAX_PERIOD_FRAMES, monotonic_ns},
    media::IncomingReport,
    session::message::Strain,
};

/// What the player is told when the microphone hears the speakers.
const FEEDBACK_WARNING: &str =
    "your microphone hears your speakers: the others hear themselves late, and it may howl; use headphones";
/// Seconds without a member until that is a finding, so that a path that is found again at once is none. It is one for as
/// long as the member is in the history.
const MISSED_AFTER_S: usize = 3;
/// Seconds over which the longest callback is shown.
const LOAD_SECONDS: usize = 5;

/// Reads figures that only one may read.
#[derive(Default)]
pub struct Observer {
    listening: Option<Listening>,
    cpu: CpuMeter,
    wake: Option<WakeMeter>,
    warned: bool,
}

impl Observer {
    /// Levels and loudness now; call thirty times a second.
    pub fn read_levels(&mut self, inner: &Inner) {
        let (stats, tap) = {
            let mut rig = lock(&inner.rig);
            (rig.stats(), rig.take_analysis())
        };
        if let Some((tap, rate_hz)) = tap {
            self.listening = Some(Listening::new(tap, rate_hz));
        }
        let heard = self.listening.as_mut().map_or_else(Heard::default, Listening::listen);
        let peers: Vec<PeerId> = lock(&inner.session).members().map(|(peer, _)| *peer).collect();
        let meters: BTreeMap<_, _> =
            peers.into_iter().filter_map(|peer| Some((peer, inner.media.meter(&peer)?))).collect();
        lock(&inner.levels).update(
            now_ms(),
            stats.input_meter(),
            stats.output_meter(),
            meters,
            heard,
            stats.take_limiter_gain(),
        );
        if heard.feedback != self.warned {
            self.warned = heard.feedback;
            if heard.feedback {
                inner.warn(FEEDBACK_WARNING);
            } else {
                inner.settle(FEEDBACK_WARNING);
            }
        }
    }

    /// Writes the last second down and judges the last few; call once a second.
    pub fn note_second(&mut self, inner: &Inner) {
        let (info, audio) = {
            let rig = lock(&inner.rig);
            (rig.info(), rig.audio())
        };
        let xruns = audio.stats().xruns;
        let longest_us = audio.take_callback_max_us();
        let period = info.period_frames.clamp(1, MAX_PERIOD_FRAMES as u32);
        let period_us = f64::from(period) * 1e6 / f64::from(info.rate_hz.max(1));
        let callback_load = (longest_us > 0.0).then(|| longest_us / period_us);
        let (views, others): (Vec<(PeerId, PeerView)>, Vec<_>) = lock(&inner.peers)
            .iter()
            .map(|(peer, view)| (*peer, view.clone()))
            .partition(|(_, view)| view.member);
        let members: Vec<_> = views
            .iter()
            .map(|(peer, view)| {
                (*peer, view.name.clone(), inner.media.report(peer).map(|report| sample(&report)))
            })
            .collect();
        let cpu_busy = self.cpu.read();
        let wake_late_ms = self.wake.get_or_insert_with(WakeMeter::start).take_late_ms();
        let mut strains: BTreeMap<PeerId, Strain> = {
            let session = lock(&inner.session);
            let now = monotonic_ns() as i64;
            let told =
                views.iter().filter_map(|(peer, _)| Some((*peer, session.state_of(now, peer)?.strain?)));
            told.collect()
        };
        let figures = {
            let mut history = lock(&inner.history);
            let machine = MachineSample { xruns, callback_load, cpu_busy, wake_late_ms };
            history.push(now_ms() as u64, machine, &members);
            let rows: Vec<_> = history.device(WINDOW_S).copied().collect();
            let loads =
                |seconds| history.device(seconds).filter_map(|row| row.callback_load).fold(0.0, f64::max);
            *lock(&inner.callback_max_us) = loads(LOAD_SECONDS) * period_us;
            Figures {
                device: info.device,
                device_lost: audio.state() == AudioRunning::Lost,
                period_is_fixed: info.host == "jack",
                period_frames: info.period_frames,
                strain: strain(&rows),
                seconds: rows.len(),
                peers: history
                    .peers(WINDOW_S)
                    .filter_map(|(peer, _, rows)| {
                        let (_, view) = views.iter().find(|(id, _)| id == peer)?;
                        Some(PeerFigures {
                            strain: strains.remove(peer),
                            ..peer_figures(peer, view, rows.flatten())
                        })
                    })
                    .collect(),
                unreachable: others
                    .iter()
                    .filter(|(peer, _)| {
                        was_heard(&history, peer, ROWS) && !was_heard(&history, peer, MISSED_AFTER_S)
                    })
                    .map(|(peer, view)| (peer.to_string(), view.name.clone()))
                    .collect(),
            }
        };
        lock(&inner.session).set_strain(monotonic_ns() as i64, figures.strain);
        let verdict = diagnose(&figures);
        let changed = {
            let mut known = lock(&inner.verdict);
            let changed = known.severity != verdict.severity || known.culprit != verdict.culprit;
            *known = verdict;
            changed
        };
        if changed {
            inner.notify(Notice::Status);
        }
    }
}

/// Whether there is anything of this member in the last `seconds`.
fn was_heard(history: &History<PeerId>, peer: &PeerId, seconds: usize) -> bool {
    history.peers(seconds).any(|(other, _, mut rows)| other == peer && rows.any(|row| row.is_some()))
}

/// How hard the machine worked in these seconds.
fn strain(rows: &[DeviceRow]) -> Strain {
    let greatest = |figure: fn(&DeviceRow) -> f64| rows.iter().map(figure).fold(0.0, f64::max);
    let known: Vec<f64> = rows.iter().filter_map(|row| row.cpu_busy).collect();
    let mean = |figures: &[f64]| figures.iter().sum::<f64>() / figures.len() as f64;
    Strain {
        xruns: u32::try_from(rows.iter().map(|row| row.xruns).sum::<u64>()).unwrap_or(u32::MAX),
        callback_percent: (100.0 * greatest(|row| row.callback_load.unwrap_or_default())).round() as u32,
        cpu_percent: (!known.is_empty()).then(|| (100.0 * mean(&known)).round() as u32),
        wake_late_ms: greatest(|row| row.wake_late_ms).round() as u32,
    }
}

fn sample(report: &IncomingReport) -> PeerSample {
    PeerSample {
        totals: report.totals,
        rate_hz: report.info.rate_hz,
        now: PeerNow {
            jitter_ms: report.jitter.as_secs_f64() * 1e3,
            jitter_peak_ms: report.jitter_peak.as_secs_f64() * 1e3,
            playout_delay_ms: report.playout_delay.as_secs_f64() * 1e3,
            one_way_ms: report.one_way_ns.map(|ns| ns as f64 / 1e6),
            rtt_ms: report.clock.map(|clock| clock.rtt_ns as f64 / 1e6),
            clock_us: report.clock.map(|clock| (clock.offset_ns as f64 / 1e3, clock.error_ns as f64 / 1e3)),
        },
    }
}

fn peer_figures<'a>(
    peer: &PeerId,
    view: &PeerView,
    rows: impl Iterator<Item = &'a super::history::PeerRow>,
) -> PeerFigures {
    let none = PeerFigures {
        id: peer.to_string(),
        name: view.name.clone(),
        relayed: matches!(view.connection, Some((_, PathKind::Relayed | PathKind::Forwarded))),
        ..PeerFigures::default()
    };
    rows.fold(none, |sum, row| PeerFigures {
        seconds: sum.seconds + 1,
        received: sum.received + row.received,
        lost: sum.lost + row.lost,
        late: sum.late + row.late,
        concealed_ms: sum.concealed_ms + row.concealed_ms,
        jitter_ms: sum.jitter_ms.max(row.now.jitter_peak_ms),
        one_way_ms: row.now.one_way_ms,
        clock_error_us: row.now.clock_us.map(|clock| clock.1),
        ..sum
    })
}

/// Now, ms since 1970.
fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3
}
