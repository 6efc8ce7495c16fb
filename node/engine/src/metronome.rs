//! The click.
//!
//! A click that is late is worse than none, so each begins on the very frame its beat falls on, as the
//! timeline and the even frame clock have it, brought forward by the output latency.

use crate::gain::{Ramp, from_db};
use crate::message::{HostTime, Metronome};
use crate::timeline::Timeline;

const CLICK_SECONDS: f32 = 0.03;
const BEAT_HZ: f32 = 1_000.0;
const BAR_HZ: f32 = 1_500.0;
const LEVEL: f32 = 0.4;
const CATCH_UP_SECONDS: f64 = 0.01;

/// Plays clicks on the beats of a timeline.
#[derive(Debug)]
pub(crate) struct Click {
    rate_hz: f64,
    on: bool,
    gain: Ramp,
    beat: Vec<f32>,
    bar: Vec<f32>,
    sounding: Option<(bool, usize)>,
    /// Number of the last beat clicked, so that a jittering clock clicks it once.
    last_beat: Option<i64>,
}

impl Click {
    pub(crate) fn new(rate_hz: u32) -> Self {
        Self {
            rate_hz: f64::from(rate_hz),
            on: false,
            gain: Ramp::resting_at(1.0),
            beat: wave(rate_hz, BEAT_HZ),
            bar: wave(rate_hz, BAR_HZ),
            sounding: None,
            last_beat: None,
        }
    }

    pub(crate) fn set(&mut self, metronome: Metronome, ramp_frames: u32) {
        self.on = metronome.on;
        self.gain.set(from_db(metronome.gain_db), ramp_frames);
    }

    /// Adds clicks to interleaved stereo whose first frame is heard at `heard_at`.
    pub(crate) fn process(&mut self, timeline: &Timeline, heard_at: HostTime, stereo: &mut [f32]) {
        let first = timeline.beat_at(heard_at);
        let per_frame = timeline.tempo_bpm / 60.0 / self.rate_hz;
        let running = self.on && timeline.playing;
        if !running {
            self.last_beat = None;
        }
        if self.sounding.is_none() && !running {
            return;
        }
        let frames = stereo.len() / 2;
        // A clock that moves forward between callbacks may step over a beat; it is clicked at once then.
        let stepped_over =
            if self.last_beat.is_some() { CATCH_UP_SECONDS * timeline.tempo_bpm / 60.0 } else { per_frame };
        let next = (first - stepped_over).floor() + 1.0;
        let mut due = ((next - first) / per_frame).round().max(0.0) as usize;
        let mut number = next as i64;
        if self.last_beat == Some(number) {
            number += 1;
            due = ((number as f64 - first) / per_frame).round().max(0.0) as usize;
        }
        for (n, frame) in stereo.chunks_exact_mut(2).enumerate() {
            if running && n == due && due < frames {
                if self.last_beat.is_none_or(|last| number > last || number < last - 1) {
                    let accent = (number as f64).rem_euclid(timeline.quantum) < 0.5;
                    self.sounding = Some((accent, 0));
                    self.last_beat = Some(number);
                }
                number += 1;
                due = ((number as f64 - first) / per_frame).round().max(0.0) as usize;
            }
            let Some((accent, at)) = self.sounding.as_mut() else { continue };
            let wave = if *accent { &self.bar } else { &self.beat };
            let Some(sample) = wave.get(*at) else {
                self.sounding = None;
                continue;
            };
            *at += 1;
            let gain = self.gain.advance();
            for channel in frame {
                *channel += sample * gain;
            }
        }
    }
}

fn wave(rate_hz: u32, hz: f32) -> Vec<f32> {
    let frames = (CLICK_SECONDS * rate_hz as f32) as usize;
    (0..frames)
        .map(|n| {
            let t = n as f32 / rate_hz as f32;
            let end = 1.0 - n as f32 / frames as f32;
            // A cosine: the onset is in the first frame.
            LEVEL * (std::f32::consts::TAU * hz * t).cos() * (-t / 0.008).exp() * end
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn onsets(bpm: f64, seconds: f64, period: usize, jitter_ns: u64) -> Vec<usize> {
        let mut click = Click::new(48_000);
        click.set(Metronome { on: true, gain_db: 0.0 }, 1);
        let timeline =
            Timeline { tempo_bpm: bpm, beat: 0.0, at: HostTime(1_000_000_000), quantum: 4.0, playing: true };
        let mut heard = Vec::new();
        for k in 0..(seconds * 48_000.0) as usize / period {
            let now = 1_000_000_000 + (k * period) as u64 * 1_000_000_000 / 48_000;
            let mut out = vec![0.0; 2 * period];
            let jitter = if k % 2 == 1 { jitter_ns } else { 0 };
            click.process(&timeline, HostTime(now + jitter), &mut out);
            heard.extend(out.chunks_exact(2).map(|f| f[0]));
        }
        (0..heard.len())
            .filter(|&n| {
                heard[n].abs() > 0.3
                    && (n == 0 || heard[n.saturating_sub(480)..n].iter().all(|s| s.abs() < 0.05))
            })
            .collect()
    }

    #[test]
    fn clicks_fall_on_the_frame_of_the_beat() {
        for period in [32, 100, 128, 1_024] {
            let onsets = onsets(120.0, 3.9, period, 0);
            let wanted: Vec<usize> = (0..8).map(|n| n * 24_000).filter(|n| *n < 187_000).collect();
            assert_eq!(onsets, wanted, "period {period}");
        }
    }

    #[test]
    fn jittering_clock_never_clicks_twice() {
        let onsets = onsets(120.0, 9.9, 128, 90_000);
        assert_eq!(onsets.len(), 20);
        for (n, onset) in onsets.iter().enumerate() {
            assert!(onset.abs_diff(n * 24_000) <= 5);
        }
    }

    #[test]
    fn stopped_playback_is_silent() {
        let mut click = Click::new(48_000);
        click.set(Metronome { on: true, gain_db: 0.0 }, 1);
        let mut out = [0.0; 512];
        click.process(&Timeline::default(), HostTime(0), &mut out);
        assert_eq!(out, [0.0; 512]);
    }
}
