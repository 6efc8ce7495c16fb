//! Sending MIDI to one peer.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::super::{HEADER_LEN, Header, extend_sequence, payload_type};
use super::command::{MAX_DELTA, MAX_DELTA_LEN, is_message, write_delta};
use super::journal::{self, ChannelJournal};
use super::state::{CHANNELS, Channel, channel_of};
use super::{MidiError, ticks};
use crate::time::{LocalTime, SessionTime};

/// Messages waiting for a packet; at the bound new ones are refused.
const MAX_WAITING: usize = 512;
/// Octets before the MIDI list in the long form.
const LIST_HEADER_LEN: usize = 2;
/// Largest list its 12-bit length can state.
const MAX_LIST: usize = 0xFFF;
const MIN_DATAGRAM: usize = 256;
/// A note may be started this late by a repair; beyond it sounds like a wrong note.
const YOUNG: Duration = Duration::from_millis(100);
/// The journal is repeated this soon after a command, then after twice as long each, up to `KEEP_ALIVE`.
const FIRST_REPEAT: Duration = Duration::from_millis(10);
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// How MIDI is sent.
#[derive(Clone, Copy, Debug)]
pub struct MidiSenderConfig {
    /// Names the stream; random.
    pub ssrc: u32,
    /// Number of the first packet; random.
    pub first_sequence: u16,
    /// Largest datagram the path takes, in octets; values below 256 count as 256.
    pub max_datagram: usize,
}

/// One outgoing MIDI stream, to one peer. Make a new one when the peer comes back: it knows nothing then.
#[derive(Debug)]
pub struct MidiSender {
    config: MidiSenderConfig,
    /// Extended number of the next packet.
    sequence: i64,
    /// The peer has this packet, and so knows all that happened up to it.
    acknowledged: i64,
    waiting: VecDeque<(SessionTime, Vec<u8>)>,
    channels: [Channel; CHANNELS],
    next_repeat: Option<LocalTime>,
    repeat_interval: Duration,
}

impl MidiSender {
    /// A stream that has sent nothing yet.
    pub fn new(config: MidiSenderConfig) -> Self {
        let sequence = i64::from(config.first_sequence);
        MidiSender {
            config,
            sequence,
            acknowledged: sequence - 1,
            waiting: VecDeque::new(),
            channels: Default::default(),
            next_repeat: None,
            repeat_interval: FIRST_REPEAT,
        }
    }

    /// Follows the path: largest datagram in octets.
    pub fn set_max_datagram(&mut self, octets: usize) {
        self.config.max_datagram = octets;
    }

    /// Takes one complete message (status byte and data) played at `time`. Times that run backwards count as equal.
    ///
    /// # Errors
    /// [`MidiError`]; the message is not sent then.
    pub fn push(&mut self, time: SessionTime, message: &[u8]) -> Result<(), MidiError> {
        if !is_message(message) {
            return Err(MidiError::Malformed);
        }
        let max = self.list_room() - MAX_DELTA_LEN;
        if message.len() > max {
            return Err(MidiError::TooLarge { max, got: message.len() });
        }
        if self.waiting.len() == MAX_WAITING {
            return Err(MidiError::Full);
        }
        let time = self.waiting.back().map_or(time, |&(last, _)| time.max(last));
        self.waiting.push_back((time, message.to_vec()));
        Ok(())
    }

