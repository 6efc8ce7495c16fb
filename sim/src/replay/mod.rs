//! Running a node's cores again on what its trace says they were given.
//!
//! The cores are those of the node, and record as they did there; what they record here must equal what the file has. Each
//! core is a lane of its own: the session, the receiving half of each member, each engine, the Link bridge. Within a lane
//! the file has the calls in their order. Between lanes only one thing flows: blocks from the receiving halves to the
//! engine, and there each callback says how many it took.
//!
//! A trace may come from anybody. What it makes this program hold is bounded, and a call that no node makes ends the replay
//! with an error.

mod engine;
mod project;
mod receive;

use std::{
    collections::{BTreeMap, VecDeque},
    io::Read,
};

use bandmesh::{
    node::RecordedSession,
    session::{Identity, link_bridge::LinkBridge},
    trace::{
        Memory, Reader, Recorder,
        pcapng::ReadError,
        record::{End, Item, PacketCall, PacketNote, Record, SessionCall, Start, Way},
    },
};
use serde::Serialize;
use transport::PeerId;

/// Records of the same lane shown before a difference.
const CONTEXT: usize = 6;
/// Lanes at once: the members of a session, several times over.
const MAX_LANES: usize = 512;
/// Longest line of a difference, characters.
const MAX_LINE: usize = 600;

/// Why a replay ended early.
#[derive(Debug)]
pub enum Halt {
    /// A decision came out otherwise.
    Differs(Mismatch),
    /// The trace has a call that no node makes.
    Senseless(String),
}

/// Two decisions that should be one.
#[derive(Debug)]
pub struct Mismatch {
    /// What was decided.
    pub what: String,
    /// As the trace has it.
    pub recorded: String,
    /// As it came out here.
    pub replayed: String,
}

/// Why a trace cannot be replayed at all.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What it says.
    #[error("record {record} (octet {octet}) makes no sense: {why}")]
    Senseless {
        /// Its number, from 0.
        record: u64,
        /// Where it begins.
        octet: u64,
        /// Why not.
        why: String,
    },
}

/// What came of a replay.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Whose trace: the name.
    pub name: String,
    /// Whose trace: the peer id.
    pub peer_id: String,
    /// The program that wrote it.
    pub version: String,
    /// Seconds from its first record to its last.
    pub seconds: f64,
    /// Records read.
    pub records: u64,
    /// Whether the trace goes to the node's end.
    pub complete: bool,
    /// How it ends.
    pub ended: String,
    /// Decisions compared, by kind.
    pub compared: BTreeMap<&'static str, u64>,
    /// Callbacks at the end of an incomplete trace whose packets or commands are not in it.
    pub callbacks_left: u64,
    /// Whether every decision compared was equal.
    pub equal: bool,
    /// The first that was not.
    pub difference: Option<Difference>,
    /// What may explain a difference that is nobody's fault.
    pub warnings: Vec<String>,
}

/// The first difference and where it is.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// Number of the record, from 0.
    pub record: u64,
    /// Where it begins, octets from the start of the file.
    pub octet: u64,
    /// Seconds since the start of the trace.
    pub at_s: f64,
    /// What was decided.
    pub what: String,
    /// As the trace has it.
    pub recorded: String,
    /// As it came out here.
    pub replayed: String,
    /// The records of the same core before it.
    pub context: Vec<String>,
}

