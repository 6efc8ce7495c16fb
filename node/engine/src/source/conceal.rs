//! What is heard where a packet is missing.
//!
//! Silence clicks and repetition buzzes. A linear predictor fitted to the last 16 ms (Burg's method, which is
//! stable and gives sharp lines from short pieces) goes on ringing in the pitches that were sounding: for
//! held notes a lost packet is then close to inaudible. A prediction grows wrong with time, so after 20 ms it
//! fades, and after 60 ms there is silence.

/// How many past frames the predictor is fitted to, and how many are kept.
pub(crate) const HISTORY_FRAMES: usize = 768;
const ORDER: usize = 32;
const HOLD_SECONDS: f32 = 0.02;
const SILENT_AFTER_SECONDS: f32 = 0.06;
/// How far a prediction may go beyond the highest sample seen: a wave peaks between samples, and may be growing.
const HEADROOM: f32 = 1.5;
/// Where that ends, as one prediction may be the past of the next.
const LOUDEST: f32 = 4.0;

/// One channel's memory of what was heard, and its prediction of how that would go on.
#[derive(Debug)]
pub(crate) struct Concealer {
    /// The last frames heard, oldest first.
    history: Vec<f32>,
    coefficients: [f32; ORDER],
    /// The last `ORDER` predicted samples, newest first.
    state: [f32; ORDER],
    /// Predictions above this are not believed.
    ceiling: f32,
    elapsed_frames: u32,
    /// Counts down the mirrored past that stands in when no predictor was fitted.
    mirror: Option<usize>,
    forward: Vec<f64>,
    backward: Vec<f64>,
    hold_frames: u32,
    silent_after_frames: u32,
}

impl Concealer {
    pub(crate) fn new(rate_hz: u32) -> Self {
        Self {
            history: vec![0.0; HISTORY_FRAMES],
            coefficients: [0.0; ORDER],
            state: [0.0; ORDER],
            ceiling: 0.0,
            elapsed_frames: 0,
            mirror: None,
            forward: vec![0.0; HISTORY_FRAMES],
            backward: vec![0.0; HISTORY_FRAMES],
            hold_frames: (HOLD_SECONDS * rate_hz as f32) as u32,
            silent_after_frames: (SILENT_AFTER_SECONDS * rate_hz as f32) as u32,
        }
    }

    /// Remembers what was heard, predicted or not.
    pub(crate) fn remember(&mut self, heard: &[f32]) {
        let keep = HISTORY_FRAMES.saturating_sub(heard.len());
        self.history.copy_within(HISTORY_FRAMES - keep.., 0);
        let tail = heard.get(heard.len().saturating_sub(HISTORY_FRAMES)..).unwrap_or(heard);
        if let Some(slot) = self.history.get_mut(keep..) {
            slot.copy_from_slice(tail);
        }
    }

    /// Forgets what was heard.
    pub(crate) fn forget(&mut self) {
        self.history.fill(0.0);
    }

    /// Starts a prediction from the history. Without `fit` it is the mirrored past, which costs nothing: the
    /// fit takes tens of microseconds, and the callback can afford only a few at once.
    pub(crate) fn begin(&mut self, fit: bool) {
        self.elapsed_frames = 0;
        let peak = self.history.iter().fold(0.0f32, |peak, s| peak.max(s.abs()));
        self.ceiling = (HEADROOM * peak).min(peak.max(LOUDEST));
        for (state, past) in self.state.iter_mut().zip(self.history.iter().rev()) {
            *state = *past;
        }
        self.mirror = if fit && self.fit() { None } else { Some(HISTORY_FRAMES) };
    }

    /// Writes the next predicted frames.
    pub(crate) fn predict(&mut self, out: &mut [f32]) {
        for sample in out {
            let fade = self.fade();
            self.elapsed_frames = self.elapsed_frames.saturating_add(1);
            if fade == 0.0 {
                *sample = 0.0;
                continue;
            }
            *sample = fade * self.next_prediction();
        }
    }

    fn next_prediction(&mut self) -> f32 {
        if let Some(remaining) = self.mirror.as_mut() {
            *remaining = remaining.saturating_sub(1);
            return self.history.get(*remaining).copied().unwrap_or(0.0);
        }
        let predicted: f32 = self.coefficients.iter().zip(&self.state).map(|(a, s)| a * s).sum();
        let predicted =
            if predicted.is_finite() { predicted.clamp(-self.ceiling, self.ceiling) } else { 0.0 };
        self.state.copy_within(..ORDER - 1, 1);
        if let Some(first) = self.state.first_mut() {
            *first = predicted;
        }
        predicted
    }

