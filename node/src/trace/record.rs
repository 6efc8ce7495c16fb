//! What a trace holds, record by record.
//!
//! A *core* is a value whose decisions follow from its calls alone: the session, each member's receiving half, the
//! engine, the Link bridge. For each, every call that can change it is recorded with its time and arguments, together with
//! what came out. Text that is compared is the `Debug` form of the decision: Rust writes floating point so that equal text
//! means equal values, and a difference can be read.
//!
//! Records are in postcard encoding, as control frames are. Never in here: the identity's secret key, tokens, TLS secrets.

use std::collections::BTreeSet;

use bytes::Bytes;
use crdt::{Command, storage::BatchId};
use engine::{CallbackTrace, PlayoutPoint, SourceTrace};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use transport::{
    PeerId,
    time::{LocalTime, SessionTime},
};

use crate::session::{
    beat::BeatRegister,
    link_bridge::{LinkReading, Standing},
    member_state,
    message::{Strain, StreamInfo},
};

/// Version of the records; a reader refuses others.
pub const FORMAT: u16 = 3;
/// Longest text in a record, octets; longer ones are cut.
pub const MAX_TEXT_BYTES: usize = 30_000;

/// One thing that happened. `at_ns` is host time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Record {
    /// The first record.
    Start(Start),
    /// A member's name became known.
    Name {
        /// Who.
        #[serde(with = "peer_bytes")]
        peer: PeerId,
        /// The name.
        name: String,
    },
    /// The session was called.
    Session {
        /// When.
        at_ns: i64,
        /// How.
        call: SessionCall,
    },
    /// The project was called.
    Project {
        /// When: milliseconds since 1970.
        at_ms: u64,
        /// How.
        call: ProjectCall,
        /// What this node signed in the call, 64 octets each. They are in what it sends, too.
        signatures: Vec<Vec<u8>>,
    },
    /// A member's receiving half was called.
    Receive {
        /// Whose.
        #[serde(with = "peer_bytes")]
        peer: PeerId,
        /// How.
        call: ReceiveCall,
    },
    /// An engine took a command into its queue.
    Command {
        /// Which engine: one is built each time that the device changes.
        engine: u32,
        /// The command.
        command: EngineCommand,
    },
    /// An engine ran a period.
    Callback {
        /// Which engine.
        engine: u32,
        /// The period.
        callback: Callback,
        /// Each source in the order of mixing.
        sources: Vec<Source>,
    },
    /// An engine was built.
    Engine {
        /// Its number.
        engine: u32,
        /// Frames a second.
        rate_hz: u32,
        /// Longest period, frames.
        max_period_frames: u32,
        /// Input channels.
        input_channels: u32,
        /// Most sources.
        max_sources: u32,
    },
    /// The Link bridge was asked.
    Link {
        /// Session time.
        session_ns: i64,
        /// Tempo and beat of the session.
        register: BeatRegister,
        /// What Link said.
        reading: LinkReading,
        /// The node's place.
        standing: Standing,
        /// What the bridge decided.
        actions: String,
    },
    /// Somebody used the control interface.
    Api {
        /// When.
        at_ns: u64,
        /// What was asked.
        what: String,
        /// With which arguments, in `Debug` form; cut at [`MAX_TEXT_BYTES`].
        arguments: String,
    },
    /// A MIDI message came from a port here.
    Midi {
        /// When it was played.
        at_ns: u64,
        /// The message.
        message: Vec<u8>,
    },
    /// Records found no room from here on: the trace has a hole and ends.
    Gap {
        /// Records lost when this was written.
        records: u64,
        /// Callbacks lost when this was written.
        callbacks: u64,
    },
    /// The last record.
    End(End),
}

/// How a trace begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    /// [`FORMAT`].
    pub format: u16,
    /// The program's version.
    pub version: String,
    /// Processor architecture: floating point may differ on another.
    pub arch: String,
    /// Host time when the trace began, ns.
    pub host_ns: u64,
    /// The same moment by the calendar: nanoseconds since 1970.
    pub unix_ns: u64,
    /// This node: its public key.
    #[serde(with = "peer_bytes")]
    pub me: PeerId,
    /// The musician's name.
    pub name: String,
    /// Options that matter, for people.
    pub settings: String,
}

