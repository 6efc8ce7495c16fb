//! The common beat and position.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The common beat and position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Playback {
    /// Tempo in beats a minute.
    pub tempo_bpm: f64,
    /// Beats of a bar and the note that is one beat, such as `4/4`.
    #[schema(example = "4/4")]
    pub time_signature: String,
    /// Whether playback runs.
    pub playing: bool,
    /// Position in beats since the start of the song at the moment of this answer.
    pub position_beats: f64,
    /// Beats since the bar began.
    pub phase_beats: f64,
    /// Whether the metronome clicks, in my own ears only.
    pub metronome: bool,
}

/// A change of the beat or position, or of my metronome; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaybackChange {
    /// New tempo in beats a minute, from 20 to 999.
    #[schema(minimum = 20, maximum = 999)]
    pub tempo_bpm: Option<f64>,
    /// New time signature, such as `3/4`.
    #[schema(pattern = "^([1-9]|1[0-6])/4$")]
    pub time_signature: Option<String>,
    /// `true` starts, `false` stops.
    pub playing: Option<bool>,
    /// New position in beats since the start of the song.
    pub position_beats: Option<f64>,
    /// Whether the metronome clicks, in my own ears only.
    pub metronome: Option<bool>,
}
