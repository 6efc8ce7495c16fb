//! What the engine knows about itself, readable from any thread without disturbing it.
//!
//! Plain atomics, written by the audio thread. A reader may see one counter a callback older than another,
//! which no display shows; only the playout pair must belong together, and carries a sequence number for
//! that.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use crate::message::HostTime;

/// Level of a stream, linear: 1.0 is full scale.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Meter {
    /// Highest magnitude, falling by 20 dB a second.
    pub peak: f32,
    /// Root mean square, averaged over about 300 ms.
    pub rms: f32,
}

impl Meter {
    /// The peak in dBFS, -120 at the lowest.
    #[must_use]
    pub fn peak_db(self) -> f32 {
        to_db(self.peak)
    }

    /// The RMS in dBFS, -120 at the lowest.
    #[must_use]
    pub fn rms_db(self) -> f32 {
        to_db(self.rms)
    }
}

fn to_db(linear: f32) -> f32 {
    20.0 * linear.max(1e-6).log10()
}

/// A meter that the audio thread writes.
#[derive(Debug, Default)]
pub(crate) struct MeterCell {
    peak: AtomicU32,
    mean_square: AtomicU32,
}

impl MeterCell {
    pub(crate) fn read(&self) -> Meter {
        Meter {
            peak: f32::from_bits(self.peak.load(Ordering::Relaxed)),
            rms: f32::from_bits(self.mean_square.load(Ordering::Relaxed)).sqrt(),
        }
    }

    /// Notes `frames` frames of `seconds` with this peak and sum of squares per sample.
    pub(crate) fn write(&self, peak: f32, mean_square: f32, seconds: f32) {
        let fall = 10f32.powf(-seconds);
        let held = f32::from_bits(self.peak.load(Ordering::Relaxed)) * fall;
        let peak = peak.max(if held < 1e-6 { 0.0 } else { held });
        self.peak.store(peak.to_bits(), Ordering::Relaxed);
        let before = f32::from_bits(self.mean_square.load(Ordering::Relaxed));
        let keep = (-seconds / 0.3).exp();
        let average = mean_square + (before - mean_square) * keep;
        let average = if average < 1e-12 { 0.0 } else { average };
        self.mean_square.store(average.to_bits(), Ordering::Relaxed);
    }

    /// Notes these samples.
    pub(crate) fn measure(&self, samples: &[f32], seconds: f32) {
        let mut peak = 0.0f32;
        let mut square = 0.0f32;
        for sample in samples {
            peak = peak.max(sample.abs());
            square += sample * sample;
        }
        self.write(peak, square / samples.len().max(1) as f32, seconds);
    }
}

/// What has become of a bandmate's frames since the source was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceCounters {
    /// Frames that came and were kept.
    pub received_frames: u64,
    /// Frames that came after they were to be played.
    pub late_frames: u64,
    /// Frames that came again.
    pub duplicate_frames: u64,
    /// Frames that fit nowhere: far from the playhead, before a restart was believed, or more than the queue
    /// holds.
    pub dropped_frames: u64,
    /// Frames of output that were made up because nothing had come.
    pub concealed_frames: u64,
    /// How often making up began.
    pub concealment_events: u64,
    /// How often playing started over because timestamps jumped or the sender restarted.
    pub buffer_resets: u64,
    /// Frames by which playing was stretched or squeezed to change the delay.
    pub stretched_frames: u64,
}

/// What was at the head of one callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlayoutPoint {
    /// Timestamp, in the source's own frames, of the first frame of the callback's output.
    pub timestamp_frames: i64,
    /// When that callback began.
    pub host_time: HostTime,
}

/// Statistics of one source.
///
/// Thread-safe: yes. Realtime-safe: yes.
#[derive(Debug, Default)]
pub struct SourceStats {
    pub(crate) received_frames: AtomicU64,
    pub(crate) late_frames: AtomicU64,
    pub(crate) duplicate_frames: AtomicU64,
    pub(crate) dropped_frames: AtomicU64,
    pub(crate) concealed_frames: AtomicU64,
    pub(crate) concealment_events: AtomicU64,
    pub(crate) buffer_resets: AtomicU64,
    pub(crate) stretched_frames: AtomicU64,
    pub(crate) delay_frames: AtomicU32,
    pub(crate) margin_quantile_frames: AtomicU32,
    pub(crate) drift_ppm: AtomicU32,
    pub(crate) meter: MeterCell,
    playout_sequence: AtomicU64,
    playout_timestamp: AtomicI64,
    playout_host_time: AtomicU64,
}

