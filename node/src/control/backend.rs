//! What the control server asks of the node behind it.

use futures::future::BoxFuture;
use serde_json::Value;
use tokio::sync::broadcast;

use crate::control::people::People;
use crate::control::types::{
    AudioChange, AudioState, Command, Devices, Diagnosis, History, Link, LinkChange, Master, MasterChange,
    Me, MeChange, Meters, MidiChange, MidiState, PatchResult, Peer, PeerChange, Playback, PlaybackChange,
    Setup, SetupChange, Status, TestTone,
};

/// The node as the control server sees it.
///
/// All methods are called on the runtime's threads, some of them 30 times a second for every open page: they read what is
/// ready and never wait for the disk or the network. Only those that return futures may wait; each is given up after
/// `limits::REQUEST_TIMEOUT`, which must not undo what it began.
pub trait Backend: People + Send + Sync + 'static {
    /// This node now.
    fn status(&self) -> Status;

    /// The other nodes now, in a steady order.
    fn peers(&self) -> Vec<Peer>;

    /// Levels and the beat now.
    fn meters(&self) -> Meters;

    /// The whole shared project.
    fn project(&self) -> BoxFuture<'_, Result<Value, BackendError>>;

    /// One node of the project's tree; `address` begins with `/`. `None`: there is none.
    fn project_node(&self, address: &str) -> BoxFuture<'_, Result<Option<Value>, BackendError>>;

    /// Applies the commands, all or none. With `durable` the future ends once they are on disk.
    fn patch(
        &self,
        commands: Vec<Command>,
        durable: bool,
    ) -> BoxFuture<'_, Result<PatchResult, BackendError>>;

    /// The common beat and position now.
    fn playback(&self) -> Playback;

    /// Changes the common beat or position, for everybody.
    fn set_playback(&self, change: PlaybackChange) -> BoxFuture<'_, Result<Playback, BackendError>>;

    /// Changes my own mix of another node.
    fn set_peer(&self, peer_id: &str, change: PeerChange) -> BoxFuture<'_, Result<Peer, BackendError>>;

    /// Who this player is.
    fn setup(&self) -> BoxFuture<'_, Setup>;

    /// Changes who this player is, here and for everybody.
    fn set_setup(&self, change: SetupChange) -> BoxFuture<'_, Result<Setup, BackendError>>;

    /// Audio and MIDI devices of this machine. May take seconds.
    fn devices(&self) -> BoxFuture<'_, Result<Devices, BackendError>>;

    /// The sound card that is open.
    fn audio(&self) -> AudioState;

    /// Changes to another device, rate or period while everybody plays.
    fn set_audio(&self, change: AudioChange) -> BoxFuture<'_, Result<AudioState, BackendError>>;

    /// The system's MIDI ports.
    fn midi(&self) -> MidiState;

    /// Changes to other MIDI ports while everybody plays.
    fn set_midi(&self, change: MidiChange) -> BoxFuture<'_, Result<MidiState, BackendError>>;

    /// Plays a tone in this player's ears; with 0 seconds, ends it.
    fn play_tone(&self, tone: TestTone) -> Result<(), BackendError>;

    /// Changes what is done with this player's own sound.
    fn set_me(&self, change: MeChange) -> Me;

    /// Changes the sum of all that this player hears.
    fn set_master(&self, change: MasterChange) -> Master;

    /// Joins or leaves Ableton Link.
    fn set_link(&self, change: LinkChange) -> BoxFuture<'_, Result<Link, BackendError>>;

    /// The last `seconds` in figures.
    fn history(&self, seconds: usize) -> History;

    /// Why it glitches.
    fn diagnosis(&self) -> Diagnosis;

    /// Further files for the support bundle, as name and text; secrets are taken out by the caller. May take seconds.
    fn support_files(&self) -> BoxFuture<'_, Vec<(String, String)>>;

    /// What happens from now on. Keep a bound of a few hundred: a reader that falls behind is sent the whole state again.
    fn subscribe(&self) -> broadcast::Receiver<Notice>;

    /// Figures for `/metrics` beyond those made from [`Backend::status`] and [`Backend::peers`].
    fn metrics(&self) -> Vec<Metric> {
        Vec::new()
    }
}

/// Something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Status is worth sending before its turn.
    Status,
    /// A peer came, went or changed its state or path.
    Peers,
    /// Somebody changed tempo, start, stop or position.
    Playback,
    /// These addresses of the project have new values, or none any more.
    Project(Vec<String>),
    /// Somebody touches something else, or elsewhere.
    Touches,
    /// There is a new notification.
    Notification,
}

/// Why the node did not do what it was asked. The text goes to the user and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// The request makes no sense as it is: an unknown address, a value out of range. Answered with 422.
    #[error("{0}")]
    Invalid(String),
    /// What it is about does not exist. Answered with 404.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be done as things are now. Answered with 409 and this code.
    #[error("{1}")]
    Conflict(&'static str, String),
    /// The player may not do this. Answered with 403.
    #[error("{0}")]
    Forbidden(String),
    /// Too much at once; try again. Answered with 503.
    #[error("{0}")]
    Busy(String),
    /// The node could not do it although it should, such as a full disk. Answered with 500.
    #[error("{0}")]
    Failed(String),
}

/// One figure for `/metrics`.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Name without the `bandmesh_` in front and without the `_total` of a counter, with its unit last.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: MetricKind,
    /// Label names and values; figures of one name follow each other.
    pub labels: Vec<(&'static str, String)>,
    /// The figure.
    pub value: f64,
}

/// How a figure moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}
