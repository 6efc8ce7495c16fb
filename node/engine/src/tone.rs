//! The test tone: does anything come out of these headphones, and how loud?
//!
//! It is added after the master gain, so that a level asked for is the level that leaves, whatever the faders say, and
//! before the limiter, which guards the ears against everything. It ends by itself: whoever asked for it may be gone.

use crate::gain::{Ramp, from_db};
use crate::message::Tone;

/// A' as orchestras tune to it: every small loudspeaker can do it, and nobody takes it for a fault.
const TONE_HZ: f64 = 440.0;
const FADE_SECONDS: f32 = 0.01;

/// A sine wave of limited length.
#[derive(Debug)]
pub(crate) struct TestTone {
    step: f64,
    phase: f64,
    gain: Ramp,
    fade_frames: u32,
    frames_left: u64,
}

impl TestTone {
    pub(crate) fn new(rate_hz: u32) -> Self {
        Self {
            step: std::f64::consts::TAU * TONE_HZ / f64::from(rate_hz),
            phase: 0.0,
            gain: Ramp::resting_at(0.0),
            fade_frames: (FADE_SECONDS * rate_hz as f32) as u32,
            frames_left: 0,
        }
    }

    /// Begins, changes or (with no frames) ends the tone, without a click.
    pub(crate) fn set(&mut self, tone: Tone) {
        if self.gain.is_silent() {
            self.phase = 0.0;
        }
        self.frames_left = tone.frames;
        let level = if tone.frames > 0 { from_db(tone.level_db.min(0.0)) } else { 0.0 };
        self.gain.set(level, self.fade_frames);
    }

    /// Adds to interleaved stereo.
    pub(crate) fn process(&mut self, stereo: &mut [f32]) {
        if self.frames_left == 0 && self.gain.is_silent() {
            return;
        }
        for frame in stereo.chunks_exact_mut(2) {
            if self.frames_left > 0 {
                self.frames_left -= 1;
                if self.frames_left == u64::from(self.fade_frames) || self.frames_left == 0 {
                    self.gain.set(0.0, self.fade_frames);
                }
            }
            let sample = self.phase.sin() as f32 * self.gain.advance();
            self.phase += self.step;
            if self.phase >= std::f64::consts::TAU {
                self.phase -= std::f64::consts::TAU;
            }
            frame.iter_mut().for_each(|channel| *channel += sample);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(tone: &mut TestTone, frames: usize) -> Vec<f32> {
        let mut out = vec![0.0; 2 * frames];
        tone.process(&mut out);
        out.chunks_exact(2).map(|frame| frame[0]).collect()
    }

    #[test]
    fn tone_has_the_level_and_the_length_asked_for_and_no_edge() {
        let mut tone = TestTone::new(48_000);
        tone.set(Tone { level_db: -20.0, frames: 24_000 });
        let heard = left(&mut tone, 30_000);
        let peak = heard[4_800..19_200].iter().fold(0.0f32, |peak, s| peak.max(s.abs()));
        assert!((peak - 0.1).abs() < 1e-4, "{peak}");
        assert!(heard[24_000..].iter().all(|s| *s == 0.0));
        assert!(heard[23_000..23_500].iter().any(|s| s.abs() > 0.09), "it lasts as long as asked");
        // The steepest a 440 Hz sine of this level can be.
        let steepest = 0.1 * std::f32::consts::TAU * 440.0 / 48_000.0;
        assert!(heard.windows(2).all(|pair| (pair[1] - pair[0]).abs() <= 1.05 * steepest));
    }

    #[test]
    fn tone_is_ended_within_the_fade() {
        let mut tone = TestTone::new(48_000);
        tone.set(Tone { level_db: -20.0, frames: 480_000 });
        left(&mut tone, 4_800);
        tone.set(Tone { level_db: -20.0, frames: 0 });
        let heard = left(&mut tone, 960);
        assert!(heard[480..].iter().all(|s| *s == 0.0) && heard[..240].iter().any(|s| s.abs() > 0.02));
    }
}