impl SourceStats {
    /// All counters.
    #[must_use]
    pub fn counters(&self) -> SourceCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SourceCounters {
            received_frames: read(&self.received_frames),
            late_frames: read(&self.late_frames),
            duplicate_frames: read(&self.duplicate_frames),
            dropped_frames: read(&self.dropped_frames),
            concealed_frames: read(&self.concealed_frames),
            concealment_events: read(&self.concealment_events),
            buffer_resets: read(&self.buffer_resets),
            stretched_frames: read(&self.stretched_frames),
        }
    }

    /// Average wait of a block from being usable to being played, in frames of the source. 0 is the least
    /// there is: played in the callback that first saw it.
    #[must_use]
    pub fn delay_frames(&self) -> f32 {
        f32::from_bits(self.delay_frames.load(Ordering::Relaxed))
    }

    /// The margin that all but the permitted share of blocks had, in frames of the source.
    #[must_use]
    pub fn margin_quantile_frames(&self) -> f32 {
        f32::from_bits(self.margin_quantile_frames.load(Ordering::Relaxed))
    }

    /// By how many ppm the sender's sound card runs fast; 0 until that is known.
    #[must_use]
    pub fn drift_ppm(&self) -> f32 {
        f32::from_bits(self.drift_ppm.load(Ordering::Relaxed))
    }

    /// Level before strip and monitor gain.
    #[must_use]
    pub fn meter(&self) -> Meter {
        self.meter.read()
    }

    /// What the latest callback played; `None` while nothing plays. With the sender's time for that timestamp
    /// it gives the latency from mouth to ear.
    #[must_use]
    pub fn playout(&self) -> Option<PlayoutPoint> {
        for _ in 0..16 {
            let before = self.playout_sequence.load(Ordering::Acquire);
            let timestamp_frames = self.playout_timestamp.load(Ordering::Acquire);
            let host_time = HostTime(self.playout_host_time.load(Ordering::Acquire));
            let after = self.playout_sequence.load(Ordering::Acquire);
            if before == after && before.is_multiple_of(2) {
                return (host_time != HostTime::default())
                    .then_some(PlayoutPoint { timestamp_frames, host_time });
            }
        }
        None
    }

    pub(crate) fn set_playout(&self, timestamp_frames: i64, host_time: HostTime) {
        let sequence = self.playout_sequence.load(Ordering::Relaxed);
        // Release after release: a reader that sees a later store sees the odd sequence number too.
        self.playout_sequence.store(sequence.wrapping_add(1), Ordering::Release);
        self.playout_timestamp.store(timestamp_frames, Ordering::Release);
        self.playout_host_time.store(host_time.0, Ordering::Release);
        self.playout_sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }

    pub(crate) fn count(counter: &AtomicU64, frames: usize) {
        if frames > 0 {
            counter.fetch_add(frames as u64, Ordering::Relaxed);
        }
    }
}

/// Upper edges of the callback-time histogram, in microseconds; the last bucket has none.
pub const LOAD_EDGES_US: [u32; 12] = [10, 20, 50, 100, 200, 333, 500, 667, 1_000, 1_333, 2_667, 5_333];

/// How long callbacks took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Callbacks recorded.
    pub callbacks: u64,
    /// The longest, in microseconds.
    pub max_us: f64,
    /// The average, in microseconds.
    pub mean_us: f64,
    /// Callbacks up to each edge of [`LOAD_EDGES_US`], and above the last.
    pub histogram: [u64; LOAD_EDGES_US.len() + 1],
}

/// Statistics of the engine.
///
/// Thread-safe: yes. Realtime-safe: yes.
#[derive(Debug, Default)]
pub struct EngineStats {
    callbacks: AtomicU64,
    total_ns: AtomicU64,
    max_ns: AtomicU64,
    histogram: [AtomicU64; LOAD_EDGES_US.len() + 1],
    pub(crate) input: MeterCell,
    pub(crate) output: MeterCell,
    limiter_gain: AtomicU32,
    /// The largest reduction (1 minus gain) since it was last taken.
    limiter_reduction: AtomicU32,
    pub(crate) missed_reports: AtomicU64,
}

