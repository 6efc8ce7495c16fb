//! Sound cards, and what stands in for them.
//!
//! A musician has one pair of ears and one instrument, so the rest of the node wants one thing: a
//! callback that takes a period of input and gives a period of output. Real devices do not look like that. JACK
//! calls once with both, ALSA calls twice on two threads, a laptop without a card never calls. This module makes
//! all of them one [`AudioCallback`], started by [`open`] or, with recovery from loss, by [`Audio::start`].
//!
//! What a device does on its own (disappear, change its period, miss a deadline) comes back as
//! [`DeviceEvent`]s and as numbers in [`DeviceStats`]. A missed deadline is a number, a lost device is an event.
//!
//! Limits: the output is always stereo, the input one or two channels; two cards with two clocks are joined by a
//! short queue that drops or repeats when they drift apart.
//!
//! Without the `devices` feature only `null` and `file` exist, so that the simulator needs no audio libraries.

#[cfg(feature = "devices")]
mod alsa;
mod choice;
mod driven;
mod file;
#[cfg(feature = "devices")]
mod jack;
#[cfg(feature = "devices")]
mod libasound;
pub mod link;
mod list;
pub mod midi;
mod null;
mod os;
mod pacer;
mod recovery;
mod stats;
mod supervisor;
mod switch;
mod timer;
mod wav;

use std::sync::Arc;

use serde::Serialize;

pub use choice::{AudioChoice, ChoiceError};
pub use list::{AudioDevice, Listing, MidiDevice, list};
pub use os::{monotonic_ns, sleep_until, use_realtime_priority};
pub use recovery::{Recovery, RecoveryAction};
pub use stats::{DeviceStats, StatsSnapshot};
pub use supervisor::{Audio, AudioRunning};
pub use switch::SwitchError;
pub use wav::WavError;

use driven::Signals;
use midi::MidiPorts;

/// The most frames one call of [`AudioCallback::process`] is given; a larger device period arrives in pieces.
pub const MAX_PERIOD_FRAMES: usize = 4096;

/// Channels of every output: left, right.
pub const OUTPUT_CHANNELS: usize = 2;

/// How long a device may take to fade out: the longest period there is, and some.
const FADE_PATIENCE_MS: u32 = 200;
const DEFAULT_RATE_HZ: u32 = 48_000;
const DEFAULT_PERIOD_FRAMES: u32 = 128;

/// What the sound card calls once a period.
///
/// Thread-safe: no, one thread at a time calls it. Realtime-safe: must be. It may not allocate, free, lock, wait,
/// log or make a system call.
pub trait AudioCallback: Send {
    /// Takes one period of `input` (interleaved, [`Opened::input_channels`] channels) and fills `output`
    /// (interleaved stereo, the same number of frames, at most [`MAX_PERIOD_FRAMES`]).
    ///
    /// `host_time_ns` is when this period began, on [`monotonic_ns`]'s clock. Devices that keep a steady time base of
    /// their own (JACK's cycle, `null`'s deadline) give that, which has less jitter than the wake-up itself.
    fn process(&mut self, input: &[f32], output: &mut [f32], host_time_ns: u64);
}

/// What to open, from the command line or the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceConfig {
    /// Which device.
    pub choice: AudioChoice,
    /// Frames a second, 8,000 to 192,000; `None` takes the device's own, or 48,000. A JACK server's rate stands.
    pub rate_hz: Option<u32>,
    /// Frames a period, 16 to 4,096; `None` takes the device's own, or 128. A JACK server's period stands.
    pub period_frames: Option<u32>,
    /// The JACK client name, and the name of the MIDI ports.
    pub jack_name: String,
}

/// The format a device agreed to; the engine is built for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Frames a second.
    pub rate_hz: u32,
    /// Frames a period now. JACK may change it later; see [`DeviceEvent::PeriodChanged`].
    pub period_frames: u32,
    /// No call ever carries more frames than this.
    pub max_period_frames: usize,
    /// Channels of the input, 1 or 2.
    pub input_channels: usize,
}

