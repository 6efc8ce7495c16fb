//! What happens from moment to moment.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Levels and the beat, many times a second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Meters {
    /// When this was measured, ms since 1970-01-01 UTC.
    pub at_ms: f64,
    /// What this player plays, one a channel.
    pub input: Vec<Level>,
    /// What this player hears, one a channel.
    pub output: Vec<Level>,
    /// What comes from the others.
    pub peers: Vec<PeerLevel>,
    /// The sum of all that this player hears.
    pub master: MasterLevel,
    /// Tempo in beats a minute.
    pub tempo_bpm: f64,
    /// Beats since the beat's origin.
    pub beat: f64,
    /// Beats since the bar began.
    pub phase: f64,
    /// Whether playback runs.
    pub playing: bool,
}

/// The level of one channel; -120 is silence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Level {
    /// Highest sample of the last moment, full scale being 0.
    pub peak_db: f32,
    /// Root mean square of the last moment, full scale being 0.
    pub rms_db: f32,
}

/// The level of another node, before my own gain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PeerLevel {
    /// Whose.
    pub peer_id: String,
    /// Highest sample of the last moment, full scale being 0.
    pub peak_db: f32,
    /// Root mean square of the last moment, full scale being 0.
    pub rms_db: f32,
}

/// Loudness of the sum (ITU-R BS.1770, EBU R 128); `null` for silence, or until enough is measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MasterLevel {
    /// Over the last 400 ms.
    pub momentary_lufs: Option<f32>,
    /// Over the last 3 s.
    pub short_term_lufs: Option<f32>,
    /// By how much the limiter turned the loudest moment since the last reading down; 0: not at all.
    pub limiter_reduction_db: f32,
}

/// A key for opening one WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ticket {
    /// Goes into `/api/v1/ws?ticket=…`; works once.
    pub ticket: String,
    /// Seconds it stays good.
    pub expires_in_s: u64,
}

/// One line of the node's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// Milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// `error`, `warn`, `info` or `debug`.
    pub level: String,
    /// The part of the program that speaks.
    pub target: String,
    /// What it says, on one line, control characters escaped.
    pub message: String,
}
