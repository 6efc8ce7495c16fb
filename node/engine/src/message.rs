//! Everything that crosses between the audio thread and the rest.
//!
//! The callback may not lock, wait or free, so all it is told arrives as plain values in a bounded queue, and
//! all memory it no longer needs travels back in another, to be freed by [`Handle::poll_report`].
//!
//! [`Handle::poll_report`]: crate::Handle::poll_report

use crate::instrument::{Instrument, InstrumentVoice};
use crate::source::{Source, SourceStream};

/// Nanoseconds on the machine's monotonic clock, from an origin that is the same for the whole process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostTime(pub u64);

impl HostTime {
    /// `self - earlier` in seconds; negative when `earlier` is in fact later.
    #[must_use]
    pub fn seconds_since(self, earlier: HostTime) -> f64 {
        if self >= earlier {
            (self.0 - earlier.0) as f64 * 1e-9
        } else {
            -((earlier.0 - self.0) as f64 * 1e-9)
        }
    }
}

/// One bandmate in this mix: at most one audio [`Source`] and one [`Instrument`], under one strip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u32);

impl SourceId {
    /// The instrument of the player at this node. No solo of mine silences it, and a solo of [`StripId::Own`] is its own.
    pub const OWN_INSTRUMENT: SourceId = SourceId(0);
}

/// Whose strip is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StripId {
    /// The player at this node.
    Own,
    /// A bandmate.
    Source(SourceId),
}

/// The shared mix of one player: the same on every node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strip {
    /// Gain in dB, -90 (silent) to +12; values outside are clamped.
    pub gain_db: f32,
    /// -1 (left) to 1 (right). At 0 both sides pass unchanged.
    pub pan: f32,
    /// Silences this strip.
    pub mute: bool,
    /// While any strip is soloed, only soloed strips are heard.
    pub solo: bool,
}

impl Default for Strip {
    fn default() -> Self {
        Self { gain_db: 0.0, pan: 0.0, mute: false, solo: false }
    }
}

/// What this player does to one strip in their own headphones; nobody else hears it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Monitor {
    /// Gain in dB on top of the strip's, -90 (silent) to +12; values outside are clamped.
    pub gain_db: f32,
    /// Silences this player for me only.
    pub mute: bool,
    /// Added to the strip's pan; the sum is held within -1 and 1.
    pub pan: f32,
    /// While any bandmate is soloed by me, I hear only those of them; what I hear of myself stays.
    pub solo: bool,
}

/// What is done to this player's input before it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Input {
    /// Gain in dB, -90 (silent) to +12; values outside are clamped. At 0 the input is sent bit for bit.
    pub gain_db: f32,
    /// Sends silence. What the player hears of themselves stays.
    pub mute: bool,
}

/// A test tone in this player's ears.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tone {
    /// Peak level in dBFS; above 0 is clamped. Neither faders nor master change it, the limiter may.
    pub level_db: f32,
    /// How long it sounds, fades included; 0 ends it.
    pub frames: u64,
}

/// The click.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metronome {
    /// Clicks while the timeline is playing.
    pub on: bool,
    /// Gain in dB, -90 (silent) to +12; values outside are clamped.
    pub gain_db: f32,
}

/// A command to the engine. Gains ramp over 5 ms; everything takes effect at the start of a callback.
#[derive(Debug)]
pub enum Command {
    /// Adds (or replaces) a bandmate's audio; it fades in over 20 ms.
    AddSource(SourceId, Source),
    /// Fades a bandmate's audio out over one period and sends its memory home.
    RemoveSource(SourceId),
    /// Adds (or replaces) the instrument that plays a bandmate's MIDI.
    AddInstrument(SourceId, Instrument),
    /// Releases all notes, lets nothing ring on, and sends the instrument's memory home.
    RemoveInstrument(SourceId),
    /// Sets the shared mix of one strip.
    SetStrip(StripId, Strip),
    /// Sets my own monitor mix of one strip. [`StripId::Own`] starts muted.
    SetMonitor(StripId, Monitor),
    /// Sets what is done to the input before it is sent.
    SetInput(Input),
    /// Gain of all that is heard, before the limiter.
    SetMasterGain {
        /// In dB, -90 (silent) to +12; values outside are clamped.
        gain_db: f32,
    },
    /// Begins, changes or ends the test tone.
    SetTestTone(Tone),
    /// Sets the click.
    SetMetronome(Metronome),
    /// Sets where the beat is.
    SetTimeline(crate::Timeline),
    /// Tells the true rate of a bandmate's sound card, in Hz of this node's own sound card clock, for as long
    /// as the engine has no estimate of its own. Differences under 20 ppm count as none, and values more than
    /// 1000 ppm off are ignored.
    SetSourceRate(SourceId, f64),
    /// Releases all notes of a bandmate's instrument.
    AllNotesOff(SourceId),
    /// Frames between the output buffer and the ear, so that clicks sound on the beat.
    SetOutputLatency {
        /// In frames of the engine's rate; at most one second.
        frames: u32,
    },
}

/// News from the engine. The queue holds 256; when it is full further reports are dropped, since every one of
/// them can also be seen in the statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The first frame of this bandmate sounds in the callback that began at this time.
    SourceStarted(SourceId, HostTime),
    /// Nothing has come from this bandmate for 250 ms.
    SourceStopped(SourceId),
    /// A bandmate's timestamps jumped, and playing started over.
    BufferReset(SourceId),
    /// There was no free slot; remove a bandmate, or build the engine with a larger `max_sources`.
    Refused(SourceId),
    /// A bandmate's audio or instrument has left the mix.
    Removed(SourceId),
}

/// Memory on its way home to be freed.
#[derive(Debug)]
pub(crate) enum Returned {
    Stream(Box<SourceStream>),
    Voice(Box<InstrumentVoice>),
}
