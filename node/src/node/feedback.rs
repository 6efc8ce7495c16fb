//! Does the microphone hear the speakers?
//!
//! If it does, the others hear themselves late, and one notch louder everything howls. Both show in the signals: what
//! left the node is found again in its input some milliseconds later. Levels or envelopes do not show it, as players who
//! play together are loud together; the waveform does. So every two thirds of a second of output and
//! input are compared by the generalised cross-correlation with phase transform (Knapp and Carter, 1976), which weighs all
//! frequencies alike: one clear peak at one delay is a way through the air or a wrong cable, music that merely fits has none.
//!
//! A howl in full is one tone, for which there is no such peak: it is told by one loud lasting tone of the same
//! frequency on both sides.
//!
//! Two strokes that follow each other, one here and one there, look like an echo once, and of a hundred pairs some are
//! equally far apart; and under such pairs a true echo need not be the highest peak. So it is the mean of the last ten
//! comparisons, each of other strokes, in which an echo must stand out: its peak stays in its place while those of
//! coincidence move about. A drum machine here in step with one there may be taken for an echo if their sounds are alike.
//!
//! Limits: delays from 1 to 150 ms; an echo weaker than [`MIN_ECHO_GAIN`] is let pass as leaking headphones; what I hear of
//! myself through the node comes back in no time and is not taken for an echo.

use std::collections::VecDeque;
use std::sync::Arc;

use realfft::num_complex::Complex32;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

/// Rate at which signals are compared, about; voices and instruments have most of their sound under half of it.
const COMPARED_RATE_HZ: u32 = 12_000;
/// Samples compared at once, two thirds of a second.
const WINDOW: usize = 8_192;
/// Twice the window, so that a delay does not wrap around.
const PADDED: usize = 2 * WINDOW;
/// Samples between two comparisons: no stroke is in both.
const HOP: usize = WINDOW;
/// Delays looked at, seconds.
const MIN_DELAY_S: f32 = 0.001;
const MAX_DELAY_S: f32 = 0.15;
/// Signals below this RMS are not compared.
const MIN_RMS: f32 = 0.001;
/// How far a peak stands out that may be of an echo, in standard deviations: the highest of 1,800 normal deviates is under
/// 4.5, ever so seldom 5.5.
const MIN_PEAK: f32 = 5.0;
/// How far an echo stands out in the mean of [`COMPARED`]. Echoes under one's own playing were at 9 and more, while chance
/// gives a single comparison up to 23, a tenth of which is all that is left in the mean.
const MIN_MEAN_PEAK: f32 = 8.0;
/// What one comparison is believed at most, so that no two of them suffice.
const MAX_PEAK: f32 = 24.0;
/// An echo this weak (-26 dB) bothers nobody.
const MIN_ECHO_GAIN: f32 = 0.05;
/// RMS of a howl, on both sides.
const HOWL_RMS: f32 = 0.18;
/// Share of the energy that is within a few hertz of one frequency in a howl.
const HOWL_PURITY: f32 = 0.8;
/// Bins to each side of the strongest that belong to it.
const TONE_BINS: usize = 4;
/// Comparisons of which the mean is taken: seven seconds.
const COMPARED: usize = 10;
/// Comparisons in a row before a howl is believed.
const HOWLS: u32 = 3;
/// Comparisons without a sign until the warning goes: ten seconds, in which music may pause.
const QUIET: u32 = 15;

/// Compares what goes out with what comes in.
pub struct FeedbackDetector {
    decimation: u32,
    sums: (f32, f32),
    summed: u32,
    rate_hz: f32,
    output: VecDeque<f32>,
    input: VecDeque<f32>,
    until_next: usize,
    forward: Arc<dyn RealToComplex<f32>>,
    backward: Arc<dyn ComplexToReal<f32>>,
    /// How far each delay stood out in the latest comparisons.
    peaks: VecDeque<Vec<f32>>,
    howls: u32,
    quiet: u32,
    warns: bool,
}