/// Replays a trace.
///
/// # Errors
/// [`ReplayError`] when the file is no trace or makes no sense; a difference is an [`Outcome`].
pub fn replay(input: impl Read) -> Result<Outcome, ReplayError> {
    let mut reader = Reader::begin(input)?;
    let start = reader.start().clone();
    let mut cores = Cores::new(start.clone());
    let mut context: BTreeMap<Lane, VecDeque<String>> = BTreeMap::new();
    let mut outcome = Outcome {
        name: start.name,
        peer_id: start.me.to_string(),
        version: start.version.clone(),
        seconds: 0.0,
        records: 1,
        complete: false,
        ended: String::new(),
        compared: BTreeMap::new(),
        callbacks_left: 0,
        equal: true,
        difference: None,
        warnings: warnings(&start.version, &start.arch),
    };
    let mut end = None;
    let mut gap = None;
    while let Some(item) = reader.next_item()? {
        let lane = Lane::of(&item);
        let at_s = at_ns(&item).map(|at_ns| at_ns.saturating_sub(start.host_ns) as f64 / 1e9);
        outcome.seconds = at_s.unwrap_or(outcome.seconds).max(outcome.seconds);
        match &item {
            Item::Record(Record::End(why)) => end = Some(*why),
            Item::Record(Record::Gap { records, callbacks }) => gap = Some((*records, *callbacks)),
            _ => {}
        }
        if end.is_some() || gap.is_some() {
            break;
        }
        match cores.handle(&item) {
            Ok(()) => {}
            Err(Halt::Senseless(why)) => {
                let (record, octet) = (outcome.records, reader.position());
                return Err(ReplayError::Senseless { record, octet, why });
            }
            Err(Halt::Differs(mismatch)) => {
                let lines = context.remove(&lane).unwrap_or_default();
                let at = (outcome.records, reader.position(), at_s.unwrap_or(outcome.seconds));
                outcome.differ(at, mismatch, lines.into());
                break;
            }
        }
        outcome.records += 1;
        let lines = context.entry(lane).or_default();
        lines.push_back(line(&item));
        if lines.len() > CONTEXT {
            lines.pop_front();
        }
        if context.len() > MAX_LANES {
            context.clear();
        }
    }
    outcome.complete = end == Some(End::Stopped);
    outcome.ended = match (gap, end) {
        (Some((records, callbacks)), _) => format!(
            "the machine was too busy to write it: at least {records} records and {callbacks} callbacks are missing from here on"
        ),
        (None, Some(End::Stopped)) => "with the node".to_owned(),
        (None, Some(End::Limit)) => "at its size limit".to_owned(),
        (None, Some(End::Lost { .. })) => "after a gap".to_owned(),
        (None, None) if outcome.difference.is_some() => "not read to its end".to_owned(),
        (None, None) if reader.is_truncated() => "in the middle of a block: the file is cut off".to_owned(),
        (None, None) => "without an end record: the node was killed, or did not end in time".to_owned(),
    };
    if outcome.equal {
        outcome.callbacks_left = cores.engines.waiting();
        if outcome.complete
            && let Err(mismatch) = cores.finish()
        {
            let at = (outcome.records, reader.position(), outcome.seconds);
            outcome.differ(at, mismatch, Vec::new());
        }
    }
    outcome.compared = cores.compared();
    outcome.warnings.extend(cores.project.warning());
    Ok(outcome)
}

impl Outcome {
    fn differ(&mut self, (record, octet, at_s): (u64, u64, f64), mismatch: Mismatch, context: Vec<String>) {
        let Mismatch { what, recorded, replayed } = mismatch;
        self.equal = false;
        self.difference = Some(Difference {
            record,
            octet,
            at_s,
            what,
            recorded: cut(recorded),
            replayed: cut(replayed),
            context,
        });
    }
}

fn warnings(version: &str, arch: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if version != env!("CARGO_PKG_VERSION") {
        warnings.push(format!("written by version {version}, replayed by {}", env!("CARGO_PKG_VERSION")));
    }
    if arch != std::env::consts::ARCH {
        warnings.push(format!(
            "written on {arch}, replayed on {}: floating point may differ",
            std::env::consts::ARCH
        ));
    }
    warnings
}

/// Which core a record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Session,
    Project,
    Receive(PeerId),
    Engine(u32),
    Link,
    None,
}

impl Lane {
    fn of(item: &Item) -> Self {
        match item {
            Item::Packet(note, _) => match note.call {
                Some(PacketCall::Session(_)) => Self::Session,
                Some(PacketCall::Receive { .. }) => Self::Receive(note.peer),
                None => Self::None,
            },
            Item::Record(Record::Session { .. }) => Self::Session,
            Item::Record(Record::Project { .. }) => Self::Project,
            Item::Record(Record::Receive { peer, .. }) => Self::Receive(*peer),
            Item::Record(
                Record::Engine { engine, .. }
                | Record::Command { engine, .. }
                | Record::Callback { engine, .. },
            ) => Self::Engine(*engine),
            Item::Record(Record::Link { .. }) => Self::Link,
            Item::Record(_) => Self::None,
        }
    }
}

/// The cores and what they record here.
struct Cores {
    start: Start,
    recorder: Recorder,
    memory: Memory,
    session: Option<RecordedSession>,
    session_outputs: u64,
    session_frames: u64,
    project: project::Lane,
    members: receive::Members,
    engines: engine::Engines,
    bridge: LinkBridge,
    bridge_decisions: u64,
}

