//! One player's notes on the way to their instrument in the engine.
//!
//! Two things must not be lost on this way: the end of a note, and the sound it is played with. When the
//! engine's queue is full an end may be among what it refused, so all notes are released. And when the engine is rebuilt
//! the new instrument is told how each channel was set: nobody else would, as the player's node believes it known.

use engine::{HostTime, MidiFull, MidiWriter};

use super::sound::Sounds;

/// An instrument and what its player has chosen on it.
#[derive(Debug)]
pub struct InstrumentFeed {
    writer: Option<MidiWriter>,
    sounds: Sounds,
    /// The instrument has not heard of `sounds`.
    owing: bool,
}

impl InstrumentFeed {
    /// A feed for `writer`; without one it only remembers.
    pub fn new(writer: Option<MidiWriter>) -> Self {
        Self { writer, sounds: Sounds::default(), owing: false }
    }

    /// Another instrument takes over, set as this one was.
    pub fn replace(&mut self, writer: Option<MidiWriter>) {
        self.writer = writer;
        self.owing = true;
        if self.settle().is_err() {
            self.all_notes_off();
        }
    }

    /// Plays `message` at `due`. Longer messages than three octets are not for instruments and ignored.
    ///
    /// # Errors
    /// [`MidiFull`]: the message was lost and all notes are being released.
    pub fn push(&mut self, due: HostTime, message: &[u8]) -> Result<(), MidiFull> {
        if !(1..=3).contains(&message.len()) {
            return Ok(());
        }
        let result = self.settle().and_then(|()| write(&mut self.writer, due, padded(message)));
        self.sounds.note(message);
        if result.is_err() {
            self.all_notes_off();
        }
        result
    }

    /// Releases everything, what is still to come included.
    pub fn all_notes_off(&mut self) {
        if let Some(writer) = &self.writer {
            writer.all_notes_off();
            // It resets controllers, and a change of sound may have been among what is forgotten.
            self.owing = true;
        }
    }

    /// Tells the instrument how its channels are set, if it does not know.
    fn settle(&mut self) -> Result<(), MidiFull> {
        if !self.owing {
            return Ok(());
        }
        let Self { writer, sounds, .. } = self;
        for message in sounds.messages() {
            // Due in the past, that is, before every note.
            write(writer, HostTime(0), message)?;
        }
        self.owing = false;
        Ok(())
    }

    /// How the player has set the channels.
    pub fn sounds(&self) -> &Sounds {
        &self.sounds
    }
}

fn write(writer: &mut Option<MidiWriter>, due: HostTime, message: [u8; 3]) -> Result<(), MidiFull> {
    writer.as_mut().map_or(Ok(()), |writer| writer.push(due, message))
}

