//! Keys that are down, so that somebody can let them go when their player no longer can.
//!
//! A note whose end does not come sounds until the power is off. Its end does not come when a keyboard is unplugged with
//! a key held, when an output is taken away while a bandmate holds one, or when a queue had no room for it.
//!
//! Realtime-safe: yes, but for what returns a `Vec`.

/// MIDI 1.0: a released key, a pressed one, a control change, and some of these.
const NOTE_OFF: u8 = 0x80;
const NOTE_ON: u8 = 0x90;
const CONTROL_CHANGE: u8 = 0xB0;
const SUSTAIN: u8 = 64;
const SOSTENUTO: u8 = 66;
const ALL_SOUND_OFF: u8 = 120;
const ALL_NOTES_OFF: u8 = 123;
/// Pedals that keep a note sounding after its key was let go.
const PEDALS: [u8; 2] = [SUSTAIN, SOSTENUTO];
/// The velocity of a release by somebody who does not measure it.
const RELEASE: u8 = 64;

/// What of one stream of messages is down: a bit for each key and each channel's pedals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    pressed: [u128; 16],
    /// By pedal, in the order of [`PEDALS`].
    pedals: [u16; 2],
    /// Channels on which a key was pressed since they were last told to let all notes go.
    used: u16,
}

impl Keys {
    /// Takes note of a message.
    pub fn note(&mut self, message: &[u8]) {
        let [status, number @ 0..=127, value] = *message else { return };
        let channel = status & 0x0F;
        let Some(keys) = self.pressed.get_mut(usize::from(channel)) else { return };
        match status & 0xF0 {
            NOTE_ON if value > 0 => {
                *keys |= 1 << number;
                self.used |= 1 << channel;
            }
            NOTE_ON | NOTE_OFF => *keys &= !(1 << number),
            CONTROL_CHANGE if number == ALL_SOUND_OFF => *keys = 0,
            CONTROL_CHANGE if number >= ALL_NOTES_OFF => {
                *keys = 0;
                self.used &= !(1 << channel);
            }
            CONTROL_CHANGE => {
                // A reset of all controllers does not lift the pedals of every synthesiser, so it counts for nothing.
                let pedals = PEDALS.iter().zip(&mut self.pedals).filter(|(pedal, _)| **pedal == number);
                for (_, down) in pedals {
                    *down = *down & !(1 << channel) | u16::from(value >= 64) << channel;
                }
            }
            _ => {}
        }
    }

    /// Whether `message` lets go a key or a pedal that is down.
    pub fn ends(&self, message: &[u8]) -> bool {
        let [status, number @ 0..=127, value] = *message else { return false };
        let channel = status & 0x0F;
        let Some(keys) = self.pressed.get(usize::from(channel)) else { return false };
        let down = |pedals: u16| pedals >> channel & 1 == 1;
        match status & 0xF0 {
            NOTE_ON if value > 0 => false,
            NOTE_ON | NOTE_OFF => keys >> number & 1 == 1,
            CONTROL_CHANGE => match number {
                ALL_SOUND_OFF | ALL_NOTES_OFF.. => *keys != 0,
                _ => {
                    value < 64
                        && PEDALS
                            .iter()
                            .zip(self.pedals)
                            .any(|(pedal, pedals)| *pedal == number && down(pedals))
                }
            },
            _ => false,
        }
    }

    /// Whether nothing is down.
    pub fn is_empty(&self) -> bool {
        self.pressed == [0; 16] && self.pedals == [0; 2]
    }

    /// All that is down on either.
    pub fn or(&self, other: &Keys) -> Keys {
        let mut all = *self;
        for (keys, more) in all.pressed.iter_mut().zip(other.pressed) {
            *keys |= more;
        }
        for (pedals, more) in all.pedals.iter_mut().zip(other.pedals) {
            *pedals |= more;
        }
        all.used |= other.used;
        all
    }

    /// A message that lets something of it go which `others` do not hold; `None` if there is nothing. Once that message
    /// is noted, the next call gives the next one.
    pub fn next_release(&self, others: &Keys) -> Option<[u8; 3]> {
        let keys = || self.pressed.iter().zip(others.pressed).map(|(keys, kept)| keys & !kept);
        let note = (0..).zip(keys()).find(|(_, keys)| *keys != 0);
        let note = note.map(|(channel, keys)| [NOTE_OFF | channel, keys.trailing_zeros() as u8, RELEASE]);
        let pedals = || self.pedals.iter().zip(others.pedals).map(|(pedals, kept)| pedals & !kept);
        let pedal = || {
            let down = PEDALS.iter().zip(pedals()).find(|(_, channels)| *channels != 0);
            down.map(|(pedal, channels)| [CONTROL_CHANGE | channels.trailing_zeros() as u8, *pedal, 0])
        };
        note.or_else(pedal)
    }

    /// A message on the way to a silent output, as [`Self::next_release`] gives them. Not every synthesiser knows "all
    /// notes off", so each note is ended too.
    pub fn next_silence(&self) -> Option<[u8; 3]> {
        let used = self.used.trailing_zeros() as u8;
        let channel = || (self.used != 0).then_some([CONTROL_CHANGE | used, ALL_NOTES_OFF, 0]);
        self.next_release(&Keys::default()).or_else(channel)
    }

    /// Messages that let all of it go, but for what `others` hold.
    pub fn released(mut self, others: &Keys) -> Vec<[u8; 3]> {
        std::iter::from_fn(|| self.next_release(others).inspect(|message| self.note(message))).collect()
    }

    /// Messages after which an output is silent.
    pub fn silence(mut self) -> Vec<[u8; 3]> {
        std::iter::from_fn(|| self.next_silence().inspect(|message| self.note(message))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_silenced_note_by_note_and_then_by_channel() {
        let mut keys = Keys::default();
        keys.note(&[0x90, 60, 100]);
        keys.note(&[0x93, 40, 100]);
        keys.note(&[0x83, 40, 0]);
        assert_eq!(keys.silence(), [[0x80, 60, 64], [0xB0, 123, 0], [0xB3, 123, 0]]);
        assert!(Keys::default().silence().is_empty(), "nothing to a synthesiser that was never played");
    }

    #[test]
    fn whatever_comes_is_no_key_beyond_the_keyboard() {
        let mut keys = Keys::default();
        for message in [&[0x90][..], &[0xF8], &[0x90, 200, 1], &[0xC0, 5], &[0xFF, 1, 2]] {
            keys.note(message);
        }
        assert_eq!(keys.silence(), [[0; 3]; 0]);
    }

    #[test]
    fn both_pedals_that_hold_notes_are_let_go() {
        let mut keys = Keys::default();
        for message in [[0xB0, 64, 127], [0x91, 40, 9], [0xB1, 66, 64], [0xB2, 67, 127], [0xB3, 64, 63]] {
            keys.note(&message);
        }
        assert!(keys.ends(&[0xB0, 64, 0]) && keys.ends(&[0xB1, 66, 10]));
        assert!(!keys.ends(&[0xB1, 64, 0]) && !keys.ends(&[0xB0, 64, 80]) && !keys.ends(&[0xB2, 67, 0]));
        assert_eq!(keys.released(&Keys::default()), [[0x81, 40, 64], [0xB0, 64, 0], [0xB1, 66, 0]]);
        keys.note(&[0xB1, 123, 0]);
        assert_eq!(keys.silence(), [[0xB0, 64, 0], [0xB1, 66, 0]], "the pedal still holds what it held");
    }
}
