//! Ends of notes before a full queue.
//!
//! A beginning that finds no room may be lost: a note that is not heard is a pity, one that does not end is a disaster.
//! The ends are told as soon as there is room, before anything else, so that a key pressed again is not let go by them.

use super::{Keys, MidiEvent, MidiQueueFull};

/// What a queue's reader believes to be down, and what is. As large as a keyboard, however much is refused.
///
/// Realtime-safe: yes, as far as the queue is.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Ends {
    told: Keys,
    held: Keys,
    /// When the latest event is due: an end that is told later must not overtake its beginning.
    latest_ns: u64,
}

impl Ends {
    /// Gives `event` to `push`, which says whether there was room. An end is kept if there was none.
    pub(in super::super) fn pass(
        &mut self,
        event: MidiEvent,
        mut push: impl FnMut(MidiEvent) -> bool,
    ) -> Result<(), MidiQueueFull> {
        let has_room = self.catch_up(&mut push);
        self.latest_ns = self.latest_ns.max(event.host_time_ns);
        if has_room && push(event) {
            self.told.note(event.bytes());
            self.held.note(event.bytes());
            return Ok(());
        }
        if self.held.ends(event.bytes()) {
            self.held.note(event.bytes());
            return Ok(());
        }
        Err(MidiQueueFull)
    }

    /// Who held anything is gone; the ends are kept.
    #[cfg(feature = "devices")]
    pub(in super::super) fn let_go(&mut self, host_time_ns: u64) {
        self.held = Keys::default();
        self.latest_ns = self.latest_ns.max(host_time_ns);
    }

    /// Tells what was kept. False if there was no room for all of it.
    pub(in super::super) fn catch_up(&mut self, mut push: impl FnMut(MidiEvent) -> bool) -> bool {
        while let Some(message) = self.told.next_release(&self.held) {
            let event = MidiEvent::new(self.latest_ns, &message);
            if !event.is_some_and(&mut push) {
                return false;
            }
            self.told.note(&message);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(host_time_ns: u64, message: [u8; 3]) -> MidiEvent {
        MidiEvent::new(host_time_ns, &message).unwrap()
    }

    #[test]
    fn an_end_that_found_no_room_is_told_before_its_key_is_pressed_again() {
        let (mut ends, mut heard) = (Ends::default(), Vec::new());
        let mut full = |_| false;
        let pressed = event(5, [0x90, 60, 100]);
        ends.pass(pressed, |_| true).unwrap();
        ends.pass(event(6, [0xB0, 64, 127]), |_| true).unwrap();
        assert_eq!(ends.pass(event(7, [0x90, 61, 100]), &mut full), Err(MidiQueueFull), "may be lost");
        assert_eq!(ends.pass(event(8, [0x80, 61, 0]), &mut full), Err(MidiQueueFull), "and its end is none");
        ends.pass(event(9, [0x80, 60, 0]), &mut full).unwrap();
        ends.pass(event(9, [0xB0, 64, 0]), &mut full).unwrap();
        assert_eq!(ends.pass(pressed, &mut full), Err(MidiQueueFull));
        // Room for one, then for all.
        let mut push = |event: MidiEvent| {
            heard.push((event.host_time_ns, <[u8; 3]>::try_from(event.bytes()).unwrap()));
            heard.len() != 2
        };
        assert!(!ends.catch_up(&mut push));
        ends.pass(pressed, &mut push).unwrap();
        let told = [(9, [0x80, 60, 64]), (9, [0xB0, 64, 0]), (9, [0xB0, 64, 0]), (5, [0x90, 60, 100])];
        assert_eq!(heard, told, "what found no room is told again");
    }

    #[cfg(feature = "devices")]
    #[test]
    fn all_is_let_go_of_whoever_is_gone() {
        let mut ends = Ends::default();
        ends.pass(event(5, [0x90, 60, 100]), |_| true).unwrap();
        ends.pass(event(6, [0xB1, 64, 127]), |_| true).unwrap();
        ends.let_go(3);
        assert!(!ends.catch_up(|_| false), "no room");
        let mut told = Vec::new();
        assert!(ends.catch_up(|event| {
            told.push((event.host_time_ns, event.bytes().to_vec()));
            true
        }));
        let wanted = [(6, vec![0x80, 60, 64]), (6, vec![0xB1, 64, 0])];
        assert_eq!(told, wanted, "no end overtakes its beginning");
        ends.let_go(9);
        assert!(ends.catch_up(|_| panic!("nothing is held")));
    }

    #[test]
    fn whatever_silences_a_channel_is_an_end() {
        for silences in [[0xB0, 120, 0], [0xB0, 123, 0]] {
            let mut ends = Ends::default();
            ends.pass(event(1, [0x90, 60, 100]), |_| true).unwrap();
            ends.pass(event(2, silences), |_| false).unwrap();
            let mut told = Vec::new();
            assert!(ends.catch_up(|event| {
                told.push(event.bytes().to_vec());
                true
            }));
            assert_eq!(told, [[0x80, 60, 64]]);
        }
    }
}
