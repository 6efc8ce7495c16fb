//! A card's sound at another rate, on its way out.
//!
//! Opus knows five rates and most cards run at a sixth. The listener's reader of frames between frames
//! ([`crate::source::interpolate`]) does the same work here: it needs 0.5 ms of frames ahead, keeps out what would fold
//! back, and has no delay of its own to be remembered. Frame `n` of the output is the sound at exactly `n` times the ratio
//! of the rates, counted from the card's first frame, so timestamps at the new rate say as precisely as before when
//! something was captured, for as long as the node runs.

use crate::source::Interpolator;

/// Converts one stream of interleaved frames. Not for the audio callback: it allocates until its buffers are as long as
/// they get.
///
/// Thread-safe: no, one thread at a time. Realtime-safe: no.
#[derive(Debug)]
pub struct Resampler {
    from_hz: u64,
    to_hz: u64,
    interpolator: Interpolator,
    /// One run of input frames per channel, all of the same length.
    channels: Vec<Vec<f32>>,
    /// Position of the first frame that is kept, as if there had been some before the first of all.
    first: i64,
    /// The next frame of the output.
    next: u64,
}

impl Resampler {
    /// From one rate to another, both at least 1 Hz, for `channels` interleaved channels.
    #[must_use]
    pub fn new(from_hz: u32, to_hz: u32, channels: usize) -> Self {
        let (from_hz, to_hz) = (from_hz.max(1), to_hz.max(1));
        let mut resampler = Self {
            from_hz: from_hz.into(),
            to_hz: to_hz.into(),
            interpolator: Interpolator::new(f64::from(from_hz) / f64::from(to_hz)),
            channels: vec![Vec::new(); channels.max(1)],
            first: 0,
            next: 0,
        };
        resampler.restart(0);
        resampler
    }

    /// Forgets what came before: the next frame of input is the one at `position`, and there was silence.
    pub fn restart(&mut self, position: u64) {
        let before = self.interpolator.longest_reach().saturating_sub(1);
        for channel in &mut self.channels {
            channel.clear();
            channel.resize(before, 0.0);
        }
        self.first = position as i64 - before as i64;
        self.next = (u128::from(position) * u128::from(self.to_hz)).div_ceil(self.from_hz.into()) as u64;
    }

    /// Position, in frames of the output, of the next frame that will be written.
    #[must_use]
    pub fn next_position(&self) -> u64 {
        self.next
    }

    /// The frame of the output nearest to `position` of the input.
    #[must_use]
    pub fn position(&self, position: u64) -> u64 {
        let (from, to) = (u128::from(self.from_hz), u128::from(self.to_hz));
        ((u128::from(position) * to + from / 2) / from) as u64
    }

    /// Takes interleaved frames that follow those before, and appends all output that can be made of them to `out`.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        for frame in samples.chunks_exact(self.channels.len()) {
            for (channel, sample) in self.channels.iter_mut().zip(frame) {
                channel.push(*sample);
            }
        }
        let Some(kernel) = self.interpolator.kernel(usize::MAX) else { return };
        let taps = 2 * kernel.reach;
        loop {
            let scaled = u128::from(self.next) * u128::from(self.from_hz);
            let to_hz = u128::from(self.to_hz);
            let whole = (scaled / to_hz) as i64;
            let fraction = (scaled % to_hz) as f64 / self.to_hz as f64;
            // The kernel's frame zero has `reach - 1` frames before it.
            let start = (whole - self.first - (kernel.reach as i64 - 1)).max(0) as usize;
            if self.channels.iter().any(|channel| channel.len() < start + taps + 1) {
                break;
            }
            for channel in &self.channels {
                out.push(channel.get(start..).map_or(0.0, |frames| kernel.read(frames, fraction)));
            }
            self.next += 1;
        }
        let scaled = u128::from(self.next) * u128::from(self.from_hz);
        let needed = (scaled / u128::from(self.to_hz)) as i64 - (kernel.reach as i64 - 1);
        let passed = usize::try_from(needed - self.first).unwrap_or(0);
        let passed = self.channels.iter().map(Vec::len).fold(passed, usize::min);
        for channel in &mut self.channels {
            channel.drain(..passed);
        }
        self.first += passed as i64;
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    const HZ: f64 = 997.0;

    fn tone(position: u64, rate_hz: u32) -> f32 {
        (0.5 * (TAU * HZ * position as f64 / f64::from(rate_hz)).sin()) as f32
    }

    /// How far what came out is from the same tone sampled at the other rate, in dB below it.
    fn snr_db(resampled: &[f32], first: u64, rate_hz: u32) -> f64 {
        let (mut signal, mut noise) = (0.0, 0.0);
        for (n, sample) in resampled.iter().enumerate() {
            let truth = f64::from(tone(first + n as u64, rate_hz));
            signal += truth * truth;
            noise += (f64::from(*sample) - truth).powi(2);
        }
        10.0 * (signal / noise).log10()
    }

    #[test]
    fn every_frame_is_where_its_number_says_at_every_rate_and_period() {
        for from_hz in [8_000, 22_050, 44_100, 88_200, 96_000, 192_000] {
            for period in [32, 128, 441, 1_024] {
                let mut resampler = Resampler::new(from_hz, 48_000, 1);
                // After hours of play too.
                let begin = u64::from(from_hz) * 36_000 + 17;
                resampler.restart(begin);
                let first = resampler.next_position();
                let mut out = Vec::new();
                for block in 0..u64::from(from_hz) / period {
                    let at = begin + block * period;
                    let input: Vec<f32> = (at..at + period).map(|n| tone(n, from_hz)).collect();
                    resampler.push(&input, &mut out);
                }
                assert_eq!(resampler.next_position(), first + out.len() as u64);
                let snr = snr_db(&out[480..], first + 480, 48_000);
                assert!(snr > 55.0, "{from_hz} Hz in {period}: {snr:.0} dB");
                // It waits for half a millisecond of sound, and for three where a frame is as long as six.
                let late = resampler.position(begin + u64::from(from_hz) / period * period)
                    - resampler.next_position();
                assert!(late <= 48_000 * 25 / u64::from(from_hz.min(48_000)) + 2, "{from_hz}: {late}");
            }
        }
    }

    #[test]
    fn channels_stay_apart_and_memory_does_not_grow() {
        let mut resampler = Resampler::new(44_100, 48_000, 2);
        let mut out = Vec::new();
        for block in 0..2_000u64 {
            let input: Vec<f32> =
                (block * 128..(block + 1) * 128).flat_map(|n| [tone(n, 44_100), 0.0]).collect();
            out.clear();
            resampler.push(&input, &mut out);
            assert!(out.iter().skip(1).step_by(2).all(|right| *right == 0.0));
        }
        assert!(resampler.channels.iter().all(|channel| channel.capacity() < 1_024));
    }

    #[test]
    fn a_gap_is_a_gap_of_the_same_length() {
        let mut resampler = Resampler::new(96_000, 48_000, 1);
        let mut out = Vec::new();
        resampler.push(&[0.5; 960], &mut out);
        resampler.restart(9_601);
        assert_eq!(resampler.next_position(), 4_801);
        out.clear();
        let input: Vec<f32> = (9_601..19_200).map(|n| tone(n, 96_000)).collect();
        resampler.push(&input, &mut out);
        assert!(snr_db(&out[100..], 4_901, 48_000) > 55.0, "nothing of before is in it");
    }
}
