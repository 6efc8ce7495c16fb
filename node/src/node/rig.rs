//! The player's rig: audio device, engine, and what is plugged into it.
//!
//! The device may come and go (a cable, a JACK restart, another rate), and with it the engine; the members and
//! their faders stay. The rig remembers who is plugged in and plugs everybody into the new engine. An engine that is not
//! called takes no commands after a while: what it refused is done again once it is.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Weak,
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

use engine::{
    Command, Engine, EngineStats, Handle, HostTime, Input, MidiWriter, Monitor, Report, SourceConfig,
    SourceId, SourceWriter, Strip, StripId, TapReader, Timeline, Tone,
};
use transport::PeerId;

use crate::{
    codec::Codec,
    device::{
        Audio, AudioCallback, DeviceConfig, DeviceError, DeviceEvent, DeviceInfo, MAX_PERIOD_FRAMES, Opened,
    },
    media::{Capture, announce},
    session::{MAX_PEERS, message::StreamInfo},
    trace::{
        Recorder,
        record::{self, EngineCommand, Record},
    },
};

/// Sources of the engine: every peer the session can have, twice for the moment in which one is replaced, and the
/// player's own instrument.
const MAX_SOURCES: usize = 2 * MAX_PEERS + 1;
/// Time between two streams that the others are told of, who send a member away that announces more than eight in ten seconds
/// (`session::MAX_CHURN`).
pub const BETWEEN_STREAMS: Duration = Duration::from_millis(1_300);
/// Change of the device's output latency that the engine is told, frames: the card's own reckoning moves a little.
const LATENCY_STEP_FRAMES: u32 = 16;
/// Why there is no sound.
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The engine.
    #[error("the audio engine could not be built for this device: {0}")]
    Engine(String),
}

/// What feeds one member's sound and notes into the engine.
pub struct Plug {
    /// Where decoded audio goes.
    pub writer: SourceWriter,
    /// Where notes go; `None` when no instrument could be had.
    pub instrument: Option<MidiWriter>,
}

/// A new engine is running: media must be told.
pub struct Rewired {
    /// The capture side, and how it is announced.
    pub capture: Capture,
    /// The player's own instrument.
    pub own_instrument: Option<MidiWriter>,
    /// A new plug for each member.
    pub plugs: Vec<(PeerId, Plug)>,
}

/// What media must be told of an engine that was stuck.
pub struct Mended {
    /// The player's own instrument, if the engine has another than media.
    pub own_instrument: Option<MidiWriter>,
    /// A new plug for each member that the engine knew nothing of.
    pub plugs: Vec<(PeerId, Plug)>,
}

/// An engine that was built for a device, which may not have opened after all; it is alive as long as anybody has it.
struct Built {
    handle: Result<Handle, String>,
    opened: Opened,
    alive: Weak<()>,
}

/// Device, engine and members.
pub struct Rig {
    audio: Arc<Audio>,
    engines: Receiver<Built>,
    handle: Handle,
    codec: Codec,
    /// How this player is sent.
    announced: StreamInfo,
    /// The device's rate when that was announced.
    announced_at_hz: u32,
    announced_at: Instant,
    /// The device goes on with another period than was announced, perhaps.
    another_period: bool,
    /// The engine refused commands: its settings are not what they are here.
    refused: bool,
    /// Sources that the engine still has and should not.
    leftovers: Vec<SourceId>,
    has_own_instrument: bool,
    /// The shared mix, of members that are plugged in and of those that are not.
    strips: BTreeMap<PeerId, Strip>,
    own_strip: Strip,
    members: BTreeMap<PeerId, Member>,
    next_source: u32,
    timeline: Option<Timeline>,
    metronome: engine::Metronome,
    input: Input,
    own_monitor: Monitor,
    master_gain_db: f32,
    output_latency_frames: u32,
    analysis: Option<TapReader>,
    recorder: Recorder,
    /// Engines built so far.
    engines_built: u32,
}

struct Member {
    source: SourceId,
    stream: StreamInfo,
    monitor: Monitor,
    /// The engine took the source.
    plugged: bool,
}

