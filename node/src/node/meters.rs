//! Levels for people to look at.
//!
//! Every surface should show the same, and a peak must stay long enough to be seen: the node reads the engine at a
//! fixed pace, and everybody looks at the copy here.

use std::collections::{BTreeMap, VecDeque};

use engine::Meter;
use transport::PeerId;

use super::listening::Heard;

/// Time between two readings: 30 a second, as fast as a page draws.
pub const METER_INTERVAL: std::time::Duration = std::time::Duration::from_millis(33);
/// Readings over which [`Levels::input_peak`] and [`Levels::output_peak`] look back: one second.
const RECENT: usize = 30;

/// The latest readings.
#[derive(Debug, Default)]
pub struct Levels {
    /// When they were read, ms since 1970.
    pub at_ms: f64,
    /// What this player plays.
    pub input: Meter,
    /// What this player hears.
    pub output: Meter,
    /// What comes from each member.
    pub peers: BTreeMap<PeerId, Meter>,
    /// Loudness of what this player hears, and whether the microphone hears it too.
    pub heard: Heard,
    /// Lowest gain of the limiter since the reading before; 1 when it did nothing.
    pub limiter_gain: f32,
    recent: VecDeque<(f32, f32)>,
}

impl Levels {
    /// Takes one reading.
    pub fn update(
        &mut self,
        at_ms: f64,
        input: Meter,
        output: Meter,
        peers: BTreeMap<PeerId, Meter>,
        heard: Heard,
        limiter_gain: f32,
    ) {
        self.at_ms = at_ms;
        self.heard = heard;
        self.limiter_gain = limiter_gain;
        self.input = input;
        self.output = output;
        self.peers = peers;
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((input.peak, output.peak));
    }

    /// Highest input sample of the last second, full scale being 1.
    pub fn input_peak(&self) -> f32 {
        self.recent.iter().map(|(input, _)| *input).fold(0.0, f32::max)
    }

    /// Highest output sample of the last second, full scale being 1.
    pub fn output_peak(&self) -> f32 {
        self.recent.iter().map(|(_, output)| *output).fold(0.0, f32::max)
    }
}