    /// The next datagram: the waiting messages, or a repeated journal if one is due. Call until `None`.
    pub fn poll_transmit(&mut self, now: LocalTime, session_now: SessionTime) -> Option<Bytes> {
        let (time, list) = if let Some(&(time, _)) = self.waiting.front() {
            self.repeat_interval = FIRST_REPEAT;
            (time, self.take_list(time))
        } else if self.next_repeat.is_some_and(|due| now >= due) {
            self.repeat_interval = (self.repeat_interval * 2).min(KEEP_ALIVE);
            (session_now, Vec::new())
        } else {
            return None;
        };
        self.next_repeat = Some(now + self.repeat_interval);
        let commands: Vec<u8> = list.iter().flat_map(|(octets, _, _)| octets.iter().copied()).collect();
        let room = self.config.max_datagram.max(MIN_DATAGRAM) - HEADER_LEN - LIST_HEADER_LEN - commands.len();
        let journal = self.journal(room, session_now);
        // The journal covers what came before this packet, so these commands go on the books after it.
        for (_, at, message) in &list {
            if let Some(channel) = channel_of(message).and_then(|channel| self.channels.get_mut(channel)) {
                channel.apply(message, self.sequence, *at);
            }
        }
        let header = Header {
            marker: !commands.is_empty(),
            payload_type: payload_type::MIDI,
            sequence: self.sequence as u16,
            timestamp: ticks(time) as u32,
            ssrc: self.config.ssrc,
        };
        self.sequence += 1;
        let flags = 0x80 | u8::from(!journal.is_empty()) << 6;
        let mut packet = header.to_bytes().to_vec();
        packet.extend([flags | (commands.len() >> 8) as u8, commands.len() as u8]);
        packet.extend(commands);
        packet.extend(journal);
        Some(packet.into())
    }

    /// When [`MidiSender::poll_transmit`] next has something to send without a new message. `None` before the first.
    pub fn poll_deadline(&self) -> Option<LocalTime> {
        self.next_repeat
    }

    /// The peer reports having this packet (`highest_sequence` of its report block); the journal gets shorter.
    pub fn handle_acknowledged(&mut self, highest_sequence: u32) {
        let acknowledged = extend_sequence(self.sequence - 1, highest_sequence as u16);
        if acknowledged < self.sequence {
            self.acknowledged = self.acknowledged.max(acknowledged);
        }
    }

    /// Half the datagram is for commands, the other half for the journal.
    fn list_room(&self) -> usize {
        ((self.config.max_datagram.max(MIN_DATAGRAM) - HEADER_LEN - LIST_HEADER_LEN) / 2).min(MAX_LIST)
    }

    /// As many waiting messages as fit, each coded with its delta time.
    fn take_list(&mut self, start: SessionTime) -> Vec<(Vec<u8>, SessionTime, Vec<u8>)> {
        let room = self.list_room();
        let mut list = Vec::new();
        let (mut octets, mut last) = (0, ticks(start));
        while let Some((time, message)) = self.waiting.front() {
            let delta = ticks(*time).saturating_sub(last);
            let mut coded = Vec::with_capacity(MAX_DELTA_LEN + message.len());
            if !list.is_empty() {
                write_delta(&mut coded, u32::try_from(delta).unwrap_or(MAX_DELTA));
            }
            coded.extend(message);
            octets += coded.len();
            // The limit may have shrunk since the message was taken; a lone one goes out in any case.
            if !list.is_empty() && (octets > room || delta > i64::from(MAX_DELTA)) {
                break;
            }
            last = ticks(*time);
            if let Some((time, message)) = self.waiting.pop_front() {
                list.push((coded, time, message));
            }
        }
        list
    }

    /// The journal in at most `room` octets, the channels that changed last first. What finds no room counts as
    /// changed by the next packet, so that no acknowledgement of this one can make it forgotten.
    fn journal(&mut self, room: usize, session_now: SessionTime) -> Vec<u8> {
        let young_since = session_now.offset_by(-(YOUNG.as_nanos() as i64));
        let acknowledged = self.acknowledged;
        let mut changed: Vec<(i64, usize)> = (0..)
            .zip(&self.channels)
            .filter_map(|(index, channel)| Some((channel.newest_change(acknowledged)?, index)))
            .collect();
        if changed.is_empty() {
            return Vec::new();
        }
        changed.sort_by(|a, b| b.cmp(a));
        let mut body = Vec::new();
        let mut count = 0;
        for (_, index) in changed {
            let Some(channel) = self.channels.get_mut(index) else { continue };
            let journal: ChannelJournal = channel.journal(index as u8, acknowledged, young_since);
            let octets = journal.to_bytes();
            if journal::HEADER_LEN + body.len() + octets.len() > room {
                channel.postpone(acknowledged, self.sequence + 1);
                continue;
            }
            body.extend(octets);
            count += 1;
        }
        let mut out = journal::header((acknowledged + 1) as u16, count).to_vec();
        out.append(&mut body);
        out
    }
}
