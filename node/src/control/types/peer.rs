//! The other nodes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
    /// Where the time from its mouth to my ear goes; adds up to `audio.one_way_ms`. `null` until all of it is measured.
    pub waterfall: Option<Vec<LatencyStage>>,
    /// Why packets take this way, or why there is none, in words.
    pub path_reason: Option<String>,
    /// Whether I muted it in my own mix.
    pub muted_by_me: bool,
    /// Whether I soloed it in my own mix: of the others I hear only those that I soloed.
    pub soloed_by_me: bool,
    /// Its gain in my own mix.
    pub gain_db: f32,
    /// Where it is in my own mix, on top of the shared one: -1 is left, 1 is right.
    pub pan: f32,
    /// Whether it sends no sound on purpose.
    pub muted_themselves: bool,
    /// Whether it says that my sound arrives; `null` while it has not said.
    pub hears_me: Option<bool>,
}

/// One stretch of the time from mouth to ear.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LatencyStage {
    /// Which stretch.
    pub stage: Stage,
    /// How long it takes.
    pub ms: f64,
}

/// A stretch of the way from mouth to ear, between the two engines' callbacks: what can be measured. What the sound
/// cards add before and after is not known to the node and not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// From the callback with which a packet left there to its arrival here.
    Network,
    /// The rest: it waits here to be played; with Opus, the time until a packet is full and decoded is in it.
    Playout,
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
    /// Channels in the latest packet: 1 while the other one would add nothing, as with one microphone in a card of two inputs.
    pub channels: u32,
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
    /// Whether I solo it in my mix; absent: unchanged.
    pub soloed_by_me: Option<bool>,
    /// New place in my mix, from -1 (left) to 1 (right); absent: unchanged.
    #[schema(minimum = -1, maximum = 1)]
    pub pan: Option<f32>,
}
