//! Keys that are down, so that somebody can let them go when their player no longer can.
//!
//! A note whose end does not come sounds until the power is off. Its end does not come when a keyboard is unplugged with
//! a key held, or when an output is taken away while a bandmate holds one.

/// MIDI 1.0: a released key, a pressed one, a control change, and two of these.
const NOTE_OFF: u8 = 0x80;
const NOTE_ON: u8 = 0x90;
const CONTROL_CHANGE: u8 = 0xB0;
const SUSTAIN: u8 = 64;
const ALL_NOTES_OFF: u8 = 123;
/// The velocity of a release by somebody who does not measure it.
const RELEASE: u8 = 64;

/// What of one stream of messages is down: a bit for each key and each channel's pedal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    pressed: [u128; 16],
    pedals: u16,
    /// Channels on which any key was pressed.
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
            CONTROL_CHANGE if number == SUSTAIN && value >= 64 => self.pedals |= 1 << channel,
            CONTROL_CHANGE if number == SUSTAIN => self.pedals &= !(1 << channel),
            CONTROL_CHANGE if number >= ALL_NOTES_OFF => *keys = 0,
            _ => {}
        }
    }

    /// Whether `message` lets go a key or a pedal that is down.
    pub fn ends(&self, message: &[u8]) -> bool {
        let [status, number @ 0..=127, value] = *message else { return false };
        let channel = status & 0x0F;
        match status & 0xF0 {
            NOTE_ON if value > 0 => false,
            NOTE_ON | NOTE_OFF => {
                self.pressed.get(usize::from(channel)).is_some_and(|keys| keys >> number & 1 == 1)
            }
            CONTROL_CHANGE if number == SUSTAIN => value < 64 && self.pedals >> channel & 1 == 1,
            _ => false,
        }
    }

    /// Whether nothing is down.
    pub fn is_empty(&self) -> bool {
        self.pressed == [0; 16] && self.pedals == 0
    }

    /// All that is down on either.
    pub fn or(&self, other: &Keys) -> Keys {
        let mut all = *self;
        for (keys, more) in all.pressed.iter_mut().zip(other.pressed) {
            *keys |= more;
        }
        all.pedals |= other.pedals;
        all.used |= other.used;
        all
    }

    /// Messages that let all of it go, but for what `others` hold.
    pub fn released(&self, others: &Keys) -> Vec<[u8; 3]> {
        let mut messages = Vec::new();
        for (channel, (keys, kept)) in (0..).zip(self.pressed.iter().zip(others.pressed)) {
            let ends = keys & !kept;
            let ends = (0..128).filter(|key| ends >> key & 1 == 1);
            messages.extend(ends.map(|key| [NOTE_OFF | channel, key, RELEASE]));
            if (self.pedals & !others.pedals) >> channel & 1 == 1 {
                messages.push([CONTROL_CHANGE | channel, SUSTAIN, 0]);
            }
        }
        messages
    }

    /// Messages after which an output is silent. Not every synthesiser knows "all notes off", so each note is ended too.
    pub fn silence(&self) -> Vec<[u8; 3]> {
        let mut messages = self.released(&Keys::default());
        let channels = (0..16).filter(|channel| self.used >> channel & 1 == 1);
        messages.extend(channels.map(|channel| [CONTROL_CHANGE | channel, ALL_NOTES_OFF, 0]));
        messages
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
}
