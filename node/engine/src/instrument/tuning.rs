//! Pitch bend and tuning of a channel, kept here instead of in the synthesiser.
//!
//! MIDI lets a bandmate ask for any pitch: 127 semitones of bend on top of 63 of tuning. The synthesiser reads a
//! sample ever faster for that, and once it passes a whole loop between two frames it reads beyond the sample's
//! end, which stops the audio of everybody here. So it is never told what the controllers say, only the one
//! number that follows from them, within what the sounds bear (see [`super::vetting`]).

const BEND_CENTRE: u16 = 8_192;
const FINE_CENTRE: u16 = 8_192;
const COARSE_CENTRE: u8 = 64;

const DATA: u8 = 6;
const DATA_FINE: u8 = 38;
const NRPN_FINE: u8 = 98;
const NRPN: u8 = 99;
const RPN_FINE: u8 = 100;
const RPN: u8 = 101;
const RESET_CONTROLLERS: u8 = 121;

/// The registered parameters that concern pitch.
const BEND_RANGE: (u8, u8) = (0, 0);
const FINE_TUNING: (u8, u8) = (0, 1);
const COARSE_TUNING: (u8, u8) = (0, 2);
/// The number that selects no parameter.
const NONE: (u8, u8) = (127, 127);

/// What the controllers of one channel say about pitch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tuning {
    /// The parameter that data entry sets.
    selected: (u8, u8),
    /// Whether the last selection was of a registered one.
    registered: bool,
    /// Semitones and cents at the end of the wheel's way.
    bend_range: (u8, u8),
    fine: u16,
    coarse: u8,
    bend: u16,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            selected: NONE,
            registered: false,
            bend_range: (2, 0),
            fine: FINE_CENTRE,
            coarse: COARSE_CENTRE,
            bend: BEND_CENTRE,
        }
    }
}

impl Tuning {
    /// Takes in a channel message. True if it was about pitch, so that the synthesiser must not have it.
    pub(super) fn handle(&mut self, kind: u8, first: u8, second: u8) -> bool {
        match (kind, first) {
            (0xe0, _) => self.bend = u16::from(first) | u16::from(second) << 7,
            (0xb0, NRPN | NRPN_FINE) => self.registered = false,
            (0xb0, RPN) => (self.selected.0, self.registered) = (second, true),
            (0xb0, RPN_FINE) => (self.selected.1, self.registered) = (second, true),
            (0xb0, DATA) if self.registered => match self.selected {
                BEND_RANGE => self.bend_range.0 = second,
                FINE_TUNING => self.fine = u16::from(second) << 7 | self.fine & 0x7f,
                COARSE_TUNING => self.coarse = second,
                _ => {}
            },
            (0xb0, DATA_FINE) if self.registered => match self.selected {
                BEND_RANGE => self.bend_range.1 = second,
                FINE_TUNING => self.fine = self.fine & 0x3f80 | u16::from(second),
                _ => {}
            },
            (0xb0, DATA | DATA_FINE) => {}
            (0xb0, RESET_CONTROLLERS) => {
                self.reset();
                // It concerns more than pitch.
                return false;
            }
            _ => return false,
        }
        true
    }

    /// Lets go of the wheel and of the selected parameter; ranges and tuning stay, as MIDI wants it (RP-015).
    pub(super) fn reset(&mut self) {
        self.selected = NONE;
        self.bend = BEND_CENTRE;
    }

    /// Semitones above the written note.
    pub(super) fn shift_semitones(&self) -> f32 {
        let range = f32::from(self.bend_range.0) + 0.01 * f32::from(self.bend_range.1);
        let bend = (f32::from(self.bend) - f32::from(BEND_CENTRE)) / f32::from(BEND_CENTRE);
        let fine = (f32::from(self.fine) - f32::from(FINE_CENTRE)) / f32::from(FINE_CENTRE);
        f32::from(self.coarse) - f32::from(COARSE_CENTRE) + fine + range * bend
    }
}

