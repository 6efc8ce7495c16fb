//! What a MIDI channel is doing: the same bookkeeping on both sides, so that they can be compared.

use std::collections::BTreeMap;

use super::journal::{ChannelJournal, NoteOn, Program};
use crate::time::SessionTime;

pub(super) const CHANNELS: usize = 16;

const BANK_HIGH: u8 = 0;
const BANK_LOW: u8 = 32;
pub(super) const SUSTAIN: u8 = 64;
pub(super) const SOSTENUTO: u8 = 66;
/// Values of the selected parameter: coarse, fine. A step up or down (96, 97) is none: sent again it would be another.
const DATA: [u8; 2] = [6, 38];
/// What selects the parameter: fine and coarse half of its number, unregistered and registered.
const SELECTION: [u8; 4] = [98, 99, 100, 101];
const ALL_SOUND_OFF: u8 = 120;
const RESET_CONTROLLERS: u8 = 121;
const ALL_NOTES_OFF: u8 = 123;
/// From here on, controller numbers are channel mode messages.
const FIRST_MODE: u8 = 120;

/// What the controllers that "reset all controllers" touches are reset to (MIDI RP-015).
const RESET_VALUES: [(u8, u8); 6] = [(1, 0), (11, 127), (SUSTAIN, 0), (65, 0), (SOSTENUTO, 0), (67, 0)];
const WHEEL_CENTRE: (u8, u8) = (0, 64);

/// A value, the packet that brought it, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamped<T> {
    pub(super) value: T,
    pub(super) sequence: i64,
    pub(super) at: SessionTime,
}

/// One channel. Bounded by MIDI itself: 128 notes, 128 controllers.
#[derive(Clone, Debug, Default)]
pub(super) struct Channel {
    pub(super) program: Option<Stamped<Program>>,
    pub(super) controllers: BTreeMap<u8, Stamped<u8>>,
    pub(super) wheel: Option<Stamped<(u8, u8)>>,
    pub(super) pressure: Option<Stamped<u8>>,
    /// Velocity by note; 0 for one that was released.
    pub(super) notes: BTreeMap<u8, Stamped<u8>>,
}

impl Channel {
    /// Follows a channel message of this channel; others change nothing.
    pub(super) fn apply(&mut self, message: &[u8], sequence: i64, at: SessionTime) {
        let (kind, first, second) = match *message {
            [status, first] => (status & 0xF0, first, 0),
            [status, first, second] => (status & 0xF0, first, second),
            _ => return,
        };
        let stamped = |value| Stamped { value, sequence, at };
        match (kind, first) {
            (0x80, note) => drop(self.notes.insert(note, stamped(0))),
            (0x90, note) => drop(self.notes.insert(note, stamped(second))),
            (0xB0, RESET_CONTROLLERS) => self.reset_controllers(sequence, at),
            (0xB0, ALL_SOUND_OFF | ALL_NOTES_OFF..) => {
                for note in self.notes.values_mut().filter(|note| note.value > 0) {
                    *note = stamped(0);
                }
            }
            (0xB0, number) if number < FIRST_MODE => drop(self.controllers.insert(number, stamped(second))),
            (0xC0, number) => {
                let value = |number| self.controllers.get(&number).map(|controller| controller.value);
                let bank = match (value(BANK_HIGH), value(BANK_LOW)) {
                    (None, None) => None,
                    (high, low) => Some((high.unwrap_or(0), low.unwrap_or(0))),
                };
                self.program = Some(Stamped { value: Program { number, bank }, sequence, at });
            }
            (0xD0, pressure) => self.pressure = Some(stamped(pressure)),
            (0xE0, low) => self.wheel = Some(Stamped { value: (low, second), sequence, at }),
            _ => {}
        }
    }

    /// What changed after packet `acknowledged`. Notes started at or after `young_since` are worth starting late.
    pub(super) fn journal(&self, channel: u8, acknowledged: i64, young_since: SessionTime) -> ChannelJournal {
        let mut journal = ChannelJournal { channel, ..Default::default() };
        journal.program = self.program.filter(|it| it.sequence > acknowledged).map(|it| it.value);
        journal.wheel = self.wheel.filter(|it| it.sequence > acknowledged).map(|it| it.value);
        journal.pressure = self.pressure.filter(|it| it.sequence > acknowledged).map(|it| it.value);
        let changed = self.controllers.iter().filter(|(_, it)| it.sequence > acknowledged);
        journal.controllers = changed.map(|(&number, it)| (number, it.value)).collect();
        for (&note, it) in self.notes.iter().filter(|(_, it)| it.sequence > acknowledged) {
            if it.value == 0 {
                journal.notes_off |= 1 << note;
            } else {
                journal.notes_on.push(NoteOn { note, velocity: it.value, play: it.at >= young_since });
            }
        }
        journal
    }

    /// The latest packet that changed anything not yet acknowledged; `None` if all is known.
    pub(super) fn newest_change(&self, acknowledged: i64) -> Option<i64> {
        self.sequences().filter(|&sequence| sequence > acknowledged).max()
    }

    /// Makes all that is not acknowledged count as changed by a later packet: the journal had no room for it.
    pub(super) fn postpone(&mut self, acknowledged: i64, sequence: i64) {
        let late = |it: &mut i64| {
            if *it > acknowledged {
                *it = sequence;
            }
        };
        self.program.iter_mut().for_each(|it| late(&mut it.sequence));
        self.wheel.iter_mut().for_each(|it| late(&mut it.sequence));
        self.pressure.iter_mut().for_each(|it| late(&mut it.sequence));
        self.controllers.values_mut().for_each(|it| late(&mut it.sequence));
        self.notes.values_mut().for_each(|it| late(&mut it.sequence));
    }

    /// Whether a key is down or a pedal holds.
    pub(super) fn sounds(&self) -> bool {
        self.notes.values().any(|note| note.value > 0) || self.held_pedals().next().is_some()
    }

    /// Pedals that keep notes sounding after release.
    pub(super) fn held_pedals(&self) -> impl Iterator<Item = u8> {
        [SUSTAIN, SOSTENUTO]
            .into_iter()
            .filter(|number| self.controllers.get(number).is_some_and(|controller| controller.value > 0))
    }

    fn sequences(&self) -> impl Iterator<Item = i64> {
        let single = [
            self.program.map(|it| it.sequence),
            self.wheel.map(|it| it.sequence),
            self.pressure.map(|it| it.sequence),
        ];
        let many = self.controllers.values().chain(self.notes.values()).map(|it| it.sequence);
        single.into_iter().flatten().chain(many)
    }

    fn reset_controllers(&mut self, sequence: i64, at: SessionTime) {
        for (number, value) in RESET_VALUES {
            if let Some(controller) = self.controllers.get_mut(&number) {
                *controller = Stamped { value, sequence, at };
            }
        }
        if let Some(wheel) = &mut self.wheel {
            *wheel = Stamped { value: WHEEL_CENTRE, sequence, at };
        }
        if let Some(pressure) = &mut self.pressure {
            *pressure = Stamped { value: 0, sequence, at };
        }
    }
}

/// Whether this controller selects the parameter that values are for.
pub(super) fn selects_parameter(number: u8) -> bool {
    SELECTION.contains(&number)
}

/// Whether this controller's value is for the parameter that was selected before it.
pub(super) fn is_parameter_value(number: u8) -> bool {
    DATA.contains(&number)
}

/// The channel a message belongs to; `None` for system messages.
pub(super) fn channel_of(message: &[u8]) -> Option<usize> {
    message.first().filter(|status| (0x80..0xF0).contains(*status)).map(|status| usize::from(status & 0x0F))
}
