//! The JSON of the control interface.
//!
//! These types belong to the interface alone: the inside of the node converts into them by hand, so that it can change while
//! clients keep working. Names are `snake_case` and end in their unit. What is not known yet is `null`, never a made-up 0.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

mod people;

pub use people::{
    Graph, GraphEdge, GraphNode, Kept, Notification, NotificationKind, Severity, Touch, UndoResult, UndoState,
};

/// The level, in dB, that stands for silence in every `*_db` meter: JSON has no minus infinity.
pub const SILENCE_DB: f32 = -120.0;

/// This node: who it is, what it plays on, the beat and the project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The node's identity in libp2p's text form.
    pub peer_id: String,
    /// The player's name.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Seconds since the node started.
    pub uptime_s: f64,
    /// The session the node is in.
    pub session: Session,
    /// The sound card and its stream.
    pub audio: Audio,
    /// Ableton Link on this LAN.
    pub link: Link,
    /// The shared project.
    pub doc: Doc,
    /// Addresses other nodes can dial, as multiaddrs.
    pub listen: Vec<String>,
    /// What the player should know now, one sentence each that says what to do; empty when all is well.
    pub warnings: Vec<String>,
    /// What undo and redo would do.
    pub undo: UndoState,
}

/// A session: the nodes that play together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Equal on all nodes of the session.
    pub id: String,
    /// The name given by `--session`.
    pub name: String,
}

/// The sound card and its stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Audio {
    /// `alsa`, `jack`, `null` or `file`.
    pub host: String,
    /// Name of the device or JACK client.
    pub device: String,
    /// Frames a second of the device.
    pub rate_hz: u32,
    /// Frames a callback.
    pub period_frames: u32,
    /// Callbacks the device missed since it was opened.
    pub xruns: u64,
    /// Longest callback of the last seconds.
    pub callback_max_us: f64,
    /// Highest input sample of the last moment, full scale being 0; -120 is silence.
    pub input_peak_db: f32,
    /// Highest output sample of the last moment, full scale being 0; -120 is silence.
    pub output_peak_db: f32,
}

/// Ableton Link on this LAN, and the beat as every player has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Link {
    /// Whether Link is on.
    pub enabled: bool,
    /// Other Link programs on this LAN.
    pub peers: u64,
    /// Tempo in beats a minute.
    pub tempo_bpm: f64,
    /// Beats since the beat's origin at the moment of this answer.
    pub beat: f64,
    /// Beats since the bar began, from 0 to the beats of a bar.
    pub phase: f64,
    /// Whether playback runs.
    pub playing: bool,
}

/// The state of the shared project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Doc {
    /// Equal on two nodes exactly when their projects are equal.
    pub heads_hash: String,
    /// Changes in the project's history.
    pub changes: u64,
    /// Whether everything known is on this node's disk.
    pub saved: bool,
}

/// How far another node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PeerState {
    /// Being dialled, or known and waiting for the next attempt.
    Connecting,
    /// In the session and reachable.
    Connected,
    /// A member that cannot be reached now.
    Away,
}

/// The way packets take to another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// The same local network.
    Lan,
    /// Across networks, with nobody between.
    Direct,
    /// Through a relay server.
    Relayed,
    /// Passed on by a bandmate.
    Forwarded,
}

/// Another node of the session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Peer {
    /// Its identity in libp2p's text form.
    pub peer_id: String,
    /// The name it gave itself: a stranger's text, escape it wherever it is shown.
    pub name: String,
    /// How far it is.
    pub state: PeerState,
    /// The way packets take; `null` while there is none.
    pub path: Option<Path>,
    /// Its multiaddr in use; `null` while there is none.
    pub address: Option<String>,
    /// Round trip of the network.
    pub rtt_ms: Option<f64>,
    /// Its clock against ours; `null` until measured.
    pub clock: Option<PeerClock>,
    /// What we hear from it; `null` while no stream runs.
    pub audio: Option<PeerAudio>,
    /// Whether I muted it in my own mix.
    pub muted_by_me: bool,
    /// Its gain in my own mix.
    pub gain_db: f32,
    /// Whether it sends no sound on purpose.
    pub muted_themselves: bool,
    /// Whether it says that my sound arrives; `null` while it has not said.
    pub hears_me: Option<bool>,
}

