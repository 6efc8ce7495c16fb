//! The other side of the engine: everything that may allocate, free or fail.

use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};
use thiserror::Error;

use crate::frame_clock::FrameClock;
use crate::gain::Ramp;
use crate::instrument::{self, Instrument, InstrumentError, MidiWriter, Sounds, load_sounds};
use crate::limiter::Limiter;
use crate::message::{Command, Monitor, Report, Returned};
use crate::metronome::Click;
use crate::process::{ANALYSIS_CHANNELS, Channel, Engine, Slot};
use crate::source::{self, Source, SourceConfig, SourceError, SourceWriter};
use crate::stats::EngineStats;
use crate::tap::{TapReader, tap};
use crate::timeline::Timeline;
use crate::tone::TestTone;
use crate::trace::{TraceReader, trace};

const COMMANDS: usize = 1_024;
const REPORTS: usize = 256;

/// What the engine is built for; a device that changes its rate needs a new engine.
#[derive(Clone, Debug)]
pub struct Config {
    /// Rate of the device, 8,000 to 192,000 Hz.
    pub rate_hz: u32,
    /// Longest period done in one go, 1 to 8,192 frames; longer callbacks are done in parts.
    pub max_period_frames: usize,
    /// Input channels, 0 to 8.
    pub input_channels: usize,
    /// Most bandmates at once, 0 to 256.
    pub max_sources: usize,
    /// A SoundFont 2 file for the instruments; without one a small set of sounds is synthesised.
    pub soundfont: Option<Vec<u8>>,
    /// Whether each callback writes down what it took and decided; see [`Handle::take_trace`].
    pub trace: bool,
}

impl Config {
    /// Mono input, up to 32 bandmates, own sounds.
    #[must_use]
    pub fn new(rate_hz: u32, max_period_frames: usize) -> Self {
        Self { rate_hz, max_period_frames, input_channels: 1, max_sources: 32, soundfont: None, trace: false }
    }
}

/// Why an engine cannot be built.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The rate is out of range.
    #[error("the device runs at {0} Hz: choose a rate from 8000 to 192000 Hz")]
    Rate(u32),
    /// The period is out of range.
    #[error("a period of {0} frames cannot be played: choose 1 to 8192 frames")]
    Period(usize),
    /// Too many inputs.
    #[error("{0} input channels cannot be used: open at most 8")]
    InputChannels(usize),
    /// Too many sources.
    #[error("{0} sources are more than can be mixed: allow at most 256")]
    Sources(usize),
    /// The SoundFont is unusable.
    #[error("the SoundFont cannot be used: {0}; choose another .sf2 file, or none for the built-in sounds")]
    SoundFont(String),
}

/// The command queue is full: the callback is not running. Try again once it does; the command was dropped.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "the engine takes no more commands because its callback is not running; start the device and try again"
)]
pub struct QueueFull;

/// Builds both halves of an engine. Allocates all the callback will ever use, but for sources and
/// instruments.
///
/// # Errors
/// [`ConfigError`] when the configuration is out of range or the SoundFont unusable.
pub fn engine(config: Config) -> Result<(Engine, Handle), ConfigError> {
    if !(8_000..=192_000).contains(&config.rate_hz) {
        return Err(ConfigError::Rate(config.rate_hz));
    }
    if !(1..=8_192).contains(&config.max_period_frames) {
        return Err(ConfigError::Period(config.max_period_frames));
    }
    if config.input_channels > 8 {
        return Err(ConfigError::InputChannels(config.input_channels));
    }
    if config.max_sources > 256 {
        return Err(ConfigError::Sources(config.max_sources));
    }
    let sounds = load_sounds(config.soundfont.as_deref(), config.rate_hz).map_err(ConfigError::SoundFont)?;

    let (command_producer, commands) = RingBuffer::new(COMMANDS);
    let (reports, report_consumer) = RingBuffer::new(REPORTS);
    let (returns, return_consumer) = RingBuffer::new(4 * config.max_sources + 64);
    let period = config.max_period_frames;
    let second = config.rate_hz as usize;
    let (capture, capture_reader) = tap(config.input_channels, period, second / 2);
    let (played, played_reader) = tap(config.input_channels, period, 2 * second);
    let (heard, heard_reader) = tap(2, period, 2 * second);
    let (analysis, analysis_reader) = tap(ANALYSIS_CHANNELS, period, second);
    let stats = Arc::new(EngineStats::default());
    let (trace, trace_reader) = config.trace.then(trace).unzip();

    let engine = Engine {
        rate_hz: config.rate_hz,
        max_period_frames: period,
        input_channels: config.input_channels,
        commands,
        reports,
        returns,
        capture,
        played,
        heard,
        analysis,
        trace,
        stats: Arc::clone(&stats),
        slots: (0..config.max_sources).map(|_| Slot::free()).collect(),
        own: Channel::new(Monitor { mute: true, ..Monitor::default() }),
        input_gain: Ramp::resting_at(1.0),
        input_mute: Ramp::resting_at(1.0),
        master: Ramp::resting_at(1.0),
        click: Click::new(config.rate_hz),
        tone: TestTone::new(config.rate_hz),
        timeline: Timeline::default(),
        limiter: Limiter::new(config.rate_hz),
        clock: FrameClock::new(config.rate_hz),
        position_frames: 0,
        output_latency_frames: 0,
        sent: vec![0.0; period * config.input_channels],
        analysed: vec![0.0; period * ANALYSIS_CHANNELS],
        left: vec![0.0; period],
        right: vec![0.0; period],
    };
    let handle = Handle {
        rate_hz: config.rate_hz,
        max_period_frames: period,
        commands: command_producer,
        reports: report_consumer,
        returns: return_consumer,
        capture: Some(capture_reader),
        played: Some(played_reader),
        heard: Some(heard_reader),
        analysis: Some(analysis_reader),
        trace: trace_reader,
        stats,
        sounds,
    };
    Ok((engine, handle))
}