/// What one comparison showed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Signs {
    echo: bool,
    howl: bool,
}

impl FeedbackDetector {
    /// For signals of `rate_hz`.
    pub fn new(rate_hz: u32) -> Self {
        let decimation = (rate_hz / COMPARED_RATE_HZ).max(1);
        let mut planner = RealFftPlanner::new();
        Self {
            decimation,
            sums: (0.0, 0.0),
            summed: 0,
            rate_hz: rate_hz as f32 / decimation as f32,
            output: VecDeque::with_capacity(WINDOW),
            input: VecDeque::with_capacity(WINDOW),
            until_next: WINDOW,
            forward: planner.plan_fft_forward(PADDED),
            backward: planner.plan_fft_inverse(PADDED),
            peaks: VecDeque::with_capacity(COMPARED),
            howls: 0,
            quiet: 0,
            warns: false,
        }
    }

    /// One frame: what went out and what came in at the same moment.
    pub fn push(&mut self, output: f32, input: f32) {
        self.sums = (self.sums.0 + output, self.sums.1 + input);
        self.summed += 1;
        if self.summed < self.decimation {
            return;
        }
        let share = 1.0 / self.decimation as f32;
        for (queue, sum) in [(&mut self.output, self.sums.0), (&mut self.input, self.sums.1)] {
            if queue.len() >= WINDOW {
                queue.pop_front();
            }
            queue.push_back(sum * share);
        }
        (self.sums, self.summed) = ((0.0, 0.0), 0);
        self.until_next = self.until_next.saturating_sub(1);
    }

    /// Whether there is an echo or a howl, as of the latest comparison; makes one if it is due, which takes a
    /// millisecond.
    pub fn poll(&mut self) -> bool {
        if self.until_next == 0 && self.output.len() >= WINDOW {
            self.until_next = HOP;
            let signs = self.compare();
            self.note(signs);
        }
        self.warns
    }

    fn note(&mut self, signs: Signs) {
        self.howls = if signs.howl { self.howls + 1 } else { 0 };
        self.quiet = if signs == Signs::default() { self.quiet + 1 } else { 0 };
        if signs.echo || self.howls >= HOWLS {
            self.warns = true;
        } else if self.quiet >= QUIET {
            self.warns = false;
        }
    }

    fn compare(&mut self) -> Signs {
        let (output_rms, input_rms) = (rms(&self.output), rms(&self.input));
        if output_rms < MIN_RMS || input_rms < MIN_RMS {
            return Signs::default();
        }
        let (Some(output), Some(input)) = (self.spectrum(&self.output), self.spectrum(&self.input)) else {
            return Signs::default();
        };
        let loud = output_rms >= HOWL_RMS && input_rms >= HOWL_RMS;
        let howl =
            loud && matches!((tone(&output), tone(&input)), (Some(out), Some(inn)) if out.abs_diff(inn) <= 1);
        let echo = self.correlation(&output, &input).is_some_and(|peaks| self.stands_out(peaks));
        Signs { echo, howl }
    }

    /// Whether one delay stands out in this comparison and in the mean of the latest.
    fn stands_out(&mut self, peaks: Vec<f32>) -> bool {
        if self.peaks.len() >= COMPARED {
            self.peaks.pop_front();
        }
        let mean = |at: usize| {
            let peaks = self.peaks.iter().chain([&peaks]).filter_map(|peaks| peaks.get(at));
            peaks.map(|peak| peak.clamp(-MAX_PEAK, MAX_PEAK)).sum::<f32>() / COMPARED as f32
        };
        let first = (MIN_DELAY_S * self.rate_hz) as usize;
        let found = peaks.iter().enumerate().any(|(at, peak)| {
            let (mean, sign) = (mean(at), peak.signum());
            peak.abs() >= MIN_PEAK
                && sign * mean >= MIN_MEAN_PEAK
                && sign * self.echo_gain(first + at) >= MIN_ECHO_GAIN
        });
        self.peaks.push_back(peaks);
        found
    }

