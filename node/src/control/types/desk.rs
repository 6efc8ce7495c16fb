//! What the player sets at their own desk: who they are, what they play on, what they hear of themselves.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the bearer of a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Player,
    /// See everything, change nothing: for a display on the wall.
    Viewer,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// What the token that came with the request opens.
    pub role: Role,
}

/// How this player appears to the others, and whether they were asked yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Setup {
    /// Whether the player has been through the first questions.
    pub done: bool,
    /// The player's name.
    pub name: String,
    /// The player's colour as `#rrggbb`: the chosen one, or else a suggestion.
    pub color: String,
    /// What the player plays; empty: not said.
    pub instrument: String,
    /// A name to begin with: the player's login name.
    pub suggested_name: String,
}

/// Answers to the first questions; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetupChange {
    /// New name, 1 to 64 characters on one line.
    #[schema(min_length = 1, max_length = 64)]
    pub name: Option<String>,
    /// New colour as `#rrggbb`.
    #[schema(pattern = "^#[0-9a-fA-F]{6}$")]
    pub color: Option<String>,
    /// New instrument, at most 64 characters on one line.
    #[schema(max_length = 64)]
    pub instrument: Option<String>,
    /// Whether the player has been through the first questions.
    pub done: Option<bool>,
}

/// Audio and MIDI devices of this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Devices {
    /// What `PUT /audio` can be told, best first; `null` is always there.
    pub audio: Vec<AudioDevice>,
    /// Names of MIDI inputs.
    pub midi_inputs: Vec<String>,
    /// Names of MIDI outputs.
    pub midi_outputs: Vec<String>,
    /// What could not be looked at, and why.
    pub notes: Vec<String>,
}

/// One device that `PUT /audio` takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AudioDevice {
    /// What to give as `device` to `PUT /audio`, or as `--audio`.
    pub id: String,
    /// `jack`, `alsa` or `null`.
    pub host: String,
    /// The device in words.
    pub name: String,
    /// The most input channels; `null`: not known.
    pub inputs: Option<u16>,
    /// The most output channels; `null`: not known.
    pub outputs: Option<u16>,
    /// Usual rates it can run at, in frames a second.
    pub rates_hz: Vec<u32>,
    /// Whether `auto` would take it.
    pub is_default: bool,
}

/// How the sound card is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AudioRunning {
    /// It calls.
    Running,
    /// Another device or format is being opened.
    Opening,
    /// It is gone; the node tries again by itself.
    Lost,
}

/// The sound card that was asked for and the one that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AudioState {
    /// What was asked for: `auto`, `null`, `jack`, `file:IN.wav[,OUT.wav]` or a device's name.
    pub choice: String,
    /// `alsa`, `jack`, `null` or `file`.
    pub host: String,
    /// Name of the device or JACK client that is open.
    pub device: String,
    /// Frames a second.
    pub rate_hz: u32,
    /// Frames a callback.
    pub period_frames: u32,
    /// How it is doing.
    pub state: AudioRunning,
    /// What the player might want to know: a wish the device could not meet, why it is gone.
    pub detail: Option<String>,
}

/// Another device or format, taken up while everybody plays; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AudioChange {
    /// `auto`, `null`, `jack`, `file:IN.wav[,OUT.wav]` or an `id` of `GET /devices`. A recording must go to a new file.
    #[schema(min_length = 1)]
    pub device: Option<String>,
    /// Frames a second.
    #[schema(minimum = 8000, maximum = 192_000)]
    pub rate_hz: Option<u32>,
    /// Frames a callback.
    #[schema(minimum = 16, maximum = 4096)]
    pub period_frames: Option<u32>,
}

/// The system's MIDI ports: what was chosen and what is open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MidiState {
    /// The client under which other programs find this node's own two ports, "Bandmesh in" and "Bandmesh out", and those of
    /// a JACK server.
    pub client: String,
    /// Whether the audio device has MIDI ports of its own besides these, as JACK does.
    pub device_ports: bool,
    /// Why there are no system ports, and what to do; `null`: there are.
    pub problem: Option<String>,
    /// Whether every instrument that is plugged in is listened to.
    pub all_inputs: bool,
    /// The inputs that were chosen besides, each by its name or a part of it.
    pub inputs: Vec<String>,
    /// The outputs that were chosen, each by its name or a part of it. What the band plays goes there.
    pub outputs: Vec<String>,
    /// All inputs there are, then those that are chosen and absent.
    pub input_ports: Vec<MidiPort>,
    /// All outputs there are, then those that are chosen and absent.
    pub output_ports: Vec<MidiPort>,
}

/// One MIDI port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MidiPort {
    /// Its name, or what was asked for if it is absent.
    pub name: String,
    /// What it is to this node.
    pub state: MidiPortState,
    /// How long ago it last played something; `null`: not yet.
    pub played_ms_ago: Option<u64>,
}

/// What a MIDI port is to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MidiPortState {
    /// Used.
    Open,
    /// There, not chosen.
    Closed,
    /// Chosen, not there; it is opened when it comes.
    Absent,
    /// Chosen as input and output, but it gives back what it is sent, so it is the output only.
    Loop,
    /// Chosen, but it does not open, or another program has disconnected it. To choose it again connects it again.
    Refused,
}

/// Other MIDI ports, taken up while everybody plays; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MidiChange {
    /// Whether to listen to every instrument that is plugged in.
    pub all_inputs: Option<bool>,
    /// Inputs to listen to besides, each by its name or a part of it, at most 64.
    #[schema(max_items = 64)]
    pub inputs: Option<Vec<String>>,
    /// Outputs to play on, each by its name or a part of it, at most 64.
    #[schema(max_items = 64)]
    pub outputs: Option<Vec<String>>,
}

/// A test tone to play.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TestToneRequest {
    /// How long; absent: 2.
    #[schema(minimum = 0.5, maximum = 10)]
    pub seconds: Option<f32>,
    /// Peak level, full scale being 0; absent: -20.
    #[schema(minimum = -60, maximum = -6)]
    pub level_db: Option<f32>,
}

/// The test tone that was begun: 440 Hz, in this player's ears only.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TestTone {
    /// How long it sounds; 0: it was ended.
    pub seconds: f32,
    /// Its peak level, full scale being 0.
    pub level_db: f32,
}

/// What is done with this player's own sound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// Whether the others hear silence instead of me.
    pub muted: bool,
    /// Gain of my input before it is sent.
    pub input_gain_db: f32,
    /// Whether I hear myself through the node. I do so while muted too, to tune.
    pub monitor: bool,
    /// Gain of what I hear of myself.
    pub monitor_gain_db: f32,
}

/// A change of my own sound; what is absent stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MeChange {
    /// Whether the others hear silence instead of me.
    pub muted: Option<bool>,
    /// Gain of my input before it is sent.
    #[schema(minimum = -60, maximum = 12)]
    pub input_gain_db: Option<f32>,
    /// Whether I hear myself through the node.
    pub monitor: Option<bool>,
    /// Gain of what I hear of myself.
    #[schema(minimum = -60, maximum = 12)]
    pub monitor_gain_db: Option<f32>,
}

/// The sum of all that I hear.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Master {
    /// Gain of the sum, before the limiter.
    pub gain_db: f32,
}

/// A change of the sum of all that I hear.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MasterChange {
    /// Gain of the sum, before the limiter.
    #[schema(minimum = -60, maximum = 12)]
    pub gain_db: f32,
}

/// Whether Ableton Link takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkChange {
    /// `true` joins the LAN's Link session, `false` leaves it.
    pub enabled: bool,
}
