//! What the node itself hears of what the player hears: loudness of the sum, and whether the microphone hears the speakers.
//!
//! Fed from the engine's analysis tap, off the audio thread. Loudness is that of ITU-R BS.1770-4 with the windows of
//! EBU Tech 3341: 400 ms (momentary) and 3 s (short-term), by the `ebur128` crate. It moves ten times a second, as often as that
//! document asks for, by adding up steps of 100 ms: to square three seconds of samples again at each of thirty looks a second
//! was an eighth of all that the program did.

use std::collections::VecDeque;

use ebur128::{EbuR128, Mode};
use engine::TapReader;

use super::feedback::FeedbackDetector;

/// Below this there is silence, whatever the filter's tail says.
const SILENCE_LUFS: f64 = -100.0;
/// Length of a step, ms, and how many of them are in either window.
const STEP_MS: u32 = 100;
const MOMENTARY_STEPS: usize = 4;
const SHORT_TERM_STEPS: usize = 30;

/// Listens to one engine.
pub struct Listening {
    tap: TapReader,
    loudness: Option<Loudness>,
    feedback: FeedbackDetector,
    stereo: Vec<f32>,
}

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Heard {
    /// Loudness of the last 400 ms, LUFS; `None` for silence.
    pub momentary_lufs: Option<f32>,
    /// Loudness of the last 3 s, LUFS; `None` for silence.
    pub short_term_lufs: Option<f32>,
    /// Whether the microphone hears the speakers, or howls.
    pub feedback: bool,
}

impl Listening {
    /// Listens to an engine at `rate_hz` through its analysis tap.
    pub fn new(tap: TapReader, rate_hz: u32) -> Self {
        let loudness = Loudness::new(rate_hz);
        if loudness.is_none() {
            tracing::warn!(rate_hz, "loudness cannot be measured at this rate");
        }
        Self { tap, loudness, feedback: FeedbackDetector::new(rate_hz), stereo: Vec::new() }
    }

    /// Takes in what has been played since the last call. Call many times a second: the tap holds one second.
    pub fn listen(&mut self) -> Heard {
        while let Some(block) = self.tap.next_block() {
            self.stereo.clear();
            for frame in block.samples.chunks_exact(block.channels.max(1)) {
                if let [left, right, input] = frame {
                    self.stereo.extend([*left, *right]);
                    self.feedback.push((left + right) * 0.5, *input);
                }
            }
            if let Some(loudness) = &mut self.loudness {
                loudness.add(&self.stereo);
            }
        }
        let mean = |steps| self.loudness.as_ref().and_then(|loudness| loudness.mean_lufs(steps));
        Heard {
            momentary_lufs: mean(MOMENTARY_STEPS),
            short_term_lufs: mean(SHORT_TERM_STEPS),
            feedback: self.feedback.poll(),
        }
    }
}

/// Loudness in steps.
struct Loudness {
    meter: EbuR128,
    step_frames: usize,
    /// Frames of the step that has begun.
    begun_frames: usize,
    /// Power of the latest steps, the newest last, as 10 to the tenth of its LUFS.
    steps: VecDeque<f64>,
}

impl Loudness {
    fn new(rate_hz: u32) -> Option<Self> {
        let meter = EbuR128::new(2, rate_hz, Mode::M).ok()?;
        let step_frames = (rate_hz as usize * STEP_MS as usize / 1_000).max(1);
        Some(Self { meter, step_frames, begun_frames: 0, steps: VecDeque::with_capacity(SHORT_TERM_STEPS) })
    }

    fn add(&mut self, mut stereo: &[f32]) {
        while !stereo.is_empty() {
            let frames = (self.step_frames - self.begun_frames).min(stereo.len().div_ceil(2));
            let (now, later) = stereo.split_at((2 * frames).min(stereo.len()));
            // Fails only for a broken frame, and there are whole ones only.
            let _ = self.meter.add_frames_f32(now);
            self.begun_frames += frames;
            stereo = later;
            if self.begun_frames == self.step_frames {
                self.begun_frames = 0;
                self.end_step();
            }
        }
    }

