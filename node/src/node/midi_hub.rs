//! All MIDI ports of this machine as one.

use std::sync::Arc;

use crate::{
    device::{
        Audio,
        midi::{MidiEvent, MidiPorts},
    },
    media::MidiIo,
    trace::{Recorder, record::Record},
};

/// The audio device's own MIDI ports (JACK) and the system's (ALSA), merged.
pub struct MidiHub {
    /// The device, which may have ports of its own.
    pub audio: Arc<Audio>,
    /// The system's ports, where there are any.
    pub system: Option<MidiPorts>,
    /// Who is told of what is played.
    pub recorder: Recorder,
}

impl MidiIo for MidiHub {
    fn poll(&mut self) -> Option<(u64, Vec<u8>)> {
        let event = self.audio.poll_midi().or_else(|| self.system.as_mut().and_then(MidiPorts::poll))?;
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
