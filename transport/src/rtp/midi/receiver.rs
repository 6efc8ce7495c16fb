//! Receiving MIDI from one peer.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::statistics::{Arrival, Sequence};
use super::super::{Header, PacketError, Statistics, extend_sequence, payload_type, report::ReportBlock};
use super::command::{Command, parse_list};
use super::journal::{ChannelJournal, Journal, Program};
use super::state::{CHANNELS, Channel, channel_of, is_parameter_value, selects_parameter};
use super::{CLOCK_HZ, unwrap_time};
use crate::time::{LocalTime, SessionTime};

/// Events kept for the caller. At the bound packets are dropped unread; the journal repairs that later.
const MAX_EVENTS: usize = 1_024;
/// A sender speaks at least once a second; after three it is taken for gone.
const SILENCE: Duration = Duration::from_secs(3);
/// Events further than this from now are moved there: nobody plays that far ahead, and a wild clock must not make a
/// note that sounds tomorrow.
const MAX_DISTANCE_NS: i64 = 5_000_000_000;

/// One MIDI message to play.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MidiEvent {
    /// When it was played on the other side. Add the playout delay; if that is past, play it now.
    pub time: SessionTime,
    /// A complete message with its status byte.
    pub message: Vec<u8>,
    /// Whether it was made up from the journal or by a release rather than received.
    pub repaired: bool,
}

/// One incoming MIDI stream.
#[derive(Debug)]
pub struct MidiReceiver {
    ssrc: Option<u32>,
    replaced_ssrc: Option<u32>,
    sequence: Sequence,
    /// Extended number of the packet applied last.
    last: Option<i64>,
    last_heard: Option<LocalTime>,
    channels: [Channel; CHANNELS],
    events: VecDeque<MidiEvent>,
}

/// A packet read in full, before anything of it is applied.
struct Parsed {
    commands: Vec<Command>,
    journal: Option<Journal>,
}

impl MidiReceiver {
    /// A receiver for the stream `ssrc`, or for the first that comes. Another SSRC is taken as the sender's restart.
    pub fn new(ssrc: Option<u32>) -> Self {
        MidiReceiver {
            ssrc,
            replaced_ssrc: None,
            sequence: Sequence::default(),
            last: None,
            last_heard: None,
            channels: Default::default(),
            events: VecDeque::new(),
        }
    }

    /// Takes a packet of payload type [`payload_type::MIDI`]. Then poll the events.
    ///
    /// # Errors
    /// [`PacketError`] if the packet is refused; the stream is unharmed and the refusal counted.
    pub fn handle_packet(
        &mut self,
        now: LocalTime,
        session_now: SessionTime,
        packet: &[u8],
    ) -> Result<(), PacketError> {
        self.take(now, session_now, packet).inspect_err(|_| self.sequence.counts.refused += 1)
    }

    /// The next message to play, in order.
    pub fn poll_event(&mut self) -> Option<MidiEvent> {
        self.events.pop_front()
    }

    /// When the sender, with notes sounding, will have been silent for 3 s; `None` if nothing sounds.
    pub fn poll_deadline(&self) -> Option<LocalTime> {
        let heard = self.last_heard?;
        self.channels.iter().any(Channel::sounds).then(|| heard + SILENCE)
    }

    /// Releases everything if the sender has been silent too long. Harmless when early.
    pub fn handle_deadline(&mut self, now: LocalTime, session_now: SessionTime) {
        if self.poll_deadline().is_some_and(|due| now >= due) {
            self.release_all(session_now);
        }
    }

    /// Lifts every key and pedal: the peer is gone, or its instrument is being removed. Poll the events.
    pub fn release_all(&mut self, session_now: SessionTime) {
        for index in 0..CHANNELS {
            let Some(channel) = self.channels.get(index) else { continue };
            let status = index as u8;
            let notes = channel.notes.iter().filter(|(_, note)| note.value > 0);
            let releases: Vec<[u8; 3]> = notes
                .map(|(&note, _)| [0x80 | status, note, 64])
                .chain(channel.held_pedals().map(|pedal| [0xB0 | status, pedal, 0]))
                .collect();
            for message in releases {
                self.emit(session_now, message.to_vec(), true);
            }
        }
    }

