//! What this node is and does.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::types::{Diagnosis, Master, Me, UndoState};

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
    /// My own sound.
    pub me: Me,
    /// The sum of all that I hear.
    pub master: Master,
    /// Whether my microphone seems to hear my speakers, or a howl has begun: what comes out of this node is found again in
    /// its input a moment later, or both are one loud lasting tone. Headphones end it.
    pub feedback_warning: bool,
    /// Ableton Link on this LAN.
    pub link: Link,
    /// The shared project.
    pub doc: Doc,
    /// Addresses other nodes can dial, as multiaddrs.
    pub listen: Vec<String>,
    /// Why it glitches, and what to do.
    pub diagnosis: Diagnosis,
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
    /// From the start of a callback until its sound leaves the card, by the card's own word, in ms; 0 when it has none.
    /// Clicks are played that much earlier, so that they are on the beat at the speaker.
    pub output_latency_ms: f64,
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
