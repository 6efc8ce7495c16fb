//! All MIDI ports of this machine as one.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    device::{
        Audio,
        midi::{Keys, MidiEvent, MidiPorts},
        monotonic_ns,
    },
    media::MidiIo,
    trace::{Recorder, record::Record},
};

/// The audio device's own MIDI ports (JACK) and the system's (ALSA), merged.
pub struct MidiHub {
    audio: Arc<Audio>,
    system: Option<MidiPorts>,
    /// Who is told of what is played.
    recorder: Recorder,
    /// What is held on the device's ports, which are gone with the device.
    device_keys: Keys,
    /// Ends of what was held on a device that is gone.
    ended: VecDeque<MidiEvent>,
}

impl MidiHub {
    /// The ports of `audio`, whichever device that has open, and those of the system.
    pub fn new(audio: Arc<Audio>, system: Option<MidiPorts>, recorder: Recorder) -> Self {
        Self { audio, system, recorder, device_keys: Keys::default(), ended: VecDeque::new() }
    }

    fn next(&mut self) -> Option<MidiEvent> {
        if let Some(event) = self.audio.poll_midi() {
            self.device_keys.note(event.bytes());
            return Some(event);
        }
        if !self.device_keys.is_empty() && !self.audio.has_midi() {
            let ends = std::mem::take(&mut self.device_keys).released(&Keys::default());
            let now_ns = monotonic_ns();
            self.ended.extend(ends.iter().filter_map(|message| MidiEvent::new(now_ns, message)));
        }
        self.ended.pop_front().or_else(|| self.system.as_mut().and_then(MidiPorts::poll))
    }
}

impl MidiIo for MidiHub {
    fn poll(&mut self) -> Option<(u64, Vec<u8>)> {
        let event = self.next()?;
        self.recorder.record(|| Record::Midi { at_ns: event.host_time_ns, message: event.bytes().to_vec() });
        Some((event.host_time_ns, event.bytes().to_vec()))
    }

    fn send(&mut self, due_ns: u64, message: &[u8]) {
        let Some(event) = MidiEvent::new(due_ns, message) else { return };
        let device = if self.audio.has_midi() { self.audio.send_midi(event) } else { Ok(()) };
        let system = self.system.as_mut().map_or(Ok(()), |ports| ports.send(event));
        if let Err(error) = device.and(system) {
            tracing::debug!(%error, "a MIDI message for the output was dropped");
        }
    }
}