    /// The block for the next receiver report, which shortens the sender's journal; `None` before the first packet.
    pub fn report_block(&mut self) -> Option<ReportBlock> {
        let last = self.last?;
        let mut block = self.sequence.report_block(self.ssrc?, CLOCK_HZ);
        // Only what was applied may be acknowledged.
        block.highest_sequence = last as u32;
        Some(block)
    }

    /// Counts since the stream began; `recovered` counts the events that repairs made.
    pub fn statistics(&self) -> Statistics {
        self.sequence.counts
    }

    fn take(&mut self, now: LocalTime, session_now: SessionTime, packet: &[u8]) -> Result<(), PacketError> {
        let (header, payload) = Header::parse(packet)?;
        if header.payload_type != payload_type::MIDI {
            let (expected, got) = (payload_type::MIDI, header.payload_type);
            return Err(PacketError::PayloadType { expected, got });
        }
        if self.replaced_ssrc == Some(header.ssrc) {
            return Err(PacketError::ReplacedStream(header.ssrc));
        }
        let parsed = Parsed::parse(payload)?;
        if self.events.len() >= MAX_EVENTS {
            self.sequence.counts.overflowed += 1;
            return Ok(());
        }
        if self.ssrc.is_some_and(|ssrc| ssrc != header.ssrc) {
            self.replaced_ssrc = self.ssrc;
            self.sequence.restart();
            self.restart(session_now);
        }
        self.ssrc = Some(header.ssrc);
        let sequence = match self.sequence.handle(header.sequence)? {
            Arrival::New(sequence) => sequence,
            Arrival::Restart(sequence) => {
                self.restart(session_now);
                sequence
            }
            Arrival::Duplicate | Arrival::TooOld => return Ok(()),
        };
        self.last_heard = Some(now);
        // Its successor's journal has already told what this packet did.
        if self.last.is_some_and(|last| sequence <= last) {
            self.sequence.counts.late += 1;
            return Ok(());
        }
        let bounded = |time: SessionTime| {
            let distance = time.nanos_from(session_now).clamp(-MAX_DISTANCE_NS, MAX_DISTANCE_NS);
            session_now.offset_by(distance)
        };
        let time = |ticks: u64| {
            let timestamp = u64::from(header.timestamp).wrapping_add(ticks) as u32;
            bounded(unwrap_time(session_now, timestamp))
        };
        if let Some(journal) = &parsed.journal {
            self.repair(sequence, journal, time(0));
        }
        self.last = Some(sequence);
        for (ticks, message) in parsed.commands {
            self.emit(time(ticks), message, false);
        }
        Ok(())
    }

    /// Brings our channels to where the journal says they were before this packet. It is read with every packet, not
    /// only after a loss: a journal that had no room for everything is completed by the next one.
    fn repair(&mut self, sequence: i64, journal: &Journal, time: SessionTime) {
        let checkpoint = extend_sequence(sequence, journal.checkpoint);
        if self.last.is_some_and(|last| last + 1 < checkpoint) {
            // The sender believes we have packets we do not: what it leaves out may have changed unseen.
            let mentioned = |channel: usize, note: u8| {
                journal.channels.iter().any(|it| {
                    usize::from(it.channel) == channel
                        && (it.notes_off >> note & 1 == 1 || it.notes_on.iter().any(|on| on.note == note))
                })
            };
            let sounding = self.channels.iter().enumerate().flat_map(|(index, channel)| {
                channel.notes.iter().filter(|(_, note)| note.value > 0).map(move |(&note, _)| (index, note))
            });
            let unknown: Vec<(usize, u8)> =
                sounding.filter(|&(index, note)| !mentioned(index, note)).collect();
            for (index, note) in unknown {
                self.emit(time, vec![0x80 | index as u8, note, 64], true);
            }
        }
        for told in &journal.channels {
            for message in self.differences(told) {
                self.emit(time, message, true);
            }
        }
    }