/// Another node's clock against ours.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PeerClock {
    /// Its clock minus ours.
    pub offset_us: f64,
    /// The true offset lies within plus or minus this.
    pub error_us: f64,
    /// How fast the offset grows, in parts per million.
    pub drift_ppm: f64,
}

/// The audio stream from another node. Counters run since the stream began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PeerAudio {
    /// `pcm16`, `pcm24` or `opus`.
    pub codec: String,
    /// Frames in one packet.
    pub frame_frames: u32,
    /// Time a packet waits here before it is played.
    pub playout_delay_ms: f64,
    /// Mouth to ear between the two engines, measured on the session clock; `null` until it is.
    pub one_way_ms: Option<f64>,
    /// Interarrival jitter of RFC 3550.
    pub jitter_ms: f64,
    /// Packets that came.
    pub received: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came after their time.
    pub late: u64,
    /// Frames made up because the real ones were missing.
    pub concealed_frames: u64,
    /// Packets won back by redundancy.
    pub recovered: u64,
    /// Concealed frames over all frames played, from 0 to 1.
    pub concealed_ratio: f64,
    /// Times the stream began anew: a gap, a restart, an overflow.
    pub buffer_resets: u64,
}

/// My own mix of another node: nobody else hears it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PeerChange {
    /// New gain in my mix, from -60 to 12; absent: unchanged.
    #[schema(minimum = -60, maximum = 12)]
    pub gain_db: Option<f32>,
    /// Whether I mute it in my mix; absent: unchanged.
    pub muted_by_me: Option<bool>,
}

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
    pub time_signature: Option<String>,
    /// `true` starts, `false` stops.
    pub playing: Option<bool>,
    /// New position in beats since the start of the song.
    pub position_beats: Option<f64>,
    /// Whether the metronome clicks, in my own ears only.
    pub metronome: Option<bool>,
}

/// One edit of the project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Gives one value of the parameter registry a new value.
    Set {
        /// Which value, such as `/transport/tempo_bpm`.
        address: String,
        /// The new value, within the range the registry gives.
        value: Value,
    },
    /// Adds an item to a list; the result carries its address.
    Add {
        /// Which list, such as `/tracks`.
        address: String,
        /// The new item.
        value: Value,
    },
    /// Moves an item within its list.
    Move {
        /// Which item.
        address: String,
        /// The item it goes before; `null`: to the end.
        #[serde(default)]
        before: Option<String>,
    },
    /// Takes an item out of its list.
    Delete {
        /// Which item.
        address: String,
    },
}

impl Command {
    /// The address the command is about.
    #[must_use]
    pub fn address(&self) -> &str {
        match self {
            Self::Set { address, .. }
            | Self::Add { address, .. }
            | Self::Move { address, .. }
            | Self::Delete { address } => address,
        }
    }
}

/// Edits of the project, applied all or none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchRequest {
    /// The edits in order, 1 to 1000 of them.
    #[schema(min_items = 1, max_items = 1000)]
    pub commands: Vec<Command>,
}

/// What `PATCH /project` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PatchResult {
    /// One for each command, in order.
    pub results: Vec<CommandResult>,
    /// The project after the edits.
    pub heads_hash: String,
    /// Whether the edits are on disk.
    pub durable: bool,
}

/// What one command did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommandResult {
    /// The address of what was set, added, moved or deleted.
    pub address: String,
}

/// Levels and the beat, many times a second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Meters {
    /// What this player plays, one a channel.
    pub input: Vec<Level>,
    /// What this player hears, one a channel.
    pub output: Vec<Level>,
    /// What comes from the others.
    pub peers: Vec<PeerLevel>,
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

/// The level in dB of a linear amplitude, held within what JSON and a meter can show.
#[must_use]
pub fn level_db(amplitude: f32) -> f32 {
    let db = 20.0 * amplitude.abs().log10();
    if db.is_nan() { SILENCE_DB } else { db.clamp(SILENCE_DB, 120.0) }
}
