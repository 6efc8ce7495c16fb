//! Where the beat is.
//!
//! Tempo, phase and start/stop live on the session clock, outside the engine; what arrives here is a straight
//! line from host time to beats. The callback lays its frames along that line.

use crate::message::HostTime;

/// A straight line from host time to beats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timeline {
    /// Beats a minute, 20 to 999; values outside are clamped.
    pub tempo_bpm: f64,
    /// The beat at `at`; any sign.
    pub beat: f64,
    /// When that beat is, at the player's ear.
    pub at: HostTime,
    /// Beats in a bar, for the accent: 1 to 64.
    pub quantum: f64,
    /// Whether playback runs. The line goes on either way.
    pub playing: bool,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { tempo_bpm: 120.0, beat: 0.0, at: HostTime(0), quantum: 4.0, playing: false }
    }
}

impl Timeline {
    /// The same line with every field in range.
    pub(crate) fn clamped(self) -> Self {
        let finite = |value: f64, otherwise: f64| if value.is_finite() { value } else { otherwise };
        Self {
            tempo_bpm: finite(self.tempo_bpm, 120.0).clamp(20.0, 999.0),
            beat: finite(self.beat, 0.0).clamp(-1e12, 1e12),
            quantum: finite(self.quantum, 4.0).clamp(1.0, 64.0),
            ..self
        }
    }

    /// The beat at `time`.
    #[must_use]
    pub fn beat_at(&self, time: HostTime) -> f64 {
        self.beat + time.seconds_since(self.at) * self.tempo_bpm / 60.0
    }
}
