//! What goes to one member: audio, MIDI and reports.
//!
//! Each member gets its own numbering and its own packet size, because paths differ; the audio is encoded
//! once for all of them.

use std::time::Duration;

use bytes::Bytes;
use transport::{
    rtp::{
        StreamSender, StreamSenderConfig,
        midi::{MidiSender, MidiSenderConfig},
        report::{self, ReceiverReport, Report, ReportBlock},
    },
    time::{LocalTime, SessionTime},
};

use super::stream_format;
use crate::session::message::StreamInfo;

/// Time between reports. RFC 3550's five seconds are for conferences of strangers on a shared line; a new
/// listener here should know the mapping to session time within a beat.
const REPORT_INTERVAL: Duration = Duration::from_millis(250);
/// Datagram size assumed until the path's limit is known: fits every path that QUIC accepts.
const SAFE_DATAGRAM: usize = 1_150;

/// The sending half of one member's media.
pub struct Outgoing {
    info: StreamInfo,
    audio: StreamSender,
    midi: MidiSender,
    next_report: LocalTime,
}

impl Outgoing {
    /// A sender that begins at random sequence numbers drawn from `seed`.
    pub fn new(info: StreamInfo, seed: u32, now: LocalTime) -> Self {
        let [a, b, c, d] = seed.to_be_bytes();
        Self {
            info,
            audio: audio_sender(info, u16::from_be_bytes([a, b])),
            midi: MidiSender::new(MidiSenderConfig {
                ssrc: midi_ssrc(info.ssrc),
                first_sequence: u16::from_be_bytes([c, d]),
                max_datagram: SAFE_DATAGRAM,
            }),
            next_report: now,
        }
    }

    /// Our own stream has another format from now on.
    pub fn change_stream(&mut self, info: StreamInfo, seed: u32) {
        self.info = info;
        self.audio = audio_sender(info, seed as u16);
    }

    /// The largest datagram the path takes now, octets.
    pub fn set_max_datagram(&mut self, octets: usize) {
        self.audio.set_max_datagram(octets);
        self.midi.set_max_datagram(octets);
    }

    /// One encoded block that begins at `timestamp_frames`. A block that does not fit is dropped; the
    /// receiver conceals it as a loss.
    pub fn push_audio(&mut self, timestamp_frames: i64, payload: &[u8]) {
        if let Err(error) = self.audio.push(timestamp_frames, payload) {
            tracing::debug!(%error, "an audio block was not sent");
        }
    }

    /// The next audio datagram.
    pub fn poll_audio(&mut self) -> Option<Bytes> {
        self.audio.poll_transmit()
    }

    /// One MIDI message played here at `time`.
    pub fn push_midi(&mut self, time: SessionTime, message: &[u8]) {
        if let Err(error) = self.midi.push(time, message) {
            tracing::debug!(%error, "a MIDI message was not sent");
        }
    }

    /// The next MIDI datagram.
    pub fn poll_midi(&mut self, now: LocalTime, session_now: SessionTime) -> Option<Bytes> {
        self.midi.poll_transmit(now, session_now)
    }

    /// The member tells what it has received of our streams.
    pub fn handle_report(&mut self, block: &ReportBlock) {
        if block.ssrc == midi_ssrc(self.info.ssrc) {
            self.midi.handle_acknowledged(block.highest_sequence);
        }
    }

    /// The reports datagram, when one is due: our timeline at `position` (frames, captured at `captured`), and
    /// what we received of the member.
    pub fn poll_report(
        &mut self,
        now: LocalTime,
        position: Option<(i64, SessionTime)>,
        blocks: impl FnOnce() -> Vec<ReportBlock>,
    ) -> Option<Bytes> {
        if now < self.next_report {
            return None;
        }
        self.next_report = now + REPORT_INTERVAL;
        let blocks = blocks();
        let report = match position {
            Some((frames, captured)) => {
                let mut sender = self.audio.sender_report(captured, frames);
                sender.blocks = blocks;
                Report::Sender(sender)
            }
            None => Report::Receiver(ReceiverReport { ssrc: self.info.ssrc, blocks }),
        };
        Some(report::encode(&[report]))
    }

    /// When something is next due without new audio.
    pub fn poll_deadline(&self) -> LocalTime {
        self.midi.poll_deadline().map_or(self.next_report, |at| at.min(self.next_report))
    }
}

/// The SSRC of the MIDI stream beside the audio stream `ssrc`.
pub fn midi_ssrc(ssrc: u32) -> u32 {
    ssrc.wrapping_add(1)
}

fn audio_sender(info: StreamInfo, first_sequence: u16) -> StreamSender {
    StreamSender::new(StreamSenderConfig {
        ssrc: info.ssrc,
        first_sequence,
        format: stream_format(&info),
        max_datagram: SAFE_DATAGRAM,
        redundancy: 0,
    })
}
