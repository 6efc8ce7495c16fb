//! Numbers about the callback, written by the audio thread and read by anybody.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use serde::Serialize;

/// Live counters of one device. They survive a reopened device.
///
/// Thread-safe: yes. Realtime-safe: yes, relaxed atomics only.
#[derive(Debug, Default)]
pub struct DeviceStats {
    callbacks: AtomicU64,
    xruns: AtomicU64,
    overruns: AtomicU64,
    callback_max_ns: AtomicU64,
    /// The longest since it was last taken.
    recent_max_ns: AtomicU64,
    callback_sum_ns: AtomicU64,
    joined_dropped_frames: AtomicU64,
    joined_missing_frames: AtomicU64,
    recording_missed_frames: AtomicU64,
    /// In 1/64 frame.
    output_latency: AtomicU32,
}

/// Weight of what is known of the latency against one reading, and a change that is no reading's noise, in frames.
#[cfg(feature = "devices")]
const LATENCY_WEIGHT: i64 = 16;
#[cfg(feature = "devices")]
const LATENCY_LEAP_FRAMES: i64 = 256;
/// Resolution of the smoothed latency, parts of a frame.
const LATENCY_PARTS: u32 = 64;

/// [`DeviceStats`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct StatsSnapshot {
    /// Calls of the callback.
    pub callbacks: u64,
    /// Deadlines the device reported as missed, whoever was at fault.
    pub xruns: u64,
    /// Callbacks that took longer than the period they filled: dropouts of our making.
    pub overruns: u64,
    /// The longest callback so far.
    pub callback_max_us: f64,
    /// The mean callback.
    pub callback_mean_us: f64,
    /// Input frames thrown away to join two callbacks or two clocks into one.
    pub joined_dropped_frames: u64,
    /// Input frames replaced by silence for the same reason.
    pub joined_missing_frames: u64,
    /// Frames of silence in the recording because the disk was too slow.
    pub recording_missed_frames: u64,
    /// Frames from the start of a callback until the first of its frames leaves the sound card, by the device's own
    /// word; 0 where it has none (`null`, `file`).
    pub output_latency_frames: u32,
}

impl DeviceStats {
    /// All counters now.
    pub fn snapshot(&self) -> StatsSnapshot {
        let callbacks = self.callbacks.load(Relaxed);
        StatsSnapshot {
            callbacks,
            xruns: self.xruns.load(Relaxed),
            overruns: self.overruns.load(Relaxed),
            callback_max_us: self.callback_max_ns.load(Relaxed) as f64 / 1e3,
            callback_mean_us: self.callback_sum_ns.load(Relaxed) as f64 / 1e3 / callbacks.max(1) as f64,
            joined_dropped_frames: self.joined_dropped_frames.load(Relaxed),
            joined_missing_frames: self.joined_missing_frames.load(Relaxed),
            recording_missed_frames: self.recording_missed_frames.load(Relaxed),
            output_latency_frames: self.output_latency.load(Relaxed).saturating_add(LATENCY_PARTS / 2)
                / LATENCY_PARTS,
        }
    }

    /// Deadlines missed so far.
    pub fn xruns(&self) -> u64 {
        self.xruns.load(Relaxed)
    }

    /// Calls of the callback so far.
    pub fn callbacks(&self) -> u64 {
        self.callbacks.load(Relaxed)
    }

    /// The longest callback since the last call, in microseconds. For one reader: each call begins anew.
    pub fn take_callback_max_us(&self) -> f64 {
        self.recent_max_ns.swap(0, Relaxed) as f64 / 1e3
    }

    /// One callback's reading. Cards reckon in the chunks in which they fetch, so it is smoothed; one caller only.
    #[cfg(feature = "devices")]
    pub(super) fn note_output_latency(&self, frames: u32) {
        let before = i64::from(self.output_latency.load(Relaxed));
        let now = i64::from(frames) * i64::from(LATENCY_PARTS);
        let off = now - before;
        let leap = before == 0 || off.abs() > LATENCY_LEAP_FRAMES * i64::from(LATENCY_PARTS);
        let next = if leap { now } else { before + off / LATENCY_WEIGHT };
        self.output_latency.store(u32::try_from(next).unwrap_or(u32::MAX), Relaxed);
    }

    pub(super) fn count_callback(&self, duration_ns: u64, period_ns: u64) {
        self.callbacks.fetch_add(1, Relaxed);
        self.callback_sum_ns.fetch_add(duration_ns, Relaxed);
        self.callback_max_ns.fetch_max(duration_ns, Relaxed);
        self.recent_max_ns.fetch_max(duration_ns, Relaxed);
        if duration_ns > period_ns {
            self.overruns.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn count_xruns(&self, more: u64) {
        self.xruns.fetch_add(more, Relaxed);
    }

    pub(super) fn count_recording_missed(&self, frames: u64) {
        self.recording_missed_frames.fetch_add(frames, Relaxed);
    }

    #[cfg(feature = "devices")]
    pub(super) fn count_joined(&self, dropped_frames: u64, missing_frames: u64) {
        self.joined_dropped_frames.fetch_add(dropped_frames, Relaxed);
        self.joined_missing_frames.fetch_add(missing_frames, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "devices")]
    #[test]
    fn output_latency_is_smoothed_and_follows_a_leap_at_once() {
        let stats = DeviceStats::default();
        stats.note_output_latency(1_000);
        assert_eq!(stats.snapshot().output_latency_frames, 1_000);
        for reading in [960, 1_040].repeat(200) {
            stats.note_output_latency(reading);
            assert!(
                stats.snapshot().output_latency_frames.abs_diff(1_000) < 8,
                "{}",
                stats.snapshot().output_latency_frames
            );
        }
        stats.note_output_latency(0);
        assert_eq!(stats.snapshot().output_latency_frames, 0);
        stats.note_output_latency(128);
        assert_eq!(stats.snapshot().output_latency_frames, 128);
    }

    #[test]
    fn a_callback_longer_than_its_period_is_an_overrun() {
        let stats = DeviceStats::default();
        stats.count_callback(1_000, 2_000);
        stats.count_callback(3_000, 2_000);
        let now = stats.snapshot();
        assert_eq!(
            (now.callbacks, now.overruns, now.callback_max_us, now.callback_mean_us),
            (2, 1, 3.0, 2.0)
        );
        assert_eq!((stats.take_callback_max_us(), stats.take_callback_max_us()), (3.0, 0.0));
    }
}
