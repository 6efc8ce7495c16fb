//! Mouth to ear, measured.
//!
//! The sender's reports say at which session time each frame was captured; the engine says at which host
//! time each frame was played. The difference, on the session clock, is the one-way latency between the two
//! engines, with no guess about the network in it. Single readings carry the error of one clock update,
//! so the median of the last few seconds is shown.

use engine::SourceStats;
use transport::{rtp::TimestampMap, time::SessionTime};

/// Readings kept; at one each 50 to 100 ms that is two to three seconds.
const READINGS: usize = 32;

/// The latest readings of one stream.
#[derive(Debug, Default)]
pub struct LatencyMeter {
    readings: Vec<i64>,
    next: usize,
    last_played: Option<u64>,
}

impl LatencyMeter {
    /// Takes one reading, if the engine has played since the last one. `session_minus_host_ns` is session time
    /// minus host time now.
    pub fn observe(&mut self, map: &TimestampMap, stats: &SourceStats, session_minus_host_ns: i64) {
        let Some(playout) = stats.playout() else { return };
        if self.last_played == Some(playout.host_time.0) {
            return;
        }
        let Some(captured) = map.session_time(playout.timestamp_frames) else { return };
        self.last_played = Some(playout.host_time.0);
        let played =
            SessionTime::from_nanos((playout.host_time.0 as i64).saturating_add(session_minus_host_ns));
        let reading = played.nanos_from(captured);
        match self.readings.get_mut(self.next) {
            Some(slot) => *slot = reading,
            None => self.readings.push(reading),
        }
        self.next = (self.next + 1) % READINGS;
    }

    /// The median of the latest readings, ns.
    pub fn one_way_ns(&self) -> Option<i64> {
        let mut sorted = self.readings.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}