/// Why a trace ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// The node ended.
    Stopped,
    /// The file has reached its size limit; what came first is kept.
    Limit,
    /// After a [`Record::Gap`]: how much was lost in all.
    Lost {
        /// Records.
        records: u64,
        /// Callbacks.
        callbacks: u64,
    },
}

/// A packet or message between nodes: the note beside it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PacketNote {
    /// Host time, ns.
    pub at_ns: u64,
    /// From or to whom.
    #[serde(with = "peer_bytes")]
    pub peer: PeerId,
    /// Whether it came in.
    pub incoming: bool,
    /// On which way.
    pub way: Way,
    /// The core that took it, if it was one, and what that decided.
    pub call: Option<PacketCall>,
}

/// How a message travelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// A QUIC datagram.
    Datagram,
    /// A frame on the control stream.
    Control,
    /// A frame on the project stream.
    Project,
}

/// Which core took a packet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum PacketCall {
    /// The session, with its answer.
    Session(String),
    /// The member's receiving half.
    Receive {
        /// When.
        at: At,
        /// What it handed to the engine.
        pushed: Vec<Push>,
        /// Datagrams refused so far, by the receiver's counters.
        refused: u64,
        /// Report blocks found.
        blocks: String,
    },
}

/// Calls of [`crate::session::Session`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum SessionCall {
    /// It was founded.
    New {
        /// Author number.
        author: u64,
        /// Session name.
        session: String,
        /// Random per start.
        incarnation: u64,
        /// Identity of the founded timebase.
        timebase: [u8; 16],
        /// What this node sends.
        stream: StreamInfo,
        /// Beats per minute.
        tempo_bpm: f64,
        /// Beats in a bar.
        beats_per_bar: u8,
    },
    /// `handle_connected`.
    Connected(#[serde(with = "peer_bytes")] PeerId),
    /// `handle_disconnected`.
    Disconnected(#[serde(with = "peer_bytes")] PeerId),
    /// `handle_clock`.
    Clock(#[serde(with = "peer_bytes")] PeerId, i64),
    /// `handle_deadline`.
    Deadline,
    /// `change_beat`, with the register that the change made.
    ChangeBeat(BeatRegister),
    /// `change_stream`.
    ChangeStream(StreamInfo),
    /// `leave`.
    Leave,
    /// `rename`.
    Rename(String),
    /// `set_muted`.
    SetMuted(bool),
    /// `set_strain`.
    SetStrain(Strain),
    /// `handle_links`.
    Links(Vec<RecordedConnection>),
    /// `touch`.
    Touch {
        /// Page of this node.
        source: u32,
        /// Of the parameter.
        address: String,
        /// JSON, where a value was given.
        value: Option<String>,
    },
    /// `let_go`.
    LetGo {
        /// Page of this node.
        source: u32,
        /// Of the parameter; `None`: of all.
        address: Option<String>,
    },
    /// `handle_project_followed`.
    ProjectFollowed(BTreeSet<String>),
    /// `poll` gave this.
    Output(String),
    /// `set_in_link`.
    SetInLink(bool),
}

/// Calls of [`crdt::Project`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ProjectCall {
    /// It was opened.
    New {
        /// Session name.
        session: String,
        /// Where its ids come from.
        seed: [u8; 32],
        /// [`crdt::storage::Loaded`] in postcard; `None` if that was too long for a trace.
        stored: Option<Vec<u8>>,
    },
    /// `command`, or `gesture`, which can be undone.
    Command {
        /// Which of the two.
        gesture: bool,
        /// The commands in JSON.
        commands: String,
        /// The bits of the floating-point numbers in it, in their order.
        floats: Vec<u64>,
        /// The answer.
        answer: String,
    },
    /// `undo`.
    Undo {
        /// Whether to redo instead.
        redo: bool,
        /// The answer.
        answer: String,
    },
    /// `handle_peer_connected`, the peer's public key.
    Connected([u8; 32]),
    /// `handle_peer_disconnected`.
    Disconnected([u8; 32]),
    /// `handle_message`: whose, and the frame.
    Message([u8; 32], Vec<u8>),
    /// `handle_stored`, and why it failed.
    Stored(BatchId, Option<String>),
    /// `handle_deadline`.
    Deadline,
    /// `poll` gave this.
    Output(String),
    /// What all documents came to then.
    Heads(String),
}

/// A [`member_state::ConnectionReading`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RecordedConnection {
    #[serde(with = "peer_bytes")]
    peer: PeerId,
    path: u8,
    rtt_us: Option<u32>,
    one_way_us: Option<u32>,
    received: u64,
    lost: u64,
}

