//! What went on in the last minutes, and who is to blame.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The last minutes, one figure a second. All lists of one answer have the same length, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// Seconds from one figure to the next.
    pub interval_s: u32,
    /// When the last figure was taken, ms since 1970-01-01 UTC.
    pub end_ms: u64,
    /// This node's own device.
    pub device: DeviceHistory,
    /// Everybody who was a member within this time.
    pub peers: Vec<PeerHistory>,
}

/// Figures of this node's own device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeviceHistory {
    /// Callbacks the device missed in this second.
    pub xruns: Vec<Option<u64>>,
    /// The longest callback of this second over the time it had: above 1 it came too late.
    pub callback_load: Vec<Option<f64>>,
    /// Sound of all others that was made up in this second, because packets were missing.
    pub concealed_ms: Vec<Option<f64>>,
}

/// Figures of the stream from another node. `null` where there was none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PeerHistory {
    /// Whose.
    pub peer_id: String,
    /// The name it gave itself: a stranger's text.
    pub name: String,
    /// Packets that came in this second.
    pub received: Vec<Option<u64>>,
    /// Packets missed in this second.
    pub lost: Vec<Option<u64>>,
    /// Packets that came in this second after their time.
    pub late: Vec<Option<u64>>,
    /// Packets won back by redundancy in this second.
    pub recovered: Vec<Option<u64>>,
    /// Sound made up in this second.
    pub concealed_ms: Vec<Option<f64>>,
    /// Interarrival jitter of RFC 3550.
    pub jitter_ms: Vec<Option<f64>>,
    /// Time a packet waits here before it is played.
    pub playout_delay_ms: Vec<Option<f64>>,
    /// Mouth to ear.
    pub one_way_ms: Vec<Option<f64>>,
    /// Round trip of the network.
    pub rtt_ms: Vec<Option<f64>>,
    /// Its clock minus ours.
    pub clock_offset_us: Vec<Option<f64>>,
    /// Bound of the offset's error.
    pub clock_error_us: Vec<Option<f64>>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing to do.
    #[default]
    Good,
    /// Worth knowing; music goes on.
    Notice,
    /// It can be heard.
    Bad,
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CulpritKind {
    /// Nobody's.
    #[default]
    None,
    /// This machine's sound card.
    Device,
    /// This machine is too busy.
    Cpu,
    /// One other player's machine, or the way to them.
    Peer,
    /// This node's own connection.
    Network,
    /// A clock that cannot be measured well enough.
    Clock,
    /// Nothing that is measured explains what is heard.
    Unknown,
}

/// Whose fault it is, and which player's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Culprit {
    /// What kind.
    pub kind: CulpritKind,
    /// Which other player, where it is about one.
    pub peer_id: Option<String>,
}

/// A call of this interface that should help.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Action {
    /// What a button that does it says.
    pub label: String,
    /// The method, such as `PUT`.
    pub method: String,
    /// The path below `/api/v1`, such as `/audio`.
    pub path: String,
    /// The JSON body; `null`: none.
    pub body: Option<Value>,
}

/// Why it glitches, in one sentence, and what to do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Diagnosis {
    /// How bad it is.
    pub severity: Severity,
    /// One sentence that names the culprit.
    pub sentence: String,
    /// Whose fault it is.
    pub culprit: Culprit,
    /// What should help; `null`: nothing that this interface can do.
    pub action: Option<Action>,
}
