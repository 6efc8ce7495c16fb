//! MIDI in and out with times, whoever carries it.
//!
//! JACK gives a time to the frame, ALSA's sequencer one on a clock of its own, a session peer one on
//! the session clock. Here everything is a [`MidiEvent`] at a host time, and [`MidiPorts`] hides who is on the other end:
//! a JACK client's two ports, or the system's MIDI ports, of which the player chooses ([`SystemMidi`]).
//!
//! Limits: channel messages, in both directions. What is for a whole system is not music: exclusive messages have no
//! bound, a drum machine's clock and its start say of one room what does not hold in another, and a reset would reach every
//! synthesiser of the band.

#[cfg(feature = "devices")]
mod choice;
#[cfg(feature = "devices")]
mod due;
#[cfg(feature = "devices")]
mod echo;
mod ends;
#[cfg(feature = "devices")]
mod held;
mod keys;
#[cfg(feature = "devices")]
mod sequencer;
#[cfg(feature = "devices")]
mod system;

use std::any::Any;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};

#[cfg(feature = "devices")]
use rtrb::{Consumer, Producer};

pub use keys::Keys;
#[cfg(feature = "devices")]
pub use sequencer::MidiError;
#[cfg(feature = "devices")]
pub use system::open;

#[cfg(feature = "devices")]
pub(super) use due::DueQueue;
pub(super) use ends::Ends;
#[cfg(feature = "devices")]
pub(super) use sequencer::port_names;

/// Bound of the queues in both directions: several seconds of dense playing.
pub(super) const QUEUE_EVENTS: usize = 1024;

/// One MIDI message at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MidiEvent {
    /// When it was played, or is to be played, on [`super::monotonic_ns`]'s clock.
    pub host_time_ns: u64,
    data: [u8; 3],
    length: u8,
}

impl MidiEvent {
    /// Takes a whole channel message (RFC 6295 calls these *commands*) without running status. `None` for system messages
    /// and for anything that is no message: this is the one place that every message passes, coming or going.
    pub fn new(host_time_ns: u64, bytes: &[u8]) -> Option<Self> {
        let (&status, rest) = bytes.split_first()?;
        let expected = match status {
            0x80..=0xBF | 0xE0..=0xEF => 2,
            0xC0..=0xDF => 1,
            _ => return None,
        };
        if rest.len() != expected || rest.iter().any(|byte| *byte >= 0x80) {
            return None;
        }
        let mut data = [0; 3];
        for (to, from) in data.iter_mut().zip(bytes) {
            *to = *from;
        }
        Some(MidiEvent { host_time_ns, data, length: bytes.len() as u8 })
    }

    /// The same at another time.
    pub fn at(self, host_time_ns: u64) -> Self {
        Self { host_time_ns, ..self }
    }

    /// The message, status byte first.
    pub fn bytes(&self) -> &[u8] {
        self.data.get(..usize::from(self.length)).unwrap_or_default()
    }
}

/// Which of the system's MIDI ports the player wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MidiChoice {
    /// Listen to every instrument there is, besides `inputs`.
    pub all_inputs: bool,
    /// Inputs, each by its name or a part of it.
    pub inputs: Vec<String>,
    /// Outputs that the band's notes go to, each by its name or a part of it.
    pub outputs: Vec<String>,
}

impl Default for MidiChoice {
    fn default() -> Self {
        MidiChoice { all_inputs: true, inputs: Vec::new(), outputs: Vec::new() }
    }
}

/// What a port is to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MidiPortState {
    /// Used.
    Open,
    /// There, not chosen.
    Closed,
    /// Chosen, not there; it is opened when it comes.
    Absent,
    /// Chosen, but it would give back what it is sent.
    Loop,
    /// Chosen, but it did not let itself be opened, or another program has parted it from the node.
    Refused,
}

/// One of the system's MIDI ports, or a wish for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MidiPort {
    /// Its name, or what was asked for if it is absent.
    pub name: String,
    /// What it is to the node.
    pub state: MidiPortState,
    /// When it last played something, on [`super::monotonic_ns`]'s clock.
    pub played_ns: Option<u64>,
}

/// The system's MIDI ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MidiReport {
    /// Why there are none, and what to do.
    pub problem: Option<String>,
    /// Inputs, those that are absent last.
    pub inputs: Vec<MidiPort>,
    /// Outputs, those that are absent last.
    pub outputs: Vec<MidiPort>,
}

/// The system's MIDI ports, to be looked at and chosen from while they play.
///
/// Thread-safe: yes.
pub trait SystemMidi: Send + Sync {
    /// What was chosen.
    fn choice(&self) -> MidiChoice;
    /// What is there, and what of it is open.
    fn report(&self) -> MidiReport;
    /// Chooses other ports and waits until they are open, some milliseconds, at most two seconds.
    fn choose(&self, choice: MidiChoice);
}

/// The output has a thousand events waiting; this one is dropped. Never the end of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the MIDI output's queue is full; send less, or again later")]
pub struct MidiQueueFull;

/// One merged MIDI input and one MIDI output.
///
/// Thread-safe: may be sent, not shared. Realtime-safe: no.
pub struct MidiPorts {
    input: Incoming,
    output: Outgoing,
    /// What the output has been told, and what it must be.
    ends: Ends,
    /// What runs for these ports and ends with them.
    _carrier: Option<Box<dyn Any + Send>>,
}

enum Incoming {
    #[cfg(feature = "devices")]
    Realtime(Consumer<MidiEvent>),
    Threads(Receiver<MidiEvent>),
}

