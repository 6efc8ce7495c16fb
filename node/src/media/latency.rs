//! Mouth to ear, measured.
//!
//! The sender's reports say at which session time a frame was captured; the engine says at which host
//! time a frame was played. The difference, on the session clock, is the one-way latency between the two
//! engines, with no guess about the network in it. A frame is dated from the latest report, a quarter of a second away
//! at most: no sound card is off by more than some microseconds in that time, while a longer memory would mix in
//! what it did before it last stumbled. Single readings carry the error of one report and one clock update, so
//! the median of the last few seconds is shown.

use engine::PlayoutPoint;
use transport::time::SessionTime;

/// Readings kept; at one each 50 to 100 ms that is two to three seconds.
const READINGS: usize = 32;
/// Share of a new packet in the mean of how long packets take: some two seconds of them at a period of 128.
const ARRIVAL_SHARE: f64 = 1.0 / 512.0;

/// The latest readings of one stream.
#[derive(Debug)]
pub struct LatencyMeter {
    rate_hz: u32,
    /// A frame of the stream and when it was captured.
    report: Option<(i64, SessionTime)>,
    readings: Vec<i64>,
    next: usize,
    last_played: Option<u64>,
    /// Kept beside the readings, because every MIDI packet asks for it.
    median: Option<i64>,
    /// Mean time from the callback with which a packet left to its arrival, ns.
    on_the_way: Option<f64>,
}

impl LatencyMeter {
    /// A meter for a stream of `rate_hz` frames per second, at least 1.
    pub fn new(rate_hz: u32) -> Self {
        Self {
            rate_hz: rate_hz.max(1),
            report: None,
            readings: Vec::new(),
            next: 0,
            last_played: None,
            median: None,
            on_the_way: None,
        }
    }

    /// Forgets everything: what was read before is not on the session's clock of now.
    pub fn reset(&mut self) {
        *self = Self::new(self.rate_hz);
    }

    /// The sender says that `timestamp_frames` was captured at `captured`.
    pub fn handle_report(&mut self, timestamp_frames: i64, captured: SessionTime) {
        self.report = Some((timestamp_frames, captured));
    }

    /// Takes one reading of what the engine plays, if it has played since the last one. `session_minus_host_ns` is
    /// session time minus host time now.
    pub fn observe(&mut self, playout: Option<PlayoutPoint>, session_minus_host_ns: i64) {
        let Some(playout) = playout else { return };
        if self.last_played == Some(playout.host_time.0) {
            return;
        }
        let Some((reported, at)) = self.report else { return };
        let captured = self.captured(playout.timestamp_frames, (reported, at));
        self.last_played = Some(playout.host_time.0);
        let played =
            SessionTime::from_nanos((playout.host_time.0 as i64).saturating_add(session_minus_host_ns));
        let reading = played.nanos_from(captured);
        match self.readings.get_mut(self.next) {
            Some(slot) => *slot = reading,
            None => self.readings.push(reading),
        }
        self.next = (self.next + 1) % READINGS;
        let mut sorted = self.readings.clone();
        sorted.sort_unstable();
        self.median = sorted.get(sorted.len() / 2).copied();
    }

    /// A packet that left its sender when a frame of `departed_frames` was captured arrived at `arrived`.
    pub fn handle_arrival(&mut self, departed_frames: i64, arrived: SessionTime) {
        let Some(report) = self.report else { return };
        let reading = arrived.nanos_from(self.captured(departed_frames, report)) as f64;
        let before = self.on_the_way.unwrap_or(reading);
        self.on_the_way = Some(before + (reading - before) * ARRIVAL_SHARE);
    }

    /// Mean time from the callback with which a packet left to its arrival, ns.
    pub fn on_the_way_ns(&self) -> Option<i64> {
        self.on_the_way.map(|mean| mean as i64)
    }

    fn captured(&self, timestamp_frames: i64, (reported, at): (i64, SessionTime)) -> SessionTime {
        let frames = timestamp_frames.saturating_sub(reported);
        at.offset_by(frames.saturating_mul(1_000_000_000) / i64::from(self.rate_hz))
    }

    /// The median of the latest readings, ns.
    pub fn one_way_ns(&self) -> Option<i64> {
        self.median
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn way_is_measured_from_when_packets_left() {
        let at = |ms: f64| SessionTime::from_nanos((ms * 1e6) as i64);
        let mut meter = LatencyMeter::new(48_000);
        meter.handle_arrival(0, at(5.0));
        assert_eq!(meter.on_the_way_ns(), None, "nobody said when it was captured");
        meter.handle_report(0, at(100.0));
        for callback in 0..4_000 {
            let sent = 100.0 + f64::from(callback) * 10.0;
            let jitter = if callback % 2 == 0 { 1.0 } else { -1.0 };
            // Now two, now three packets.
            for _ in 0..2 + callback / 2 % 2 {
                meter.handle_arrival(i64::from(callback) * 480, at(sent + 7.0 + jitter));
            }
        }
        let ms = meter.on_the_way_ns().unwrap() as f64 / 1e6;
        assert!((ms - 7.0).abs() < 0.05, "{ms}");
    }
}