impl Rig {
    /// Opens the device and builds the engine for it. `wrap` may put something between the device and the engine
    /// (the demo's bandmates play a clip there).
    ///
    /// # Errors
    /// [`RigError`].
    pub fn start(
        device: DeviceConfig,
        codec: Codec,
        soundfont: Option<Vec<u8>>,
        recorder: Recorder,
        wrap: impl Fn(Box<dyn AudioCallback>, &Opened) -> Box<dyn AudioCallback> + Send + 'static,
    ) -> Result<(Self, Rewired), RigError> {
        let (built, engines) = channel();
        let trace = recorder.is_on();
        let audio = Audio::start(device, move |opened| {
            let (callback, engine) = build(opened, soundfont.clone(), trace);
            // The rig holds the other end for as long as the device runs.
            let _ = built.send(engine);
            wrap(callback, opened)
        })?;
        let Built { handle, opened, .. } =
            newest(&engines).ok_or_else(|| RigError::Engine("it was not built".into()))?;
        let handle = handle.map_err(RigError::Engine)?;
        let mut rig = Self {
            audio: Arc::new(audio),
            engines,
            handle,
            codec,
            announced: announce(codec, 0, opened.rate_hz, opened.period_frames, opened.input_channels),
            announced_at_hz: opened.rate_hz,
            announced_at: Instant::now(),
            another_period: false,
            refused: false,
            leftovers: Vec::new(),
            has_own_instrument: false,
            strips: BTreeMap::new(),
            own_strip: Strip::default(),
            members: BTreeMap::new(),
            next_source: SourceId::OWN_INSTRUMENT.0 + 1,
            timeline: None,
            metronome: engine::Metronome { on: false, gain_db: -6.0 },
            input: Input::default(),
            own_monitor: Monitor { mute: true, ..Monitor::default() },
            master_gain_db: 0.0,
            output_latency_frames: 0,
            analysis: None,
            recorder,
            engines_built: 0,
        };
        let rewired = rig.rewire(&opened)?;
        Ok((rig, rewired))
    }

    /// What is open.
    pub fn info(&self) -> DeviceInfo {
        self.audio.info()
    }

    /// The device, for its numbers and its MIDI ports.
    pub fn audio(&self) -> Arc<Audio> {
        self.audio.clone()
    }

    /// The engine's numbers.
    pub fn stats(&self) -> Arc<EngineStats> {
        self.handle.stats()
    }

    /// What the device did since the last call, and what follows from it. Nobody may be plugged in or out until that is
    /// carried out: a plug is for the engine and the source of now.
    pub fn poll_device(&mut self) -> Option<(DeviceEvent, Option<Rewired>)> {
        let event = self.audio.poll_event()?;
        let wiring = match &event {
            DeviceEvent::Reopened { rebuilt: true, .. } => self.replace_engine().unwrap_or_else(|error| {
                tracing::error!(%error, "the reopened device has no engine");
                None
            }),
            DeviceEvent::Reopened { .. } | DeviceEvent::PeriodChanged { .. } => {
                self.another_period = true;
                None
            }
            _ => None,
        };
        Some((event, wiring))
    }

    /// The stream that this player is sent in from now on, when the device goes on with another period. A server may change
    /// that as often as it likes; the others hear of it so often that they do not take offence.
    pub fn poll_stream(&mut self) -> Option<StreamInfo> {
        if !self.another_period || self.announced_at.elapsed() < BETWEEN_STREAMS {
            return None;
        }
        self.another_period = false;
        let stream = announced_anew(self.codec, self.announced, self.announced_at_hz, &self.audio.info())?;
        (self.announced, self.announced_at) = (stream, Instant::now());
        Some(stream)
    }

    /// Does again what the engine refused, once it takes commands. As after [`Self::poll_device`], nobody may be plugged in
    /// or out until media has the plugs.
    pub fn mend(&mut self) -> Option<Mended> {
        // The first of all settings tells whether the rest has a chance.
        if !self.refused || !self.audio.is_running() || !self.send(Command::SetMetronome(self.metronome)) {
            return None;
        }
        self.refused = false;
        for source in std::mem::take(&mut self.leftovers) {
            self.unplug(source);
        }
        let own_instrument = if self.has_own_instrument { None } else { self.own_instrument() };
        let missing = self.members.iter().filter(|(_, member)| !member.plugged);
        let missing: Vec<(PeerId, StreamInfo)> = missing.map(|(peer, it)| (*peer, it.stream)).collect();
        let plugs = missing.into_iter().filter_map(|(peer, stream)| match self.add(peer, stream) {
            Ok(plug) => Some((peer, plug)),
            Err(error) => {
                tracing::warn!(%peer, %error, "a member cannot be heard on this device");
                None
            }
        });
        let plugs = plugs.collect();
        self.apply_all();
        Some(Mended { own_instrument, plugs })
    }