impl From<&member_state::ConnectionReading<PeerId>> for RecordedConnection {
    fn from(reading: &member_state::ConnectionReading<PeerId>) -> Self {
        let member_state::ConnectionReading { peer, id: _, path, rtt_us, one_way_us, received, lost } =
            *reading;
        Self { peer, path, rtt_us, one_way_us, received, lost }
    }
}

impl From<&RecordedConnection> for member_state::ConnectionReading<PeerId> {
    fn from(link: &RecordedConnection) -> Self {
        let RecordedConnection { peer, path, rtt_us, one_way_us, received, lost } = *link;
        Self { peer, id: peer.to_bytes(), path, rtt_us, one_way_us, received, lost }
    }
}

/// Calls of [`crate::media::Incoming`] other than packets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ReceiveCall {
    /// It begins, or, for a member known before, begins anew.
    New {
        /// The announced stream.
        info: StreamInfo,
        /// Tag of the source it feeds.
        source: u64,
        /// Rate of the engine, Hz.
        engine_rate_hz: u32,
        /// Names this process's clock.
        incarnation: u32,
    },
    /// `change_stream`.
    ChangeStream {
        /// The announced stream.
        info: StreamInfo,
        /// Tag of the source it feeds.
        source: u64,
        /// Rate of the engine, Hz.
        engine_rate_hz: u32,
    },
    /// `refit`.
    Refit {
        /// Tag of the source it feeds.
        source: u64,
        /// Rate of the engine, Hz.
        engine_rate_hz: u32,
    },
    /// `handle_deadline`.
    Deadline {
        /// When.
        at: At,
        /// What it handed to the engine.
        pushed: Vec<Push>,
    },
    /// `observe`.
    Observe {
        /// When.
        at: At,
        /// What the engine showed: average wait, frames.
        delay_frames: f32,
        /// What the engine showed: what plays, as timestamp and host time.
        playout: Option<(i64, u64)>,
        /// The member's clock after it.
        clock: String,
        /// Statistics of the packets after it.
        packets: String,
        /// Mouth to ear after it, ns.
        one_way_ns: Option<i64>,
    },
    /// `poll_clock` or `poll_overdue_clock` gave a datagram.
    Clock {
        /// When, host time in ns.
        at_ns: u64,
        /// The datagram.
        datagram: Vec<u8>,
    },
    /// `report_blocks`.
    ReportBlocks {
        /// When, host time in ns.
        at_ns: u64,
        /// What it gave.
        blocks: String,
    },
    /// `take_due_midi` gave these messages with their host time in ns.
    DueMidi(Vec<(u64, Vec<u8>)>),
    /// `release`.
    Release {
        /// When.
        at: At,
    },
}

/// A [`crate::media::Moment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    /// Host time, ns.
    pub local_ns: u64,
    /// Session time, ns.
    pub session_ns: i64,
    /// The common stretch of time.
    pub common: Option<(u64, u64)>,
}

impl At {
    /// Host time.
    pub fn local(self) -> LocalTime {
        LocalTime::from_nanos(self.local_ns)
    }

    /// Session time.
    pub fn session(self) -> SessionTime {
        SessionTime::from_nanos(self.session_ns)
    }
}

/// A decoded block on its way to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// Timestamp of its first frame, in frames of the stream.
    pub timestamp_frames: i64,
    /// Its length in samples.
    pub samples: u32,
    /// [`engine::hash`] of the samples.
    pub hash: u64,
    /// Whether the engine's queue had room. A fact, no decision: it depends on the callback.
    pub taken: bool,
}

/// A command in the engine's queue, as far as it can change what a source plays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EngineCommand {
    /// `AddSource`.
    AddSource {
        /// The slot's name.
        source: u32,
        /// Frames a second of the stream.
        rate_hz: u32,
        /// Its channels.
        channels: u32,
        /// Tag of the writer.
        tag: u64,
    },
    /// `RemoveSource`.
    RemoveSource(u32),
    /// `AddInstrument`.
    AddInstrument(u32),
    /// `RemoveInstrument`.
    RemoveInstrument(u32),
    /// `SetSourceRate`.
    SetSourceRate(u32, f64),
    /// A change of the mix, which names a source or not.
    Mix(Option<u32>, String),
}

