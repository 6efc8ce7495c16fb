//! What is held on each input, so that an input that goes lets go.

use std::collections::BTreeMap;

use super::Keys;
use super::choice::Address;

/// What is held on each input.
#[derive(Debug, Default)]
pub(super) struct Held(BTreeMap<Address, Keys>);

impl Held {
    /// Takes note of a message from `input`.
    pub(super) fn note(&mut self, input: Address, message: &[u8]) {
        self.0.entry(input).or_default().note(message);
    }

    /// Whether `message` lets go a key or a pedal that is down on `input`.
    pub(super) fn ends(&self, input: Address, message: &[u8]) -> bool {
        self.0.get(&input).is_some_and(|keys| keys.ends(message))
    }

    /// Inputs of which anything was heard.
    pub(super) fn inputs(&self) -> Vec<Address> {
        self.0.keys().copied().collect()
    }

    /// Forgets `input`. Returns messages that let go what it alone held.
    pub(super) fn release(&mut self, input: Address) -> Vec<[u8; 3]> {
        let Some(keys) = self.0.remove(&input) else { return Vec::new() };
        let others = self.0.values().fold(Keys::default(), |all, one| all.or(one));
        keys.released(&others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYBOARD: Address = Address { client: 20, port: 0 };
    const PADS: Address = Address { client: 24, port: 0 };

    #[test]
    fn an_unplugged_keyboard_lets_go_what_it_held_and_nothing_else() {
        let mut held = Held::default();
        for message in
            [[0x90, 60, 100], [0x90, 64, 100], [0x80, 64, 0], [0xB0, 64, 127], [0x91, 7, 1], [0x91, 7, 0]]
        {
            held.note(KEYBOARD, &message);
        }
        assert_eq!(held.release(KEYBOARD), [[0x80, 60, 64], [0xB0, 64, 0]]);
        assert!(held.release(KEYBOARD).is_empty(), "once");
    }

    #[test]
    fn a_key_that_another_input_holds_too_stays_down() {
        let mut held = Held::default();
        held.note(KEYBOARD, &[0x90, 60, 100]);
        held.note(PADS, &[0x90, 60, 90]);
        assert!(held.release(KEYBOARD).is_empty());
        assert_eq!(held.release(PADS), [[0x80, 60, 64]]);
    }
}
