//! Numbers about the callback, written by the audio thread and read by anybody.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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
}

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
