//! What plays a bandmate's MIDI here.
//!
//! Notes are a thousand times smaller than audio, so a keyboard player may send these instead and be played
//! here. Each such bandmate has a synthesiser of their own (rustysynth) over one shared SoundFont, fed by a
//! queue of events with due times, so that jitter of the network is not jitter of the music. The synthesiser
//! works in steps of 8 frames: a note starts on its frame or up to 7 later, 0.15 ms at 48 kHz.
//!
//! A due time is of the callbacks' clock, as the audio of the same bandmate is: what is rendered for a moment leaves the
//! speaker later by the card's output latency, and so does that audio. It is not made up for as it is for the metronome,
//! which keeps company with a beat outside: a note would be early by it, and mostly too late for its time.

mod soundfont;
mod tuning;
mod vetting;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};
use rustysynth::{SoundFont, Synthesizer, SynthesizerSettings};
use thiserror::Error;

use crate::frame_clock::FrameClock;
use crate::gain::scrubbed;
use crate::message::HostTime;
use tuning::{Tuning, tuned_by};

const QUEUE_EVENTS: usize = 1_024;
const PENDING_EVENTS: usize = 1_024;
const STEP_FRAMES: usize = 8;
const POLYPHONY: usize = 48;

/// Why an instrument cannot be made.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("no instrument can be played on this device: {0}; choose a rate from 16000 to 192000 Hz")]
pub struct InstrumentError(String);

/// The instrument's queue is full; the event was dropped. Send all notes off once there is room again.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the instrument's queue is full; the event was dropped, so release all notes")]
pub struct MidiFull;

/// The network thread's end of an instrument.
#[derive(Debug)]
pub struct MidiWriter {
    events: Producer<Event>,
    epoch: Arc<AtomicU32>,
}

impl MidiWriter {
    /// Hands over a channel message (status and two data bytes) that is to be rendered for `due`; late ones sound
    /// at once. Never blocks. Anything but a channel message is ignored.
    ///
    /// Thread-safe: no, one thread at a time. Realtime-safe: yes.
    ///
    /// # Errors
    /// [`MidiFull`] when 1,024 events wait already.
    pub fn push(&mut self, due: HostTime, message: [u8; 3]) -> Result<(), MidiFull> {
        // Only this end writes it.
        let epoch = self.epoch.load(Ordering::Relaxed);
        self.events.push(Event { due, message, epoch }).map_err(|_| MidiFull)
    }

    /// Releases all notes and forgets all events that are not due yet, but none that is pushed from now on. Works when
    /// the queue is full too.
    pub fn all_notes_off(&self) {
        self.epoch.fetch_add(1, Ordering::Release);
    }
}

/// The audio thread's end of an instrument; goes to the engine with [`Command::AddInstrument`].
///
/// [`Command::AddInstrument`]: crate::Command::AddInstrument
#[derive(Debug)]
pub struct Instrument(pub(crate) Box<InstrumentVoice>);

#[derive(Clone, Copy, Debug)]
struct Event {
    due: HostTime,
    message: [u8; 3],
    /// Times that all notes were off before it.
    epoch: u32,
}

/// A vetted SoundFont.
#[derive(Debug)]
pub(crate) struct Sounds {
    font: Arc<SoundFont>,
    /// How far any of its notes may be bent.
    headroom_semitones: f32,
}

pub(crate) struct InstrumentVoice {
    synthesizer: Synthesizer,
    headroom_semitones: f32,
    /// By channel.
    tuning: [Tuning; Synthesizer::CHANNEL_COUNT],
    events: Consumer<Event>,
    epoch: Arc<AtomicU32>,
    /// As far as it is carried out.
    epoch_now: u32,
    /// Sorted, the next due last.
    pending: Vec<Event>,
    left: Vec<f32>,
    right: Vec<f32>,
}

impl std::fmt::Debug for InstrumentVoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InstrumentVoice").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}

impl InstrumentVoice {
    /// Adds what sounds in this callback to `left` and `right`; fading to silence if it is the last.
    pub(crate) fn process(&mut self, clock: &FrameClock, last: bool, left: &mut [f32], right: &mut [f32]) {
        self.collect();
        let frames = left.len();
        let fall = if last { 1.0 / frames.max(1) as f32 } else { 0.0 };
        let mut at = 0;
        while at < frames {
            let mut until = frames;
            while let Some(event) = self.pending.last().copied() {
                let due = clock.frames_from_callback(event.due).round().clamp(0.0, frames as f64) as usize;
                if due > at {
                    until = due;
                    break;
                }
                self.pending.pop();
                self.play(event.message);
            }
            let (Some(l), Some(r)) = (self.left.get_mut(at..until), self.right.get_mut(at..until)) else {
                return;
            };
            self.synthesizer.render(l, r);
            for (out, rendered) in [(&mut *left, l), (&mut *right, r)] {
                for ((n, out), sample) in out.iter_mut().enumerate().skip(at).zip(rendered.iter()) {
                    *out += scrubbed(*sample) * (1.0 - fall * (n + 1) as f32);
                }
            }
            at = until;
        }
    }