    /// What the engine reports; also takes back memory it no longer needs. Call ten times a second.
    pub fn poll_report(&mut self) -> Option<Report> {
        let frames = self.audio.stats().output_latency_frames;
        if frames.abs_diff(self.output_latency_frames) >= LATENCY_STEP_FRAMES && self.audio.is_running() {
            // What is refused is tried again.
            if self.send(Command::SetOutputLatency { frames }) {
                self.output_latency_frames = frames;
            }
        }
        self.handle.poll_report()
    }

    /// Plugs a member in.
    ///
    /// # Errors
    /// [`RigError::Engine`] when the stream cannot be played.
    pub fn add(&mut self, peer: PeerId, stream: StreamInfo) -> Result<Plug, RigError> {
        let source = SourceId(self.next_source);
        self.next_source += 1;
        let monitor = self.members.remove(&peer).map_or(Monitor::default(), |member| {
            self.unplug(member.source);
            member.monitor
        });
        let (plug, plugged) = self.plug(source, &stream)?;
        self.members.insert(peer, Member { source, stream, monitor, plugged });
        self.apply_faders(&peer);
        Ok(plug)
    }

    /// Unplugs a member.
    pub fn remove(&mut self, peer: &PeerId) {
        if let Some(member) = self.members.remove(peer) {
            self.unplug(member.source);
        }
    }

    /// The shared mix of a member, now and whenever it comes back.
    pub fn set_strip(&mut self, peer: &PeerId, strip: Strip) {
        if self.strips.insert(*peer, strip) != Some(strip) {
            self.apply_faders(peer);
        }
    }

    /// The shared mix of this player.
    pub fn set_own_strip(&mut self, strip: Strip) {
        self.own_strip = strip;
        self.send(Command::SetStrip(StripId::Own, strip));
    }

    /// My own level of a member.
    pub fn set_monitor(&mut self, peer: &PeerId, monitor: Monitor) {
        if let Some(member) = self.members.get_mut(peer) {
            member.monitor = monitor;
            self.apply_faders(peer);
        }
    }

    /// The tempo and beat that the metronome follows.
    pub fn set_timeline(&mut self, timeline: Timeline) {
        self.timeline = Some(timeline);
        // Without a device nobody empties the engine's queue; the timeline is sent again when there is one.
        if self.audio.is_running() {
            self.send(Command::SetTimeline(timeline));
        }
    }

    /// The click in this player's own ears.
    pub fn set_metronome(&mut self, on: bool) {
        self.metronome.on = on;
        self.send(Command::SetMetronome(self.metronome));
    }

    /// What is done to this player's input before it is sent.
    pub fn set_input(&mut self, input: Input) {
        self.input = input;
        self.send(Command::SetInput(input));
    }

    /// What this player hears of themselves.
    pub fn set_own_monitor(&mut self, monitor: Monitor) {
        self.own_monitor = monitor;
        self.send(Command::SetMonitor(StripId::Own, monitor));
    }

    /// This player's own sound: what is done to the input, and what they hear of it.
    pub fn own_sound(&self) -> (Input, Monitor) {
        (self.input, self.own_monitor)
    }

    /// Gain of all that is heard.
    pub fn set_master(&mut self, gain_db: f32) {
        self.master_gain_db = gain_db;
        self.send(Command::SetMasterGain { gain_db });
    }

    /// Gain of all that is heard.
    pub fn master_gain_db(&self) -> f32 {
        self.master_gain_db
    }

    /// A tone in this player's ears; 0 seconds end it. False when no device plays it.
    pub fn play_tone(&mut self, seconds: f32, level_db: f32) -> bool {
        let frames = (f64::from(seconds) * f64::from(self.audio.info().rate_hz)) as u64;
        self.audio.is_running() && self.handle.send(Command::SetTestTone(Tone { level_db, frames })).is_ok()
    }

    /// What is heard and what the microphone gives, from an engine that is new since the last call, and its rate.
    pub fn take_analysis(&mut self) -> Option<(TapReader, u32)> {
        let tap = self.analysis.take()?;
        Some((tap, self.audio.info().rate_hz))
    }

    /// Whether the click is on.
    pub fn metronome(&self) -> bool {
        self.metronome.on
    }

    /// The engine that plays now; `None` if it is known already, as the last of several that were built in a row.
    fn replace_engine(&mut self) -> Result<Option<Rewired>, RigError> {
        let Some(Built { handle, opened, .. }) = newest(&self.engines) else { return Ok(None) };
        self.handle = handle.map_err(RigError::Engine)?;
        self.rewire(&opened).map(Some)
    }