    fn fade(&self) -> f32 {
        if self.elapsed_frames <= self.hold_frames {
            1.0
        } else if self.elapsed_frames >= self.silent_after_frames {
            0.0
        } else {
            (self.silent_after_frames - self.elapsed_frames) as f32
                / (self.silent_after_frames - self.hold_frames) as f32
        }
    }

    /// Burg's recursion; false when there is nothing to fit.
    fn fit(&mut self) -> bool {
        let energy: f64 = self.history.iter().map(|&s| f64::from(s) * f64::from(s)).sum();
        if energy < 1e-9 {
            return false;
        }
        for ((f, b), &s) in self.forward.iter_mut().zip(self.backward.iter_mut()).zip(&self.history) {
            *f = f64::from(s);
            *b = f64::from(s);
        }
        let mut predictor = [0.0f64; ORDER];
        for order in 0..ORDER {
            let (Some(f), Some(b)) =
                (self.forward.get_mut(order + 1..), self.backward.get_mut(..HISTORY_FRAMES - order - 1))
            else {
                break;
            };
            let (mut cross, mut power) = (0.0, 0.0);
            for (f, b) in f.iter().zip(b.iter()) {
                cross += f * b;
                power += f * f + b * b;
            }
            if power < energy * 1e-12 {
                break;
            }
            let reflection = 2.0 * cross / power;
            for (f, b) in f.iter_mut().zip(b.iter_mut()) {
                let (forward, backward) = (*f, *b);
                *f = forward - reflection * backward;
                *b = backward - reflection * forward;
            }
            let before = predictor;
            for (n, tap) in predictor.iter_mut().enumerate().take(order) {
                *tap -= reflection * before.get(order - 1 - n).copied().unwrap_or(0.0);
            }
            if let Some(tap) = predictor.get_mut(order) {
                *tap = reflection;
            }
        }
        for (tap, exact) in self.coefficients.iter_mut().zip(predictor) {
            *tap = exact as f32;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(concealer: &mut Concealer, wave: impl Fn(usize) -> f32) {
        let past: Vec<f32> = (0..HISTORY_FRAMES).map(wave).collect();
        for block in past.chunks(128) {
            concealer.remember(block);
        }
    }

    fn chord(n: usize) -> f32 {
        let t = n as f32 / 48_000.0;
        [220.0, 277.2, 329.6, 659.2].iter().map(|hz| 0.2 * (std::f32::consts::TAU * hz * t).sin()).sum()
    }

    #[test]
    fn held_notes_go_on_through_a_lost_packet() {
        let sine = |n: usize| 0.5 * (n as f32 * 0.06).sin();
        for (wave, wanted_db) in [(&sine as &dyn Fn(usize) -> f32, 40.0), (&chord, 15.0)] {
            let mut concealer = Concealer::new(48_000);
            heard(&mut concealer, wave);
            concealer.begin(true);
            let mut out = [0.0; 128];
            concealer.predict(&mut out);
            let (mut signal, mut noise) = (0.0, 0.0);
            for (n, sample) in out.iter().enumerate() {
                let truth = wave(HISTORY_FRAMES + n);
                signal += truth * truth;
                noise += (truth - sample) * (truth - sample);
            }
            let snr = 10.0 * (signal / noise).log10();
            assert!(snr > wanted_db, "{snr:.1} dB, wanted {wanted_db}");
        }
    }

    #[test]
    fn prediction_is_silent_after_60_ms_and_never_much_louder_than_the_past() {
        let mut noise = 1u32;
        let mut concealer = Concealer::new(48_000);
        let past: Vec<f32> = (0..HISTORY_FRAMES)
            .map(|_| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                noise as f32 / u32::MAX as f32 - 0.5
            })
            .collect();
        concealer.remember(&past);
        concealer.begin(true);
        let mut out = vec![0.0; 4_800];
        concealer.predict(&mut out);
        assert!(out.iter().all(|s| s.abs() <= 0.5 * HEADROOM));
        assert!(out[2_880..].iter().all(|s| *s == 0.0));
    }

    #[test]
    fn cheap_stand_in_continues_without_a_step() {
        let mut concealer = Concealer::new(48_000);
        heard(&mut concealer, |n| 0.5 * (n as f32 * 0.06).sin());
        concealer.begin(false);
        let mut out = [0.0; 64];
        concealer.predict(&mut out);
        let last = 0.5 * ((HISTORY_FRAMES - 1) as f32 * 0.06).sin();
        assert!((out[0] - last).abs() < 1e-6);
    }

    #[test]
    fn silence_is_continued_by_silence() {
        let mut concealer = Concealer::new(48_000);
        concealer.begin(true);
        let mut out = [1.0; 64];
        concealer.predict(&mut out);
        assert_eq!(out, [0.0; 64]);
    }
}