    pub(crate) fn all_notes_off(&mut self) {
        self.pending.clear();
        // The pedal would hold them.
        self.synthesizer.reset_all_controllers();
        self.synthesizer.note_off_all(false);
        for channel in 0..16 {
            if let Some(tuning) = self.tuning.get_mut(usize::from(channel)) {
                tuning.reset();
            }
            self.tune(channel);
        }
    }

    fn collect(&mut self) {
        self.follow(self.epoch.load(Ordering::Acquire));
        while self.pending.len() < PENDING_EVENTS {
            let Ok(event) = self.events.pop() else { return };
            // All notes may have gone off since, before this one.
            self.follow(event.epoch);
            if event.epoch != self.epoch_now {
                continue;
            }
            // Events of one moment keep their order.
            let place = self.pending.partition_point(|other| other.due > event.due);
            self.pending.insert(place, event);
        }
    }

    /// Lets all notes go if `epoch`, which wraps, is a later one.
    fn follow(&mut self, epoch: u32) {
        if epoch.wrapping_sub(self.epoch_now).cast_signed() > 0 {
            self.epoch_now = epoch;
            self.all_notes_off();
        }
    }

    fn play(&mut self, message: [u8; 3]) {
        let [status, first, second] = message;
        let (kind, channel, first, second) = (status & 0xf0, status & 0x0f, first & 0x7f, second & 0x7f);
        let Some(tuning) = self.tuning.get_mut(usize::from(channel)) else { return };
        if !(0x80..0xf0).contains(&status) {
            return;
        }
        let before = tuning.shift_semitones();
        let about_pitch = tuning.handle(kind, first, second);
        let moved = tuning.shift_semitones() != before;
        if !about_pitch {
            self.tell(kind, channel, first, second);
        }
        if moved {
            self.tune(channel);
        }
    }

    /// Puts a channel to its pitch, as far as the sounds bear it.
    fn tune(&mut self, channel: u8) {
        let Some(tuning) = self.tuning.get(usize::from(channel)) else { return };
        let shift = tuning.shift_semitones().clamp(-self.headroom_semitones, self.headroom_semitones);
        for (controller, value) in tuned_by(shift) {
            self.tell(0xb0, channel, controller, value);
        }
    }

    fn tell(&mut self, kind: u8, channel: u8, first: u8, second: u8) {
        self.synthesizer.process_midi_message(
            i32::from(channel),
            i32::from(kind),
            i32::from(first),
            i32::from(second),
        );
    }
}

/// Makes the two ends of an instrument. Allocates.
pub(crate) fn instrument(
    sounds: &Sounds,
    rate_hz: u32,
    max_period_frames: usize,
) -> Result<(MidiWriter, Instrument), InstrumentError> {
    let mut settings = SynthesizerSettings::new(rate_hz as i32);
    settings.block_size = STEP_FRAMES;
    settings.maximum_polyphony = POLYPHONY;
    settings.enable_reverb_and_chorus = false;
    let synthesizer =
        Synthesizer::new(&sounds.font, &settings).map_err(|error| InstrumentError(error.to_string()))?;
    let (producer, events) = RingBuffer::new(QUEUE_EVENTS);
    let epoch = Arc::new(AtomicU32::new(0));
    let voice = InstrumentVoice {
        synthesizer,
        headroom_semitones: sounds.headroom_semitones,
        tuning: [Tuning::default(); Synthesizer::CHANNEL_COUNT],
        events,
        epoch: Arc::clone(&epoch),
        epoch_now: 0,
        pending: Vec::with_capacity(PENDING_EVENTS),
        left: vec![0.0; max_period_frames],
        right: vec![0.0; max_period_frames],
    };
    Ok((MidiWriter { events: producer, epoch }, Instrument(Box::new(voice))))
}

/// Reads a SoundFont, or makes the built-in one, for instruments that play at `rate_hz`.
pub(crate) fn load_sounds(bytes: Option<&[u8]>, rate_hz: u32) -> Result<Sounds, String> {
    let built_in;
    let bytes = match bytes {
        Some(bytes) => bytes,
        None => {
            built_in = soundfont::built_in();
            &built_in
        }
    };
    let owned = bytes.to_vec();
    // The parser indexes by what the file says; a malformed file must not take the node down.
    let font = std::panic::catch_unwind(move || SoundFont::new(&mut owned.as_slice()))
        .map_err(|_| "the file is damaged".to_owned())?
        .map_err(|error| error.to_string())?;
    let headroom_semitones = vetting::headroom_semitones(&font, rate_hz)?;
    Ok(Sounds { font: Arc::new(font), headroom_semitones })
}

#[cfg(test)]
mod tests;