    fn rewire(&mut self, opened: &Opened) -> Result<Rewired, RigError> {
        self.record_engine(opened);
        let tap =
            self.handle.take_capture().ok_or_else(|| RigError::Engine("it has no capture tap".into()))?;
        self.analysis = self.handle.take_analysis();
        let info =
            announce(self.codec, rand::random(), opened.rate_hz, opened.period_frames, opened.input_channels);
        (self.announced, self.announced_at_hz, self.announced_at) = (info, opened.rate_hz, Instant::now());
        let capture = Capture { tap, info, rate_hz: opened.rate_hz, period_frames: opened.period_frames };
        // What the engine before refused or kept is nothing to this one.
        self.refused = false;
        self.leftovers.clear();
        let own_instrument = self.own_instrument();
        let members: Vec<(PeerId, SourceId, StreamInfo)> =
            self.members.iter().map(|(peer, member)| (*peer, member.source, member.stream)).collect();
        let mut plugs = Vec::new();
        for (peer, source, stream) in members {
            let plugged = match self.plug(source, &stream) {
                Ok((plug, plugged)) => {
                    plugs.push((peer, plug));
                    plugged
                }
                Err(error) => {
                    tracing::warn!(%peer, %error, "a member cannot be heard on this device");
                    false
                }
            };
            if let Some(member) = self.members.get_mut(&peer) {
                member.plugged = plugged;
            }
        }
        self.apply_all();
        Ok(Rewired { capture, own_instrument, plugs })
    }

    /// Tells the engine all settings.
    fn apply_all(&mut self) {
        for peer in self.members.keys().copied().collect::<Vec<_>>() {
            self.apply_faders(&peer);
        }
        self.send(Command::SetStrip(StripId::Own, self.own_strip));
        if let Some(timeline) = self.timeline {
            self.send(Command::SetTimeline(timeline));
        }
        self.send(Command::SetMetronome(self.metronome));
        self.send(Command::SetInput(self.input));
        self.send(Command::SetMonitor(StripId::Own, self.own_monitor));
        self.send(Command::SetMasterGain { gain_db: self.master_gain_db });
        // The device says its own soon.
        self.output_latency_frames = 0;
    }

    /// How this player is sent from now on, if the device's period asks for another stream.
    /// A plug, and whether the engine took it.
    fn plug(&mut self, id: SourceId, stream: &StreamInfo) -> Result<(Plug, bool), RigError> {
        let config = SourceConfig::new(stream.rate_hz, usize::from(stream.channels));
        let (mut writer, source) =
            self.handle.source(config).map_err(|error| RigError::Engine(error.to_string()))?;
        let tag = u64::from(self.engines_built) << 32 | u64::from(id.0);
        writer.set_tag(tag);
        let plugged = self.send_as(Command::AddSource(id, source), |_| EngineCommand::AddSource {
            source: id.0,
            rate_hz: config.rate_hz,
            channels: config.channels as u32,
            tag,
        });
        let (instrument, has_instrument) = self.instrument(id);
        Ok((Plug { writer, instrument }, plugged && has_instrument))
    }

    fn unplug(&mut self, id: SourceId) {
        let source = self.send(Command::RemoveSource(id));
        let instrument = self.send(Command::RemoveInstrument(id));
        // Bounded: an engine that has refused one refuses, or is mended, before it is given more.
        if !(source && instrument) && self.leftovers.len() < MAX_SOURCES {
            self.leftovers.push(id);
        }
    }

    fn own_instrument(&mut self) -> Option<MidiWriter> {
        let (writer, has_own_instrument) = self.instrument(SourceId::OWN_INSTRUMENT);
        self.has_own_instrument = has_own_instrument;
        writer
    }

    /// An instrument, if one can be had, and whether the engine is as it should be in that.
    fn instrument(&mut self, id: SourceId) -> (Option<MidiWriter>, bool) {
        match self.handle.instrument() {
            Ok((writer, instrument)) => (Some(writer), self.send(Command::AddInstrument(id, instrument))),
            Err(error) => {
                tracing::warn!(%error, "no instrument for this player's notes");
                (None, true)
            }
        }
    }

    fn apply_faders(&mut self, peer: &PeerId) {
        if let Some(member) = self.members.get(peer) {
            let (id, monitor) = (StripId::Source(member.source), member.monitor);
            let strip = self.strips.get(peer).copied().unwrap_or_default();
            self.send(Command::SetStrip(id, strip));
            self.send(Command::SetMonitor(id, monitor));
        }
    }

    /// Whether the engine took it.
    fn send(&mut self, command: Command) -> bool {
        self.send_as(command, described)
    }