/// What is open, in words for `status` and `devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    /// `jack`, `alsa`, `null` or `file`.
    pub host: String,
    /// The device's name within its host.
    pub device: String,
    /// Frames a second.
    pub rate_hz: u32,
    /// Frames a period.
    pub period_frames: u32,
    /// Channels of the input, 1 or 2.
    pub input_channels: usize,
    /// Whether the callback's thread has realtime priority.
    pub realtime: Realtime,
    /// What a user might want to know: a request the device could not meet, a candidate that was passed over.
    pub notes: Vec<String>,
}

/// Whether the callback runs before ordinary threads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Realtime {
    /// SCHED_FIFO with this priority, 1 to 99.
    Fifo(i32),
    /// The system refused; the text says what to change. Expect dropouts when the machine is busy.
    Denied(String),
    /// The device's own thread decides (JACK's server, cpal's worker).
    DeviceDecides,
}

/// What a device did by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// The device is gone and its callback no longer runs.
    Lost(LostReason),
    /// The device now calls with this many frames; nothing needs to be rebuilt.
    PeriodChanged {
        /// Frames a period from now on.
        period_frames: u32,
    },
    /// The device's rate changed under the engine, which must be rebuilt for it.
    RateChanged {
        /// Frames a second from now on.
        rate_hz: u32,
    },
    /// Deadlines missed since the last such event; at most four of these a second.
    Xruns {
        /// Since the last event.
        new: u64,
        /// Since the device was first opened.
        total: u64,
    },
    /// [`Audio`] opened a device again. `rebuilt` tells whether a new engine was made for it.
    Reopened {
        /// What is open now.
        info: DeviceInfo,
        /// True when the old callback was lost or its format no longer fits.
        rebuilt: bool,
    },
    /// [`Audio`] could not open the device and will try again.
    ReopenFailed {
        /// Why, in words for the user.
        error: String,
        /// Milliseconds until the next attempt.
        retry_ms: u64,
    },
}

/// Why a device is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LostReason {
    /// JACK's server ended or threw this client out.
    #[error("the JACK server ended or removed this client; start it again, the node reconnects by itself")]
    ServerGone,
    /// The card was unplugged or its driver failed.
    #[error("the audio device disappeared; plug it in again, the node reopens it by itself")]
    Disconnected,
    /// The stream must be rebuilt, for instance after the machine slept.
    #[error("the audio device stopped its stream; the node reopens it by itself")]
    StreamInvalid,
    /// The callback panicked. It stays silent rather than taking the process down.
    #[error("the audio engine failed inside the callback and was muted; the node builds a new one")]
    CallbackPanicked,
}

/// Why a device could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// `--rate` out of range.
    #[error("--rate {0} is out of range; give 8000 to 192000 frames a second, usually 48000")]
    Rate(u32),
    /// `--period` out of range.
    #[error("--period {0} is out of range; give 16 to 4096 frames, usually 64, 128 or 256")]
    Period(u32),
    /// This program was built without device support.
    #[error("this build has no support for sound cards; use --audio null or --audio file:IN.wav")]
    NotBuilt,
    /// There is no JACK server, or it does not answer.
    #[error(
        "no JACK server answers ({0}); start one, for example `jackd -d alsa`, or choose another --audio"
    )]
    JackUnavailable(String),
    /// The client name is in use on the JACK server.
    #[error("the JACK server already has a client named {0:?}; choose another with --jack-name")]
    JackNameTaken(String),
    /// The client name cannot be one.
    #[error("{0:?} cannot be a JACK client name; give 1 to 32 characters without ':' with --jack-name")]
    JackName(String),
    /// JACK refused something else.
    #[error("JACK refused: {0}; look at the server's messages")]
    Jack(String),
    /// No device has this name.
    #[error("no audio device is called {name:?}; `bandmesh devices` lists them{hint}")]
    NoSuchDevice {
        /// What was asked for.
        name: String,
        /// Near misses, or nothing.
        hint: String,
    },
    /// There is no sound card at all.
    #[error("there is no sound card to play on; connect one, start JACK, or use --audio null")]
    NoDevice,
    /// The device cannot do what was asked.
    #[error("{device} cannot do {wanted}; it offers {offered}")]
    Unsupported {
        /// The device's name.
        device: String,
        /// What was asked for.
        wanted: String,
        /// What it can do.
        offered: String,
    },
    /// The device is in use or refused to start.
    #[error("{device} did not start: {reason}")]
    Start {
        /// The device's name.
        device: String,
        /// The driver's words.
        reason: String,
    },
    /// The input file is not usable.
    #[error(transparent)]
    Wav(#[from] WavError),
    /// The system would not give a thread.
    #[error("no thread for the audio device ({0}); close other programs or raise `ulimit -u`")]
    Thread(std::io::Error),
}

