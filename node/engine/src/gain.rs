//! Gains that move without a click.
//!
//! A step in gain is a step in the waveform. Every gain therefore moves linearly over 5 ms, and costs nothing
//! (and changes no bit at 0 dB) while it rests.

/// Decibels to linear gain: -90 dB and below is silence, above +12 dB is clamped, not-a-number is silence.
pub(crate) fn from_db(db: f32) -> f32 {
    if db == 0.0 {
        1.0
    } else if db > -90.0 {
        10f32.powf(db.min(12.0) / 20.0)
    } else {
        0.0
    }
}

/// The loudest sample that is taken from anybody, 24 dB over full scale: what is louder is no music, and sums and gains
/// of it stay far from infinity.
const LOUDEST: f32 = 16.0;

/// A sample as it may enter the mix; what is no number is silence.
#[inline]
pub(crate) fn scrubbed(sample: f32) -> f32 {
    if sample.is_finite() { sample.clamp(-LOUDEST, LOUDEST) } else { 0.0 }
}

/// A gain that approaches its target linearly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ramp {
    value: f32,
    target: f32,
    step: f32,
    remaining: u32,
}

impl Ramp {
    pub(crate) fn resting_at(value: f32) -> Self {
        Self { value, target: value, step: 0.0, remaining: 0 }
    }

    /// Starts moving towards `target`, to arrive in `frames`.
    pub(crate) fn set(&mut self, target: f32, frames: u32) {
        if target == self.target {
            return;
        }
        self.target = target;
        self.remaining = frames.max(1);
        self.step = (target - self.value) / self.remaining as f32;
    }

    /// The gain of the next frame.
    #[inline]
    pub(crate) fn advance(&mut self) -> f32 {
        if self.remaining > 0 {
            self.remaining -= 1;
            self.value = if self.remaining == 0 { self.target } else { self.value + self.step };
        }
        self.value
    }

    /// The gain, if it does not move.
    pub(crate) fn resting(&self) -> Option<f32> {
        (self.remaining == 0).then_some(self.value)
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.resting() == Some(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_db_is_exactly_one_and_silence_is_exactly_zero() {
        assert_eq!(from_db(0.0), 1.0);
        assert_eq!(from_db(-90.0), 0.0);
        assert_eq!(from_db(f32::NEG_INFINITY), 0.0);
        assert_eq!(from_db(f32::NAN), 0.0);
        assert!((from_db(f32::INFINITY) - from_db(12.0)).abs() < 1e-6);
    }

    #[test]
    fn ramp_arrives_exactly_and_in_small_steps() {
        let mut ramp = Ramp::resting_at(1.0);
        ramp.set(0.0, 240);
        let mut before = 1.0;
        for _ in 0..240 {
            let now = ramp.advance();
            assert!((before - now).abs() <= 1.01 / 240.0);
            before = now;
        }
        assert!(ramp.is_silent());
    }
}
