//! What the bandmates play: four bars of A minor, F, C and G, over and over.

/// A player's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Kick, snare and hi-hat.
    Drums,
    /// Roots and fifths.
    Bass,
    /// Chords off the beat.
    Keys,
    /// Long chords.
    Pad,
}

/// One note of a part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Note {
    /// When it begins, beats from the start of the song.
    pub beat: f64,
    /// How long it sounds, beats.
    pub length_beats: f64,
    /// MIDI key.
    pub key: u8,
    /// MIDI velocity.
    pub velocity: u8,
}

/// Beats until the song repeats.
const SONG_BEATS: i64 = 16;
/// Root of each bar's chord, as a MIDI key in the bass.
const ROOTS: [u8; 4] = [33, 29, 36, 31];
/// Each bar's chord, in close position around middle C.
const CHORDS: [[u8; 3]; 4] = [[57, 60, 64], [57, 60, 65], [55, 60, 64], [55, 59, 62]];

impl Part {
    /// The player's name on the page.
    pub fn player(self) -> &'static str {
        match self {
            Self::Drums => "Robin (drums)",
            Self::Bass => "Ada (bass)",
            Self::Keys => "Sam (keys)",
            Self::Pad => "Noor (pad)",
        }
    }

    /// What the page shows of the player beside the name: the instrument, and a colour unlike the others'.
    pub fn look(self) -> (&'static str, &'static str) {
        match self {
            Self::Drums => ("Drums", "#e8a33d"),
            Self::Bass => ("Bass", "#8088ee"),
            Self::Keys => ("Keys", "#74b95a"),
            Self::Pad => ("Machines", "#e06fa8"),
        }
    }

    /// The word for the part in commands and file names.
    pub fn word(self) -> &'static str {
        match self {
            Self::Drums => "drums",
            Self::Bass => "bass",
            Self::Keys => "keys",
            Self::Pad => "pad",
        }
    }

    /// MIDI channel, 0 to 15; drums are on the tenth as in General MIDI.
    pub fn channel(self) -> u8 {
        if self == Self::Drums { 9 } else { 0 }
    }

    /// General MIDI program.
    pub fn program(self) -> u8 {
        match self {
            Self::Drums => 0,
            Self::Bass => 33,
            Self::Keys => 4,
            Self::Pad => 89,
        }
    }

    /// The notes that begin from beat `from` up to, but not at, beat `to`, in order.
    pub fn notes(self, from: f64, to: f64) -> Vec<Note> {
        // Sixteen sixteenths of look-ahead at the most: a jump in the beat must not pour out a whole song.
        let first = (from * 4.0).ceil() as i64;
        let last = ((to * 4.0).ceil() as i64).min(first.saturating_add(16));
        (first..last).flat_map(|sixteenth| self.at(sixteenth)).collect()
    }

    fn at(self, sixteenth: i64) -> Vec<Note> {
        let in_song = sixteenth.rem_euclid(SONG_BEATS * 4);
        let (bar, step) = ((in_song / 16) as usize, in_song % 16);
        let note =
            |key, length_beats, velocity| Note { beat: sixteenth as f64 / 4.0, length_beats, key, velocity };
        let root = ROOTS.get(bar).copied().unwrap_or(33);
        let chord = CHORDS.get(bar).copied().unwrap_or([57, 60, 64]);
        match (self, step) {
            (Self::Drums, _) => {
                let mut notes = Vec::new();
                if step % 2 == 0 {
                    notes.push(note(42, 0.2, if step % 4 == 0 { 80 } else { 55 }));
                }
                match step {
                    0 | 8 | 10 => notes.push(note(36, 0.2, 110)),
                    4 | 12 => notes.push(note(38, 0.2, 100)),
                    _ => {}
                }
                notes
            }
            (Self::Bass, 0 | 6) => vec![note(root, 1.0, 105)],
            (Self::Bass, 10) => vec![note(root + 7, 0.5, 90)],
            (Self::Bass, 14) => vec![note(root + 12, 0.4, 85)],
            (Self::Keys, 2 | 6 | 10) => chord.map(|key| note(key, 0.4, 75)).to_vec(),
            (Self::Pad, 0) => chord.map(|key| note(key, 3.9, 60)).to_vec(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_that_touch_play_every_note_once() {
        for part in [Part::Drums, Part::Bass, Part::Keys, Part::Pad] {
            let whole: Vec<Note> =
                (0..16).flat_map(|beat| part.notes(f64::from(beat), f64::from(beat + 1))).collect();
            let pieces: Vec<Note> = (0..160)
                .flat_map(|step| part.notes(f64::from(step) / 10.0, f64::from(step + 1) / 10.0))
                .collect();
            assert_eq!(whole, pieces, "{part:?}");
            assert!(!whole.is_empty());
        }
    }

    #[test]
    fn the_song_repeats_and_a_jump_of_the_beat_stays_bounded() {
        let first = Part::Bass.notes(0.0, 1.0);
        let again = Part::Bass.notes(16.0, 17.0);
        assert_eq!(
            first.iter().map(|note| note.key).collect::<Vec<_>>(),
            again.iter().map(|note| note.key).collect::<Vec<_>>()
        );
        assert!(Part::Drums.notes(0.0, 1e9).len() <= 32);
    }
}
