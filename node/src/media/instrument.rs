//! One player's notes on the way to their instrument in the engine.
//!
//! Two things must not be lost on this way: the end of a note, and the sound it is played with. When the
//! engine's queue is full an end may be among what it refused, so all notes are released. And when the engine is rebuilt
//! the new instrument is told how each channel was set: nobody else would, as the player's node believes it known.

use engine::{HostTime, MidiFull, MidiWriter};

/// An instrument and what its player has chosen on it.
#[derive(Debug)]
pub struct InstrumentFeed {
    writer: Option<MidiWriter>,
    channels: [Sound; 16],
    /// The instrument has not heard of `channels`.
    owing: bool,
}

/// Controllers that the instrument obeys: modulation, volume, balance and expression, coarse and fine, the pedal, and
/// two sends.
const CONTROLLERS: [u8; 11] = [1, 7, 10, 11, 33, 39, 42, 43, 64, 91, 93];
/// Registered parameters that it obeys, by the low half of their number: range of the wheel, fine and coarse tuning. The
/// high half is 0.
const PARAMETERS: u8 = 3;
/// MIDI 1.0: the halves of a bank, of the value of the selected parameter, and of its number, of either kind.
const BANK: [u8; 2] = [0, 32];
const DATA: [u8; 2] = [6, 38];
const UNREGISTERED: [u8; 2] = [99, 98];
const REGISTERED: [u8; 2] = [101, 100];
const RESET_CONTROLLERS: u8 = 121;
/// What that resets (MIDI RP-015), of what is kept here.
const RESET: [u8; 5] = [1, 11, 33, 43, 64];

/// How a channel is set. The messages that say so are some thirty at most, so those of all channels fit into the
/// instrument's queue at once.
#[derive(Clone, Copy, Debug, Default)]
struct Sound {
    bank: [Option<u8>; 2],
    program: Option<u8>,
    /// In the order of [`CONTROLLERS`].
    controllers: [Option<u8>; CONTROLLERS.len()],
    wheel: Option<[u8; 2]>,
    parameters: [[Option<u8>; 2]; PARAMETERS as usize],
    selected: Option<Selected>,
}

/// The parameter that values are for.
#[derive(Clone, Copy, Debug)]
struct Selected {
    /// The two controllers that name it.
    kind: [u8; 2],
    number: [Option<u8>; 2],
}

impl Sound {
    fn note(&mut self, message: &[u8]) {
        match *message {
            [0xB0..=0xBF, RESET_CONTROLLERS, _] => {
                let reset = CONTROLLERS.iter().zip(&mut self.controllers);
                reset.filter(|(number, _)| RESET.contains(number)).for_each(|(_, value)| *value = None);
                (self.wheel, self.selected) = (None, None);
            }
            [0xB0..=0xBF, number, value] => self.note_controller(number, value),
            [0xC0..=0xCF, value, ..] => self.program = Some(value),
            [0xE0..=0xEF, low, high] => self.wheel = Some([low, high]),
            _ => {}
        }
    }

    fn note_controller(&mut self, number: u8, value: u8) {
        let set = |halves: &mut [Option<u8>; 2], numbers: [u8; 2]| {
            let half = numbers.iter().zip(halves).find(|(half, _)| **half == number);
            half.map(|(_, half)| *half = Some(value)).is_some()
        };
        if set(&mut self.bank, BANK) {
            return;
        }
        for kind in [UNREGISTERED, REGISTERED] {
            if kind.contains(&number) {
                // One half may be named anew while the other stays.
                let before = self.selected.filter(|selected| selected.kind == kind);
                let mut selected = before.unwrap_or(Selected { kind, number: [None; 2] });
                set(&mut selected.number, kind);
                self.selected = Some(selected);
                return;
            }
        }
        if DATA.contains(&number) {
            if let Some(Selected { kind: REGISTERED, number: [Some(0), Some(low)] }) = self.selected
                && let Some(parameter) = self.parameters.get_mut(usize::from(low))
            {
                set(parameter, DATA);
            }
            return;
        }
        if let Some((_, kept)) = CONTROLLERS.iter().zip(&mut self.controllers).find(|(it, _)| **it == number)
        {
            *kept = Some(value);
        }
    }

    /// Messages that set `channel` as this is, in an order that does.
    fn messages(&self, channel: u8) -> impl Iterator<Item = [u8; 3]> {
        let control = move |(number, value): (u8, Option<u8>)| Some([0xB0 | channel, number, value?]);
        let both = |numbers: [u8; 2], values: [Option<u8>; 2]| numbers.into_iter().zip(values);
        let set = (0..).zip(self.parameters).filter(|(_, value)| *value != [None; 2]);
        let parameters =
            set.flat_map(move |(low, value)| both(REGISTERED, [Some(0), Some(low)]).chain(both(DATA, value)));
        let selected = self.selected.into_iter().flat_map(move |it| both(it.kind, it.number));
        let program = self.program.map(|value| [0xC0 | channel, value, 0]);
        let wheel = self.wheel.map(|[low, high]| [0xE0 | channel, low, high]);
        both(BANK, self.bank)
            .filter_map(control)
            .chain(program)
            .chain(CONTROLLERS.into_iter().zip(self.controllers).filter_map(control))
            .chain(parameters.chain(selected).filter_map(control))
            .chain(wheel)
    }
}

impl InstrumentFeed {
    /// A feed for `writer`; without one it only remembers.
    pub fn new(writer: Option<MidiWriter>) -> Self {
        Self { writer, channels: Default::default(), owing: false }
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
            // It resets controllers, and a change of sound may have been among what is forgotten.
            self.owing = true;
        }
    }

    /// Tells the instrument how its channels are set, if it does not know.
    fn settle(&mut self) -> Result<(), MidiFull> {
        if !self.owing {
            return Ok(());
        }
        for (channel, sound) in (0..).zip(self.channels) {
            for message in sound.messages(channel) {
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
        if let Some(sound) = sound {
            sound.note(message);
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
            for low in 0..PARAMETERS {
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