/// The controllers that put a whole channel up by `semitones`, from -60 to 60, exact to a hundredth of a cent.
pub(super) fn tuned_by(semitones: f32) -> [(u8, u8); 7] {
    let semitones = semitones.clamp(-60.0, 60.0);
    let coarse = semitones.round();
    let fine = ((semitones - coarse) * f32::from(FINE_CENTRE)) as i16 + FINE_CENTRE as i16;
    [
        (RPN, COARSE_TUNING.0),
        (RPN_FINE, COARSE_TUNING.1),
        (DATA, (coarse + f32::from(COARSE_CENTRE)) as u8),
        (RPN, FINE_TUNING.0),
        (RPN_FINE, FINE_TUNING.1),
        (DATA, (fine >> 7) as u8),
        (DATA_FINE, (fine & 0x7f) as u8),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(messages: &[(u8, u8, u8)]) -> f32 {
        let mut tuning = Tuning::default();
        for (kind, first, second) in messages {
            assert!(tuning.handle(*kind, *first, *second));
        }
        tuning.shift_semitones()
    }

    #[test]
    fn wheel_range_and_tuning_add_up() {
        assert_eq!(after(&[]), 0.0);
        assert_eq!(after(&[(0xe0, 0, 0)]), -2.0);
        assert_eq!(after(&[(0xe0, 0, 96)]), 1.0);
        assert_eq!(after(&[(0xb0, 101, 0), (0xb0, 100, 0), (0xb0, 6, 48), (0xe0, 0, 0)]), -48.0);
        assert_eq!(after(&[(0xb0, 101, 0), (0xb0, 100, 2), (0xb0, 6, 52), (0xe0, 0, 96)]), -11.0);
        assert_eq!(after(&[(0xb0, 101, 0), (0xb0, 100, 1), (0xb0, 6, 96), (0xb0, 38, 0)]), 0.5);
    }

    #[test]
    fn data_for_something_else_changes_no_pitch() {
        assert_eq!(after(&[(0xb0, 6, 24), (0xe0, 0, 0)]), -2.0);
        assert_eq!(after(&[(0xb0, 101, 0), (0xb0, 100, 5), (0xb0, 6, 24), (0xe0, 0, 0)]), -2.0);
        let other =
            [(0xb0, 101, 0), (0xb0, 100, 0), (0xb0, 99, 1), (0xb0, 98, 8), (0xb0, 6, 24), (0xe0, 0, 0)];
        assert_eq!(after(&other), -2.0);
    }

    #[test]
    fn other_messages_are_left_to_the_synthesiser() {
        let mut tuning = Tuning::default();
        for (kind, first) in [(0x90, 60), (0x80, 60), (0xb0, 64), (0xb0, 1), (0xc0, 5), (0xb0, 121)] {
            assert!(!tuning.handle(kind, first, 1));
        }
    }

    #[test]
    fn reset_lets_go_of_the_wheel_and_keeps_its_range() {
        let mut tuning = Tuning::default();
        for (first, second) in [(101, 0), (100, 0), (6, 12)] {
            tuning.handle(0xb0, first, second);
        }
        tuning.handle(0xe0, 0, 0);
        tuning.handle(0xb0, 121, 0);
        assert_eq!(tuning.shift_semitones(), 0.0);
        tuning.handle(0xb0, 6, 5);
        tuning.handle(0xe0, 0, 0);
        assert_eq!(tuning.shift_semitones(), -12.0);
    }

    #[test]
    fn every_shift_is_put_as_controllers_that_give_it_back() {
        for cents in -6_100..=6_100i16 {
            let wanted = f32::from(cents) / 100.0;
            let mut tuning = Tuning::default();
            for (first, second) in tuned_by(wanted) {
                assert!(second < 128 && tuning.handle(0xb0, first, second));
            }
            let found = tuning.shift_semitones();
            assert!((found - wanted.clamp(-60.0, 60.0)).abs() < 2e-4, "{wanted}: {found}");
        }
    }
}
