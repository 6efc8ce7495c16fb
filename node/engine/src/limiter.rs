//! A guard for the ears.
//!
//! Eight people at full level add up to 18 dB over full scale. Looking ahead would cost latency, so the gain
//! falls at the very frame that needs it and recovers over 100 ms. Below the ceiling no bit is changed.

/// -1 dBFS.
pub(crate) const CEILING: f32 = 0.891_250_9;
const RELEASE_SECONDS: f32 = 0.1;

/// A stereo-linked peak limiter without look-ahead.
#[derive(Debug)]
pub(crate) struct Limiter {
    gain: f32,
    release: f32,
}

impl Limiter {
    pub(crate) fn new(rate_hz: u32) -> Self {
        Self { gain: 1.0, release: 1.0 - (-1.0 / (RELEASE_SECONDS * rate_hz as f32)).exp() }
    }

    /// Limits interleaved stereo in place and gives the lowest gain that was used.
    pub(crate) fn process(&mut self, stereo: &mut [f32]) -> f32 {
        let mut lowest = 1.0f32;
        for frame in stereo.chunks_exact_mut(2) {
            let [left, right] = frame else { continue };
            let peak = left.abs().max(right.abs());
            if self.gain < 1.0 {
                self.gain += (1.0 - self.gain) * self.release;
                // The last hundredth of a decibel would never end in single precision.
                if self.gain > 0.999 {
                    self.gain = 1.0;
                }
            }
            if peak * self.gain > CEILING {
                self.gain = CEILING / peak;
            }
            if self.gain < 1.0 {
                *left = (*left * self.gain).clamp(-CEILING, CEILING);
                *right = (*right * self.gain).clamp(-CEILING, CEILING);
                lowest = lowest.min(self.gain);
            }
        }
        lowest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_above_the_ceiling() {
        let mut limiter = Limiter::new(48_000);
        let mut block: Vec<f32> = (0..9600).map(|n| 8.0 * (n as f32 * 0.07).sin()).collect();
        let lowest = limiter.process(&mut block);
        assert!(lowest < 0.2);
        assert!(block.iter().all(|s| s.abs() <= CEILING));
    }

    #[test]
    fn quiet_music_is_not_touched_and_gain_recovers() {
        let mut limiter = Limiter::new(48_000);
        let quiet: Vec<f32> = (0..960).map(|n| 0.8 * (n as f32 * 0.07).sin()).collect();
        let mut block = quiet.clone();
        assert_eq!(limiter.process(&mut block), 1.0);
        assert!(block == quiet);

        limiter.process(&mut [4.0, 4.0]);
        limiter.process(&mut vec![0.0; 2 * 96_000]);
        let mut block = quiet.clone();
        limiter.process(&mut block);
        assert!(block == quiet);
    }
}
