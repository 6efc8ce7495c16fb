//! A keyboard that somebody plays.
//!
//! Single notes and small chords of at most [`LONGEST`], a few a second, drawn from the seed; so that at any moment of a
//! run some note-ons and note-offs are on their way and some are lost.

use std::{collections::BTreeMap, time::Duration};

use transport::time::LocalTime;

use crate::random::Random;

/// Mean time between two strokes.
const BETWEEN_MS: f64 = 350.0;
/// The longest note.
const LONGEST: Duration = Duration::from_millis(1_200);
/// Keys: two octaves from middle C.
const LOWEST: u8 = 60;
const KEYS: u64 = 24;
/// The softest stroke; below it an instrument may play what nobody hears.
const SOFTEST: u8 = 32;

/// One keyboard.
pub(super) struct Keyboard {
    random: Random,
    next: Option<LocalTime>,
    /// Keys that are down, and until when.
    held: BTreeMap<u8, LocalTime>,
}

impl Keyboard {
    pub(super) fn new(random: Random) -> Self {
        Self { random, next: None, held: BTreeMap::new() }
    }

    /// The next MIDI message played by `now`, if any.
    pub(super) fn poll(&mut self, now: LocalTime) -> Option<Vec<u8>> {
        let over = self.held.iter().find(|(_, until)| **until <= now).map(|(key, _)| *key);
        if let Some(key) = over {
            self.held.remove(&key);
            return Some(vec![0x80, key, 64]);
        }
        let next = *self.next.get_or_insert(now);
        if now < next {
            return None;
        }
        let pause_ms = self.random.exponential(BETWEEN_MS);
        self.next = Some(now + Duration::from_secs_f64(pause_ms / 1e3));
        let key = LOWEST + self.random.below(KEYS) as u8;
        let length = LONGEST.mul_f64(self.random.between(0.05, 1.0));
        if self.held.insert(key, now + length).is_some() {
            // The same key again: it goes up first.
            return Some(vec![0x80, key, 64]).inspect(|_| {
                self.held.remove(&key);
            });
        }
        Some(vec![0x90, key, SOFTEST + self.random.below(u64::from(128 - SOFTEST)) as u8])
    }

    /// Keys that are down.
    pub(super) fn held(&self) -> impl Iterator<Item = u8> {
        self.held.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_goes_down_comes_up_again() {
        let mut keyboard = Keyboard::new(Random::new(1));
        let (mut down, mut strokes) = (std::collections::BTreeSet::new(), 0);
        for millisecond in 0..60_000 {
            let now = LocalTime::from_nanos(millisecond * 1_000_000);
            while let Some(message) = keyboard.poll(now) {
                strokes += 1;
                let known =
                    if message[0] == 0x90 { down.insert(message[1]) } else { down.remove(&message[1]) };
                assert!(known, "{message:?}");
            }
            assert!(down.iter().copied().eq(keyboard.held()));
        }
        assert!(strokes > 200, "{strokes}");
    }
}