/// [`CallbackTrace`], to be written.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Callback {
    /// Frames before it.
    pub position_frames: u64,
    /// When it began, host time in ns.
    pub at_ns: u64,
    /// Its frames.
    pub frames: u32,
    /// Commands it took.
    pub commands: u32,
    /// Hash of the input.
    pub input_hash: u64,
}

/// [`SourceTrace`], to be written.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The slot's name.
    pub source: u32,
    /// Blocks it took.
    pub blocks: u32,
    /// Timestamp of its first frame, `None` while stopped.
    pub position: Option<i64>,
    /// The fraction to it.
    pub fraction: f64,
    /// Frames made up.
    pub concealed: u32,
    /// Where the playhead is kept.
    pub offset: f64,
    /// Average wait, frames.
    pub delay: f64,
    /// Drift correction, ppm.
    pub drift_ppm: f64,
    /// Hash of the samples put out.
    pub hash: u64,
}

impl From<CallbackTrace> for Callback {
    fn from(from: CallbackTrace) -> Self {
        Self {
            position_frames: from.position_frames,
            at_ns: from.host_time.0,
            frames: from.frames,
            commands: from.commands,
            input_hash: from.input_hash,
        }
    }
}

impl From<SourceTrace> for Source {
    fn from(from: SourceTrace) -> Self {
        Self {
            source: from.source.0,
            blocks: from.blocks,
            position: from.timestamp_frames,
            fraction: from.fraction,
            concealed: from.concealed_frames,
            offset: from.offset_frames,
            delay: from.delay_frames,
            drift_ppm: from.drift_ppm,
            hash: from.hash,
        }
    }
}

/// A record as it goes to the writer and comes from a file.
#[derive(Clone, Debug)]
pub enum Item {
    /// A block without a packet.
    Record(Record),
    /// A packet.
    Packet(PacketNote, Bytes),
}

/// What is playing, in the form of [`ReceiveCall::Observe`].
pub fn playing(point: Option<PlayoutPoint>) -> Option<(i64, u64)> {
    point.map(|point| (point.timestamp_frames, point.host_time.0))
}

/// Commands as JSON, and the bits of the numbers that JSON may round.
pub fn commands(commands: &[Command]) -> (String, Vec<u64>) {
    let mut floats = Vec::new();
    let mut values: Vec<Value> = commands.iter().filter_map(|one| serde_json::to_value(one).ok()).collect();
    values.iter_mut().for_each(|value| each_float(value, &mut |float| floats.push(float.to_bits())));
    (serde_json::to_string(&values).unwrap_or_default(), floats)
}

/// Undoes [`commands`]; `None` for what that did not make.
pub fn parse_commands(text: &str, floats: &[u64]) -> Option<Vec<Command>> {
    let mut values: Vec<Value> = serde_json::from_str(text).ok()?;
    let mut bits = floats.iter();
    let mut put = |float: &mut f64| {
        if let Some(bits) = bits.next() {
            *float = f64::from_bits(*bits);
        }
    };
    values.iter_mut().for_each(|value| each_float(value, &mut put));
    values.into_iter().map(|value| serde_json::from_value(value).ok()).collect()
}

/// Visits the floating-point numbers of `value` in their order. JSON's depth is bounded by its parser.
fn each_float(value: &mut Value, visit: &mut impl FnMut(&mut f64)) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let mut float = number.as_f64().unwrap_or_default();
            visit(&mut float);
            // Infinity and NaN are none of JSON's numbers; a trace with them keeps the old one.
            if let Some(changed) = serde_json::Number::from_f64(float) {
                *number = changed;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| each_float(value, visit)),
        Value::Object(fields) => fields.values_mut().for_each(|value| each_float(value, visit)),
        _ => {}
    }
}

/// Cuts `text` at [`MAX_TEXT_BYTES`].
pub fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        let end = (0..=MAX_TEXT_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// A peer id as its own bytes.
mod peer_bytes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use transport::PeerId;

    pub fn serialize<S: Serializer>(peer: &PeerId, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&peer.to_bytes())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PeerId, D::Error> {
        let bytes = <&[u8]>::deserialize(from)?;
        PeerId::from_bytes(bytes).map_err(D::Error::custom)
    }
}
