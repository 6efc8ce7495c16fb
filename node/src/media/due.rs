//! MIDI of one member that waits for the output port.
//!
//! The queue is bounded, and the journal of the stream cannot repair what is dropped here: for it the message has
//! arrived. A note that does not begin is a pity, a note that does not end is a disaster, so releases are always
//! kept: when the queue is full, the newest message that begins something goes instead.

/// A MIDI event of a member, ready to be played here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueMidi {
    /// When to play it, host time in ns.
    pub due_ns: u64,
    /// One complete MIDI message.
    pub message: Vec<u8>,
}

/// Messages kept. Above it only releases of different notes and pedals are taken, and ends of all notes: at most 138 on
/// each of 16 channels.
const MAX_WAITING: usize = 512;

/// The waiting messages, in the order of playing.
#[derive(Debug, Default)]
pub struct DueQueue {
    waiting: Vec<DueMidi>,
}

impl DueQueue {
    /// Appends `event`. Returns how many messages were dropped: 0, or 1 when the queue was full.
    pub fn push(&mut self, event: DueMidi) -> u64 {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push(event);
            return 0;
        }
        let Some(released) = released_note(&event.message) else { return 1 };
        match self.waiting.iter().rposition(|other| released_note(&other.message).is_none()) {
            Some(newest) => {
                self.waiting.remove(newest);
                self.waiting.push(event);
            }
            // Nothing but releases waits: one of the same note does the same.
            None if self.waiting.iter().any(|other| released_note(&other.message) == Some(released)) => {}
            None => {
                self.waiting.push(event);
                return 0;
            }
        }
        1
    }

    /// Takes all out.
    pub fn take(&mut self) -> Vec<DueMidi> {
        std::mem::take(&mut self.waiting)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Channel and what `message` ends on it: a note, a pedal that holds notes, or, by one of several messages, all of them.
/// `None` if it ends nothing.
fn released_note(message: &[u8]) -> Option<(u8, u8)> {
    match *message {
        [status @ 0x80..=0x8F, note, ..] | [status @ 0x90..=0x9F, note, 0, ..] => Some((status & 0x0F, note)),
        [status @ 0xB0..=0xBF, number @ (64 | 66), 0..=63]
        | [status @ 0xB0..=0xBF, number @ 120..=127, _] => Some((status & 0x0F, 0x80 | number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(message: &[u8]) -> DueMidi {
        DueMidi { due_ns: 0, message: message.to_vec() }
    }

    /// Notes sounding after everything in `queue` is played.
    fn left_sounding(queue: &mut DueQueue) -> std::collections::BTreeSet<(u8, u8)> {
        let mut sounding = std::collections::BTreeSet::new();
        for event in queue.take() {
            match (released_note(&event.message), &event.message[..]) {
                (Some(note), _) => drop(sounding.remove(&note)),
                (None, [status @ 0x90..=0x9F, note, _]) => drop(sounding.insert((status & 0x0F, *note))),
                _ => {}
            }
        }
        sounding
    }

    #[test]
    fn a_full_queue_loses_notes_and_never_their_ends() {
        let mut queue = DueQueue::default();
        let mut dropped = 0;
        for round in 0..4 {
            let notes = || (0..16).flat_map(|channel| (0..40).map(move |note| (channel, note)));
            for (channel, note) in notes() {
                dropped += queue.push(event(&[0x90 | channel, note, 100]));
            }
            for (channel, note) in notes() {
                let end = if round % 2 == 0 { [0x80 | channel, note, 64] } else { [0x90 | channel, note, 0] };
                dropped += queue.push(event(&end));
            }
        }
        assert!(dropped > 0);
        assert_eq!(left_sounding(&mut queue), Default::default());
    }

    #[test]
    fn a_pedal_that_is_let_go_and_the_end_of_all_notes_are_kept_too() {
        let mut queue = DueQueue::default();
        while queue.push(event(&[0xE0, 0, 64])) == 0 {}
        let ends = [[0xB0, 64, 0], [0xB1, 66, 63], [0xB2, 123, 0]];
        for end in ends {
            queue.push(event(&end));
        }
        queue.push(event(&[0xB0, 64, 127]));
        let kept: Vec<Vec<u8>> = queue.take().into_iter().map(|event| event.message).collect();
        assert_eq!(kept[MAX_WAITING - 3..], ends, "and no pedal is pressed after all");
    }

    #[test]
    fn a_storm_of_releases_is_bounded() {
        let mut queue = DueQueue::default();
        for _ in 0..10 {
            for channel in 0..16 {
                for note in 0..128 {
                    queue.push(event(&[0x80 | channel, note, 64]));
                    queue.push(event(&[0xB0 | channel, note, 0]));
                }
            }
        }
        assert!(queue.waiting.len() <= MAX_WAITING + 16 * 138, "{}", queue.waiting.len());
    }

    #[test]
    fn what_is_dropped_first_is_the_newest_beginning() {
        let mut queue = DueQueue::default();
        for index in 0..MAX_WAITING {
            queue.push(event(&[0x90, (index % 128) as u8, 1]));
        }
        assert_eq!(queue.push(event(&[0x91, 5, 100])), 1, "a new note finds no room");
        assert_eq!(queue.push(event(&[0x80, 5, 0])), 1);
        let events = queue.take();
        assert_eq!(events.first().map(|event| event.message[1]), Some(0), "the oldest stay");
        assert_eq!(events.last().map(|event| event.message.clone()), Some(vec![0x80, 5, 0]));
    }
}