enum Outgoing {
    #[cfg(feature = "devices")]
    Realtime(Producer<MidiEvent>),
    /// The thread may be asleep in the kernel, from which only a byte through a socket wakes it.
    Thread(SyncSender<MidiEvent>, Option<UnixStream>),
}

impl Outgoing {
    /// Whether there was room.
    fn push(&mut self, event: MidiEvent) -> bool {
        match self {
            #[cfg(feature = "devices")]
            Outgoing::Realtime(queue) => queue.push(event).is_ok(),
            Outgoing::Thread(queue, waker) => {
                let sent = queue.try_send(event);
                if let Some(waker) = waker {
                    // It does not block. With no room there are bytes enough to wake anybody.
                    let _ = waker.write(&[0]);
                }
                // With the output gone nobody listens, which is no error of the sender.
                !matches!(sent, Err(TrySendError::Full(_)))
            }
        }
    }
}

impl MidiPorts {
    /// Two ports joined crosswise in memory: what one sends, the other polls at once, whatever its time. For bandmates
    /// and worlds without hardware.
    pub fn pair() -> (Self, Self) {
        let (left_out, right_in) = mpsc::sync_channel(QUEUE_EVENTS);
        let (right_out, left_in) = mpsc::sync_channel(QUEUE_EVENTS);
        let ports = |input, output| MidiPorts {
            input: Incoming::Threads(input),
            output: Outgoing::Thread(output, None),
            ends: Ends::default(),
            _carrier: None,
        };
        (ports(left_in, left_out), ports(right_in, right_out))
    }

    /// The next event that was played here. When nobody asks, the newest are dropped after a thousand, but for ends of
    /// notes. What [`Self::send`] had to keep is sent too, so ask often.
    pub fn poll(&mut self) -> Option<MidiEvent> {
        let Self { ends, output, .. } = self;
        ends.catch_up(|event| output.push(event));
        match &mut self.input {
            #[cfg(feature = "devices")]
            Incoming::Realtime(queue) => queue.pop().ok(),
            Incoming::Threads(queue) => queue.try_recv().ok(),
        }
    }

    /// Plays `event` at its time, or at once if that is past. The end of a note waits for room if there is none.
    pub fn send(&mut self, event: MidiEvent) -> Result<(), MidiQueueFull> {
        let Self { ends, output, .. } = self;
        ends.pass(event, |event| output.push(event))
    }

    #[cfg(feature = "devices")]
    pub(super) fn realtime(input: Consumer<MidiEvent>, output: Producer<MidiEvent>) -> Self {
        MidiPorts {
            input: Incoming::Realtime(input),
            output: Outgoing::Realtime(output),
            ends: Ends::default(),
            _carrier: None,
        }
    }

    #[cfg(feature = "devices")]
    fn threads(
        input: Receiver<MidiEvent>,
        output: SyncSender<MidiEvent>,
        waker: UnixStream,
        carrier: Box<dyn Any + Send>,
    ) -> Self {
        MidiPorts {
            input: Incoming::Threads(input),
            output: Outgoing::Thread(output, Some(waker)),
            ends: Ends::default(),
            _carrier: Some(carrier),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_short_messages_become_events() {
        for good in [&[0x90, 60, 100][..], &[0xC3, 5], &[0xD0, 5], &[0xE0, 0, 64]] {
            assert_eq!(MidiEvent::new(7, good).unwrap().bytes(), good);
        }
        // A drum machine's clock, start and reset are its own.
        for system in [&[0xF1, 5][..], &[0xF2, 0, 1], &[0xF3, 5], &[0xF6], &[0xF8], &[0xFA], &[0xFE], &[0xFF]]
        {
            assert_eq!(MidiEvent::new(7, system), None, "{system:?}");
        }
        let bad: [&[u8]; 9] = [
            &[],
            &[60, 100],
            &[0x90, 60],
            &[0x90, 60, 100, 1],
            &[0x90, 60, 200],
            &[0xF0, 1, 0xF7],
            &[0xC0],
            &[0xF4],
            &[0xF8, 0],
        ];
        for bad in bad {
            assert_eq!(MidiEvent::new(7, bad), None, "{bad:?}");
        }
    }

    #[test]
    fn joined_ports_carry_both_ways_and_are_bounded() {
        let (mut left, mut right) = MidiPorts::pair();
        let event = MidiEvent::new(1, &[0x90, 60, 100]).unwrap();
        left.send(event).unwrap();
        assert_eq!((right.poll(), left.poll()), (Some(event), None));
        let sent = (0..QUEUE_EVENTS * 2).filter(|_| right.send(event).is_ok()).count();
        assert_eq!(sent, QUEUE_EVENTS);
        drop(left);
        assert_eq!(right.send(event), Ok(()), "nobody listening is no error");
    }

    #[test]
    fn a_full_output_loses_beginnings_and_never_ends() {
        let (mut left, mut right) = MidiPorts::pair();
        let message = |bytes: [u8; 3]| MidiEvent::new(1, &bytes).unwrap();
        for key in (0..128).cycle().take(QUEUE_EVENTS) {
            left.send(message([0x90, key, 100])).unwrap();
        }
        assert_eq!(left.send(message([0x91, 5, 100])), Err(MidiQueueFull));
        for key in 0..128 {
            assert_eq!(left.send(message([0x80, key, 0])), Ok(()));
        }
        let mut heard = Keys::default();
        while let Some(event) = right.poll() {
            heard.note(event.bytes());
            left.poll();
        }
        assert!(heard.is_empty(), "{heard:?}");
    }
}
