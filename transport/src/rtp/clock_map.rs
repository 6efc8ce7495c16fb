//! Which session time is this timestamp?
//!
//! A stream counts the frames of its sender's sound card; musicians share session time. Each sender report gives one
//! pair of the two, with the jitter of the callback that made it. A straight line through the last pairs (least
//! squares) gives both answers: when a frame was captured, and how fast the card really runs.
//!
//! Limits: cards that change rate show after half the window; before two reports the nominal rate is assumed.

use std::collections::VecDeque;

use crate::time::SessionTime;

/// Pairs the line is laid through: 8 to 16 s at four to two reports a second.
const MAX_PAIRS: usize = 32;
/// A pair this far from the line means the sender's clock or timeline jumped: begin again with it.
const JUMP_NS: f64 = 50e6;
/// The rate is believed only over at least this span; a shorter one multiplies the callback's jitter.
const MIN_SPAN_NS: f64 = 4e9;
/// No sound card is further off; a steeper line is measurement noise.
const MAX_RATE_ERROR: f64 = 1e-3;

/// Maps one stream's timestamps to session time and back.
#[derive(Debug)]
pub struct TimestampMap {
    nominal_rate_hz: u32,
    pairs: VecDeque<(i64, SessionTime)>,
    line: Option<Line>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    origin_frames: i64,
    origin: SessionTime,
    /// Session time of the origin frame as the line sees it, less `origin`.
    bias_ns: f64,
    nanos_per_frame: f64,
    /// Whether the slope was measured rather than assumed.
    measured: bool,
}

impl TimestampMap {
    /// A map for a stream of `nominal_rate_hz` frames per second (at least 1), with no reports yet.
    pub fn new(nominal_rate_hz: u32) -> Self {
        TimestampMap { nominal_rate_hz: nominal_rate_hz.max(1), pairs: VecDeque::new(), line: None }
    }

    /// Takes one report: the extended timestamp (see [`super::StreamReceiver::extend_timestamp`]) and its session
    /// time. Reports that do not go forward in both are ignored.
    pub fn handle_report(&mut self, timestamp_frames: i64, session_time: SessionTime) {
        if self.distance_ns(timestamp_frames, session_time).is_some_and(|distance| distance > JUMP_NS) {
            self.pairs.clear();
        }
        if self.pairs.back().is_some_and(|&(frames, time)| timestamp_frames <= frames || session_time <= time)
        {
            return;
        }
        if self.pairs.len() == MAX_PAIRS {
            self.pairs.pop_front();
        }
        self.pairs.push_back((timestamp_frames, session_time));
        self.line = self.fit();
    }

    /// Forgets everything; after [`super::Output::Restarted`].
    pub fn reset(&mut self) {
        self.pairs.clear();
        self.line = None;
    }

    /// When the frame was captured; `None` before the first report.
    pub fn session_time(&self, timestamp_frames: i64) -> Option<SessionTime> {
        let line = self.line?;
        let frames = timestamp_frames.saturating_sub(line.origin_frames) as f64;
        Some(line.origin.offset_by((line.bias_ns + frames * line.nanos_per_frame).round() as i64))
    }

    /// Which frame was captured at that time (fractional frames cut off); `None` before the first report.
    pub fn timestamp_frames(&self, session_time: SessionTime) -> Option<i64> {
        let line = self.line?;
        let nanos = session_time.nanos_from(line.origin) as f64 - line.bias_ns;
        Some(line.origin_frames.saturating_add((nanos / line.nanos_per_frame).floor() as i64))
    }

    /// The sender's measured rate in frames per second of session time; `None` until the reports span 4 s.
    pub fn rate_hz(&self) -> Option<f64> {
        self.line.filter(|line| line.measured).map(|line| 1e9 / line.nanos_per_frame)
    }

    fn distance_ns(&self, timestamp_frames: i64, session_time: SessionTime) -> Option<f64> {
        let predicted = self.session_time(timestamp_frames)?;
        Some((session_time.nanos_from(predicted) as f64).abs())
    }

    fn fit(&self) -> Option<Line> {
        let &(origin_frames, origin) = self.pairs.front()?;
        let nominal = 1e9 / f64::from(self.nominal_rate_hz);
        let points: Vec<(f64, f64)> = self
            .pairs
            .iter()
            .map(|&(frames, time)| {
                (frames.saturating_sub(origin_frames) as f64, time.nanos_from(origin) as f64)
            })
            .collect();
        let count = points.len() as f64;
        let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
        let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
        let span_ns = points.last().map_or(0.0, |(_, y)| *y);
        let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        let slope = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread.max(1.0);
        let measured = span_ns >= MIN_SPAN_NS && (slope / nominal - 1.0).abs() <= MAX_RATE_ERROR;
        let nanos_per_frame = if measured { slope } else { nominal };
        let bias_ns = mean_y - mean_x * nanos_per_frame;
        Some(Line { origin_frames, origin, bias_ns, nanos_per_frame, measured })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bob's card runs 80 ppm fast; his reports carry 200 us of callback jitter.
    fn reports(count: i64) -> impl Iterator<Item = (i64, SessionTime)> {
        (0..count).map(|index| {
            let nanos = index * 250_000_000;
            let frames = (nanos as f64 * 48_000.0 * (1.0 + 80e-6) / 1e9).round() as i64;
            let jitter = (index * 7_919 % 401 - 200) * 1_000;
            (frames + 5_000, SessionTime::from_nanos(nanos + jitter))
        })
    }

    #[test]
    fn capture_time_and_rate_come_out_of_jittery_reports() {
        let mut map = TimestampMap::new(48_000);
        reports(60).for_each(|(frames, time)| map.handle_report(frames, time));
        let rate = map.rate_hz().unwrap();
        assert!((rate / 48_000.0 - 1.0 - 80e-6).abs() < 20e-6, "measured {rate}");
        let last = 59 * 250_000_000;
        let frames = (last as f64 * 48_000.0 * (1.0 + 80e-6) / 1e9) as i64 + 5_000;
        let error = map.session_time(frames).unwrap().as_nanos() - last;
        assert!(error.abs() < 120_000, "{error} ns");
        let back = map.timestamp_frames(map.session_time(frames).unwrap()).unwrap();
        assert!((back - frames).abs() <= 1);
    }

    #[test]
    fn one_report_is_enough_at_the_nominal_rate() {
        let mut map = TimestampMap::new(44_100);
        assert_eq!(map.session_time(0), None);
        map.handle_report(1_000, SessionTime::from_nanos(500));
        assert_eq!(map.session_time(1_000 + 44_100), Some(SessionTime::from_nanos(1_000_000_500)));
        assert_eq!(map.rate_hz(), None);
    }

    #[test]
    fn a_jump_of_the_timeline_is_followed_at_once() {
        let mut map = TimestampMap::new(48_000);
        reports(60).for_each(|(frames, time)| map.handle_report(frames, time));
        map.handle_report(10, SessionTime::from_nanos(99_000_000_000));
        assert_eq!(map.session_time(10), Some(SessionTime::from_nanos(99_000_000_000)));
    }
}