    /// The messages that make our channel what the journal says. Releases come first, so that a note struck again
    /// is not cut by the release of the one before.
    fn differences(&self, told: &ChannelJournal) -> Vec<Vec<u8>> {
        let Some(ours) = self.channels.get(usize::from(told.channel)) else { return Vec::new() };
        let velocity = |note: u8| ours.notes.get(&note).map_or(0, |note| note.value);
        let status = told.channel & 0x0F;
        let mut messages = Vec::new();
        let mut bank_sent = None;
        for note in (0..128).filter(|note| told.notes_off >> note & 1 == 1 && velocity(*note) > 0) {
            messages.push(vec![0x80 | status, note, 64]);
        }
        if let Some(Program { number, bank }) =
            told.program.filter(|told| ours.program.is_none_or(|ours| ours.value != *told))
        {
            if let Some((high, low)) = bank {
                messages.push(vec![0xB0 | status, 0, high]);
                messages.push(vec![0xB0 | status, 32, low]);
                bank_sent = Some((high, low));
            }
            messages.push(vec![0xC0 | status, number]);
        }
        let current = |number: u8| match (number, bank_sent) {
            (0, Some((high, _))) => Some(high),
            (32, Some((_, low))) => Some(low),
            _ => ours.controllers.get(&number).map(|ours| ours.value),
        };
        let differs = |&&(number, value): &&(u8, u8)| current(number) != Some(value);
        // What selects a parameter goes before its values; and a value that was the same for the parameter before is
        // another one's now.
        let (selections, others): (Vec<_>, Vec<_>) =
            told.controllers.iter().partition(|(number, _)| selects_parameter(*number));
        let selected = selections.iter().any(differs);
        let restored = |control: &&(u8, u8)| differs(control) || selected && is_parameter_value(control.0);
        for &(number, value) in selections.into_iter().chain(others).filter(restored) {
            messages.push(vec![0xB0 | status, number, value]);
        }
        if let Some((low, high)) = told.wheel.filter(|told| ours.wheel.is_none_or(|ours| ours.value != *told))
        {
            messages.push(vec![0xE0 | status, low, high]);
        }
        if let Some(pressure) =
            told.pressure.filter(|told| ours.pressure.is_none_or(|ours| ours.value != *told))
        {
            messages.push(vec![0xD0 | status, pressure]);
        }
        for on in told.notes_on.iter().filter(|on| on.play && velocity(on.note) != on.velocity) {
            if velocity(on.note) > 0 {
                messages.push(vec![0x80 | status, on.note, 64]);
            }
            messages.push(vec![0x90 | status, on.note, on.velocity]);
        }
        messages
    }

    fn emit(&mut self, time: SessionTime, message: Vec<u8>, repaired: bool) {
        let sequence = self.last.unwrap_or_default();
        if let Some(channel) = channel_of(&message).and_then(|channel| self.channels.get_mut(channel)) {
            channel.apply(&message, sequence, time);
        }
        self.sequence.counts.recovered += u64::from(repaired);
        self.events.push_back(MidiEvent { time, message, repaired });
    }

    fn restart(&mut self, session_now: SessionTime) {
        self.release_all(session_now);
        self.last = None;
    }
}

impl Parsed {
    fn parse(payload: &[u8]) -> Result<Parsed, PacketError> {
        let (&flags, mut rest) = payload.split_first().ok_or(PacketError::MidiList)?;
        let mut len = usize::from(flags & 0x0F);
        if flags & 0x80 != 0 {
            let (&low, after) = rest.split_first().ok_or(PacketError::MidiList)?;
            len = len << 8 | usize::from(low);
            rest = after;
        }
        let (list, rest) = rest.split_at_checked(len).ok_or(PacketError::MidiList)?;
        let commands = parse_list(list, flags & 0x20 != 0)?;
        let journal = if flags & 0x40 != 0 { Some(Journal::parse(rest)?) } else { None };
        Ok(Parsed { commands, journal })
    }
}
