//! All MIDI ports of this machine as one.
//!
//! A bandmate's note is due when the callback runs that plays what they sang with it. That callback's sound leaves the
//! speaker only later, by the sound card's latency, while a synthesiser sounds as soon as it is told. So the system's ports
//! are told later by as much. It holds for a synthesiser of its own, which a MIDI cable leads to; a program with a sound
//! card's latency of its own comes later, and is for its user to set. JACK's port knows what is behind it, and waits itself.

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
    lag: Lag,
}

/// How much later than the callback the system's ports are told.
#[derive(Debug, Default)]
struct Lag {
    latency_ns: u64,
    latest_ns: u64,
    /// When the latest message was due that was told by the latency before.
    floor_ns: u64,
}

/// Changes of the latency that are not followed, ns: the card's own reckoning moves a little.
const LATENCY_STEP_NS: u64 = 500_000;

impl Lag {
    /// When to tell what is due at `due_ns`, now that the card takes `latency_ns`. The end of a note does not overtake its
    /// beginning when the latency falls.
    fn told_ns(&mut self, due_ns: u64, latency_ns: u64) -> u64 {
        if latency_ns.abs_diff(self.latency_ns) > LATENCY_STEP_NS {
            self.latency_ns = latency_ns;
            self.floor_ns = self.latest_ns;
        }
        let told_ns = due_ns.saturating_add(self.latency_ns).max(self.floor_ns);
        self.latest_ns = self.latest_ns.max(told_ns);
        told_ns
    }
}

impl MidiHub {
    /// The ports of `audio`, whichever device that has open, and those of the system.
    pub fn new(audio: Arc<Audio>, system: Option<MidiPorts>, recorder: Recorder) -> Self {
        let (device_keys, ended, lag) = Default::default();
        Self { audio, system, recorder, device_keys, ended, lag }
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
        let told_ns = self.lag.told_ns(due_ns, self.audio.output_latency_ns());
        let system = self.system.as_mut().map_or(Ok(()), |ports| ports.send(event.at(told_ns)));
        if let Err(error) = device.and(system) {
            tracing::debug!(%error, "a MIDI message for the output was dropped");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn note_waits_for_the_sound_card_and_its_end_never_overtakes_it() {
        const MS: u64 = 1_000_000;
        let mut lag = Lag::default();
        assert_eq!(lag.told_ns(100 * MS, 0), 100 * MS);
        assert_eq!(lag.told_ns(110 * MS, 20 * MS), 130 * MS);
        assert_eq!(lag.told_ns(112 * MS, 20 * MS + 100_000), 132 * MS, "a wavering card");
        let end = lag.told_ns(114 * MS, 5 * MS);
        assert_eq!(end, 132 * MS, "another card");
        assert_eq!(lag.told_ns(140 * MS, 5 * MS), 145 * MS);
    }
}