    /// How far each delay stands out at which the input may repeat the output, at all frequencies alike.
    fn correlation(&self, output: &[Complex32], input: &[Complex32]) -> Option<Vec<f32>> {
        let mut cross: Vec<Complex32> = input
            .iter()
            .zip(output)
            .map(|(inn, out)| {
                let product = inn * out.conj();
                let size = product.norm();
                if size > 0.0 { product / size } else { Complex32::default() }
            })
            .collect();
        // The transform wants real numbers at both ends.
        for end in [0, cross.len().saturating_sub(1)] {
            if let Some(bin) = cross.get_mut(end) {
                bin.im = 0.0;
            }
        }
        let mut correlation = self.backward.make_output_vec();
        self.backward.process(&mut cross, &mut correlation).ok()?;
        let first = (MIN_DELAY_S * self.rate_hz) as usize;
        let last = ((MAX_DELAY_S * self.rate_hz) as usize).min(WINDOW);
        let looked_at = correlation.get(first..last)?;
        let energy = correlation.iter().map(|value| value * value).sum::<f32>() / correlation.len() as f32;
        let spread = energy.sqrt().max(f32::MIN_POSITIVE);
        Some(looked_at.iter().map(|value| value / spread).collect())
    }

    /// How loud the output is in the input at this delay.
    fn echo_gain(&self, delay: usize) -> f32 {
        let pairs = || self.output.iter().zip(self.input.iter().skip(delay));
        let product: f32 = pairs().map(|(out, inn)| out * inn).sum();
        let energy: f32 = pairs().map(|(out, _)| out * out).sum();
        product / energy.max(f32::MIN_POSITIVE)
    }

    fn spectrum(&self, signal: &VecDeque<f32>) -> Option<Vec<Complex32>> {
        let mut padded = self.forward.make_input_vec();
        for (slot, sample) in padded.iter_mut().zip(signal) {
            *slot = *sample;
        }
        let mut spectrum = self.forward.make_output_vec();
        self.forward.process(&mut padded, &mut spectrum).ok()?;
        Some(spectrum)
    }
}

fn rms(signal: &VecDeque<f32>) -> f32 {
    (signal.iter().map(|sample| sample * sample).sum::<f32>() / signal.len().max(1) as f32).sqrt()
}

