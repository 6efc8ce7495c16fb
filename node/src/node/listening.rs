//! What the node itself hears of what the player hears: loudness of the sum, and whether the microphone hears the speakers.
//!
//! Fed from the engine's analysis tap, off the audio thread. Loudness is that of ITU-R BS.1770-4 with the windows of
//! EBU Tech 3341: 400 ms (momentary) and 3 s (short-term), by the `ebur128` crate.

use ebur128::{EbuR128, Mode};
use engine::TapReader;

use super::feedback::FeedbackDetector;

/// Below this there is silence, whatever the filter's tail says.
const SILENCE_LUFS: f64 = -100.0;

/// Listens to one engine.
pub struct Listening {
    tap: TapReader,
    loudness: Option<EbuR128>,
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
        let loudness = EbuR128::new(2, rate_hz, Mode::M | Mode::S).ok();
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
                // Fails only for a broken frame, and there are whole ones only.
                let _ = loudness.add_frames_f32(&self.stereo);
            }
        }
        let shown = |lufs: Result<f64, ebur128::Error>| {
            lufs.ok().filter(|lufs| *lufs > SILENCE_LUFS).map(|lufs| lufs as f32)
        };
        let loudness = self.loudness.as_ref();
        Heard {
            momentary_lufs: loudness.and_then(|meter| shown(meter.loudness_momentary())),
            short_term_lufs: loudness.and_then(|meter| shown(meter.loudness_shortterm())),
            feedback: self.feedback.poll(),
        }
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
