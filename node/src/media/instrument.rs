//! One player's notes on the way to their instrument in the engine.
//!
//! Two things must not be lost on this way: the end of a note, and the sound it is played with. When the
//! engine's queue is full an end may be among what it refused, so all notes are released. And when the engine is rebuilt
//! the new instrument is told which program and bank each channel had.

use engine::{HostTime, MidiFull, MidiWriter};

/// An instrument and what its player has chosen on it.
#[derive(Debug)]
pub struct InstrumentFeed {
    writer: Option<MidiWriter>,
    channels: [Sound; 16],
    /// The instrument has not heard of `channels`.
    owing: bool,
}

/// What a channel sounds like.
#[derive(Clone, Copy, Debug, Default)]
struct Sound {
    bank_high: Option<u8>,
    bank_low: Option<u8>,
    program: Option<u8>,
}

impl InstrumentFeed {
    /// A feed for `writer`; without one it only remembers.
    pub fn new(writer: Option<MidiWriter>) -> Self {
        Self { writer, channels: Default::default(), owing: false }
    }

    /// Another instrument takes over, with the sounds chosen so far.
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
        let result = self.settle().and_then(|()| self.write(due, padded(message)));
        self.remember(message);
        if result.is_err() {
            self.all_notes_off();
        }
        result
    }

    /// Releases everything, what is still to come included.
    pub fn all_notes_off(&mut self) {
        if let Some(writer) = &self.writer {
            writer.all_notes_off();
            // A change of sound may have been among what is forgotten.
            self.owing = true;
        }
    }

    /// Tells the instrument the chosen sounds, if it does not know them.
    fn settle(&mut self) -> Result<(), MidiFull> {
        if !self.owing {
            return Ok(());
        }
        for (status, sound) in (0..).zip(self.channels) {
            let bank_high = sound.bank_high.map(|value| [0xB0 | status, 0, value]);
            let bank_low = sound.bank_low.map(|value| [0xB0 | status, 32, value]);
            let program = sound.program.map(|value| [0xC0 | status, value, 0]);
            for message in [bank_high, bank_low, program].into_iter().flatten() {
                // Due in the past, that is, before every note.
                self.write(HostTime(0), message)?;
            }
        }
        self.owing = false;
        Ok(())
    }

    fn write(&mut self, due: HostTime, message: [u8; 3]) -> Result<(), MidiFull> {
        self.writer.as_mut().map_or(Ok(()), |writer| writer.push(due, message))
    }

    fn remember(&mut self, message: &[u8]) {
        let sound = message.first().and_then(|status| self.channels.get_mut(usize::from(status & 0x0F)));
        let Some(sound) = sound else { return };
        match *message {
            [0xB0..=0xBF, 0, value] => sound.bank_high = Some(value),
            [0xB0..=0xBF, 32, value] => sound.bank_low = Some(value),
            [0xC0..=0xCF, value, ..] => sound.program = Some(value),
            _ => {}
        }
    }
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

    #[test]
    fn a_new_engine_plays_with_the_same_sound() {
        let play = |chosen: bool, replaced: bool| {
            let (mut engine, writer) = instrument();
            let mut feed = InstrumentFeed::new((!replaced).then_some(writer));
            if chosen {
                feed.push(HostTime(0), &[0xB0, 0, 0]).unwrap();
                feed.push(HostTime(0), &[0xC0, 33]).unwrap();
            }
            if replaced {
                let (next, writer) = instrument();
                engine = next;
                feed.replace(Some(writer));
            }
            feed.push(HostTime(0), &NOTE_ON).unwrap();
            listen(&mut engine)
        };
        assert_eq!(play(true, true), play(true, false));
        assert_ne!(play(true, true), play(false, true));
    }
}