/// The bin of a pure tone; `None` for anything else.
fn tone(spectrum: &[Complex32]) -> Option<usize> {
    let energies: Vec<f32> = spectrum.iter().map(Complex32::norm_sqr).collect();
    let (at, _) = energies.iter().enumerate().max_by(|(_, one), (_, other)| one.total_cmp(other))?;
    let near = energies.get(at.saturating_sub(TONE_BINS)..(at + TONE_BINS + 1).min(energies.len()))?;
    (near.iter().sum::<f32>() >= HOWL_PURITY * energies.iter().sum::<f32>()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE_HZ: u32 = 48_000;

    struct Noise(u64);
    impl Noise {
        /// One that has nothing to do with those of other seeds. Seeds that follow each other would give numbers that do, and
        /// two players whose strokes are late by turns as one.
        fn of(seed: u64) -> Self {
            let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            for factor in [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb] {
                state = (state ^ (state >> 30)).wrapping_mul(factor);
            }
            Self(state ^ (state >> 31))
        }

        /// White, from -1 to 1.
        fn next(&mut self) -> f32 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        }
    }

    /// A plucked string: harmonics that decay, struck anew every `every` frames.
    fn string(hz: f32, every: usize, frame: usize) -> f32 {
        let t = (frame % every) as f32 / RATE_HZ as f32;
        (1..8)
            .map(|k| {
                (std::f32::consts::TAU * hz * k as f32 * t).sin() * (-t * 3.0 * k as f32).exp() / k as f32
            })
            .sum::<f32>()
            * 0.2
    }

    /// The same string under a hand: each stroke a little early or late, a little sharp or flat, and of its own colour.
    fn plucked(player: u64, hz: f32, every: usize, frame: usize) -> f32 {
        let mut hand = Noise::of(player ^ Noise::of((frame / every) as u64).0);
        let late = ((hand.next() + 1.0) * 480.0) as usize;
        let (tuning, color) = (1.0 + 0.003 * hand.next(), hand.next());
        let t = (frame % every).saturating_sub(late) as f32 / RATE_HZ as f32;
        let sounding = if frame % every >= late { 0.2 } else { 0.0 };
        (1..8)
            .map(|k| {
                let k = k as f32;
                let phase = std::f32::consts::TAU * hz * k * tuning * t + color * k;
                phase.sin() * (-t * (2.0 + color) * k).exp() / k
            })
            .sum::<f32>()
            * sounding
    }

    /// Whether anything is found within `seconds` of what `frame` gives as output and input.
    fn found(seconds: usize, mut frame: impl FnMut(usize) -> (f32, f32)) -> bool {
        let mut detector = FeedbackDetector::new(RATE_HZ);
        (0..seconds * RATE_HZ as usize).any(|n| {
            let (output, input) = frame(n);
            detector.push(output, input);
            n % 1_600 == 0 && detector.poll()
        })
    }

    /// What the band plays: drums and strings.
    fn band(noise: &mut Noise, n: usize) -> f32 {
        let hit = (-((n % 24_000) as f32) / 2_000.0).exp();
        string(196.0, 12_000, n) + string(98.0, 24_000, n) + 0.3 * hit * noise.next()
    }

    #[test]
    fn microphone_before_the_speakers_is_found_under_ones_own_playing() {
        for (delay, gain) in [(1_000, 0.5), (2_400, 0.2), (480, 1.0)] {
            let (mut drums, mut room) = (Noise(1), Noise(2));
            let mut played = VecDeque::from(vec![0.0; delay]);
            let yes = found(5, |n| {
                let output = band(&mut drums, n);
                played.push_back(output);
                let echo = played.pop_front().unwrap() * gain;
                (output, echo + 0.001 * room.next() + 0.3 * string(330.0, 16_000, n))
            });
            assert!(yes, "delay {delay}, gain {gain}");
        }
    }

    #[test]
    fn players_who_play_together_are_no_feedback() {
        // The same beat, the same chord, even the same note; and both with the hiss of a real input.
        for own in [330.0, 196.0, 98.0] {
            let (mut drums, mut mine, mut room) = (Noise(1), Noise(3), Noise(2));
            let yes = found(30, |n| {
                let hit = (-((n % 24_000) as f32) / 1_500.0).exp();
                let input = 0.5 * plucked(0, own, 12_000, n) + 0.2 * hit * mine.next() + 0.001 * room.next();
                (band(&mut drums, n) + 0.0005 * drums.next(), input)
            });
            assert!(!yes, "{own} Hz");
        }
    }

    /// Two players in one tempo, drawn from a seed: same or other notes, on or off the beat, with or without drums; and
    /// whether the microphone stands before the speakers.
    fn evening(seed: u64, seconds: usize, speakers: bool) -> bool {
        let mut dice = Noise::of(seed);
        let mut below = |most: usize| ((dice.next() + 1.0) * 0.5 * most as f32) as usize % most;
        let beat = 48_000 * 60 / (70 + below(90));
        let notes = [98.0, 130.8, 146.8, 196.0, 220.0, 261.6, 330.0];
        let (theirs, bass, own) = (notes[below(7)], notes[below(2)], notes[below(7)]);
        let (strokes, late, hiss) = (1 + below(2), below(beat / 8), 0.0005 + below(4) as f32 * 0.0005);
        let (their_drums, my_drums) = (below(3) as f32 * 0.15, below(3) as f32 * 0.1);
        let steady = below(2) == 0;
        let (mut drums, mut mine, mut room) =
            (Noise::of(!seed), Noise::of(seed << 20), Noise::of(seed << 40));
        let mut air = VecDeque::from(vec![0.0; 100 + below(5_000)]);
        let echo = if speakers { 0.2 + below(5) as f32 * 0.1 } else { 0.0 };
        found(seconds, |n| {
            // A drummer's hand, too, is a little late.
            let hit = |drummer: u64, n: usize, fade: f32| {
                let late = 240.0 * (1.0 + Noise::of(drummer ^ Noise::of((n / beat) as u64).0).next());
                let since = (n % beat) as f32 - late;
                if since < 0.0 { 0.0 } else { (-since / fade).exp() }
            };
            let output = match steady {
                true => string(theirs, beat / strokes, n) + string(bass, beat, n),
                false => plucked(seed, theirs, beat / strokes, n) + plucked(seed + 1, bass, beat, n),
            };
            let output = output + their_drums * hit(!seed, n, 2_000.0) * drums.next() + 0.0005 * room.next();
            let input = 0.5 * plucked(!seed, own, beat / strokes, n + beat - late);
            air.push_back(output);
            let input = input
                + my_drums * hit(seed << 20, n + beat - late, 1_500.0) * mine.next()
                + hiss * room.next();
            (output, input + echo * air.pop_front().unwrap_or_default())
        })
    }

    /// More evenings, and others: `FEEDBACK_FIRST=1000 FEEDBACK_SEEDS=200`.
    #[test]
    fn an_evening_of_two_players_is_feedback_only_before_speakers() {
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let first = number("FEEDBACK_FIRST").unwrap_or(1);
        let seeds = first..first + number("FEEDBACK_SEEDS").unwrap_or(4);
        let wrong: Vec<u64> = seeds.clone().filter(|seed| evening(*seed, 30, false)).collect();
        assert!(wrong.is_empty(), "echoes that are none, with the seeds {wrong:?}");
        let deaf: Vec<u64> = seeds.filter(|seed| !evening(*seed, 30, true)).collect();
        assert!(deaf.is_empty(), "echoes not found within 30 s, with the seeds {deaf:?}");
    }

    #[test]
    fn hearing_oneself_and_leaking_headphones_are_no_feedback() {
        let mut room = Noise(2);
        assert!(!found(10, |n| {
            let input = string(196.0, 12_000, n) + 0.001 * room.next();
            (input, input)
        }));
        let (mut drums, mut room) = (Noise(1), Noise(2));
        let mut played = VecDeque::from(vec![0.0; 1_000]);
        assert!(!found(10, |n| {
            let output = band(&mut drums, n);
            played.push_back(output);
            (output, played.pop_front().unwrap() * 0.01 + 0.01 * room.next() + string(330.0, 16_000, n))
        }));
    }

    #[test]
    fn howl_is_found_and_silence_is_not() {
        let howl = |n: usize, phase: f32| {
            0.8 * (std::f32::consts::TAU * 1_870.0 * n as f32 / RATE_HZ as f32 + phase).sin()
        };
        let (mut out, mut inn) = (Noise(1), Noise(2));
        assert!(found(5, |n| (howl(n, 0.0) + 0.01 * out.next(), howl(n, 2.0) + 0.01 * inn.next())));
        assert!(!found(5, |_| (0.0, 0.0)));
        let mut noise = Noise(4);
        assert!(!found(5, |_| (0.0, 0.3 * noise.next())));
    }

    #[test]
    fn warning_goes_ten_seconds_after_the_last_sign() {
        let mut detector = FeedbackDetector::new(RATE_HZ);
        detector.note(Signs { echo: true, howl: false });
        assert!(detector.warns);
        for _ in 1..QUIET {
            detector.note(Signs::default());
        }
        assert!(detector.warns);
        detector.note(Signs::default());
        assert!(!detector.warns);
    }
}