/// An open device. Dropping it stops the callback.
///
/// Thread-safe: may be sent, not shared. Realtime-safe: no.
pub struct Running {
    info: DeviceInfo,
    stats: Arc<DeviceStats>,
    signals: Arc<Signals>,
    seen: driven::Seen,
    midi: Option<MidiPorts>,
    backend: Option<Box<dyn Backend>>,
}

impl Running {
    /// What is open, with the period as it is now.
    pub fn info(&self) -> DeviceInfo {
        DeviceInfo { period_frames: self.signals.period_frames(), ..self.info.clone() }
    }

    /// Numbers about the callback, live.
    pub fn stats(&self) -> &Arc<DeviceStats> {
        &self.stats
    }

    /// The next thing the device did by itself. Ask a few times a second.
    pub fn poll_event(&mut self) -> Option<DeviceEvent> {
        self.seen.poll(&self.signals, &self.stats)
    }

    /// The MIDI ports that belong to this device (JACK's `midi_in` and `midi_out`); `None` when it has none or
    /// they were taken.
    pub fn take_midi(&mut self) -> Option<MidiPorts> {
        self.midi.take()
    }

    /// Lets what is played and heard go down to silence; true once it has, false if the callback does not answer.
    fn fade_out(&self) -> bool {
        self.signals.fade();
        for _ in 0..FADE_PATIENCE_MS {
            if self.signals.has_faded() {
                return true;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        false
    }

    /// Stops the device within about two seconds and gives the callback back, unless it panicked or its thread
    /// does not answer.
    pub fn stop(mut self) -> Option<Box<dyn AudioCallback>> {
        self.backend.take().and_then(|backend| backend.stop())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(backend) = self.backend.take() {
            backend.stop();
        }
    }
}

/// Opens a device and starts calling what `make` builds for the format the device agreed to.
///
/// `auto` tries a running JACK server, then the default sound card, then `null`; what it passed over is in
/// [`DeviceInfo::notes`]. On `null` it stays only until there is something better, when [`Audio`] runs it.
pub fn open<F>(config: &DeviceConfig, make: F) -> Result<Running, DeviceError>
where
    F: FnOnce(&Opened) -> Box<dyn AudioCallback>,
{
    open_counting(config, &mut file::Recordings::default(), Arc::new(DeviceStats::default()), make)
}

/// The part of a [`Running`] device that each host implements.
trait Backend: Send {
    /// Ends the callbacks and returns the callback. Takes about two seconds at most.
    fn stop(self: Box<Self>) -> Option<Box<dyn AudioCallback>>;
}

/// Like [`open`], counting into `stats` and adding to `recordings`, so that both outlive a reopened device.
fn open_counting<F>(
    config: &DeviceConfig,
    recordings: &mut file::Recordings,
    stats: Arc<DeviceStats>,
    make: F,
) -> Result<Running, DeviceError>
where
    F: FnOnce(&Opened) -> Box<dyn AudioCallback>,
{
    check(config)?;
    match &config.choice {
        AudioChoice::Null => null::open(config, stats, make),
        AudioChoice::File { input, output } => {
            file::open(config, input, output.as_deref(), recordings, stats, make)
        }
        #[cfg(feature = "devices")]
        AudioChoice::Jack => jack::open(config, stats, Box::new(make)).map_err(|refused| refused.error),
        #[cfg(feature = "devices")]
        AudioChoice::Device(name) => {
            alsa::open(config, Some(name), stats, Box::new(make)).map_err(|refused| refused.error)
        }
        #[cfg(feature = "devices")]
        AudioChoice::Auto => open_best(config, stats, Box::new(make)),
        #[cfg(not(feature = "devices"))]
        AudioChoice::Auto => null::open(config, stats, make),
        #[cfg(not(feature = "devices"))]
        AudioChoice::Jack | AudioChoice::Device(_) => Err(DeviceError::NotBuilt),
    }
}

#[cfg(feature = "devices")]
type Make<'a> = Box<dyn FnOnce(&Opened) -> Box<dyn AudioCallback> + 'a>;

/// A failed attempt; `make` comes back when it was not used yet, so that the next candidate can have it.
#[cfg(feature = "devices")]
struct Refused<'a> {
    error: DeviceError,
    make: Option<Make<'a>>,
}

#[cfg(feature = "devices")]
impl<'a> Refused<'a> {
    fn early(error: DeviceError, make: Make<'a>) -> Self {
        Refused { error, make: Some(make) }
    }

