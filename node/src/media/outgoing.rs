//! What goes to one member: audio, MIDI and reports.
//!
//! Each member gets its own numbering and its own packet size, because paths differ; the audio is encoded
//! once for all of them. All of it belongs to the media thread.

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

use super::{packetiser::Encoded, stream_format};
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
    max_datagram: usize,
    next_report: LocalTime,
}

impl Outgoing {
    /// A sender that begins at random sequence numbers drawn from `seed`. `midi_ssrc` names the MIDI stream, which
    /// outlives changes of the audio stream: a device that reopens must not look like a keyboard that is new.
    pub fn new(info: StreamInfo, midi_ssrc: u32, seed: u32, now: LocalTime) -> Self {
        let [a, b, c, d] = seed.to_be_bytes();
        Self {
            info,
            audio: audio_sender(info, u16::from_be_bytes([a, b]), SAFE_DATAGRAM),
            midi: MidiSender::new(MidiSenderConfig {
                ssrc: midi_ssrc,
                first_sequence: u16::from_be_bytes([c, d]),
                max_datagram: SAFE_DATAGRAM,
            }),
            max_datagram: SAFE_DATAGRAM,
            next_report: now,
        }
    }

    /// Our own audio is another stream from now on.
    pub fn change_stream(&mut self, info: StreamInfo, seed: u32) {
        self.info = info;
        self.audio = audio_sender(info, seed as u16, self.max_datagram);
    }

    /// The largest datagram the path takes now, octets.
    pub fn set_max_datagram(&mut self, octets: usize) {
        self.max_datagram = octets;
        self.audio.set_max_datagram(octets);
        self.midi.set_max_datagram(octets);
    }

    /// One encoded block. One that does not fit is dropped; the receiver conceals it as a loss.
    pub fn push_audio(&mut self, block: &Encoded<'_>) {
        let Encoded { timestamp_frames, departs_frames, layout, payload } = *block;
        if let Err(error) = self.audio.push_at(departs_frames, timestamp_frames, layout, payload) {
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

    /// The member tells the highest number it has received of our MIDI stream.
    pub fn handle_midi_acknowledged(&mut self, highest_sequence: u32) {
        self.midi.handle_acknowledged(highest_sequence);
    }

    /// Whether [`Self::report`] should be called.
    pub fn report_is_due(&self, now: LocalTime) -> bool {
        now >= self.next_report
    }

    /// The reports datagram: our timeline at `position` (frames, captured at `captured`), and `blocks` about what we
    /// received of the member.
    pub fn report(
        &mut self,
        now: LocalTime,
        position: Option<(i64, SessionTime)>,
        blocks: Vec<ReportBlock>,
    ) -> Bytes {
        self.next_report = now + REPORT_INTERVAL;
        let report = match position {
            Some((frames, captured)) => {
                let mut sender = self.audio.sender_report(captured, frames);
                sender.blocks = blocks;
                Report::Sender(sender)
            }
            None => Report::Receiver(ReceiverReport { ssrc: self.info.ssrc, blocks }),
        };
        report::encode(&[report])
    }

    /// When something is next due without new audio.
    pub fn poll_deadline(&self) -> LocalTime {
        self.midi.poll_deadline().map_or(self.next_report, |at| at.min(self.next_report))
    }
}

fn audio_sender(info: StreamInfo, first_sequence: u16, max_datagram: usize) -> StreamSender {
    StreamSender::new(StreamSenderConfig {
        ssrc: info.ssrc,
        first_sequence,
        format: stream_format(&info),
        max_datagram,
        redundancy: 0,
    })
}