/// The controlling half of the engine.
///
/// Thread-safe: no, one thread at a time. Realtime-safe: no.
#[derive(Debug)]
pub struct Handle {
    rate_hz: u32,
    max_period_frames: usize,
    commands: Producer<Command>,
    reports: Consumer<Report>,
    returns: Consumer<Returned>,
    capture: Option<TapReader>,
    played: Option<TapReader>,
    heard: Option<TapReader>,
    analysis: Option<TapReader>,
    trace: Option<TraceReader>,
    stats: Arc<EngineStats>,
    sounds: Sounds,
}

impl Handle {
    /// Sends a command; the next callback obeys it.
    ///
    /// # Errors
    /// [`QueueFull`] when 1,024 commands wait already.
    pub fn send(&mut self, command: Command) -> Result<(), QueueFull> {
        self.commands.push(command).map_err(|_| QueueFull)
    }

    /// The next report. Also frees what the engine has sent home, so call it a few times a second even if
    /// reports do not matter: removals wait until there is room.
    pub fn poll_report(&mut self) -> Option<Report> {
        while let Ok(returned) = self.returns.pop() {
            match returned {
                Returned::Stream(stream) => drop(stream),
                Returned::Voice(voice) => drop(voice),
            }
        }
        self.reports.pop().ok()
    }

    /// Makes a remote source for this engine.
    ///
    /// # Errors
    /// [`SourceError`] when the configuration is out of range.
    pub fn source(&self, config: SourceConfig) -> Result<(SourceWriter, Source), SourceError> {
        source::source(config, self.rate_hz, self.max_period_frames)
    }

    /// Makes an instrument for one bandmate's MIDI, with the configured sounds.
    ///
    /// # Errors
    /// [`InstrumentError`] when the engine's rate is beyond what the synthesiser can do.
    pub fn instrument(&self) -> Result<(MidiWriter, Instrument), InstrumentError> {
        instrument::instrument(&self.sounds, self.rate_hz, self.max_period_frames)
    }

    /// The player's input after input gain, for the packetiser: half a second of queue. `None` when taken
    /// already.
    pub fn take_capture(&mut self) -> Option<TapReader> {
        self.capture.take().map(TapReader::open)
    }

    /// The same for a recorder: two seconds of queue. `None` when taken already.
    pub fn take_played(&mut self) -> Option<TapReader> {
        self.played.take().map(TapReader::open)
    }

    /// What the player hears, in stereo, for a recorder: two seconds of queue. `None` when taken already.
    pub fn take_heard(&mut self) -> Option<TapReader> {
        self.heard.take().map(TapReader::open)
    }

    /// What the player hears (left, right) and what the microphone gives (one channel, after input gain, before the
    /// mute), in one tap so that both are of the same moment: one second of queue. `None` when taken already.
    pub fn take_analysis(&mut self) -> Option<TapReader> {
        self.analysis.take().map(TapReader::open)
    }

    /// What each callback took and decided, if [`Config::trace`] asked for it: some seconds of queue. `None` when taken
    /// already.
    pub fn take_trace(&mut self) -> Option<TraceReader> {
        self.trace.take()
    }

    /// The engine's statistics.
    #[must_use]
    pub fn stats(&self) -> Arc<EngineStats> {
        Arc::clone(&self.stats)
    }
}
