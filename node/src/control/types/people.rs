//! JSON about people: who touches what, who is connected to whom, what is said about them, and undo.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Path, Severity};

/// The session as its members report it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Graph {
    /// This node and all members that are known of, this node first.
    pub nodes: Vec<GraphNode>,
    /// What each end says about its connections: two edges, one each way, where both ends are heard.
    pub edges: Vec<GraphEdge>,
}

/// One member in the graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GraphNode {
    /// Its identity in libp2p's text form.
    pub peer_id: String,
    /// The name it gave itself, empty if only others know it: a stranger's text, escape it wherever it is shown.
    pub name: String,
    /// Whether it is this node.
    pub me: bool,
}

/// A connection as the member at `to` reports it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GraphEdge {
    /// Whose sound it carries.
    pub from: String,
    /// Who hears it, and reports this.
    pub to: String,
    /// The way packets take; `null` if it is not known.
    pub path: Option<Path>,
    /// Round trip of the network.
    pub rtt_ms: Option<f64>,
    /// Mouth of `from` to ear of `to`; `null` until measured.
    pub one_way_ms: Option<f64>,
    /// Whether sound of `from` arrives at `to`; `null` while it is too early to say.
    pub audio_arrives: Option<bool>,
}

/// Something somebody holds or types in right now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Touch {
    /// Whose node.
    pub peer_id: String,
    /// That member's name: a stranger's text, escape it wherever it is shown.
    pub name: String,
    /// Which of that node's pages; opaque, and new for every WebSocket.
    pub source: String,
    /// What is touched: a parameter such as `/mixer/strip/ID/gain_db`, a track `/tracks/ID`, or `/chat`.
    pub address: String,
    /// Where it stands meanwhile; `null`: it is only touched.
    pub value: Option<Value>,
}

/// What undo and redo would do now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UndoState {
    /// Whether there is an edit of this node's own to undo.
    pub can_undo: bool,
    /// Whether there is an undone edit to make again.
    pub can_redo: bool,
    /// The edit that undo takes back, such as `Gain of Bea`; `null`: there is none.
    pub undo_label: Option<String>,
    /// The edit that redo makes again; `null`: there is none.
    pub redo_label: Option<String>,
}

/// What an undo or a redo did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UndoResult {
    /// The edit, such as `Gain of Bea`.
    pub label: String,
    /// The first address that reads differently now.
    pub address: String,
    /// Parts of the edit that stayed, because somebody else has changed them since.
    pub kept: Vec<Kept>,
    /// As in [`UndoState`].
    pub can_undo: bool,
    /// As in [`UndoState`].
    pub can_redo: bool,
    /// As in [`UndoState`].
    pub undo_label: Option<String>,
    /// As in [`UndoState`].
    pub redo_label: Option<String>,
}

/// Something that undo left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Kept {
    /// What.
    pub address: String,
    /// Who changed it since.
    pub peer_id: String,
}

/// Something worth telling the player once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Notification {
    /// Counts up from 1 since the node started.
    pub id: u64,
    /// What happened.
    pub kind: NotificationKind,
    /// How bad it is.
    pub severity: Severity,
    /// One sentence; may hold a stranger's name, escape it wherever it is shown.
    pub text: String,
    /// Whom it is about; `null`: no other member.
    pub peer_id: Option<String>,
    /// Milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
}

/// What a notification is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotificationKind {
    /// A member came.
    PeerJoined,
    /// A member left on purpose.
    PeerLeft,
    /// A member cannot be reached any more.
    PeerLost,
    /// A lost member is here again.
    PeerBack,
    /// A member's clock is not known well enough to play together.
    SyncLost,
    /// It is again.
    SyncBack,
    /// The audio device is gone.
    DeviceLost,
    /// Sound is back.
    DeviceBack,
    /// Something the player should know, also in `Status.warnings`.
    Warning,
}