impl EngineStats {
    /// Records how long a callback took, as the device measured it. Called by the audio thread.
    pub fn record_callback(&self, duration_ns: u64) {
        self.callbacks.fetch_add(1, Ordering::Relaxed);
        self.total_ns.fetch_add(duration_ns, Ordering::Relaxed);
        self.max_ns.fetch_max(duration_ns, Ordering::Relaxed);
        let bucket = LOAD_EDGES_US.partition_point(|edge| u64::from(*edge) * 1_000 < duration_ns);
        if let Some(count) = self.histogram.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How long callbacks took so far.
    #[must_use]
    pub fn load(&self) -> Load {
        let callbacks = self.callbacks.load(Ordering::Relaxed);
        let mut histogram = [0; LOAD_EDGES_US.len() + 1];
        for (out, count) in histogram.iter_mut().zip(&self.histogram) {
            *out = count.load(Ordering::Relaxed);
        }
        Load {
            callbacks,
            max_us: self.max_ns.load(Ordering::Relaxed) as f64 / 1e3,
            mean_us: self.total_ns.load(Ordering::Relaxed) as f64 / 1e3 / callbacks.max(1) as f64,
            histogram,
        }
    }

    /// Level of the input, before input gain.
    #[must_use]
    pub fn input_meter(&self) -> Meter {
        self.input.read()
    }

    /// Level of the output, after the limiter.
    #[must_use]
    pub fn output_meter(&self) -> Meter {
        self.output.read()
    }

    /// Notes the lowest gain the limiter used in a callback.
    pub(crate) fn set_limiter_gain(&self, lowest: f32) {
        self.limiter_gain.store(lowest.to_bits(), Ordering::Relaxed);
        // Numbers that are not negative are ordered as their bits are.
        self.limiter_reduction.fetch_max((1.0 - lowest).max(0.0).to_bits(), Ordering::Relaxed);
    }

    /// Lowest gain the limiter used since the last call, from 0 to 1; 1.0 when it did nothing. For one reader: each
    /// call begins anew.
    #[must_use]
    pub fn take_limiter_gain(&self) -> f32 {
        1.0 - f32::from_bits(self.limiter_reduction.swap(0, Ordering::Relaxed))
    }

    /// Lowest gain the limiter used in the latest callback; 1.0 when it did nothing.
    #[must_use]
    pub fn limiter_gain(&self) -> f32 {
        f32::from_bits(self.limiter_gain.load(Ordering::Relaxed))
    }

    /// Reports dropped because nobody polled them.
    #[must_use]
    pub fn missed_reports(&self) -> u64 {
        self.missed_reports.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meter_shows_level_and_falls_when_music_stops() {
        let cell = MeterCell::default();
        for _ in 0..400 {
            cell.measure(&[0.5, -0.5, 0.5, -0.5], 0.0027);
        }
        let meter = cell.read();
        assert!((meter.peak_db() - -6.02).abs() < 0.1 && (meter.rms_db() - -6.02).abs() < 0.3);
        for _ in 0..375 {
            cell.measure(&[0.0; 4], 0.002_667);
        }
        let later = cell.read().peak_db();
        assert!((-27.0..-25.0).contains(&later), "{later} dB one second later");
    }

    #[test]
    fn histogram_sorts_callbacks_by_time() {
        let stats = EngineStats::default();
        stats.record_callback(9_000);
        stats.record_callback(300_000);
        stats.record_callback(9_999_000);
        let load = stats.load();
        assert_eq!((load.callbacks, load.max_us), (3, 9_999.0));
        assert_eq!((load.histogram[0], load.histogram[5], load.histogram[12]), (1, 1, 1));
    }

    #[test]
    fn playout_pair_is_never_torn() {
        let stats = SourceStats::default();
        assert_eq!(stats.playout(), None);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| (1..200_000).for_each(|n| stats.set_playout(n, HostTime(n as u64))));
            while !writer.is_finished() {
                if let Some(point) = stats.playout() {
                    assert_eq!(point.timestamp_frames as u64, point.host_time.0);
                }
            }
        });
    }
}
