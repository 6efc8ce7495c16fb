//! Recognises what a synthesiser returns of what it was sent.
//!
//! An instrument that is both played and listened to may pass its input on to its output ("soft thru", "echo back").
//! Without this the band's notes would come back to the band as its player's. What comes from such an instrument within a
//! moment of being sent to it, byte for byte, is an echo, and so is the end of a note whose beginning was one. A release
//! is never taken for an echo while the player holds that key, so nothing hangs.
//!
//! Limit: a player who strikes the very same key as a bandmate, as hard, within that moment, is not heard.

use std::collections::VecDeque;

use super::Keys;

/// A message needs 1 ms down a MIDI cable and 1 ms back; a program returns it after a period of its sound card or two, ns.
const WINDOW_NS: u64 = 100_000_000;
/// Messages kept: more than a MIDI cable carries in that time.
const MAX_SENT: usize = 128;

/// What was sent lately.
#[derive(Debug, Default)]
pub(super) struct Echo {
    sent: VecDeque<(u64, [u8; 3], usize)>,
    /// Keys whose beginning was an echo.
    echoed: Keys,
}

impl Echo {
    /// Takes note of a message that went to an instrument which is listened to.
    pub(super) fn sent(&mut self, now_ns: u64, message: &[u8]) {
        if self.sent.len() >= MAX_SENT {
            self.sent.pop_front();
        }
        let mut bytes = [0; 3];
        for (to, from) in bytes.iter_mut().zip(message) {
            *to = *from;
        }
        self.sent.push_back((now_ns, bytes, message.len()));
    }

    /// Whether `message` is an echo. `held`: the player holds the key that it is about.
    pub(super) fn is_echo(&mut self, now_ns: u64, message: &[u8], held: bool) -> bool {
        while self.sent.front().is_some_and(|(at, ..)| now_ns.saturating_sub(*at) > WINDOW_NS) {
            self.sent.pop_front();
        }
        if is_release(message) {
            let echoed = !held && self.echoed.ends(message);
            self.echoed.note(message);
            return echoed;
        }
        let same = |(_, bytes, length): &(u64, [u8; 3], usize)| bytes.get(..*length) == Some(message);
        let Some(place) = self.sent.iter().position(same) else { return false };
        self.sent.remove(place);
        self.echoed.note(message);
        true
    }
}

fn is_release(message: &[u8]) -> bool {
    matches!(*message, [0x80..=0x8F, ..] | [0x90..=0x9F, _, 0])
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn what_a_synthesiser_returns_is_not_played_and_what_its_player_plays_is() {
        let mut echo = Echo::default();
        echo.sent(0, &[0x90, 60, 100]);
        assert!(!echo.is_echo(2 * MS, &[0x90, 60, 101], false), "struck by a hand");
        assert!(echo.is_echo(3 * MS, &[0x90, 60, 100], false));
        assert!(!echo.is_echo(4 * MS, &[0x90, 60, 100], false), "each comes back once");
        assert!(!echo.is_echo(5 * MS, &[0xB0, 1, 5], false));
        echo.sent(6 * MS, &[0xB0, 1, 5]);
        assert!(echo.is_echo(8 * MS, &[0xB0, 1, 5], false));
        echo.sent(10 * MS, &[0x90, 62, 100]);
        assert!(!echo.is_echo(10 * MS + WINDOW_NS + 1, &[0x90, 62, 100], false), "too late for an echo");
    }

    #[test]
    fn the_end_of_an_echoed_note_is_an_echo_in_any_form_and_that_of_a_held_one_never() {
        let mut echo = Echo::default();
        echo.sent(0, &[0x90, 60, 100]);
        assert!(echo.is_echo(MS, &[0x90, 60, 100], false));
        assert!(echo.is_echo(5_000 * MS, &[0x90, 60, 0], false), "a second later, in the other form");
        assert!(!echo.is_echo(5_001 * MS, &[0x80, 60, 64], false), "and once");
        echo.sent(6_000 * MS, &[0x80, 64, 64]);
        assert!(!echo.is_echo(6_001 * MS, &[0x80, 64, 64], true), "the player's own key");
    }

    #[test]
    fn memory_is_bounded() {
        let mut echo = Echo::default();
        for _ in 0..10 * MAX_SENT {
            echo.sent(0, &[0x90, 60, 100]);
        }
        assert_eq!(echo.sent.len(), MAX_SENT);
    }
}
