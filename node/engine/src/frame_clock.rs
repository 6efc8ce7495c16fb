//! Host time to frames and back.
//!
//! A callback starts a little early or late each time, while the sound card behind it runs evenly. A
//! second-order loop over the callback times (F. Adriaensen, "Using a DLL to filter time", 2005) gives the
//! even clock, in which a packet's arrival or a note's due time is a frame number with a fraction.

use crate::message::HostTime;

const BANDWIDTH_HZ: f64 = 0.5;
/// A callback this far from where it was expected means that the device stalled or restarted.
const JUMP_SECONDS: f64 = 0.02;

/// Which frame of the engine's output a host time falls on.
#[derive(Debug)]
pub(crate) struct FrameClock {
    nominal_frame_seconds: f64,
    origin: Option<HostTime>,
    /// Filtered start of the current callback, in seconds since `origin`.
    callback_seconds: f64,
    frame_seconds: f64,
    period_frames: f64,
}

impl FrameClock {
    pub(crate) fn new(rate_hz: u32) -> Self {
        let nominal_frame_seconds = 1.0 / f64::from(rate_hz);
        Self {
            nominal_frame_seconds,
            origin: None,
            callback_seconds: 0.0,
            frame_seconds: nominal_frame_seconds,
            period_frames: 0.0,
        }
    }

    /// Notes a callback that began at `now` and will put out `frames`.
    pub(crate) fn handle_callback(&mut self, now: HostTime, frames: usize) {
        let Some(origin) = self.origin else {
            self.origin = Some(now);
            self.period_frames = frames as f64;
            return;
        };
        let seconds = now.seconds_since(origin);
        let expected = self.callback_seconds + self.period_frames * self.frame_seconds;
        let error = seconds - expected;
        if error.abs() > JUMP_SECONDS {
            self.callback_seconds = seconds;
            self.frame_seconds = self.nominal_frame_seconds;
        } else {
            let omega = std::f64::consts::TAU
                * BANDWIDTH_HZ
                * self.period_frames.max(1.0)
                * self.nominal_frame_seconds;
            self.callback_seconds = expected + std::f64::consts::SQRT_2 * omega * error;
            let correction = omega * omega * error / self.period_frames.max(1.0);
            // A sound card is never a thousandth off; anything further is a slipping timer.
            let limit = self.nominal_frame_seconds * 1e-3;
            self.frame_seconds = (self.frame_seconds + correction)
                .clamp(self.nominal_frame_seconds - limit, self.nominal_frame_seconds + limit);
        }
        self.period_frames = frames as f64;
    }

    /// Frames from the start of the current callback to `time`; negative for the past.
    pub(crate) fn frames_from_callback(&self, time: HostTime) -> f64 {
        let Some(origin) = self.origin else { return 0.0 };
        (time.seconds_since(origin) - self.callback_seconds) / self.frame_seconds
    }

    /// Even start of the current callback.
    pub(crate) fn callback_time(&self) -> HostTime {
        let origin = self.origin.unwrap_or_default();
        HostTime(origin.0.saturating_add_signed((self.callback_seconds * 1e9) as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jittery_callbacks_give_an_even_clock() {
        let mut clock = FrameClock::new(48_000);
        let period_ns = 128.0e9 / 48_000.0 * 1.0001;
        let mut worst: f64 = 0.0;
        for k in 0..20_000u64 {
            let truth = 1e9 + k as f64 * period_ns;
            let jitter = ((k * 7919) % 101) as f64 * 2_000.0;
            clock.handle_callback(HostTime((truth + jitter) as u64), 128);
            if k > 2_000 {
                let mean_jitter = 100_000.0;
                let late = clock.frames_from_callback(HostTime((truth + mean_jitter) as u64));
                worst = worst.max(late.abs());
            }
        }
        assert!(worst < 1.0, "the even clock is off by {worst} frames under 200 us of jitter");
    }

    #[test]
    fn stalled_device_is_followed_at_once() {
        let mut clock = FrameClock::new(48_000);
        clock.handle_callback(HostTime(0), 480);
        clock.handle_callback(HostTime(10_000_000), 480);
        clock.handle_callback(HostTime(520_000_000), 480);
        assert!(clock.frames_from_callback(HostTime(520_000_000)).abs() < 1e-6);
    }
}