impl Cores {
    fn new(start: Start) -> Self {
        let (recorder, memory) = Recorder::in_memory();
        Self {
            start,
            recorder,
            memory,
            session: None,
            session_outputs: 0,
            session_frames: 0,
            project: project::Lane::default(),
            members: receive::Members::default(),
            engines: engine::Engines::default(),
            bridge: LinkBridge::default(),
            bridge_decisions: 0,
        }
    }

    fn handle(&mut self, item: &Item) -> Result<(), Halt> {
        match item {
            Item::Packet(note, message) => match &note.call {
                Some(PacketCall::Session(_)) => {
                    let at_ns = i64::try_from(note.at_ns).unwrap_or(i64::MAX);
                    // Refused or not is in what it records.
                    let _ = self.session()?.handle_frame(at_ns, &note.peer, message);
                    self.session_frames += 1;
                    expect("the session's answer to a control frame", item, self.memory.take())
                }
                Some(PacketCall::Receive { .. }) => {
                    self.members.handle_datagram(note, message, &self.memory, &mut self.engines)
                }
                None => Ok(()),
            },
            Item::Record(record) => self.handle_record(item, record),
        }
    }

    fn handle_record(&mut self, item: &Item, record: &Record) -> Result<(), Halt> {
        match record {
            Record::Session { at_ns, call } => self.handle_session(item, *at_ns, call),
            Record::Project { at_ms, call, signatures } => {
                let me = self.start.me;
                self.project.handle(&me, *at_ms, call, signatures, &self.recorder, &self.memory)
            }
            Record::Receive { peer, call } => {
                self.members.handle(*peer, call, &self.recorder, &self.memory, &mut self.engines)
            }
            Record::Engine { engine, rate_hz, max_period_frames, input_channels, max_sources } => {
                let config = ::engine::Config {
                    input_channels: *input_channels as usize,
                    max_sources: *max_sources as usize,
                    trace: true,
                    ..::engine::Config::new(*rate_hz, *max_period_frames as usize)
                };
                self.engines.build(*engine, config)
            }
            Record::Command { engine, command } => self.engines.command(*engine, command.clone()),
            Record::Callback { engine, callback, sources } => {
                self.engines.callback(*engine, *callback, sources.clone())
            }
            Record::Link { session_ns, register, reading, standing, actions } => {
                let decided = format!("{:?}", self.bridge.tick(*session_ns, register, reading, *standing));
                self.bridge_decisions += 1;
                equal("the Link bridge's actions", actions, &decided)
            }
            Record::Start(_) => Err(Halt::Senseless("the trace starts a second time".into())),
            Record::Name { .. }
            | Record::Api { .. }
            | Record::Midi { .. }
            | Record::Gap { .. }
            | Record::End(_) => Ok(()),
        }
    }

    fn handle_session(&mut self, item: &Item, at_ns: i64, call: &SessionCall) -> Result<(), Halt> {
        let what = match call {
            SessionCall::New { author, session, incarnation, timebase, stream, tempo_bpm, beats_per_bar } => {
                let me = Identity {
                    peer: self.start.me,
                    author: *author,
                    author_of: bandmesh::node::author_number,
                    name: self.start.name.clone(),
                    session: session.clone(),
                    incarnation: *incarnation,
                    timebase: *timebase,
                    stream: *stream,
                };
                let recorder = self.recorder.clone();
                self.session = Some(RecordedSession::new(me, at_ns, *tempo_bpm, *beats_per_bar, recorder));
                "how the session begins"
            }
            SessionCall::Connected(peer) => {
                self.session()?.handle_connected(at_ns, *peer);
                "a call of the session"
            }
            SessionCall::Disconnected(peer) => {
                self.session()?.handle_disconnected(at_ns, peer);
                "a call of the session"
            }
            SessionCall::Clock(peer, offset_ns) => {
                self.session()?.handle_clock(at_ns, peer, *offset_ns);
                "a call of the session"
            }
            SessionCall::Deadline => {
                self.session()?.handle_deadline(at_ns);
                "a call of the session"
            }
            SessionCall::ChangeBeat(next) => {
                self.session()?.change_beat(at_ns, |_, _, _| *next);
                "a change of tempo, beat or playback"
            }
            SessionCall::ChangeStream(stream) => {
                self.session()?.change_stream(at_ns, *stream);
                "a call of the session"
            }
            SessionCall::Rename(name) => {
                self.session()?.rename(at_ns, name.clone());
                "a call of the session"
            }
            SessionCall::SetMuted(muted) => {
                self.session()?.set_muted(at_ns, *muted);
                "a call of the session"
            }
            SessionCall::SetInLink(in_link) => {
                self.session()?.set_in_link(at_ns, *in_link);
                "a call of the session"
            }
            SessionCall::SetStrain(strain) => {
                self.session()?.set_strain(at_ns, *strain);
                "a call of the session"
            }
            SessionCall::Links(links) => {
                self.session()?.handle_links(at_ns, links.iter().map(Into::into).collect());
                "a call of the session"
            }
            SessionCall::Touch { source, address, value } => {
                let value = value.as_ref().and_then(|json| serde_json::from_str(json).ok());
                // What was refused is refused again.
                let _ = self.session()?.touch(at_ns, *source, address, value);
                "a touch of a page"
            }
            SessionCall::LetGo { source, address } => {
                self.session()?.let_go(at_ns, *source, address.as_deref());
                "a touch of a page that ends"
            }
            SessionCall::ProjectFollowed(addresses) => {
                self.session()?.handle_project_followed(at_ns, addresses);
                "a call of the session"
            }
            SessionCall::Leave => {
                self.session()?.leave(at_ns);
                "a call of the session"
            }
            SessionCall::Output(_) => {
                // Nothing to record is a difference too.
                let _ = self.session()?.poll(|| at_ns);
                self.session_outputs += 1;
                "what the session decided"
            }
        };
        expect(what, item, self.memory.take())
    }