    fn end_step(&mut self) {
        let lufs = self.meter.loudness_window(STEP_MS).unwrap_or(f64::NEG_INFINITY);
        if self.steps.len() >= SHORT_TERM_STEPS {
            self.steps.pop_front();
        }
        self.steps.push_back(10f64.powf(lufs / 10.0));
    }

    /// Loudness of the last `steps`; what was before the beginning was silent.
    fn mean_lufs(&self, steps: usize) -> Option<f32> {
        let power = self.steps.iter().rev().take(steps).sum::<f64>() / steps as f64;
        Some(10.0 * power.log10()).filter(|lufs| *lufs > SILENCE_LUFS).map(|lufs| lufs as f32)
    }
}

#[cfg(test)]
mod tests {
    use engine::{Command, Config, Engine, HostTime, Monitor, StripId, engine};

    use super::*;

    const PERIOD: usize = 128;

    /// An engine whose player hears themselves, so that what is played in is what is measured.
    fn stage(rate_hz: u32) -> (Engine, Listening) {
        let config = Config { input_channels: 2, ..Config::new(rate_hz, PERIOD) };
        let (engine, mut handle) = engine(config).unwrap();
        handle.send(Command::SetMonitor(StripId::Own, Monitor::default())).unwrap();
        let listening = Listening::new(handle.take_analysis().unwrap(), rate_hz);
        (engine, listening)
    }

    /// Plays a stereo sine of `peak_db` for some seconds and gives what was measured at the end.
    fn play(
        engine: &mut Engine,
        listening: &mut Listening,
        rate_hz: u32,
        peak_db: f32,
        seconds: f64,
    ) -> Heard {
        let amplitude = 10f32.powf(peak_db / 20.0);
        let mut heard = Heard::default();
        let mut output = [0.0; 2 * PERIOD];
        for callback in 0..(seconds * f64::from(rate_hz)) as usize / PERIOD {
            let input: Vec<f32> = (0..2 * PERIOD)
                .map(|n| {
                    let t = (callback * PERIOD + n / 2) as f64 / f64::from(rate_hz);
                    amplitude * (std::f64::consts::TAU * 1_000.0 * t).sin() as f32
                })
                .collect();
            engine.process(&input, &mut output, HostTime(1 + callback as u64));
            heard = listening.listen();
        }
        heard
    }

    /// EBU Tech 3341 (2016), test signals 1 and 2: stereo sines of 1 kHz with a peak of -23.0 and -33.0 dBFS must read
    /// -23.0 and -33.0 LUFS, within 0.1 LU, in both windows.
    #[test]
    fn ebu_test_tones_read_what_they_must() {
        for (rate_hz, peak_db) in [(48_000, -23.0), (48_000, -33.0), (44_100, -23.0), (96_000, -23.0)] {
            let (mut engine, mut listening) = stage(rate_hz);
            let heard = play(&mut engine, &mut listening, rate_hz, peak_db, 4.0);
            for lufs in [heard.momentary_lufs, heard.short_term_lufs] {
                assert!((lufs.unwrap() - peak_db).abs() < 0.1, "{rate_hz} Hz, {peak_db} dBFS: {heard:?}");
            }
        }
    }

    /// After the sound has ended the short window is empty before the long one.
    #[test]
    fn windows_are_400_ms_and_3_s_long() {
        let (mut engine, mut listening) = stage(48_000);
        play(&mut engine, &mut listening, 48_000, -23.0, 4.0);
        let later = play(&mut engine, &mut listening, 48_000, -200.0, 1.0);
        assert_eq!(later.momentary_lufs, None);
        // Two of three seconds are left: 10 log10(2/3) = -1.76.
        assert!((later.short_term_lufs.unwrap() - -24.76).abs() < 0.15, "{later:?}");
        assert_eq!(play(&mut engine, &mut listening, 48_000, -200.0, 3.0), Heard::default());
    }
}
