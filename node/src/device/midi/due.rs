//! Events waiting for their time at an output.

use super::MidiEvent;

/// More than a bar of everybody's playing; memory for it is taken once.
const DUE_EVENTS: usize = 512;

/// Events in order of their time, those of one time in the order they came.
///
/// Realtime-safe: yes, all memory is taken at the start.
pub(in super::super) struct DueQueue {
    /// Latest first, so that the next is popped from the end.
    events: Vec<MidiEvent>,
}

impl DueQueue {
    pub(in super::super) fn new() -> Self {
        DueQueue { events: Vec::with_capacity(DUE_EVENTS) }
    }

    /// Whether the next [`Self::push`] gives an event back.
    pub(in super::super) fn is_full(&self) -> bool {
        self.events.len() >= DUE_EVENTS
    }

    /// When full, gives back the earliest event to be played right now: early is better than a note that never ends.
    #[must_use]
    pub(in super::super) fn push(&mut self, event: MidiEvent) -> Option<MidiEvent> {
        let early = if self.is_full() { self.events.pop() } else { None };
        let place = self.events.partition_point(|other| other.host_time_ns > event.host_time_ns);
        self.events.insert(place, event);
        early
    }

    /// The next event due before `end_ns`.
    pub(in super::super) fn pop_before(&mut self, end_ns: u64) -> Option<MidiEvent> {
        match self.next_due_ns() {
            Some(due_ns) if due_ns < end_ns => self.events.pop(),
            _ => None,
        }
    }

    pub(in super::super) fn next_due_ns(&self) -> Option<u64> {
        self.next().map(|event| event.host_time_ns)
    }

    /// The next event.
    pub(in super::super) fn next(&self) -> Option<MidiEvent> {
        self.events.last().copied()
    }

    /// Takes the next event out.
    pub(in super::super) fn pop(&mut self) -> Option<MidiEvent> {
        self.events.pop()
    }

    /// Forgets all.
    pub(in super::super) fn clear(&mut self) {
        self.events.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(time: u64, key: u8) -> MidiEvent {
        MidiEvent::new(time, &[0x90, key, 100]).unwrap()
    }

    #[test]
    fn events_leave_in_order_of_time_and_then_of_arrival() {
        let mut due = DueQueue::new();
        for event in [note(30, 1), note(10, 2), note(30, 3), note(20, 4)] {
            assert_eq!(due.push(event), None);
        }
        let mut left = Vec::new();
        while let Some(event) = due.pop_before(31) {
            left.push(event.bytes()[1]);
        }
        assert_eq!(left, [2, 4, 1, 3]);
        assert_eq!(due.push(note(40, 5)), None);
        assert_eq!(due.pop_before(40), None, "the end is not included");
    }

    #[test]
    fn a_full_queue_plays_the_earliest_early_and_loses_nothing() {
        let mut due = DueQueue::new();
        let mut early = 0;
        for time in 0..DUE_EVENTS as u64 + 10 {
            early += usize::from(due.push(note(time, 1)).is_some());
        }
        assert_eq!((early, due.next_due_ns()), (10, Some(10)));
    }
}