    /// The trace is whole: nothing may be left over.
    fn finish(&mut self) -> Result<(), Mismatch> {
        if let Some(output) = self.session.as_mut().and_then(|session| session.poll(|| 0)) {
            return Err(Mismatch {
                what: "what the session decided".into(),
                recorded: "nothing more".into(),
                replayed: format!("{output:?}"),
            });
        }
        self.engines.finish()
    }

    fn compared(&self) -> BTreeMap<&'static str, u64> {
        let mut compared = self.members.compared();
        compared.extend(self.engines.compared());
        compared.extend(self.project.compared());
        compared.insert("session_outputs", self.session_outputs);
        compared.insert("session_frames", self.session_frames);
        compared.insert("link_decisions", self.bridge_decisions);
        compared
    }

    fn session(&mut self) -> Result<&mut RecordedSession, Halt> {
        self.session.as_mut().ok_or_else(|| Halt::Senseless("the session has not begun".into()))
    }
}

/// What a core recorded here must be what the trace has.
fn expect(what: &str, recorded: &Item, replayed: Option<Item>) -> Result<(), Halt> {
    let replayed = replayed.map_or_else(|| "nothing".to_owned(), |item| decision(&item));
    equal(what, &decision(recorded), &replayed)
}

fn equal(what: &str, recorded: &str, replayed: &str) -> Result<(), Halt> {
    if recorded == replayed {
        return Ok(());
    }
    Err(Halt::Differs(Mismatch {
        what: what.to_owned(),
        recorded: recorded.to_owned(),
        replayed: replayed.to_owned(),
    }))
}

/// A record as text; of a packet, the note.
fn decision(item: &Item) -> String {
    match item {
        Item::Record(record) => format!("{record:?}"),
        Item::Packet(note, _) => format!("{note:?}"),
    }
}

/// A record as a line of context.
fn line(item: &Item) -> String {
    cut(match item {
        Item::Record(record) => format!("{record:?}"),
        Item::Packet(PacketNote { way, incoming, .. }, message) => {
            let direction = if *incoming { "from" } else { "to" };
            let way = match way {
                Way::Datagram => "datagram",
                Way::Control => "control frame",
                Way::Project => "project frame",
            };
            format!("{way} {direction} the peer, {} octets: {}", message.len(), decision(item))
        }
    })
}

fn cut(text: String) -> String {
    if text.chars().count() <= MAX_LINE {
        return text;
    }
    text.chars().take(MAX_LINE).chain(" …".chars()).collect()
}

/// Host time of a record, ns.
fn at_ns(item: &Item) -> Option<u64> {
    match item {
        Item::Packet(note, _) => Some(note.at_ns),
        Item::Record(Record::Session { at_ns, .. }) => Some(at_ns.unsigned_abs()),
        Item::Record(Record::Callback { callback, .. }) => Some(callback.at_ns),
        Item::Record(Record::Api { at_ns, .. } | Record::Midi { at_ns, .. }) => Some(*at_ns),
        Item::Record(_) => None,
    }
}