/// A short message in the fixed form the instrument takes.
fn padded(message: &[u8]) -> [u8; 3] {
    let mut bytes = [0; 3];
    for (to, from) in bytes.iter_mut().zip(message) {
        *to = *from;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use engine::{Command, Config, Engine, SourceId, engine};

    use super::*;

    const NOTE_ON: [u8; 3] = [0x90, 60, 100];

    fn instrument() -> (Engine, MidiWriter) {
        let (mut engine, mut handle) = engine(Config::new(48_000, 128)).unwrap();
        let (writer, instrument) = handle.instrument().unwrap();
        handle.send(Command::AddInstrument(SourceId(1), instrument)).unwrap();
        listen(&mut engine);
        (engine, writer)
    }

    /// A tenth of a second of what the engine plays.
    fn listen(engine: &mut Engine) -> Vec<f32> {
        let mut heard = Vec::new();
        for _ in 0..40 {
            let mut output = [0.0; 256];
            engine.process(&[0.0; 128], &mut output, HostTime(1_000_000_000));
            heard.extend(output);
        }
        heard
    }

    fn loudest(samples: &[f32]) -> f32 {
        samples.iter().fold(0.0, |loudest, sample| sample.abs().max(loudest))
    }

    #[test]
    fn a_full_queue_ends_all_notes() {
        let (mut engine, writer) = instrument();
        let mut feed = InstrumentFeed::new(Some(writer));
        while feed.push(HostTime(0), &NOTE_ON).is_ok() {}
        assert!(loudest(&listen(&mut engine)) < 1e-3, "the refused message may have been the note's end");
        feed.push(HostTime(0), &NOTE_ON).unwrap();
        assert!(loudest(&listen(&mut engine)) > 0.01, "and playing goes on");
    }

    /// What a note sounds like after `settings`, and if `replaced` in an engine that was built after them.
    fn play(settings: &[&[u8]], replaced: bool) -> Vec<f32> {
        let (mut engine, writer) = instrument();
        let mut feed = InstrumentFeed::new((!replaced).then_some(writer));
        for message in settings {
            feed.push(HostTime(0), message).unwrap();
        }
        if replaced {
            let (next, writer) = instrument();
            engine = next;
            feed.replace(Some(writer));
        }
        feed.push(HostTime(0), &NOTE_ON).unwrap();
        feed.push(HostTime(1_020_000_000), &[0x80, 60, 0]).unwrap();
        listen(&mut engine)
    }

    #[test]
    fn a_new_engine_plays_as_the_old_one_was_set() {
        let plain = play(&[], false);
        let settings: [&[&[u8]]; 9] = [
            &[&[0xB0, 0, 0], &[0xC0, 33]],
            &[&[0xB0, 7, 40]],
            &[&[0xB0, 7, 40], &[0xB0, 39, 100]],
            &[&[0xB0, 11, 30]],
            &[&[0xB0, 10, 0]],
            &[&[0xB0, 64, 127]],
            &[&[0xE0, 0, 127]],
            // The wheel's range, with the parameter put away afterwards as it should be.
            &[
                &[0xB0, 101, 0],
                &[0xB0, 100, 0],
                &[0xB0, 6, 12],
                &[0xB0, 101, 127],
                &[0xB0, 100, 127],
                &[0xE0, 0, 127],
            ],
            &[&[0xB0, 101, 0], &[0xB0, 100, 2], &[0xB0, 6, 76], &[0xB0, 38, 0]],
        ];
        for settings in settings {
            let replaced = play(settings, true);
            assert!(replaced == play(settings, false), "{settings:?}");
            assert!(replaced != plain, "{settings:?} is heard at all");
        }
        let reset: [&[u8]; 4] = [&[0xB0, 11, 30], &[0xE0, 0, 127], &[0xB0, 64, 127], &[0xB0, 121, 0]];
        assert!(play(&reset, true) == plain, "what was reset stays so");
    }

    #[test]
    fn what_follows_all_notes_off_at_once_is_played_as_before() {
        let (mut engine, writer) = instrument();
        let mut feed = InstrumentFeed::new(Some(writer));
        feed.push(HostTime(0), &[0xC0, 33]).unwrap();
        feed.push(HostTime(0), &NOTE_ON).unwrap();
        feed.all_notes_off();
        feed.push(HostTime(0), &NOTE_ON).unwrap();
        feed.push(HostTime(1_020_000_000), &[0x80, 60, 0]).unwrap();
        assert!(listen(&mut engine) == play(&[&[0xC0, 33]], false));
    }

    #[test]
    fn values_go_on_to_the_parameter_that_was_selected() {
        let (mut engine, writer) = instrument();
        let mut feed = InstrumentFeed::new(None);
        for message in [[0xB0, 101, 0], [0xB0, 100, 0], [0xB0, 6, 2]] {
            feed.push(HostTime(0), &message).unwrap();
        }
        feed.replace(Some(writer));
        for message in [[0xB0, 6, 12], [0xE0, 0, 127], NOTE_ON, [0x80, 60, 0]] {
            let due = if message == [0x80, 60, 0] { 1_020_000_000 } else { 0 };
            feed.push(HostTime(due), &message).unwrap();
        }
        let range: [&[u8]; 4] = [&[0xB0, 101, 0], &[0xB0, 100, 0], &[0xB0, 6, 12], &[0xE0, 0, 127]];
        assert!(listen(&mut engine) == play(&range, false));
    }

    #[test]
    fn all_that_is_remembered_fits_into_the_queue_at_once() {
        let mut feed = InstrumentFeed::new(None);
        for channel in 0..16 {
            for (number, value) in (0..=127).zip((0..=127).rev()) {
                feed.push(HostTime(0), &[0xB0 | channel, number, value]).unwrap();
            }
            for low in 0..3 {
                for (number, value) in [(101, 0), (100, low), (6, 1), (38, 1)] {
                    feed.push(HostTime(0), &[0xB0 | channel, number, value]).unwrap();
                }
            }
            for message in [[0xC0, 5, 0], [0xE0, 1, 1]] {
                feed.push(HostTime(0), &[message[0] | channel, message[1], message[2]]).unwrap();
            }
        }
        feed.replace(Some(instrument().1));
        assert!(!feed.owing, "the queue of an engine that does not run yet holds it");
    }
}