    fn late(error: DeviceError) -> Self {
        Refused { error, make: None }
    }
}

#[cfg(feature = "devices")]
fn open_best(config: &DeviceConfig, stats: Arc<DeviceStats>, make: Make<'_>) -> Result<Running, DeviceError> {
    let mut notes = Vec::new();
    let mut opened = match open_real(config, stats.clone(), make, &mut notes) {
        Ok(running) => running,
        Err(Refused { error, make: None }) => return Err(error),
        Err(Refused { make: Some(make), .. }) => null::open(config, stats, make)?,
    };
    opened.info.notes.splice(0..0, notes);
    Ok(opened)
}

/// A JACK server or the default card; `notes` gets what was passed over.
#[cfg(feature = "devices")]
fn open_real<'a>(
    config: &DeviceConfig,
    stats: Arc<DeviceStats>,
    make: Make<'a>,
    notes: &mut Vec<String>,
) -> Result<Running, Refused<'a>> {
    let make = match jack::open(config, stats.clone(), make) {
        Err(Refused { error, make: Some(make) }) => {
            notes.push(format!("not JACK: {error}"));
            make
        }
        ended => return ended,
    };
    alsa::open(config, None, stats, make)
        .inspect_err(|refused| notes.push(format!("no sound card: {}", refused.error)))
}

/// For `auto` that plays into the void: what has come since. `None` when nothing has.
#[cfg(feature = "devices")]
fn open_better<F>(config: &DeviceConfig, stats: Arc<DeviceStats>, make: F) -> Option<Running>
where
    F: FnOnce(&Opened) -> Box<dyn AudioCallback>,
{
    let mut notes = Vec::new();
    let mut opened = open_real(config, stats, Box::new(make), &mut notes).ok()?;
    opened.info.notes.splice(0..0, notes);
    Some(opened)
}

#[cfg(not(feature = "devices"))]
fn open_better<F>(_: &DeviceConfig, _: Arc<DeviceStats>, _: F) -> Option<Running>
where
    F: FnOnce(&Opened) -> Box<dyn AudioCallback>,
{
    None
}

fn check(config: &DeviceConfig) -> Result<(), DeviceError> {
    match config.rate_hz {
        Some(rate_hz) if !(8_000..=192_000).contains(&rate_hz) => return Err(DeviceError::Rate(rate_hz)),
        _ => {}
    }
    match config.period_frames {
        Some(frames) if !(16..=MAX_PERIOD_FRAMES as u32).contains(&frames) => {
            Err(DeviceError::Period(frames))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