    /// Sends a command that the trace has as `describe` says. A refused one is made good by [`Self::mend`].
    fn send_as(&mut self, command: Command, describe: impl FnOnce(&Command) -> EngineCommand) -> bool {
        let record = self
            .recorder
            .is_on()
            .then(|| Record::Command { engine: self.engines_built, command: describe(&command) });
        let taken = self.handle.send(command).is_ok();
        match record {
            Some(record) if taken => self.recorder.record(|| record),
            _ => {}
        }
        if !taken && !std::mem::replace(&mut self.refused, true) {
            tracing::warn!(
                "the audio engine takes no commands; they are kept until the device calls it again"
            );
        }
        taken
    }

    /// Tells the trace that another engine runs from now on.
    fn record_engine(&mut self, opened: &Opened) {
        self.engines_built += 1;
        if let Some(reader) = self.handle.take_trace() {
            let config = engine_config(opened);
            self.recorder.record(|| Record::Engine {
                engine: self.engines_built,
                rate_hz: config.rate_hz,
                max_period_frames: config.max_period_frames as u32,
                input_channels: config.input_channels as u32,
                max_sources: config.max_sources as u32,
            });
            self.recorder.engine(self.engines_built, reader);
        }
    }
}

/// What takes the place of the stream `announced`, which is of a device at `rate_hz`, when that goes on as `info` says. With
/// another rate comes another engine, which has a stream of its own.
fn announced_anew(
    codec: Codec,
    announced: StreamInfo,
    rate_hz: u32,
    info: &DeviceInfo,
) -> Option<StreamInfo> {
    let stream = announce(codec, announced.ssrc, info.rate_hz, info.period_frames, info.input_channels);
    (stream != announced && info.rate_hz == rate_hz).then(|| StreamInfo { ssrc: rand::random(), ..stream })
}

/// A command as the trace has it; [`Rig::plug`] describes a source itself.
fn described(command: &Command) -> EngineCommand {
    match command {
        Command::RemoveSource(id) => EngineCommand::RemoveSource(id.0),
        Command::AddInstrument(id, _) => EngineCommand::AddInstrument(id.0),
        Command::RemoveInstrument(id) => EngineCommand::RemoveInstrument(id.0),
        Command::SetSourceRate(id, rate_hz) => EngineCommand::SetSourceRate(id.0, *rate_hz),
        Command::SetStrip(StripId::Source(id), _) | Command::SetMonitor(StripId::Source(id), _) => {
            EngineCommand::Mix(Some(id.0), record::bounded(format!("{command:?}")))
        }
        other => EngineCommand::Mix(None, record::bounded(format!("{other:?}"))),
    }
}

/// The engine as the device sees it, with a sign of its life.
struct EngineCallback(Engine, #[allow(dead_code, reason = "it is there until this is dropped")] Arc<()>);

impl AudioCallback for EngineCallback {
    fn process(&mut self, input: &[f32], output: &mut [f32], host_time_ns: u64) {
        self.0.process(input, output, HostTime(host_time_ns));
    }
}

/// What plays when no engine could be built: nothing.
struct Silence(#[allow(dead_code, reason = "as in an engine")] Arc<()>);

impl AudioCallback for Silence {
    fn process(&mut self, _input: &[f32], output: &mut [f32], _host_time_ns: u64) {
        output.fill(0.0);
    }
}

fn build(opened: &Opened, soundfont: Option<Vec<u8>>, trace: bool) -> (Box<dyn AudioCallback>, Built) {
    let config = engine::Config { soundfont, trace, ..engine_config(opened) };
    let life = Arc::new(());
    let alive = Arc::downgrade(&life);
    let (callback, handle): (Box<dyn AudioCallback>, _) = match engine::engine(config) {
        Ok((engine, handle)) => (Box::new(EngineCallback(engine, life)), Ok(handle)),
        Err(error) => (Box::new(Silence(life)), Err(error.to_string())),
    };
    (callback, Built { handle, opened: *opened, alive })
}

fn engine_config(opened: &Opened) -> engine::Config {
    engine::Config {
        input_channels: opened.input_channels,
        max_sources: MAX_SOURCES,
        ..engine::Config::new(opened.rate_hz, opened.max_period_frames.min(MAX_PERIOD_FRAMES))
    }
}

/// The engine of the device that opened last, if it was built since the last call. It is there before the device says that
/// it is open. One whose device did not open after all is gone again.
fn newest(engines: &Receiver<Built>) -> Option<Built> {
    engines.try_iter().filter(|built| built.alive.strong_count() > 0).last()
}

#[cfg(test)]
mod tests;
