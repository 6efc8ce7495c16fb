//! The realtime audio engine: what a player hears, and what is taken from them to be sent.
//!
//! Musicians play together only if what they hear is young: every millisecond here is one they have to sit
//! closer. So the engine waits for nothing it has not measured to be necessary (the `playout` controller),
//! changes no sample it does not have to, and spends its callback without asking the kernel for anything.
//!
//! It knows frames, beats and numbered sources; no network, no document, no device. [`engine`] makes two
//! halves: the
//! [`Engine`], whose [`process`](Engine::process) is the device callback, and the [`Handle`], which sends it
//! commands,
//! makes the sources and instruments for it, and frees what it is done with.
//!
//! ```
//! use engine::{Command, Config, HostTime, SourceConfig, SourceId, engine};
//!
//! let (mut engine, mut handle) = engine(Config::new(48_000, 128))?;
//! let (mut writer, source) = handle.source(SourceConfig::new(48_000, 1))?;
//! handle.send(Command::AddSource(SourceId(1), source))?;
//! writer.push(0, HostTime(1_000_000), &[0.25; 128])?;
//! let mut output = [0.0; 256];
//! engine.process(&[0.0; 128], &mut output, HostTime(2_000_000));
//! assert!(output[255] > 0.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod bench;
mod frame_clock;
mod gain;
mod handle;
mod instrument;
mod limiter;
mod message;
mod metronome;
mod process;
mod resample;
mod source;
mod stats;
mod tap;
mod timeline;
mod tone;
mod trace;

pub use handle::{Config, ConfigError, Handle, QueueFull, engine};
pub use instrument::{Instrument, InstrumentError, MidiFull, MidiWriter};
pub use message::{Command, HostTime, Input, Metronome, Monitor, Report, SourceId, Strip, StripId, Tone};
pub use process::Engine;
pub use resample::Resampler;
pub use source::{
    BlockReader, MAX_BLOCK_FRAMES, PushError, Source, SourceConfig, SourceError, SourceWriter, block_queue,
};
pub use stats::{EngineStats, LOAD_EDGES_US, Load, Meter, PlayoutPoint, SourceCounters, SourceStats};
pub use tap::{Block, TapReader};
pub use timeline::Timeline;
pub use trace::{CallbackTrace, SourceTrace, TraceReader, hash};
